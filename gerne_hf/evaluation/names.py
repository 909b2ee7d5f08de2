"""The words that people read for metrics and for evaluated sets, in tables, pictures, cards and pages.

Imports [`utils.markdown`](gerne_hf.utils.markdown) and [`score_names`](gerne_hf.evaluation.score_names) alone, so that
reports stay light. What the metrics mean stands in [`metrics`](gerne_hf.evaluation.metrics); who prints these words:
`gerne_hf/reports/`.
"""

from ..utils.markdown import code, plain
from .score_names import EXTRA_METRICS, GAP, extra_metric_of

METRIC_TITLES = {
    "worst_group_accuracy": "worst-group accuracy",
    "group_balanced_accuracy": "group-balanced accuracy",
    "worst_class_accuracy": "worst-class accuracy",
    "class_balanced_accuracy": "class-balanced accuracy",
    "worst_inferred_group_accuracy": "accuracy of the worst inferred group",
    "gated_accuracy": "gated accuracy of the worst inferred group",
}
"""What a sentence calls the metrics that models are selected on; see [`metric_title`] for all others."""

SUMMARY_TITLES = {
    "accuracy": "average",
    "adjusted_accuracy": "average, groups as in training",
    "group_balanced_accuracy": "group-balanced",
    "worst_group_accuracy": "worst group",
}
"""What tables and pictures of accuracies call the summaries, in the order of a table of methods."""

HEADLINE_METRICS = ("worst_group_accuracy", "group_balanced_accuracy", "accuracy", "adjusted_accuracy")
"""The summaries at the top of a page about a run, in their order there; their words are in `SUMMARY_TITLES`."""

RESULT_TITLES = {
    "worst_group_accuracy": "Worst-group accuracy",
    "group_balanced_accuracy": "Group-balanced accuracy",
    "accuracy": "Accuracy",
}
"""Titles of the results in a card's metadata, where the evaluation set has attributes."""

CLASS_RESULT_TITLES = {
    "worst_class_accuracy": "Worst-class accuracy",
    "class_balanced_accuracy": "Class-balanced accuracy",
    "accuracy": "Accuracy",
}
"""Titles of the results in a card's metadata, where the evaluation set has no attributes: each group is a whole class
there, and the accuracy of the worst class must not be read as that of a worst group."""

SET_NAMES = {
    "eval": "validation set",
    "test": "test set",
    "train": "training set",
    "other": "set given to `evaluate`",
}
"""What a sentence of a card calls the set that was evaluated under a prefix; see [`set_name`]."""

SET_TITLES = {
    "test": "Test set",
    "eval": "Validation set",
    "train": "Training set",
    "other": "Rows given to evaluate()",
}
"""What a heading of a page calls the set that was evaluated under a prefix; see [`set_title`]."""


def metric_title(metric: str) -> str:
    """Return what a sentence calls a metric: its words, or the metric itself as code in Markdown.

    Args:
        metric (`str`): a metric's key without a prefix, as in the result of [`group_metrics`].

    Returns:
        `str`: words for the keys of `METRIC_TITLES` and the summaries of metrics beyond accuracy, code for others.

    Example:

    ```python
    >>> metric_title("worst_group_accuracy"), metric_title("worst_auroc"), metric_title("accuracy")
    ('worst-group accuracy', 'worst AUROC of an attribute value', '`accuracy`')

    ```
    """
    beyond = extra_metric_of(metric)
    if metric == GAP:
        return EXTRA_METRICS[GAP]
    if metric == f"worst_{beyond}" and beyond is not None:
        return f"worst {EXTRA_METRICS[beyond]} of an attribute value"
    if metric == f"overall_{beyond}" and beyond is not None:
        return f"{EXTRA_METRICS[beyond]} of all rows"
    return METRIC_TITLES.get(metric) or code(metric)


def spaced(metric: str) -> str:
    """Return a metric's key with spaces for its underscores, as lines of figures show it.

    Args:
        metric (`str`): a metric's key, with or without a prefix.

    Returns:
        `str`

    Example:

    ```python
    >>> spaced("worst_group_accuracy")
    'worst group accuracy'

    ```
    """
    return metric.replace("_", " ")


def shown_in_percent(metric: str) -> bool:
    """Return whether figures of a metric are shown in per cent: accuracies and metrics beyond accuracy are.

    Args:
        metric (`str`): a metric's key, with or without a prefix.

    Returns:
        `bool`

    Example:

    ```python
    >>> shown_in_percent("eval_accuracy"), shown_in_percent("eval_loss")
    (True, False)

    ```
    """
    return metric.endswith("accuracy") or extra_metric_of(metric) is not None


def objective_title(objective: str) -> str:
    """Return what the column or the axis of a search's objective is called, with the unit where there is one.

    Args:
        objective (`str`): the metric that trials are compared on, with or without a prefix.

    Returns:
        `str`

    Example:

    ```python
    >>> objective_title("worst_group_accuracy"), objective_title("eval_loss")
    ('worst group accuracy, %', 'eval loss')

    ```
    """
    return spaced(objective) + (", %" if shown_in_percent(objective) else "")


def set_name(prefix: str) -> str:
    """Return what a sentence calls the set that was evaluated under a prefix, as Markdown.

    Args:
        prefix (`str`): "eval", "test", "train", "other", or "eval_NAME" for one of several evaluation sets.

    Returns:
        `str`

    Example:

    ```python
    >>> set_name("eval"), set_name("eval_far")
    ('validation set', 'evaluation set “far”')

    ```
    """
    return SET_NAMES.get(prefix) or f"evaluation set “{plain(prefix.removeprefix('eval_'))}”"


def set_title(prefix: str) -> str:
    """Return what a heading calls the set that was evaluated under a prefix.

    Args:
        prefix (`str`): as in [`set_name`].

    Returns:
        `str`: plain text; one of several evaluation sets has its own name.

    Example:

    ```python
    >>> set_title("eval"), set_title("eval_far")
    ('Validation set', 'far')

    ```
    """
    return SET_TITLES.get(prefix, prefix.removeprefix("eval_"))


def split_name(prefix: str) -> str:
    """Return what a card's metadata calls the split that was evaluated under a prefix.

    Args:
        prefix (`str`): as in [`set_name`].

    Returns:
        `str`

    Example:

    ```python
    >>> split_name("eval"), split_name("test"), split_name("eval_far")
    ('validation', 'test', 'far')

    ```
    """
    return "validation" if prefix == "eval" else prefix.removeprefix("eval_")
