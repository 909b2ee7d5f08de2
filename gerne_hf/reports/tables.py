"""Tables of groups, methods and trials as Markdown, and the names that people read."""

import statistics
from collections.abc import Sequence
from typing import Any

from ..evaluation.metrics import SUMMARY_METRICS, worst_groups
from ..utils.markdown import format_table, plain
from .record import COMPARISON_FILE, GROUP_METRICS_FILE, SEARCH_FILE

MAX_TABLE_TRIALS = 20


def format_search_table(records: list[dict[str, Any]], objective: str) -> str:
    """A Markdown table of the trials, the best first, then those that did not complete; at most 20 rows.

    Args:
        records (`list[dict]`): trials in this order, as [`trial_records`] gives them.
        objective (`str`): its name; accuracies are shown in per cent.
    """
    percent = objective.endswith("accuracy")
    names = list(dict.fromkeys(name for record in records for name in record["params"]))
    rows = []
    for record in records[:MAX_TABLE_TRIALS]:
        value = record["value"]
        shown = "-" if value is None else f"{100 * value:.1f}" if percent else f"{value:.4g}"
        seconds = "-" if record["seconds"] is None else f"{record['seconds']:.0f}"
        drawn = [_short(record["params"].get(name, "-")) for name in names]
        rows.append([record["number"], *drawn, shown, record["state"], seconds])
    title = objective.replace("_", " ") + (", %" if percent else "")
    table = format_table(["trial", *names, title, "state", "seconds"], rows)
    hidden = len(records) - MAX_TABLE_TRIALS
    return table + (f"\n{hidden} further trials are in {SEARCH_FILE}." if hidden > 0 else "")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


_SUMMARIES = {
    "average": "accuracy",
    "average, groups as in training": "adjusted_accuracy",
    "group-balanced": "group_balanced_accuracy",
    "worst group": "worst_group_accuracy",
}


def format_comparison(results: dict[str, list[dict[str, Any]]]) -> str:
    """One Markdown table: a column a method, a row a summary or a group; per cent, with the deviation over seeds."""
    header, rows, hidden = comparison_rows(results)
    table = format_table(header, rows)
    return table + (f"\n{hidden} groups in which {header[-1]} does better are in {COMPARISON_FILE}." if hidden else "")


def comparison_rows(results: dict[str, list[dict[str, Any]]]) -> tuple[list[str], list[list[str]], int]:
    """Header and rows of the table of [`format_comparison`], and the number of groups that it leaves out."""
    first = next(iter(results.values()))[0]
    main_runs = list(results.values())[-1]
    summaries = {name: key for name, key in _SUMMARIES.items() if key in first}
    rows = [[name, *(_cell([r[key] for r in runs]) for runs in results.values())] for name, key in summaries.items()]
    shown, hidden = worst_groups(main_runs[0]["groups"])
    for i in shown:
        group = first["groups"][i]
        if not group["count"]:
            continue
        trained = f" ({group['train_count']:,} train rows)" if "train_count" in group else ""
        cells = [_cell([run["groups"][i]["accuracy"] for run in runs]) for runs in results.values()]
        rows.append([f"{group['label']}, {group['attribute']}{trained}", *cells])
    rows.append(["training time, s", *(_mean([r["train_seconds"] for r in runs]) for runs in results.values())])
    return ["accuracy, %", *results], rows, hidden


def _cell(values: list[float]) -> str:
    """Mean, and the sample deviation where there is more than one run, in per cent."""
    mean = f"{100 * statistics.fmean(values):.1f}"
    return mean if len(values) == 1 else f"{mean}±{100 * statistics.stdev(values):.1f}"


def _mean(values: list[float]) -> str:
    return f"{statistics.fmean(values):.0f}"


def _seed_note(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    return f"mean ± deviation over the seeds {', '.join(map(str, seeds))}"


def format_group_table(result: dict[str, Any]) -> str:
    """The group table of a result of [`group_metrics`]: accuracies in per cent with their 95 % intervals.

    Args:
        result (`dict`): what [`group_metrics`] returned.

    Returns:
        `str`: a Markdown table of the groups (the 24 worst, where there are more), and a line of summaries.
    """
    trained = any("train_count" in group for group in result["groups"])
    header = ["group", *(["train rows"] if trained else []), "rows", "accuracy", "95 % interval"]
    rows = []
    shown, hidden = worst_groups(result["groups"])
    for group in (result["groups"][i] for i in shown):
        name = f"{group['label']}, {group['attribute']}"
        judged = group["accuracy"] is not None
        rows.append(
            [
                name,
                *([f"{group['train_count']:,}"] if trained else []),
                f"{group['count']:,}",
                f"{100 * group['accuracy']:.1f}" if judged else "-",
                f"{100 * group['ci_low']:.1f} to {100 * group['ci_high']:.1f}" if judged else "-",
            ]
        )
    figures = (f"{name.replace('_', ' ')} {100 * result[name]:.1f}" for name in SUMMARY_METRICS if name in result)
    more = f"{hidden} groups with higher accuracy are in {GROUP_METRICS_FILE}.\n" if hidden else ""
    return f"{format_table(header, rows)}\n{more}{', '.join(figures)} (worst group: {result['worst_group']})"


def format_recovery(table: Sequence[dict[str, float]]) -> str:
    """The result of [`PseudoAttributes.recovery`] as a Markdown table, shares in per cent."""
    rows = [
        [
            f"{entry['threshold']:g}",
            f"{entry['hard_rows']:,}",
            *("-" if entry[name] is None else f"{100 * entry[name]:.1f}" for name in ("precision", "recall")),
        ]
        for entry in table
    ]
    return format_table(["threshold t", "hard rows", "precision, %", "recall, %"], rows)


_SETS = {"eval": "validation set", "test": "test set", "train": "training set", "other": "set given to `evaluate`"}


def set_name(prefix: str) -> str:
    """What a reader calls the set that was evaluated under a prefix."""
    return _SETS.get(prefix) or f"evaluation set “{plain(prefix.removeprefix('eval_'))}”"
