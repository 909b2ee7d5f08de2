"""Pictures: what is drawn, by the artists of the figures and the pixels of the files."""

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt
from PIL import Image

from gerne_hf.reports import plots
from gerne_hf.reports.plots import COLOURS, plot_comparison, plot_pseudo_attributes, plot_search, plot_training


@pytest.fixture
def figures(monkeypatch):
    """The figures that were saved, kept open, each checked for text that leaves the picture or runs into others."""
    saved = []
    save = plots.save_figure

    def keep(figure, path):
        with monkeypatch.context() as patch:
            patch.setattr(plt, "close", lambda _: None)
            save(figure, path)
        saved.append(figure)

    monkeypatch.setattr(plots, "save_figure", keep)
    yield saved
    for figure in saved:
        assert_readable(figure)
        plt.close(figure)


def assert_readable(figure):
    figure.set_dpi(120)
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    width, height = figure.get_size_inches() * figure.dpi
    unseen = set()  # labels of ticks beyond the limits are there, and not drawn
    for axis in figure.axes:
        for way, limits in ((axis.xaxis, axis.get_xlim()), (axis.yaxis, axis.get_ylim())):
            ticks = [*way.get_major_ticks(), *way.get_minor_ticks()]
            unseen |= {t.label1 for t in ticks if not min(limits) <= t.get_loc() <= max(limits)}
        labels = [label for label in axis.get_xticklabels() if label not in unseen and not label.get_rotation()]
        boxes = sorted((label.get_window_extent(renderer) for label in labels), key=lambda box: box.x0)
        assert all(left.x1 < right.x0 for left, right in zip(boxes, boxes[1:], strict=False)), "tick labels overlap"
        for text in axis.texts:
            box, frame = text.get_window_extent(renderer), axis.get_window_extent(renderer)
            assert frame.y0 <= box.y0 and box.y1 <= frame.y1, f"{text.get_text()!r} crosses the frame"
    for text in figure.findobj(matplotlib.text.Text):
        if text.get_visible() and text.get_text() and text not in unseen:
            box = text.get_window_extent(renderer)
            inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width + 1 and box.y1 <= height + 1
            assert inside, f"{text.get_text()!r} is cut off"


def pixels(path, colour):
    with Image.open(path) as picture:
        array = np.asarray(picture.convert("RGB"))
    return int((array == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=-1).sum())


# ---- training -----------------------------------------------------------------------------------------------------


def logged(step, accuracy, prefix="eval"):
    names = ("accuracy", "group_balanced_accuracy", "worst_group_accuracy", "group_accuracy/land/sea")
    return {"step": step, **{f"{prefix}_{name}": accuracy for name in names}}


def test_the_accuracies_are_those_of_training(figures, tmp_path):
    """Not those of the best model that is loaded at its end, nor of the test set, which is read then."""
    history = [{"step": step, "loss": 1.0} for step in (10, 20, 30)]
    history += [logged(10, 0.5), logged(20, 0.7), logged(30, 0.6), {"step": 30, "train_runtime": 9.0}]
    history += [logged(30, 0.7), logged(30, 0.65, "test"), logged(30, 0.65, "test"), logged(30, 0.65, "test")]
    plot_training(history, str(tmp_path / "training.png"))
    for line in figures[0].axes[1].lines:
        assert line.get_xdata().tolist() == [10, 20, 30]
        assert line.get_ydata() == pytest.approx([50, 70, 60])


def test_a_single_evaluation_after_training_is_drawn(figures, tmp_path):
    history = [{"step": 10, "loss": 1.0}, {"step": 10, "train_runtime": 9.0}, logged(10, 0.5)]
    plot_training(history, str(tmp_path / "training.png"))
    assert {tuple(line.get_xdata()) for line in figures[0].axes[1].lines} == {(10,)}


# ---- searches -----------------------------------------------------------------------------------------------------


def trials(number=8, threshold=False, shift=1.25):
    found = []
    for i in range(number):
        c = [0.25, 0.5, 0.75, 1.0][i % 4]
        params = {"c": c, "beta": -1 + (i + 1) / number * shift / c}
        if threshold:
            params = {"threshold": 10 ** (-3 + i / 3), **params}
            shift = 1.25 + i / 10
        state = "pruned" if i % 3 == 2 else "complete"
        value = 0.9 - i / 20
        bounds = [-1.0, shift / c - 1]
        found.append({"number": i, "state": state, "value": value, "params": params, "beta_bounds": bounds})
    return [*found, {**found[-1], "number": number, "state": "failed", "value": None}]


def test_a_search_over_c_and_beta(figures, tmp_path):
    plot_search(trials(), str(tmp_path / "search.png"), "worst_group_accuracy")
    (figure,) = figures
    plane, bar = figure.axes
    assert bar.get_ylabel() == "worst group accuracy, %"
    points = {c.get_label(): c for c in plane.collections if not c.get_label().startswith("_")}
    drawn = [trial for trial in trials() if trial["state"] == "complete"]
    assert points["complete"].get_offsets().tolist() == [[t["params"]["c"], t["params"]["beta"]] for t in drawn]
    assert points["complete"].get_array().tolist() == pytest.approx([100 * t["value"] for t in drawn])
    assert len(points["pruned"].get_offsets()) == 2 and len(points["failed"].get_offsets()) == 1
    assert points["complete"].get_clim() == points["pruned"].get_clim() == pytest.approx((55, 90))
    (best,) = [c for c in plane.collections if list(c.get_sizes()) == [190]]
    assert best.get_offsets().tolist() == [[0.25, drawn[0]["params"]["beta"]]]
    assert [text.get_text() for text in plane.texts] == ["90"]


def test_the_bound_is_a_curve_over_c(figures, tmp_path):
    plot_search(trials(), str(tmp_path / "search.png"), "accuracy")
    curve = next(line for line in figures[0].axes[0].lines if line.get_label() == "upper bound of beta")
    c, beta = curve.get_data()
    assert beta == pytest.approx(1.25 / c - 1) and c.min() < 0.25 and c.max() > 1
    assert pixels(tmp_path / "search.png", COLOURS[1]) > 300


def test_without_bounds_there_is_no_curve(figures, tmp_path):
    found = [{key: value for key, value in trial.items() if key != "beta_bounds"} for trial in trials()]
    plot_search(found, str(tmp_path / "search.png"), "loss")
    assert "upper bound of beta" not in [line.get_label() for line in figures[0].axes[0].lines]
    assert figures[0].axes[1].get_ylabel() == "loss" and figures[0].axes[0].texts[0].get_text() == "0.9"


def test_a_search_over_thresholds_has_a_second_panel(figures, tmp_path):
    plot_search(trials(threshold=True), str(tmp_path / "search.png"), "worst_class_accuracy")
    plane, over_t = figures[0].axes[:2]
    assert over_t.get_xscale() == "log" and over_t.get_ylabel() == "worst class accuracy, %"
    points = np.concatenate([c.get_offsets() for c in over_t.collections if list(c.get_sizes()) != [190]])
    expected = [[t["params"]["threshold"], 100 * t["value"]] for t in trials(threshold=True) if t["value"]]
    shown = points[points[:, 0].argsort()] if len(points) == len(expected) else points[~np.isnan(points[:, 0])]
    assert np.allclose(np.sort(shown, axis=0), np.sort(expected, axis=0))
    assert "upper bound of beta" not in [line.get_label() for line in plane.lines]  # it is another for each t


def test_searches_with_little_to_draw(figures, tmp_path):
    plot_search(trials(1)[:1], str(tmp_path / "one.png"), "accuracy")
    plot_search(trials(1)[1:], str(tmp_path / "failed.png"), "accuracy")
    plot_search(trials(3, threshold=True)[2:3], str(tmp_path / "pruned.png"), "accuracy")
    assert len(figures) == 3


# ---- pseudo-attributes --------------------------------------------------------------------------------------------

FIGURE_3 = [
    {"threshold": 0.003, "precision": 0.9, "recall": 0.7},
    {"threshold": 0.0005, "precision": 1.0, "recall": 0.2},
    {"threshold": 0.01, "precision": 0.4, "recall": 0.95},
]


def test_precision_and_recall_over_the_threshold(figures, tmp_path):
    plot_pseudo_attributes(FIGURE_3, str(tmp_path / "figure3.png"))
    (axis,) = figures[0].axes
    lines = {line.get_label(): line.get_data() for line in axis.lines}
    assert set(lines) == {"precision", "recall"} and axis.get_xscale() == "log"
    assert lines["precision"][0].tolist() == lines["recall"][0].tolist() == [0.0005, 0.003, 0.01]
    assert lines["precision"][1].tolist() == pytest.approx([100, 90, 40])
    assert lines["recall"][1].tolist() == pytest.approx([20, 70, 95])
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0.0005", "0.003", "0.01"]
    for colour in COLOURS[:2]:
        assert pixels(tmp_path / "figure3.png", colour) > 200


def test_many_thresholds_do_not_crowd_the_axis(figures, tmp_path):
    rows = [{"threshold": t, "precision": 0.5, "recall": t} for t in (0.001, 0.002, 0.003, 0.005, 0.01, 0.1, 0.5)]
    plot_pseudo_attributes(rows, str(tmp_path / "figure3.png"))
    plot_pseudo_attributes(rows[:1], str(tmp_path / "one.png"))
    assert len(figures[0].axes[0].lines[0].get_xdata()) == 7


def test_accuracies_of_some_thresholds(figures, tmp_path):
    rows = [{**FIGURE_3[0], "group_balanced_accuracy": 0.77}, {**FIGURE_3[1], "group_balanced_accuracy": None}]
    plot_pseudo_attributes(rows, str(tmp_path / "figure3.png"))
    lines = {line.get_label(): line.get_data() for line in figures[0].axes[0].lines}
    assert [values.tolist() for values in lines["group-balanced accuracy"]] == [[0.003], [77.0]]


def test_a_precision_of_nothing_found(figures, tmp_path):
    rows = [*FIGURE_3, {"threshold": 0.0001, "precision": None, "recall": 0.0}]
    plot_pseudo_attributes(rows, str(tmp_path / "figure3.png"))
    lines = {line.get_label(): line.get_data()[0] for line in figures[0].axes[0].lines}
    assert len(lines["recall"]) == 4 and len(lines["precision"]) == 3


# ---- comparisons --------------------------------------------------------------------------------------------------


def result(classes, attributes, accuracy=lambda i: 0.5, name="attribute {}"):
    pairs = [(y, a) for y in range(classes) for a in range(attributes)]
    return {
        "groups": [
            {
                **{"label": f"class {y}", "attribute": name.format(a), "count": 9, "accuracy": accuracy(i)},
                **{"ci_low": accuracy(i) - 0.1, "ci_high": accuracy(i) + 0.1},
            }
            for i, (y, a) in enumerate(pairs)
        ]
    }


def heights(axis):
    return {
        bars.get_label(): [bar.get_height() for bar in bars] for bars in axis.containers if hasattr(bars, "patches")
    }


def test_six_methods_and_four_groups(figures, tmp_path):
    methods = ["ERM", "resampling", "Group DRO", "JTT", "DFR", "GERNE"]
    results = {m: result(2, 2, lambda i, k=k: (i + k) / 10, "a long background {}") for k, m in enumerate(methods)}
    plot_comparison(results, str(tmp_path / "six.png"))
    (axis,) = figures[0].axes
    assert heights(axis)["GERNE"] == pytest.approx([50, 60, 70, 80]) and list(heights(axis)) == methods
    assert [t.get_text() for t in figures[0].legends[0].get_texts()] == methods
    for k in range(6):
        assert pixels(tmp_path / "six.png", COLOURS[k]) > 500


def test_a_hundred_groups(figures, tmp_path):
    results = {"ERM": result(10, 10), "GERNE": result(10, 10, lambda i: 0.9 - 0.005 * i)}
    plot_comparison(results, str(tmp_path / "hundred.png"))
    (axis,) = figures[0].axes
    assert heights(axis)["GERNE"] == pytest.approx([90 - 0.5 * i for i in range(76, 100)])  # the 24 worst
    assert heights(axis)["ERM"] == pytest.approx([50] * 24)
    assert axis.get_title().endswith("(the 24 groups of 100 that are worst for GERNE)")
    assert axis.get_xticklabels()[0].get_text().split() == ["(class", "7,", "attribute", "6)"]
    with Image.open(tmp_path / "hundred.png") as picture:
        assert picture.width <= 1600


def test_two_methods_are_not_stretched(figures, tmp_path):
    plot_comparison({"ERM": result(2, 2), "GERNE": result(2, 2)}, str(tmp_path / "two.png"))
    assert figures[0].get_size_inches()[0] == 6 and "worst" not in figures[0].axes[0].get_title()


def test_the_picture_of_a_training_says_what_went_wrong(tmp_path):
    history = [{"step": step, "loss": 0.69} for step in range(1, 5)]
    plot_training(history, str(tmp_path / "plain.svg"))
    plot_training(history, str(tmp_path / "told.svg"), ["It learned nothing."])
    assert "It learned nothing." in (tmp_path / "told.svg").read_text()
    assert "It learned nothing." not in (tmp_path / "plain.svg").read_text()
