"""The metric that the best checkpoint is selected on, and whether the evaluation set can give it.

Pure functions of names; imports [`score_names`](gerne_hf.evaluation.score_names). What the metrics mean is in
[`metrics`](gerne_hf.evaluation.metrics); `training/evaluating_trainer.py` selects by them.
"""

import math
from collections.abc import Sequence
from typing import Any

from .score_names import extra_metric_of, smaller_is_better

GROUP_SELECTION_METRICS = ("worst_group_accuracy", "group_balanced_accuracy", "adjusted_accuracy")
"""Metrics of groups, which mean something only if the evaluation set has attributes."""

AUTOMATIC = "auto"
"""The value of `metric_for_best_model` that leaves the choice to [`automatic_metric`]."""


def automatic_metric(attribute_columns: tuple[str, ...], infers_groups: bool = False) -> str:
    """Return the metric that models are selected on if the user names none.

    As in the paper, this is the worst-group accuracy if the validation set has attributes, and the worst-class
    accuracy if it has none. Where groups are inferred it is their gated accuracy instead of the worst-class accuracy.

    Args:
        attribute_columns (`tuple[str, ...]`): the columns that hold the attributes; empty if there are none.
        infers_groups (`bool`, defaults to `False`): whether groups of the validation set are inferred.

    Returns:
        `str`: a metric's key without a prefix.

    Example:

    ```python
    >>> automatic_metric(("place",)), automatic_metric(())
    ('worst_group_accuracy', 'worst_class_accuracy')

    ```
    """
    if attribute_columns:
        return "worst_group_accuracy"
    return "gated_accuracy" if infers_groups else "worst_class_accuracy"


def check_selection(metric: str | None, attribute_columns: tuple[str, ...]) -> None:
    """Refuse to select models on a metric of groups if there are no attributes.

    Args:
        metric (`str`, *optional*): `metric_for_best_model`, with or without the name of a set before it.
        attribute_columns (`tuple[str, ...]`): the columns that hold the attributes; empty if there are none.

    Raises:
        ValueError: says which metrics can be selected on.

    Example:

    ```python
    >>> check_selection("worst_class_accuracy", attribute_columns=())
    >>> check_selection("worst_group_accuracy", attribute_columns=("place",))

    ```
    """
    if metric is None or attribute_columns:
        return
    beyond = extra_metric_of(metric) is not None and f"overall_{extra_metric_of(metric)}" not in metric
    if not beyond and not metric.endswith(GROUP_SELECTION_METRICS):
        return
    raise ValueError(
        f"metric_for_best_model={metric!r} needs attributes in the evaluation set, and no attribute_column is given. "
        "Name the column that holds the attribute, or select on 'worst_class_accuracy' (the default without "
        "attributes), 'class_balanced_accuracy' or 'accuracy'"
    )


def settled_direction(metric: str | None, greater_is_better: bool | None) -> bool | None:
    """Return `greater_is_better` for a metric beyond accuracy: of errors and gaps less is better.

    Args:
        metric (`str`, *optional*): `metric_for_best_model`.
        greater_is_better (`bool`, *optional*): what the user said of it, if anything.

    Returns:
        `bool`: None for other metrics of which nothing was said, which `TrainingArguments` settles.

    Raises:
        ValueError: for a direction in which the worst model would be the best.

    Example:

    ```python
    >>> settled_direction("worst_ece", None), settled_direction("worst_f1", None), settled_direction("loss", None)
    (False, True, None)

    ```
    """
    if metric is None or extra_metric_of(metric) is None:
        return greater_is_better
    right = not smaller_is_better(metric)
    if greater_is_better not in (None, right):
        raise ValueError(
            f"greater_is_better={greater_is_better} with metric_for_best_model={metric!r} would keep the worst model: "
            f"of it {'more' if right else 'less'} is better. Leave greater_is_better unset"
        )
    return right


def selected_on(metric: str, evaluation_sets: Sequence[str]) -> tuple[str, str]:
    """Return the prefix of the evaluation that models are selected on, and the metric without the set's name.

    Args:
        metric (`str`): `metric_for_best_model` without `eval_`.
        evaluation_sets (`Sequence[str]`): names of the evaluation sets; empty if there is a single one, without a
            name.

    Returns:
        `tuple[str, str]`: the prefix, "eval" or "eval_NAME", and the metric.

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


COLLAPSE = 0.1
"""A metric that is lower than its best value by more than this has collapsed."""


def collapse_after(log_history: Sequence[dict[str, Any]], metric: str, step: int) -> dict[str, Any] | None:
    """Return how far below the selected step an accuracy is at the end of training; None unless by more than 0.1.

    Args:
        log_history (`Sequence[dict]`): `trainer.state.log_history`.
        metric (`str`): the metric's key, with or without "eval_".
        step (`int`): the step that was selected.

    Returns:
        `dict`: the metric's `value` at its last evaluation, the step `at` which that was, and the `best` value.

    Example:

    ```python
    >>> history = [{"step": s, "eval_accuracy": a} for s, a in ((1, 0.5), (2, 0.9), (3, 0.3))]
    >>> collapse_after(history, "accuracy", step=2)
    {'value': 0.3, 'at': 3, 'best': 0.9}

    ```
    """
    key = metric if metric.startswith("eval_") else f"eval_{metric}"
    values: dict[int, float] = {}
    for entry in log_history:
        if key in entry:  # of one step the first: after training the best model is read again
            values.setdefault(entry["step"], entry[key])
    later = {at: value for at, value in values.items() if at > (step or 0)}
    if not key.endswith("accuracy") or step not in values or not later:
        return None
    at = max(later)
    fell = values[step] - later[at] > COLLAPSE
    return {"value": later[at], "at": at, "best": values[step]} if fell else None


NEAR_GUESS = 0.02
"""A loss within this share of that of a guess, ln K, is taken for it."""


def faults_of_training(
    log_history: Sequence[dict[str, Any]], metric: str, step: int | None, num_classes: int
) -> dict[str, Any]:
    """Return how a training went wrong: it collapsed after the step that was selected, or it ends as a guess.

    Args:
        log_history (`Sequence[dict]`): `trainer.state.log_history`.
        metric (`str`): the key of the metric that models are selected on, with or without "eval_".
        step (`int`, *optional*): the step that was selected; None where none was.
        num_classes (`int`): K, the number of classes.

    Returns:
        `dict`: `collapse`, as [`collapse_after`] returns it, and `guess`, the `loss` with which training ends and the
        number of `classes`; each where it is so. A training ends as a guess where the mean over the last three logs
        of its loss, or over the last fifth of the logs if that is more, and of the losses of both batches if there are
        two, are within 2 % of ln K.

    Example:

    ```python
    >>> faults_of_training([{"loss": loss} for loss in (0.6, 0.65, 0.69, 0.693, 0.694)], "accuracy", None, 2)
    {'guess': {'loss': 0.6923333333333334, 'classes': 2}}
    >>> faults_of_training([{"loss": loss} for loss in (0.69, 0.6, 0.3, 0.2, 0.1)], "accuracy", None, 2)
    {}

    ```
    """
    found: dict[str, Any] = {}
    collapse = collapse_after(log_history, metric, step) if step else None
    if collapse is not None:
        found["collapse"] = collapse
    entries = [entry for entry in log_history if "loss" in entry]
    last = entries[-max(3, len(entries) // 5) :]
    names = [name for name in ("loss", "loss_biased", "loss_less_biased") if last and name in last[-1]]
    guess = math.log(num_classes) if num_classes > 1 else math.inf
    means = [sum(entry.get(name, math.inf) for entry in last) / len(last) for name in names]
    if len(last) >= 3 and means and all(abs(mean - guess) <= NEAR_GUESS * guess for mean in means):
        found["guess"] = {"loss": means[0], "classes": num_classes}
    return found
