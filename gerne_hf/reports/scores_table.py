"""The table of metrics beyond accuracy: a row an attribute value, and below it the worst, and what is not defined.

Imports `evaluation/` and `utils/`. The terminal and cards show it below the table of groups, of which
[`tables`](gerne_hf.reports.tables) makes the text; the page takes its cells.
"""

from collections.abc import Callable
from typing import Any

from ..evaluation.metrics import MAX_TABLE_GROUPS
from ..evaluation.score_names import EXTRA_METRICS, GAP, SMALLER_IS_BETTER
from ..utils.markdown import format_table, plain
from .record import GROUP_METRICS_FILE

MAX_SENTENCES = 5
"""So many sentences say what is not defined; all are in the JSON."""

_MEANINGS = {
    "f1": "the harmonic mean of precision and recall",
    "tpr": "the true positive rate, the share of the rows of a class that the model finds",
    "fpr": "the false positive rate, the share of the rows of other classes that it takes for the class",
    "auroc": "how often a row of a class has a higher score than a row of another class",
    "ece": "the calibration error, how far the model's confidence is from how often it is right",
    GAP: "the largest difference between two attribute values in true or false positive rate",
}


def score_words(result: dict[str, Any]) -> list[str]:
    """Return what the metrics beyond accuracy mean, a sentence each, and of which class they are; empty without any.

    Args:
        result (`dict`): a result of [`group_metrics`](gerne_hf.evaluation.metrics.group_metrics).
    """
    names = [name for name in EXTRA_METRICS if name in result or f"worst_{name}" in result]
    told = [f"*{EXTRA_METRICS[name]}*: {_MEANINGS[name]}." for name in names]
    of_a_class = [EXTRA_METRICS[name] for name in names if name not in ("ece", GAP)]
    classes = list(dict.fromkeys(str(group["label"]) for group in result["groups"]))
    if of_a_class and len(classes) == 2:
        are = "is that" if len(of_a_class) == 1 else "are those"
        told.append(f"{', '.join(of_a_class)} {are} of the class {plain(classes[1])}.")
    elif of_a_class:
        rates = [name for name in of_a_class if name in ("TPR", "FPR")]
        means = [name for name in of_a_class if name not in rates]
        parts = [f"{', '.join(means)} the mean of the classes"] if means else []
        parts += [f"{', '.join(rates)} that of the worst class"] if rates else []
        told.append(f"Each class is taken against the rest; {' and '.join(parts)}.")
    return told


def score_rows(result: dict[str, Any], none: str = "-") -> tuple[list[str], list[list[str]], int]:
    """Return header and rows of the table, in per cent, and the number of attribute values that it leaves out.

    Args:
        result (`dict`): a result of [`group_metrics`](gerne_hf.evaluation.metrics.group_metrics).
        none (`str`, defaults to `"-"`): what stands for a figure that is not defined.

    Returns:
        `tuple[list[str], list[list[str]], int]`: without `extra_metrics` of attribute values no header and no rows.
    """
    entries = result.get("attributes", [])
    names = [name for name in EXTRA_METRICS if name != GAP and any(name in entry for entry in entries)]
    if not names:
        return [], [], 0
    hidden = max(0, len(entries) - MAX_TABLE_GROUPS)
    if hidden:  # the worst by the first metric, in their order
        first, sign = names[0], -1 if names[0] in SMALLER_IS_BETTER else 1
        judged = [i for i, entry in enumerate(entries) if entry[first] is not None]
        kept = sorted(judged, key=lambda i: sign * entries[i][first])[:MAX_TABLE_GROUPS]
        hidden = len(entries) - len(kept)
        entries = [entries[i] for i in sorted(kept)]
    rows = [
        [str(entry["attribute"]), f"{entry['count']:,}", *(_percent(entry[name], none) for name in names)]
        for entry in entries
    ]
    return ["attribute", "rows", *(EXTRA_METRICS[name] for name in names)], rows, hidden


def score_lines(result: dict[str, Any], shown: Callable[[str], str] = str, none: str = "-") -> list[str]:
    """Return the sentences below the table: figures of all rows, the worst ones, and what is not defined.

    Args:
        result (`dict`): as for [`score_rows`].
        shown (`Callable`, *optional*): how a name is written, as for
            [`format_group_table`](gerne_hf.reports.tables.format_group_table).
        none (`str`, defaults to `"-"`): what stands for a figure that is not defined.
    """
    names = [name for name in EXTRA_METRICS if f"worst_{name}" in result]
    worst_of = result.get("worst_attributes", {})
    lines = []
    if names:
        overall = (f"{EXTRA_METRICS[name]} {_percent(result[f'overall_{name}'], none)}" for name in names)
        worst = (
            f"{EXTRA_METRICS[name]} {_percent(result[f'worst_{name}'], none)}"
            + (f" ({shown(str(worst_of[name]))})" if name in worst_of else "")
            for name in names
        )
        lines += [f"All rows: {', '.join(overall)}.", f"Worst: {', '.join(worst)}."]
    if GAP in result:
        lines.append(f"Equalized-odds gap: {_percent(result[GAP], none)}.")
    said = result.get("not_defined", [])
    lines += [shown(sentence) for sentence in said[:MAX_SENTENCES]]
    if len(said) > MAX_SENTENCES:
        lines.append(f"{len(said) - MAX_SENTENCES} more that are not defined are in {GROUP_METRICS_FILE}.")
    return lines


def format_score_table(result: dict[str, Any], shown: Callable[[str], str] = str) -> str:
    """Return the table of metrics beyond accuracy, in per cent, and the sentences below it; empty without any.

    Args:
        result (`dict`): a result of [`group_metrics`](gerne_hf.evaluation.metrics.group_metrics).
        shown (`Callable`, *optional*): how a name is written, as for
            [`format_group_table`](gerne_hf.reports.tables.format_group_table).

    Example:

    ```python
    >>> from gerne_hf.evaluation.metrics import group_metrics
    >>> result = group_metrics([0, 1, 1, 1], [0, 1, 0, 1], ["land", "land", "sea", "sea"], extra_metrics=["f1", "fpr"])
    >>> print(format_score_table(result))
    | attribute | rows |    F1 |   FPR |
    |-----------|-----:|------:|------:|
    | land      |    2 | 100.0 |   0.0 |
    | sea       |    2 |  66.7 | 100.0 |
    All rows: F1 80.0, FPR 50.0.
    Worst: F1 66.7 (sea), FPR 100.0 (sea).

    ```
    """
    header, rows, hidden = score_rows(result)
    table = [format_table(header, [[shown(row[0]), *row[1:]] for row in rows])] if rows else []
    more = [f"{hidden} attribute values more are in {GROUP_METRICS_FILE}."] if hidden else []
    return "\n".join([*table, *more, *score_lines(result, shown)])


def _percent(share: float | None, none: str) -> str:
    """Return a share in per cent, or what stands for none."""
    return none if share is None else f"{100 * share:.1f}"
