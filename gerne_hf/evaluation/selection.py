"""Which metric models are selected on, and whether the evaluation set can give it.

Pure functions of names; what the metrics mean stands in [`metrics`](gerne_hf.evaluation.metrics).
"""

from collections.abc import Sequence

GROUP_SELECTION_METRICS = ("worst_group_accuracy", "group_balanced_accuracy", "adjusted_accuracy")
"""Metrics that mean something only where the evaluation set has attributes."""

AUTOMATIC = "auto"
"""Value of `metric_for_best_model` that stands for the rule of [`automatic_metric`]."""


def automatic_metric(attribute_columns: tuple[str, ...]) -> str:
    """What a model is selected on: worst-group accuracy where the validation set has attributes, else worst-class
    accuracy (METHOD: model selection by attribute availability)."""
    return "worst_group_accuracy" if attribute_columns else "worst_class_accuracy"


def check_selection(metric: str | None, attribute_columns: tuple[str, ...]) -> None:
    """Refuse to select on a group metric without attributes.

    Raises:
        ValueError: says which metrics there are.
    """
    if metric is None or attribute_columns or not metric.endswith(GROUP_SELECTION_METRICS):
        return
    raise ValueError(
        f"metric_for_best_model={metric!r} needs attributes in the evaluation set, and no attribute_column is given. "
        "Name the column that holds the attribute, or select on 'worst_class_accuracy' (the default without "
        "attributes), 'class_balanced_accuracy' or 'accuracy'"
    )


def selected_on(metric: str, evaluation_sets: Sequence[str]) -> tuple[str, str]:
    """Return the prefix of the evaluation that models are selected on, and the metric without the set's name.

    Args:
        metric (`str`): `metric_for_best_model` without `eval_`.
        evaluation_sets (`Sequence[str]`): names of the evaluation sets; empty for a single one without a name.

    Returns:
        `tuple[str, str]`: the prefix and the metric.

    Example:

    ```python
    >>> selected_on("far_worst_group_accuracy", ["near", "far"])
    ('eval_far', 'worst_group_accuracy')
    >>> selected_on("worst_group_accuracy", [])
    ('eval', 'worst_group_accuracy')

    ```
    """
    name = next((name for name in evaluation_sets if metric.startswith(f"{name}_")), None)
    return ("eval", metric) if name is None else (f"eval_{name}", metric.removeprefix(f"{name}_"))
