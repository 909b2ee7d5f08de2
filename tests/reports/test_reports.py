"""Tables, `group_metrics.json` and pictures."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import EVEN, SKEWED, mlp, table, trainer
from PIL import Image

from gerne_hf import GerneTrainer, group_metrics
from gerne_hf.evaluation.metrics import wilson_interval, worst_groups
from gerne_hf.reports import plots
from gerne_hf.reports.plots import COLOURS, plot_comparison, plot_training
from gerne_hf.reports.record import GROUP_METRICS_FILE
from gerne_hf.reports.tables import format_group_table


def strict_json(path):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def result_of(correct, counts, trained=None, names=None):
    """The group metrics of rows of which `correct[y][a]` of `counts[y][a]` are right."""
    rows = []
    for y, row in enumerate(counts):
        for a, count in enumerate(row):
            rows += [(y if i < correct[y][a] else (y + 1) % len(counts), y, a) for i in range(count)]
    predicted, labels, attributes = map(np.array, zip(*rows, strict=True))
    attribute_names = names or [f"a{i}" for i in range(len(counts[0]))]
    return group_metrics(
        predicted, labels, attributes, trained, [f"y{i}" for i in range(len(counts))], attribute_names
    )


def cells(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line]


# ---- tables -------------------------------------------------------------------------------------------------------


def test_the_group_table_shows_intervals_and_counts():
    result = result_of([[9, 30], [1, 0]], [[10, 40], [4, 0]], np.array([[1234, 5], [6, 7]]))
    printed = format_group_table(result)
    header, _, *rows = cells(printed)
    assert header == ["group", "train rows", "rows", "accuracy", "95 % interval"]
    low, high = wilson_interval(9, 10)
    assert rows[0] == ["(y0, a0)", "1,234", "10", "90.0", f"{100 * low:.1f} to {100 * high:.1f}"]
    assert rows[1][:4] == ["(y0, a1)", "5", "40", "75.0"]
    assert rows[3] == ["(y1, a1)", "7", "0", "-", "-"]
    assert len(rows) == 4
    last = printed.splitlines()[-1]
    assert f"accuracy {100 * 40 / 54:.1f}, group balanced accuracy {100 * (0.9 + 0.75 + 0.25) / 3:.1f}" in last
    assert last.endswith("(worst group: (y1, a0))") and "worst group accuracy 25.0" in last
    assert "adjusted accuracy" in last


def test_without_training_counts_there_is_no_such_column():
    printed = format_group_table(result_of([[1, 2], [1, 1]], [[2, 2], [2, 2]]))
    assert cells(printed)[0] == ["group", "rows", "accuracy", "95 % interval"]
    assert cells(printed)[2][:3] == ["(y0, a0)", "2", "50.0"] and "adjusted" not in printed


def many_groups(number, empty=()):
    """Two classes with `number` groups in all; the accuracy falls with the group's number."""
    columns = number // 2
    counts = np.full((2, columns), 40)
    correct = 40 - np.arange(2 * columns).reshape(2, columns)
    for group in empty:
        counts.ravel()[group] = correct.ravel()[group] = 0
    return result_of(correct.tolist(), counts.tolist())


def test_of_many_groups_the_24_worst_are_shown():
    printed = format_group_table(many_groups(30))
    rows = cells(printed)[2:]
    expected = [f"(y{g // 15}, a{g % 15})" for g in range(6, 30)]
    assert [row[0] for row in rows] == expected  # in their order
    assert f"6 groups with higher accuracy are in {GROUP_METRICS_FILE}." in printed


def test_24_groups_are_all_shown():
    printed = format_group_table(many_groups(24))
    assert len(cells(printed)[2:]) == 24 and "higher accuracy" not in printed


def test_groups_without_rows_are_not_among_the_worst_of_many():
    shown, hidden = worst_groups(many_groups(30, empty=(0, 29))["groups"])
    assert shown == list(range(5, 29)) and hidden == 6


# ---- group_metrics.json -------------------------------------------------------------------------------------------


@pytest.fixture
def subject(tmp_path):
    subject = trainer(tmp_path / "out", mlp(), table(SKEWED), eval_dataset=table([[3, 4], [5, 6]], seed=4), c=0.4)
    subject.evaluate()
    return subject


def test_the_report_holds_method_groups_and_evaluations(subject, tmp_path):
    path = subject.save_group_metrics()
    assert path == str(tmp_path / "out" / "group_metrics.json")
    report = strict_json(tmp_path / "out" / "group_metrics.json")
    assert list(report["evaluations"]) == ["eval"]
    assert report["evaluations"]["eval"] == subject.group_results["eval"]
    method = report["method"]
    assert (method["plan"], method["c"], method["beta"]) == ("independent", 0.4, 1.0)
    assert method["beta_bounds"] == list(subject.beta_bounds)
    assert (method["class_balanced"], method["empty_groups"], method["rows_per_device"]) == (True, "error", 8)
    assert [(s["name"], s["rows"], s["coefficient"]) for s in method["segments"]] == [
        ("biased", 4, -1.0),
        ("less_biased", 4, 2.0),
    ]
    assert report["train_groups"] == {
        "label_names": ["class0", "class1"],
        "attribute_names": ["0", "1"],
        "attribute_columns": ["place"],
        "counts": SKEWED,
    }


def test_another_folder_is_made(subject, tmp_path):
    path = subject.save_group_metrics(str(tmp_path / "a" / "b"))
    assert path == str(tmp_path / "a" / "b" / "group_metrics.json")
    assert strict_json(tmp_path / "a" / "b" / "group_metrics.json")["evaluations"]["eval"]["step"] == 0
    assert not (tmp_path / "out" / "group_metrics.json").exists()


def test_infinite_bounds_and_nan_are_written_as_null(tmp_path):
    subject = trainer(tmp_path, mlp(), table(EVEN))
    assert np.isinf(subject.beta_bounds).any()
    nan, inf = float("nan"), float("inf")
    subject.group_results["eval"] = {"accuracy": nan, "groups": [{"accuracy": -inf}, {"accuracy": 0.5}]}
    subject.save_group_metrics()
    report = strict_json(tmp_path / "group_metrics.json")
    bounds = [None if np.isinf(bound) else bound for bound in subject.beta_bounds]
    assert report["method"]["beta_bounds"] == bounds and None in bounds
    assert report["evaluations"]["eval"] == {"accuracy": None, "groups": [{"accuracy": None}, {"accuracy": 0.5}]}


def test_a_write_that_fails_leaves_the_old_file(subject, tmp_path):
    subject.save_group_metrics()
    path = tmp_path / "out" / "group_metrics.json"
    before = path.read_bytes()
    subject.group_results["later"] = {"accuracy": object()}
    with pytest.raises(TypeError):
        subject.save_group_metrics()
    assert path.read_bytes() == before
    del subject.group_results["later"]
    subject.save_group_metrics()
    assert path.read_bytes() == before and [file.name for file in path.parent.iterdir()] == ["group_metrics.json"]


def test_other_processes_write_nothing(tmp_path):
    other = SimpleNamespace(args=SimpleNamespace(should_save=False, output_dir=str(tmp_path)))
    assert GerneTrainer.save_group_metrics(other) is None and not list(tmp_path.iterdir())


# ---- pictures -----------------------------------------------------------------------------------------------------


def colours_in(path):
    """The colours of a PNG and how many pixels have each."""
    with Image.open(path) as picture:
        assert picture.format == "PNG" and picture.width > 500 and picture.height > 300
        found = picture.convert("RGB").getcolors(1 << 24)
    return {"#{:02X}{:02X}{:02X}".format(*colour): count for count, colour in found}


def losses(step):
    return {"step": step, "loss": 1.0, "loss_biased": 1 / step, "loss_less_biased": 2 / step, "loss_extrapolated": 3}


def accuracies(step, prefix="eval"):
    values = {"accuracy": 0.9, "worst_group_accuracy": 0.2 + step / 100, "group_balanced_accuracy": 0.7}
    values |= {"group_accuracy/class0/a": 0.9, "group_accuracy/class1/b": 0.2 + step / 100}
    return {"step": step, **{f"{prefix}_{key}": value for key, value in values.items()}}


def test_a_picture_of_the_training(tmp_path):
    history = [entry for step in range(1, 41) for entry in (losses(step), *([accuracies(step)] * (step % 10 == 0)))]
    plot_training(history, str(tmp_path / "full.png"))
    plot_training([losses(step) for step in range(1, 41)], str(tmp_path / "losses.png"))
    full, left = colours_in(tmp_path / "full.png"), colours_in(tmp_path / "losses.png")
    for colour in COLOURS[:3]:  # drawn at the left, and again at the right
        assert left[colour] > 50 and full[colour] > left[colour] + 50
    summaries = [{key: v for key, v in entry.items() if "/" not in key} for entry in history]
    plot_training(summaries, str(tmp_path / "summaries.png"))
    assert full["#BFBFBF"] > colours_in(tmp_path / "summaries.png").get("#BFBFBF", 0)  # each group


def test_empty_panels_are_not_drawn(tmp_path):
    """A run that is shorter than logging_steps has no losses, and one without an evaluation set no accuracies."""
    figures = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(plots, "save_figure", lambda figure, path: figures.append(figure))
        for history in ([accuracies(2)], [losses(1)], [losses(1), accuracies(2)], [{"step": 2, "train_runtime": 1.0}]):
            plot_training(history, str(tmp_path / "x.png"))
    titles = [[axis.get_title() for axis in figure.axes] for figure in figures]
    evaluated = "Accuracy on the evaluation set"
    assert titles == [[evaluated], ["Training losses"], ["Training losses", evaluated], [""]]
    assert "shorter than logging_steps" in figures[3].axes[0].texts[0].get_text()
    assert all(line.get_marker() == "o" for line in figures[1].axes[0].lines[:1])  # a single point is seen


def test_a_picture_of_plain_training(tmp_path):
    plot_training([{"step": step, "loss": 1 / step} for step in range(1, 20)], str(tmp_path / "erm.png"))
    colours = colours_in(tmp_path / "erm.png")
    assert colours[COLOURS[0]] > 50 and COLOURS[1] not in colours


def test_the_worst_group_of_a_named_evaluation_set_is_drawn(tmp_path):
    history = [entry for step in (1, 2, 3) for entry in (losses(step), accuracies(step, "eval_web"))]
    plot_training(history, str(tmp_path / "web.png"))
    plot_training([losses(step) for step in (1, 2, 3)], str(tmp_path / "losses.png"))
    web, left = colours_in(tmp_path / "web.png"), colours_in(tmp_path / "losses.png")
    assert web[COLOURS[2]] > left[COLOURS[2]] + 50


def test_an_empty_history_is_no_error(tmp_path):
    plot_training([], str(tmp_path / "none.png"))
    assert len(colours_in(tmp_path / "none.png")) > 1


def test_a_picture_of_a_comparison(tmp_path):
    good = result_of([[36, 30], [30, 0]], [[40, 40], [40, 0]])
    bad = result_of([[40, 10], [10, 0]], [[40, 40], [40, 0]])
    plot_comparison({"ERM": bad, "GERNE": good}, str(tmp_path / "both.png"))
    plot_comparison({"ERM": bad, "GERNE": bad}, str(tmp_path / "same.png"))
    both, same = colours_in(tmp_path / "both.png"), colours_in(tmp_path / "same.png")
    assert both[COLOURS[0]] > 1000 and both[COLOURS[1]] > 1.3 * both[COLOURS[0]]  # bars as high as the accuracies
    assert same[COLOURS[1]] == pytest.approx(same[COLOURS[0]], rel=0.1)
    assert same[COLOURS[0]] == pytest.approx(both[COLOURS[0]], rel=0.05)
