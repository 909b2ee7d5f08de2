"""The table that answers which method to take: ranked on the validation set, with test figures beside it.

Imports `evaluation/` and `utils/`. [`comparison.ranking`](gerne_hf.comparison.ranking) ranks; the accuracy of every
group is in the table of [`format_comparison`](gerne_hf.reports.tables.format_comparison).
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..evaluation.names import SUMMARY_TITLES, shown_in_percent, spaced
from ..utils.markdown import format_table

RANKING = "ranking"
"""Key of `comparison.json` beside the methods: their order, and what can be told apart."""


def worst_group_of(run: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the group with the lowest accuracy of a result of [`group_metrics`].

    Args:
        run (`dict`): the result.
    """
    judged = [group for group in run["groups"] if group["accuracy"] is not None]
    return min(judged, key=lambda group: group["accuracy"])


def format_ranking(
    results: Mapping[str, Sequence[Mapping[str, Any]]], ranking: Mapping[str, Any], shown: Callable[[str], str] = str
) -> str:
    """Return a Markdown table with a row a method, the best on the validation set first.

    Args:
        results (`Mapping[str, Sequence[dict]]`): by title, the test result of each seed, as `comparison.json` has it.
        ranking (`dict`): what [`ranked`](gerne_hf.comparison.ranking.ranked) returned.
        shown (`Callable`, *optional*): how a name is written; as it is if not given, as on a terminal.
    """
    metric, of_test = ranking["metric"], ranking["statistic"]
    name = SUMMARY_TITLES.get(metric, spaced(metric))
    headers = ["method", f"validation: {name}", f"test: {SUMMARY_TITLES.get(of_test, spaced(of_test))}"]
    if of_test != "worst_group_accuracy":
        headers.append("test: worst group")
    tuning = ranking.get("tuning")
    headers += ["its rows", "95 % interval", "test: average", *(["trials"] if tuning else []), "seeds"]
    headers.append("training time, s")
    rows = []
    for title in ranking["order"]:
        runs = results[title]
        worst = [worst_group_of(run) for run in runs]
        low, high = (100 * statistics.fmean(group[key] for group in worst) for key in ("ci_low", "ci_high"))
        of_validation = _cell([run.get("validation", {}).get(metric) for run in runs], metric)
        cells = [shown(title), f"({of_validation})" if title in ranking["fitted_on_validation"] else of_validation]
        cells.append(_cell([run[of_test] for run in runs], of_test))
        if of_test != "worst_group_accuracy":
            cells.append(_cell([run["worst_group_accuracy"] for run in runs], "worst_group_accuracy"))
        counts = sorted({group["count"] for group in worst})
        cells.append(f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}")
        cells.append(f"{low:.1f} to {high:.1f}")
        cells.append(_cell([run["accuracy"] for run in runs], "accuracy"))
        if tuning:
            trials = tuning[title]["trials"] if title in tuning else 0
            cells.append(str(trials) if trials else "no settings")
        cells += [str(len(runs)), f"{statistics.fmean(run['train_seconds'] for run in runs):.0f}"]
        rows.append(cells)
    return format_table(headers, rows)


def _cell(values: Sequence[float | None], metric: str) -> str:
    """Return mean and sample deviation, accuracies in per cent; "-" where a run lacks the figure."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return "-"
    factor, digits = (100, 1) if shown_in_percent(metric) else (1, 4)
    mean = f"{factor * statistics.fmean(known):.{digits}f}"
    return mean if len(known) == 1 else f"{mean}±{factor * statistics.stdev(known):.{digits}f}"
