"""Whether an evaluation set can give the metric that models are selected on, and has rows enough for it.

Pure functions of the numbers of rows; the words come from [`score_names`](gerne_hf.evaluation.score_names).
[`EvaluatingTrainer`](gerne_hf.training.evaluating_trainer.EvaluatingTrainer) asks before training, or, where the rows
are a stream, when they have been read.
"""

import difflib
from collections.abc import Sequence

import numpy as np

from ..groups.names import group_title
from .metrics import GATE_METRICS, SUMMARY_METRICS, wilson_interval
from .score_names import EXTRA_METRICS, GAP, extra_metric_of, summary_keys

FEW_ROWS = 10
"""A group that models are selected on should have so many rows at least."""

_OF_TRAINER = ("loss", "runtime", "samples_per_second", "steps_per_second", "jit_compilation_time")
_OF_GROUPS = ("group_accuracy/", "group_count/", "group_ci_low/", "group_ci_high/")


def check_known(metric: str) -> None:
    """Refuse a metric that no evaluation has where the user computes none of their own.

    Args:
        metric (`str`): `metric_for_best_model` without "eval_" and the name of a set.

    Raises:
        ValueError: names the metrics that are most like it, and those that there are.

    Example:

    ```python
    >>> check_known("worst_auroc")
    >>> check_known("group_accuracy/landbird|water")

    ```
    """
    summaries = [key for name in EXTRA_METRICS for key in summary_keys(name)]
    known = [*SUMMARY_METRICS, *GATE_METRICS, *summaries, "loss"]
    if metric in (*known, *_OF_TRAINER, "rows_without_prediction") or metric.startswith(_OF_GROUPS):
        return
    if metric.startswith("attribute_") and extra_metric_of(metric) is not None:
        return
    near = difflib.get_close_matches(metric, known, n=1)
    meant = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"metric_for_best_model={metric!r} is in no evaluation.{meant} There are {', '.join(map(repr, known))}, "
        "'group_accuracy/LABEL|ATTRIBUTE', and those that a compute_metrics returns, which is not given"
    )


def check_defined(metric: str, counts: np.ndarray, attribute_names: Sequence[str]) -> None:
    """Refuse to select on a metric that is not defined for the rows of the evaluation set.

    Args:
        metric (`str`): as for [`check_known`].
        counts (int array of shape `(K, A)`): rows of each group of the evaluation set.
        attribute_names (`Sequence[str]`): names of the A attribute values.

    Raises:
        ValueError: for a metric beyond accuracy that no attribute value has, or, if it is that of one value, not that
            one.

    Example:

    ```python
    >>> check_defined("worst_auroc", np.array([[5, 3], [0, 2]]), ["land", "water"])

    ```
    """
    name = extra_metric_of(metric)
    if name is None:
        return
    if metric.startswith("overall_"):
        counts = counts.sum(axis=1, keepdims=True)
    of_one = metric.partition("/")[2] if metric.startswith("attribute_") else None
    if of_one is not None:
        if of_one not in attribute_names:
            raise ValueError(
                f"metric_for_best_model={metric!r}: the evaluation set has no attribute value {of_one!r}, but "
                f"{', '.join(map(repr, attribute_names[:20]))}"
            )
        counts = counts[:, [list(attribute_names).index(of_one)]]
    if not _defined(name, counts):
        raise ValueError(
            f"metric_for_best_model={metric!r} is not defined for the evaluation set: {_WHY[name]}. Give rows of "
            "several classes with each attribute value, or select on 'worst_group_accuracy'"
        )


_WHY = {
    "f1": "with no attribute value are there rows of class 1",
    "tpr": "with no attribute value are there rows of class 1",
    "fpr": "with no attribute value are there rows of class 0",
    "auroc": "with each attribute value all rows are of one class",
    "ece": "it has no rows",
    GAP: "no rate is known of two attribute values",
}


def _defined(name: str, counts: np.ndarray) -> bool:
    """Return whether a metric is defined for at least one attribute value, by its rows of each class, `(K, A)`."""
    own = counts if len(counts) > 2 else counts[1:]  # of two classes class 1 alone is asked
    positives, negatives = own > 0, counts.sum(axis=0) - own > 0
    if name == GAP:
        return bool((positives.sum(axis=1) > 1).any() or (negatives.sum(axis=1) > 1).any())
    defined = {
        "f1": positives,
        "tpr": positives,
        "fpr": negatives,
        "auroc": positives & negatives,
        "ece": counts > 0,
    }
    return bool(defined[name].any())


def few_rows_warning(
    metric: str, counts: np.ndarray, label_names: Sequence[str], attribute_names: Sequence[str]
) -> str | None:
    """Return what is said of groups with too few rows to select models on; None where all have enough.

    Args:
        metric (`str`): as for [`check_known`].
        counts (int array of shape `(K, A)`): rows of each group of the evaluation set.
        label_names, attribute_names (`Sequence[str]`): names of the K classes and the A attribute values.

    Example:

    ```python
    >>> said = few_rows_warning("worst_group_accuracy", np.array([[90, 7], [40, 50]]), ["cat", "dog"], ["in", "out"])
    >>> said.partition('. ')[0]
    'Models are selected on worst_group_accuracy, and fewer than 10 rows of the evaluation set are of (cat, out): 7'

    ```
    """
    name = extra_metric_of(metric)
    if metric == "worst_class_accuracy":
        rows = {str(label): int(count) for label, count in zip(label_names, counts.sum(axis=1), strict=True)}
    elif name == "ece" and not metric.startswith("overall_"):
        rows = {str(value): int(count) for value, count in zip(attribute_names, counts.sum(axis=0), strict=True)}
    elif metric in ("worst_group_accuracy", "group_balanced_accuracy") or (
        name is not None and not metric.startswith(("overall_", "attribute_"))
    ):
        rows = {
            group_title(label, value): int(counts[k, a])
            for k, label in enumerate(label_names)
            for a, value in enumerate(attribute_names)
        }
    else:
        return None
    few = {group: count for group, count in rows.items() if 0 < count < FEW_ROWS}
    if not few:
        return None
    least = min(few.values())
    right = (least + 1) // 2
    low, high = wilson_interval(right, least)
    assert low is not None and high is not None
    named = ", ".join(f"{group}: {count}" for group, count in list(few.items())[:10])
    more = f" and {len(few) - 10} more" if len(few) > 10 else ""
    groups = "group" if len(few) == 1 else "groups"
    return (
        f"Models are selected on {metric}, and fewer than {FEW_ROWS} rows of the evaluation set are of {named}{more}. "
        f"Of {least} row{'s' if least > 1 else ''} with {right} right, {100 * right / least:.1f} %, the 95 % interval "
        f"is {100 * low:.1f} to {100 * high:.1f} %, so steps can hardly be told apart by them. Give the {groups} more "
        "rows, or select on a figure of more rows, such as 'class_balanced_accuracy'."
    )
