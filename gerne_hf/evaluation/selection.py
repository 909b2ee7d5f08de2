"""Which metric models are selected on, and whether the evaluation set can give it."""


def selected_on(trainer, metric: str) -> tuple[str, str]:
    """The prefix of the evaluation that models are selected on, and the metric without the set's name."""
    named = trainer.eval_dataset if isinstance(trainer.eval_dataset, dict) else {}
    name = next((name for name in named if metric.startswith(f"{name}_")), None)
    return ("eval", metric) if name is None else (f"eval_{name}", metric.removeprefix(f"{name}_"))


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
