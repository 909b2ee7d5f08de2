"""Several methods and seeds side by side: the table, the files, and how often the test set is read."""

import contextlib
import io
import json
import shutil
import statistics
import sys
from fnmatch import fnmatchcase

import numpy as np
import pytest
import torch
from helpers import MLP, SKEWED, config, mlp, table
from PIL import Image
from workshop import NoteTraining, Watched

from gerne_hf import GerneTrainer
from gerne_hf.comparison.comparing import _save_picture, compare
from gerne_hf.comparison.kept_rows import load_test_rows, save_test_rows
from gerne_hf.hub.contents import left_out
from gerne_hf.reports.tables import format_comparison

TEST = [[13, 17], [19, 11]]
SEEDS = (3, 5)


class NoteRuns(NoteTraining):
    """The seed too, and the end."""

    def on_train_begin(self, args, state, control, **kwargs):
        self.events.append(f"begin {args.plan} {args.seed}")

    def on_train_end(self, args, state, control, **kwargs):
        self.events.append("end")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """One real comparison: two methods, two seeds; its results, folder, print-out and events."""
    folder, events, made, trainers = tmp_path_factory.mktemp("comparison"), [], [], []
    train, validation = table(SKEWED), table([[6, 5], [4, 7]], seed=8)
    settings = config(folder, max_steps=6, eval_strategy="steps", eval_steps=3, learning_rate=0.5, worst_examples=0)

    def make_trainer(run, trainer_class):
        made.append(run)
        assert trainer_class is GerneTrainer
        subject = trainer_class(
            model_init=lambda: mlp(run.seed),
            args=run,
            train_dataset=train,
            eval_dataset=validation,
            callbacks=[NoteRuns(events)],
        )
        trainers.append(subject)
        return subject

    test = table(TEST, seed=9)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        results = compare(["erm", "independent"], settings, make_trainer, Watched(test, events), SEEDS)
    return {
        "results": results,
        "folder": folder,
        "printed": out.getvalue(),
        "events": events,
        "made": made,
        "trainers": trainers,
        "settings": settings,
        "test": test,
    }


def folders(folder):
    return {
        ("ERM", 3): folder / "erm-seed3",
        ("ERM", 5): folder / "erm-seed5",
        ("GERNE", 3): folder,
        ("GERNE", 5): folder / "independent-seed5",
    }


def cells_of(printed):
    """The comparison table as {first cell: [other cells]}."""
    lines = printed[printed.index("Test set,") :].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {row[0]: row[1:] for row in rows}


def test_each_method_has_a_result_a_seed(compared):
    results = compared["results"]
    assert list(results) == ["ERM", "GERNE"]
    for runs in results.values():
        assert [run["seed"] for run in runs] == list(SEEDS)
        for run in runs:
            assert run["train_seconds"] >= 0
            assert [group["count"] for group in run["groups"]] == [13, 17, 19, 11]
            assert [group["train_count"] for group in run["groups"]] == [40, 8, 10, 30]
            hits = sum(round(group["accuracy"] * group["count"]) for group in run["groups"])
            assert run["accuracy"] == pytest.approx(hits / 60)
    assert len({run["accuracy"] for runs in results.values() for run in runs}) > 1  # else the table shows nothing


def test_runs_differ_in_plan_seed_and_folder_alone(compared):
    made, settings = compared["made"], compared["settings"]
    assert [(run.plan, run.seed) for run in made] == [
        ("erm", 3),
        ("erm", 5),
        ("independent", 3),
        ("independent", 5),
    ]
    for run in made:
        mine, given = run.to_dict(), settings.to_dict()
        changed = {key for key in given if mine[key] != given[key]}
        assert changed <= {"plan", "seed", "output_dir", "pseudo_attributes_dir", "class_balanced"}
        assert run.class_balanced == (run.plan != "erm")
    assert (settings.plan, settings.seed, settings.output_dir) == ("independent", 42, str(compared["folder"]))


def test_the_table_shows_mean_and_sample_deviation(compared):
    results, cells = compared["results"], cells_of(compared["printed"])
    assert "mean ± deviation over the seeds 3, 5" in compared["printed"]
    assert cells["accuracy, %"] == ["ERM", "GERNE"]

    def cell(values):
        return f"{100 * np.mean(values):.1f}±{100 * np.std(values, ddof=1):.1f}"

    for name, key in (
        ("average", "accuracy"),
        ("average, groups as in training", "adjusted_accuracy"),
        ("group-balanced", "group_balanced_accuracy"),
        ("worst group", "worst_group_accuracy"),
    ):
        assert cells[name] == [cell([run[key] for run in runs]) for runs in results.values()], name
    names = ["(class0, 0), 40 train rows", "(class0, 1), 8 train rows", "(class1, 0), 10 train rows"]
    for i, name in enumerate([*names, "(class1, 1), 30 train rows"]):
        assert cells[name] == [cell([run["groups"][i]["accuracy"] for run in runs]) for runs in results.values()]
    times = [f"{statistics.fmean(run['train_seconds'] for run in runs):.0f}" for runs in results.values()]
    assert cells["training time, s"] == times


def test_one_seed_is_shown_without_deviation(compared):
    results = {method: runs[:1] for method, runs in compared["results"].items()}
    printed = format_comparison(results)
    assert "±" not in printed
    assert cells_of("Test set,\n" + printed)["average"] == [
        f"{100 * runs[0]['accuracy']:.1f}" for runs in results.values()
    ]


def test_many_groups_are_cut_to_those_in_which_the_main_method_is_worst(compared):
    run = compared["results"]["ERM"][0]
    groups = [
        {"label": str(i), "attribute": "a", "count": 10, "accuracy": i / 30, "ci_low": 0, "ci_high": 1}
        for i in range(30)
    ]
    other = [{**group, "accuracy": 1 - group["accuracy"]} for group in groups]
    printed = format_comparison({"other": [{**run, "groups": other}], "ERM": [{**run, "groups": groups}]})
    shown = [name for name in cells_of("Test set,\n" + printed) if name.endswith(", a)")]
    assert shown == [f"({i}, a)" for i in range(24)]
    assert "6 groups in which ERM does better are in comparison.json." in printed


def test_the_files(compared):
    folder = compared["folder"]
    saved = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    assert saved.pop("ranking")["order"] and saved == compared["results"]
    with Image.open(folder / "comparison.png") as picture:
        assert picture.format == "PNG" and len(picture.convert("RGB").getcolors(1 << 20)) > 10


def test_each_run_leaves_its_report_in_its_folder(compared):
    for (method, seed), folder in folders(compared["folder"]).items():
        report = json.loads((folder / "group_metrics.json").read_text())
        assert report["method"]["plan"] == {"ERM": "erm", "GERNE": "independent"}[method]
        assert {"eval", "test"} <= set(report["evaluations"])
        result = compared["results"][method][SEEDS.index(seed)]
        expected = {key: value for key, value in result.items() if key not in ("seed", "train_seconds", "validation")}
        assert result["validation"]["worst_group_accuracy"] == report["evaluations"]["eval"]["worst_group_accuracy"]
        assert report["evaluations"]["test"] == expected
        assert report["evaluations"]["test"]["step"] == 6
        assert (folder / "training.png").is_file()


def test_the_test_set_is_read_once_a_run_and_after_training(compared):
    events, rows = compared["events"], list(range(60))
    expected = []
    for plan in ("erm", "independent"):
        for seed in SEEDS:
            expected += [f"begin {plan} {seed}", *["step"] * 6, "end", *rows]
    assert events == expected


def test_the_main_folder_holds_the_model_of_its_run(compared):
    model, test = MLP.from_pretrained(compared["folder"]), compared["test"]
    with torch.no_grad():
        predicted = model(torch.tensor(test["inputs"][:])).logits.argmax(-1)
    hits = (predicted == torch.tensor(test["label"][:])).float()
    places = torch.tensor(test["place"][:])
    result = compared["results"]["GERNE"][0]
    assert result["accuracy"] == pytest.approx(hits.mean().item())
    for group in result["groups"]:
        rows = (torch.tensor(test["label"][:]) == int(group["label"][-1])) & (places == int(group["attribute"]))
        assert group["accuracy"] == pytest.approx(hits[rows].mean().item())
    others = [folder for key, folder in folders(compared["folder"]).items() if key != ("GERNE", 3)]
    assert not any((folder / "model.safetensors").exists() for folder in others)


def test_without_matplotlib_there_is_no_picture(compared, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gerne_hf.reports.plots", None)
    _save_picture(compared["results"], str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_the_answer_ranks_on_the_validation_set(compared):
    """The table and the sentences at the end of what is printed, and the same in the file."""
    results, printed = compared["results"], compared["printed"]
    ranking = json.loads((compared["folder"] / "comparison.json").read_text(encoding="utf-8"))["ranking"]
    validation = {
        title: np.mean([run["validation"]["worst_group_accuracy"] for run in runs]) for title, runs in results.items()
    }
    assert ranking["order"] == sorted(results, key=lambda title: -validation[title])
    answer = printed[printed.index("Methods, ranked by worst-group accuracy on the validation set\n") :]
    assert answer.count("\n| ") == 3 and answer.strip().endswith(ranking["said"][-1])
    other = ranking["order"][1]
    gain = [{run["seed"]: run["worst_group_accuracy"] for run in results[title]} for title in (ranking["best"], other)]
    by_hand = np.mean([gain[0][seed] - gain[1][seed] for seed in SEEDS])
    assert ranking["differences"][other]["difference"] == pytest.approx(by_hand, abs=1e-12)
    assert "paired bootstrap over 60 rows and 2 seeds" in printed


def test_the_rows_that_a_model_gets_right_lie_in_the_folder_of_its_run(compared):
    test = compared["test"]
    for (method, seed), folder in folders(compared["folder"]).items():
        rows = load_test_rows(str(folder))
        assert rows.cells.tolist() == [2 * y + a for y, a in zip(test["label"][:], test["place"][:], strict=True)]
        result = compared["results"][method][SEEDS.index(seed)]
        for cell, group in enumerate(result["groups"]):
            assert rows.correct[rows.cells == cell].mean() == pytest.approx(group["accuracy"])
        assert (folder / "test_rows.npz").stat().st_size < 1200
    patterns = left_out(str(compared["folder"]))
    assert any(fnmatchcase("test_rows.npz", pattern) for pattern in patterns)  # so it is never pushed


def test_damaged_rows_are_as_if_they_were_not_there(compared, tmp_path):
    whole = (compared["folder"] / "test_rows.npz").read_bytes()
    (tmp_path / "test_rows.npz").write_bytes(whole[: len(whole) // 2])
    assert load_test_rows(str(tmp_path)) is None and load_test_rows(str(tmp_path / "none")) is None


def test_of_a_stream_no_rows_are_kept(compared, tmp_path):
    """A file of an earlier run goes, as it says nothing of this one."""
    shutil.copy(compared["folder"] / "test_rows.npz", tmp_path)
    save_test_rows(compared["trainers"][0], [], str(tmp_path))
    assert not list(tmp_path.iterdir())
