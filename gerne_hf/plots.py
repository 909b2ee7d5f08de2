"""Pictures of runs and groups (needs the extra `plots`)."""

from typing import Any

import matplotlib

matplotlib.use("Agg", force=False)
from matplotlib import pyplot as plt  # noqa: E402

# Okabe and Ito's palette, which people with colour-blindness can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")

_LOSSES = {
    "loss_biased": "biased batch",
    "loss_less_biased": "less biased batch",
    "loss_extrapolated": "extrapolated",
}
_SUMMARIES = {  # the key's text, colour and line
    "accuracy": ("average", COLOURS[0], "-"),
    "group_balanced_accuracy": ("group-balanced", COLOURS[1], "--"),
    "worst_group_accuracy": ("worst group", COLOURS[2], "-"),
}


def plot_training(log_history: list[dict[str, Any]], path: str) -> None:
    """Draw the losses and the accuracies over training.

    Args:
        log_history (`list[dict]`): `trainer.state.log_history`.
        path (`str`): the picture's file; its ending gives the format.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    _plot_losses(left, log_history)
    _plot_accuracies(right, log_history)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _plot_losses(axis, log_history) -> None:
    names = {key: text for key, text in _LOSSES.items() if any(key in entry for entry in log_history)}
    for colour, (key, text) in zip(COLOURS, (names or {"loss": "training"}).items(), strict=False):
        entries = [entry for entry in log_history if key in entry]
        axis.plot([e["step"] for e in entries], [e[key] for e in entries], color=colour, label=text, linewidth=1.5)
    axis.set(xlabel="step", ylabel="loss", title="Training losses")
    axis.axhline(0, color="0.7", linewidth=0.8)
    axis.legend(frameon=False)


def _plot_accuracies(axis, log_history) -> None:
    evaluations = [entry for entry in log_history if any(_is(key, "worst_group_accuracy") for key in entry)]
    if not evaluations:
        axis.text(0.5, 0.5, "no evaluation during training", ha="center", va="center", transform=axis.transAxes)
        axis.set_axis_off()
        return
    prefix = next(key for key in evaluations[-1] if _is(key, "worst_group_accuracy"))[: -len("worst_group_accuracy")]
    evaluations = [entry for entry in evaluations if f"{prefix}worst_group_accuracy" in entry]
    steps = [entry["step"] for entry in evaluations]
    marker = "o" if len(steps) < 30 else None
    group_keys = [key for key in evaluations[-1] if key.startswith(f"{prefix}group_accuracy/")]
    for i, key in enumerate(group_keys):
        values = [100 * entry.get(key, float("nan")) for entry in evaluations]
        axis.plot(steps, values, color="0.75", linewidth=1, label="each group" if i == 0 else None)
    for name, (text, colour, line) in _SUMMARIES.items():
        values = [100 * entry[prefix + name] for entry in evaluations]
        axis.plot(steps, values, line, color=colour, marker=marker, markersize=4, linewidth=2, label=text)
    axis.set(xlabel="step", ylabel="accuracy, %", ylim=(0, 101), title="Accuracy on the evaluation set")
    axis.legend(frameon=False)


def _is(key: str, name: str) -> bool:
    return key.endswith(f"_{name}")


def plot_comparison(results: dict[str, dict[str, Any]], path: str) -> None:
    """Draw each group's accuracy with its 95 % interval, one bar a method.

    Args:
        results (`dict[str, dict]`): results of [`group_metrics`] by the method's name.
        path (`str`): the picture's file; its ending gives the format.
    """
    first = next(iter(results.values()))
    groups = [(g["label"], g["attribute"]) for g in first["groups"] if g["count"]]
    figure, axis = plt.subplots(figsize=(max(6.0, 1.0 + 0.45 * len(groups) * len(results)), 4), layout="constrained")
    width = 0.8 / len(results)
    for i, (method, result) in enumerate(results.items()):
        by_group = {(g["label"], g["attribute"]): g for g in result["groups"]}
        bars = [by_group[group] for group in groups]
        heights = [100 * g["accuracy"] for g in bars]
        errors = [
            [max(0.0, 100 * (g["accuracy"] - g["ci_low"])) for g in bars],
            [max(0.0, 100 * (g["ci_high"] - g["accuracy"])) for g in bars],
        ]
        places = [x + (i - (len(results) - 1) / 2) * width for x in range(len(groups))]
        colour = COLOURS[i % len(COLOURS)]
        axis.bar(places, heights, width * 0.92, color=colour, label=method, yerr=errors, ecolor="0.25", capsize=2)
    axis.set_xticks(range(len(groups)), [f"{label}\n{attribute}" for label, attribute in groups], fontsize=8)
    axis.set(ylabel="accuracy, %", ylim=(0, 101), title="Accuracy of each group, with 95 % intervals")
    figure.legend(frameon=False, ncols=min(4, len(results)), loc="outside lower center")
    figure.savefig(path, dpi=120)
    plt.close(figure)
