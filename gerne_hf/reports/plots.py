"""Pictures of runs: losses and accuracies, groups of several methods, trials of a search, pseudo-attributes.

Needs matplotlib, the extra `plots`: whoever draws imports this module inside a function, and goes without a picture
where matplotlib is missing. Imports `evaluation/` alone. The files' names are in
[`record`](gerne_hf.reports.record).
"""

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg", force=False)
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.collections import PathCollection  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from ..evaluation.metrics import worst_groups  # noqa: E402
from ..evaluation.names import SUMMARY_TITLES, objective_title, shown_in_percent  # noqa: E402
from ..groups.names import group_title  # noqa: E402

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
"""Okabe and Ito's palette, which people with colour-blindness can tell apart."""

_LONGEST_NAME = 32
"""Characters of a name of a class or an attribute value that are drawn."""

_LOSSES = {
    "loss_biased": "biased batch",
    "loss_less_biased": "less biased batch",
    "loss_extrapolated": "extrapolated",
}
"""What the losses of a plan with two batches are called in the picture, by their names in the log."""

_SUMMARY_STYLES = {
    "accuracy": (COLOURS[0], "-"),
    "group_balanced_accuracy": (COLOURS[1], "--"),
    "worst_group_accuracy": (COLOURS[2], "-"),
}
"""Colour and line of the accuracies in the picture of a training."""


def plot_training(log_history: list[dict[str, Any]], path: str, faults: Sequence[str] = ()) -> None:
    """Draw the losses and the accuracies over training.

    Args:
        log_history (`list[dict]`): `trainer.state.log_history`.
        path (`str`): the picture's file; its ending gives the format.
        faults (`Sequence[str]`, *optional*): sentences on how the training went wrong, written above the curves.
    """
    draws = [_plot_losses] if _loss_names(log_history) else []
    draws += [_plot_accuracies] if _evaluations_by_set(log_history) else []
    figure, axes = plt.subplots(
        1, max(1, len(draws)), figsize=(11 if len(draws) > 1 else 7, 4), layout="constrained", squeeze=False
    )
    for draw, axis in zip(draws, axes[0], strict=False):
        draw(axis, log_history)
    if not draws:
        text = "Nothing was logged: the training was shorter than logging_steps."
        axes[0, 0].text(0.5, 0.5, text, ha="center", va="center", transform=axes[0, 0].transAxes)
        axes[0, 0].set_axis_off()
    if faults:
        width = 130 if len(draws) > 1 else 80
        figure.suptitle("\n".join(textwrap.fill(fault, width) for fault in faults), color="#B00000", fontsize=9)
    save_figure(figure, path)


def _loss_names(log_history: list[dict[str, Any]]) -> dict[str, str]:
    """Return which losses were logged and what they are called: those of two batches, or that of the training."""
    names = {key: text for key, text in _LOSSES.items() if any(key in entry for entry in log_history)}
    return names or ({"loss": "training"} if any("loss" in entry for entry in log_history) else {})


def _evaluations_by_set(log_history: list[dict[str, Any]]) -> dict[str, dict[int, dict]]:
    """Return the evaluations by the prefix of their set and by step."""
    by_set: dict[str, dict[int, dict]] = {}
    for entry in log_history:
        for key in entry:
            if _is(key, "worst_group_accuracy"):  # of one step the first: after training the best model is read again
                by_set.setdefault(key.removesuffix("worst_group_accuracy"), {}).setdefault(entry["step"], entry)
    return by_set


def _plot_losses(axis: Axes, log_history: list[dict[str, Any]]) -> None:
    """Draw the losses of the two batches over the steps, or the training loss of a plan that has no two batches."""
    for colour, (key, text) in zip(COLOURS, _loss_names(log_history).items(), strict=False):
        entries = [entry for entry in log_history if key in entry]
        style: dict[str, Any] = {"color": colour, "label": text, "linewidth": 1.5}
        marker = "o" if len(entries) < 3 else None  # a single point is no line
        axis.plot([e["step"] for e in entries], [e[key] for e in entries], marker=marker, **style)
    axis.set(xlabel="step", ylabel="loss", title="Training losses")
    axis.axhline(0, color="0.7", linewidth=0.8)
    axis.legend(frameon=False)


def _plot_accuracies(axis: Axes, log_history: list[dict[str, Any]]) -> None:
    """Draw the accuracies on the evaluation set over the steps: each group, and the summaries."""
    by_set = _evaluations_by_set(log_history)
    prefix = max(by_set, key=lambda name: len(by_set[name]))  # the set that was read during training
    steps, evaluations = zip(*by_set[prefix].items(), strict=True)
    marker = "o" if len(steps) < 30 else None
    group_keys = [key for key in evaluations[-1] if key.startswith(f"{prefix}group_accuracy/")]
    for i, key in enumerate(group_keys):
        accuracies = [100 * entry.get(key, float("nan")) for entry in evaluations]
        axis.plot(steps, accuracies, color="0.75", linewidth=1, label="each group" if i == 0 else None)
    for name, (colour, line) in _SUMMARY_STYLES.items():
        values = [100 * entry[prefix + name] for entry in evaluations]
        text = SUMMARY_TITLES[name]
        axis.plot(steps, values, line, color=colour, marker=marker, markersize=4, linewidth=2, label=text)
    axis.set(xlabel="step", ylabel="accuracy, %", ylim=(0, 101), title="Accuracy on the evaluation set")
    axis.legend(frameon=False)


def _is(key: str, name: str) -> bool:
    """Return whether a key of the log is that of a metric, under any prefix."""
    return key.endswith(f"_{name}")


def plot_comparison(results: dict[str, dict[str, Any]], path: str) -> None:
    """Draw each group's accuracy with its 95 % interval, one bar a method.

    Args:
        results (`dict[str, dict]`): results of [`group_metrics`](gerne_hf.evaluation.metrics.group_metrics) by the
            method's name. Of more than 24 groups the worst of the last method are drawn.
        path (`str`): the picture's file; its ending gives the format.
    """
    last, main = list(results.items())[-1]
    shown, hidden = worst_groups(main["groups"])
    groups = [(g["label"], g["attribute"]) for g in (main["groups"][i] for i in shown) if g["count"]]
    bars = len(groups) * len(results)
    names = [f"{_short(label)}\n{_short(attribute)}" for label, attribute in groups]
    needed = 1.0 + max(0.45 * bars, len(groups) * _label_width(names))
    figure, axis = plt.subplots(figsize=(min(13.0, max(6.0, needed)), 4.4), layout="constrained")
    width = 0.8 / len(results)
    for i, (method, result) in enumerate(results.items()):
        by_group = {(g["label"], g["attribute"]): g for g in result["groups"]}
        drawn = [by_group[group] for group in groups]
        heights = [100 * g["accuracy"] for g in drawn]
        errors = [
            [max(0.0, 100 * (g["accuracy"] - g["ci_low"])) for g in drawn],
            [max(0.0, 100 * (g["ci_high"] - g["accuracy"])) for g in drawn],
        ]
        places = [x + (i - (len(results) - 1) / 2) * width for x in range(len(groups))]
        lines = {"elinewidth": 1.2 if bars <= 60 else 0.6, "capsize": 2 if bars <= 60 else 0}
        style: dict[str, Any] = {"color": _colour(i), "ecolor": "0.25", "error_kw": lines, "label": method}
        axis.bar(places, heights, width * 0.92, yerr=errors, **style)
    if len(groups) * _label_width(names) <= 12.0:
        axis.set_xticks(range(len(groups)), names, fontsize=8, parse_math=False)
    else:
        names = [group_title(_short(label), _short(attribute)) for label, attribute in groups]
        turned: dict[str, Any] = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
        axis.set_xticks(range(len(groups)), names, fontsize=8, parse_math=False, **turned)
    title = "Accuracy of each group, with 95 % intervals"
    title += f" (the {len(groups)} groups of {len(main['groups'])} that are worst for {last})" if hidden else ""
    axis.set(ylabel="accuracy, %", ylim=(0, 101), title=title, xlim=(-0.6, len(groups) - 0.4))
    figure.legend(frameon=False, ncols=min(4, len(results)), loc="outside lower center")
    save_figure(figure, path)


def _colour(i: int) -> str:
    """Return the colour of the i-th method; after eight they begin again."""
    return COLOURS[i % len(COLOURS)]


def _short(name: str) -> str:
    """Return a name that leaves room for the picture, cut in the middle: names that are alike often begin alike."""
    name = " ".join(str(name).split())
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 12]}…{name[-11:]}"


def _label_width(names: list[str]) -> float:
    """Return the inches that a tick label of 8 points takes."""
    return 0.07 * max((len(line) for name in names for line in name.split("\n")), default=0)


def plot_search(trials: list[dict[str, Any]], path: str, objective_name: str) -> None:
    """Draw the trials of a search over c and beta, and for pseudo-attributes over the threshold t too.

    Args:
        trials (`list[dict]`): `params` with c and beta, and perhaps threshold; `value`, `state` and perhaps
            `beta_bounds` of each trial, as in `search.json`. The first complete one is the best.
        path (`str`): the picture's file; its ending gives the format.
        objective_name (`str`): what `value` is; accuracies are shown in per cent.
    """
    percent, text = shown_in_percent(objective_name), objective_title(objective_name)
    trials = [trial for trial in trials if {"c", "beta"} <= trial["params"].keys()]
    valued = [trial for trial in trials if trial["value"] is not None]
    values = [(100 if percent else 1) * trial["value"] for trial in valued]
    best = next((i for i, trial in enumerate(valued) if trial["state"] == "complete"), None)
    thresholds = any("threshold" in trial["params"] for trial in trials)
    figure, axes = plt.subplots(
        *(1, 2 if thresholds else 1), figsize=(11 if thresholds else 7, 4.6), layout="constrained", squeeze=False
    )
    points = _plot_plane(axes[0, 0], trials, valued, values, best)
    if thresholds:
        _plot_thresholds(axes[0, 1], valued, values, best, text)
    if points is not None:
        figure.colorbar(points, ax=axes[0, 0], label=text)
    handles = dict(zip(*reversed(axes[0, 0].get_legend_handles_labels()), strict=True))
    figure.legend(
        handles.values(), handles.keys(), frameon=False, ncols=6 if thresholds else 3, loc="outside lower center"
    )
    save_figure(figure, path)


def _plot_plane(
    axis: Axes, trials: list[dict[str, Any]], valued: list[dict[str, Any]], values: list[float], best: int | None
) -> PathCollection | None:
    """Draw the trials as points over (c, beta), coloured by their values, and the upper bound of beta (Eq. 9).

    At the bound `c (beta + 1)` is the same for all c.

    Args:
        axis (`Axes`): where to draw.
        trials (`list[dict]`): all trials that have c and beta.
        valued (`list[dict]`): those of them that have a value.
        values (`list[float]`): the values of `valued`, as they are shown.
        best (`int`, *optional*): the place of the best trial among `valued`.

    Returns:
        `PathCollection`: the points, for the bar of colours; None where no trial has a value.
    """
    points = None
    for state, marker, size in (("complete", "o", 70), ("pruned", "v", 40)):
        chosen = [i for i, trial in enumerate(valued) if (trial["state"] == "complete") == (state == "complete")]
        if chosen:
            points = axis.scatter(
                [valued[i]["params"]["c"] for i in chosen],
                [valued[i]["params"]["beta"] for i in chosen],
                c=[values[i] for i in chosen],
                vmin=min(values),
                vmax=max(values),
                cmap="cividis",
                marker=marker,
                s=size,
                edgecolors="0.2",
                linewidths=0.6,
                zorder=3,
                label=state,
            )
    failed = [trial["params"] for trial in trials if trial["value"] is None]
    if failed:
        all_c, all_beta = [p["c"] for p in failed], [p["beta"] for p in failed]
        axis.scatter(all_c, all_beta, marker="x", s=36, color="0.35", label="failed")
    if best is not None:
        where = valued[best]["params"]
        _mark_best(axis, where["c"], where["beta"], f"{values[best]:.4g}")
    shifts = [trial["params"]["c"] * (trial["beta_bounds"][1] + 1) for trial in trials if "beta_bounds" in trial]
    if shifts and np.ptp(shifts) < 1e-6 * max(shifts):
        c = np.linspace(min(t["params"]["c"] for t in trials) * 0.9, 1.02, 200)
        axis.plot(c, shifts[0] / c - 1, color=COLOURS[1], linewidth=1.5, label="upper bound of beta", zorder=2)
    axis.axhline(-1, color="0.6", linewidth=1, linestyle=":", zorder=1, label="beta = -1: ERM")
    axis.set(xlabel="c, degree of bias reduction", ylabel="beta, extrapolation factor", title="Trials over c and beta")
    drawn = sorted({trial["params"]["c"] for trial in trials})
    if len(drawn) <= 5:
        axis.set_xticks(drawn, [f"{c:g}" for c in drawn])
    axis.margins(0.1)
    return points


def _plot_thresholds(
    axis: Axes, valued: list[dict[str, Any]], values: list[float], best: int | None, text: str
) -> None:
    """Draw the values of the trials over the threshold t; `text` names them, the rest is as in `_plot_plane`."""
    for state, marker, size in (("complete", "o", 45), ("pruned", "v", 28)):
        chosen = [i for i, trial in enumerate(valued) if (trial["state"] == "complete") == (state == "complete")]
        axis.scatter(
            [valued[i]["params"]["threshold"] for i in chosen],
            [values[i] for i in chosen],
            marker=marker,
            s=size,
            color=COLOURS[0],
            edgecolors="0.2",
            linewidths=0.6,
        )
    if best is not None:
        _mark_best(axis, valued[best]["params"]["threshold"], values[best], f"{values[best]:.4g}")
    axis.set(xscale="log", xlabel="t, threshold of the pseudo-attributes", ylabel=text, title="Trials over t")
    axis.margins(0.1)


def _mark_best(axis: Axes, x: float, y: float, text: str) -> None:
    """Draw a ring around the best trial, and its value beside it."""
    axis.scatter([x], [y], marker="o", s=190, facecolors="none", edgecolors=COLOURS[1], linewidths=2, zorder=4)
    axis.scatter([], [], marker="o", s=80, facecolors="none", edgecolors=COLOURS[1], linewidths=2, label="best")
    axis.annotate(text, (x, y), textcoords="offset points", xytext=(11, 7), fontsize=9, fontweight="bold", zorder=5)


def plot_pseudo_attributes(table: list[dict[str, Any]], path: str) -> None:
    """Draw precision and recall of the minority among the hard rows over the threshold t (the paper's Figure 3).

    Args:
        table (`list[dict]`): `threshold`, `precision` and `recall` of each threshold, as shares, and perhaps
            `group_balanced_accuracy` of a model trained with it.
        path (`str`): the picture's file; its ending gives the format.
    """
    table = sorted(table, key=lambda row: row["threshold"])
    figure, axis = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    lines = [
        ("precision", "precision", COLOURS[0], "-", "o"),
        ("recall", "recall", COLOURS[1], "--", "s"),
        ("group_balanced_accuracy", "group-balanced accuracy", COLOURS[2], ":", "D"),
    ]
    for key, text, colour, line, marker in lines:
        rows = [row for row in table if row.get(key) is not None]
        if rows:
            x, y = [row["threshold"] for row in rows], [100 * row[key] for row in rows]
            axis.plot(x, y, line, color=colour, marker=marker, markersize=6, linewidth=2, label=text)
    axis.set(xscale="log", xlabel="t, share of each class taken for the minority", ylabel="%", ylim=(-2, 102))
    axis.set_title("How much of the minority is found by the pseudo-attributes")
    ticks = [row["threshold"] for row in table]
    steps = np.diff(np.log10(ticks))
    if len(ticks) > 1 and steps.min() > 0.1 * steps.sum():  # room for a label at each
        axis.set_xticks(ticks, [f"{t:g}" for t in ticks], minor=False)
        axis.minorticks_off()
    axis.grid(axis="y", color="0.9")
    axis.set_axisbelow(True)
    figure.legend(frameon=False, ncols=3, loc="outside lower center")
    save_figure(figure, path)


def save_figure(figure: Figure, path: str) -> None:
    """Write a figure to a file and close it.

    Args:
        figure (`matplotlib.figure.Figure`): what was drawn.
        path (`str`): the picture's file; its ending gives the format.
    """
    figure.savefig(path, dpi=120)
    plt.close(figure)
