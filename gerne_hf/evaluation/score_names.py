"""The metrics beyond accuracy by name: which there are, the keys of their figures, and which way is better.

Pure functions of names; imports nothing. The figures are computed in
[`group_scores`](gerne_hf.evaluation.group_scores), models are selected on them by
[`selection`](gerne_hf.evaluation.selection).
"""

import re
from collections.abc import Sequence

EXTRA_METRICS = {
    "f1": "F1",
    "tpr": "TPR",
    "fpr": "FPR",
    "auroc": "AUROC",
    "ece": "ECE",
    "equalized_odds_gap": "equalized-odds gap",
}
"""What `extra_metrics` may name, with what tables call it."""

GAP = "equalized_odds_gap"
"""The one that compares attribute values, so that no single value has it."""

NEED_PROBABILITIES = ("auroc", "ece")
"""Those that need the probabilities of the classes; for the others predicted classes will do."""

SMALLER_IS_BETTER = ("fpr", "ece", GAP)
"""Those of which less is better; of the others more is."""

_KEY = re.compile(
    r"(?:^|_)(?:(?:worst|overall)_(f1|tpr|fpr|auroc|ece)|attribute_(f1|tpr|fpr|auroc|ece)/.*)$", re.DOTALL
)


def summary_keys(name: str) -> tuple[str, ...]:
    """Return the keys of the figures that summarize a metric over all rows and attribute values.

    Args:
        name (`str`): one of [`EXTRA_METRICS`].

    Example:

    ```python
    >>> summary_keys("f1"), summary_keys("equalized_odds_gap")
    (('overall_f1', 'worst_f1'), ('equalized_odds_gap',))

    ```
    """
    return (GAP,) if name == GAP else (f"overall_{name}", f"worst_{name}")


def extra_metric_of(key: str) -> str | None:
    """Return the metric beyond accuracy that a key of an evaluation belongs to; None for the key of another figure.

    Args:
        key (`str`): such as `metric_for_best_model`, with any prefix.

    Example:

    ```python
    >>> [extra_metric_of(key) for key in ("eval_far_worst_auroc", "attribute_f1/sea", "worst_group_accuracy")]
    ['auroc', 'f1', None]

    ```
    """
    if key == GAP or key.endswith(f"_{GAP}"):
        return GAP
    found = _KEY.search(key)
    return None if found is None else found.group(1) or found.group(2)


def smaller_is_better(key: str) -> bool:
    """Return whether less is better of the figure under a key.

    Args:
        key (`str`): as for [`extra_metric_of`].

    Example:

    ```python
    >>> smaller_is_better("worst_ece"), smaller_is_better("worst_auroc"), smaller_is_better("worst_group_accuracy")
    (True, False, False)

    ```
    """
    return extra_metric_of(key) in SMALLER_IS_BETTER


def check_extra_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names as a tuple, and refuse those that are no metrics.

    Args:
        names (`Sequence[str]`): what `extra_metrics` was given.

    Raises:
        ValueError: for an unknown name; lists those that there are.

    Example:

    ```python
    >>> check_extra_metrics(["f1", "ece"])
    ('f1', 'ece')

    ```
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    unknown = [name for name in names if name not in EXTRA_METRICS]
    if unknown:
        raise ValueError(
            f"extra_metrics may name {', '.join(map(repr, EXTRA_METRICS))}; found {unknown[0]!r}. Accuracies are "
            "computed always; figures of your own come from compute_metrics"
        )
    return names


def with_selected(names: Sequence[str], metric: str | None) -> tuple[str, ...]:
    """Return the metrics to compute: those that were asked for, and the one that models are selected on.

    Args:
        names (`Sequence[str]`): the `extra_metrics`.
        metric (`str`, *optional*): `metric_for_best_model`.

    Example:

    ```python
    >>> with_selected(["f1"], "worst_auroc"), with_selected([], "worst_group_accuracy")
    (('f1', 'auroc'), ())

    ```
    """
    chosen = None if metric is None else extra_metric_of(metric)
    wanted = {*names, *([] if chosen is None else [chosen])}
    return tuple(name for name in EXTRA_METRICS if name in wanted)


def needs_probabilities(names: Sequence[str]) -> bool:
    """Return whether one of the metrics needs the probabilities of the classes.

    Args:
        names (`Sequence[str]`): some of [`EXTRA_METRICS`].

    Example:

    ```python
    >>> needs_probabilities(["f1", "tpr"]), needs_probabilities(["f1", "ece"])
    (False, True)

    ```
    """
    return any(name in NEED_PROBABILITIES for name in names)
