"""The guard of unknown attributes: the table that is printed before training, and what is warned of before and after.

Pure functions of [`InferredGroups`](gerne_hf.pseudo_attributes.InferredGroups) and of figures of the biased models.
"""

from typing import Any

import numpy as np

from ..evaluation.gate import GATE_TOLERANCE
from ..utils.markdown import format_table
from .rules import InferredGroups

FEW_ROWS, MUCH_MASS = 30, 0.25
"""A group of fewer rows than the first that gets more than the second of its class's training mass is warned of."""

MEMORIZED = 0.999
"""Accuracy on the rows that a model was trained on from which its scores of the same rows tell little."""

LARGE_GAP = 0.15
"""Accuracy out of fold that is by more than this below that in sample is warned of."""


def shares_of_class(mass: np.ndarray) -> np.ndarray:
    """Return the share of its class's training mass that each group gets.

    Args:
        mass (`np.ndarray` of shape `(K, A)`): expected weight of each group in training.
    """
    return mass / np.maximum(mass.sum(axis=1, keepdims=True), 1e-12)


def guard_table(inferred: InferredGroups, mass: np.ndarray) -> str:
    """Return the table of what was inferred, a line for each class.

    Args:
        inferred ([`InferredGroups`]): the groups.
        mass (`np.ndarray` of shape `(K, A)`): expected weight of each group in training.
    """
    by_value = inferred.rule == "validation_attributes"
    lines = []
    for label, split in enumerate(inferred.classes):
        share = _share_of_hard(inferred, mass, label)
        lines.append(
            [
                split.name,
                f"{split.rows:,}",
                f"{split.hard:,}",
                f"{100 * split.hard / max(split.rows, 1):.1f}",
                f"{100 * share:.1f}",
                split.reason,
            ]
        )
    few = "minority rows" if by_value else "hard rows"
    return format_table(["class", "rows", few, "% of rows", "% of training mass", "why"], lines)


def _share_of_hard(inferred: InferredGroups, mass: np.ndarray, label: int) -> float:
    return float(shares_of_class(mass)[label][inferred.minority[label]].sum())


def guard_warnings(
    inferred: InferredGroups, mass: np.ndarray, record: dict[str, Any], folds: int, evaluated: bool
) -> list[str]:
    """Return what to warn of before training, in full sentences; empty if there is nothing.

    Args:
        inferred ([`InferredGroups`]): the groups.
        mass (`np.ndarray` of shape `(K, A)`): expected weight of each group in training.
        record (`dict`): record of the fit, with `in_sample_accuracy` and `out_of_fold_accuracy`.
        folds (`int`): number of biased models.
        evaluated (`bool`): whether there is a validation set.
    """
    index, warnings = inferred.index, []
    shares = shares_of_class(mass)
    for label, split in enumerate(inferred.classes):
        several, together = int(inferred.minority[label].sum()), _share_of_hard(inferred, mass, label)
        if several > 1 and split.hard < FEW_ROWS and together > MUCH_MASS:
            warnings.append(
                f"{split.hard} rows of class {split.name}, of {several} attribute values, get {100 * together:.0f} % "
                "of the class's training mass: the model may learn them by heart. A smaller c (beta + 1) gives them "
                "less"
            )
        for attribute, name in enumerate(index.attribute_names):
            count, share = int(index.counts[label, attribute]), float(shares[label, attribute])
            if split.hard and 0 < count < FEW_ROWS and share > max(MUCH_MASS, count / split.rows):
                warnings.append(
                    f"{count} rows of class {split.name}, {name}, get {100 * share:.0f} % of the class's training "
                    "mass: the model may learn them by heart. A smaller c (beta + 1) gives them less"
                )
        if inferred.rule == "threshold" and split.hard and inferred.evaluation is not None:
            of_evaluation = inferred.evaluation.counts[label]
            share, rows = split.hard / split.rows, int(of_evaluation.sum())
            found = int(of_evaluation[0]) / max(rows, 1)
            if rows and found - share < 3 * np.sqrt(share * (1 - share) / rows):
                warnings.append(
                    f"Nothing shows that the {split.hard} hard rows of class {split.name} are a minority: such rows "
                    f"are {100 * found:.1f} % of its validation rows and {100 * share:.1f} % of its training rows. "
                    "Where a class has no minority, training on its hard rows makes the model worse; "
                    "pseudo_rule='validation_shift' leaves it whole"
                )
    if not evaluated:
        warnings.append(
            "There is no validation set, so nothing shows whether the hard rows are a minority or only hard. Give an "
            "eval_dataset that is less biased than the training set"
        )
    seen, unseen, classes = (
        record.get("in_sample_accuracy"),
        record.get("out_of_fold_accuracy"),
        len(index.label_names),
    )
    if seen is not None and seen < (1 + 1 / classes) / 2:
        warnings.append(
            f"The biased models underfit: they are right on {100 * seen:.1f} % of rows that they were trained on, "
            "each class weighing the same. Their scores tell little; raise biased_learning_rate or biased_epochs"
        )
    if seen is not None and folds == 1 and seen >= MEMORIZED:
        warnings.append(
            f"The biased model is right on {100 * seen:.1f} % of the rows that it was trained on and scores: it may "
            "have memorized them. biased_folds=2 scores each row by a model that was not trained on it"
        )
    if seen is not None and unseen is not None and folds > 1 and seen - unseen > LARGE_GAP:
        warnings.append(
            f"The biased models are right on {100 * seen:.1f} % of the rows that they were trained on and on "
            f"{100 * unseen:.1f} % of others: they memorize. Fewer biased_epochs may rank the rows better"
        )
    return warnings


def warning_after_training(class_balanced: float | None, reference: float | None) -> str | None:
    """Return the warning that a model is worse than class-balanced ERM on the validation set; None if it is not.

    Args:
        class_balanced (`float`, *optional*): class-balanced accuracy of the model on the validation set.
        reference (`float`, *optional*): that of the biased models, which are class-balanced ERM.

    Example:

    ```python
    >>> warning_after_training(0.79, 0.8) is None, warning_after_training(0.7, 0.8) is None
    (True, False)

    ```
    """
    if class_balanced is None or reference is None or class_balanced >= reference - GATE_TOLERANCE:
        return None
    return (
        f"The model's class-balanced accuracy on the validation set, {100 * class_balanced:.1f} %, is below that of "
        f"the biased models, {100 * reference:.1f} %, which are class-balanced ERM on a part of the rows. The "
        "groups that were inferred do not help here: train with plan='erm', or lower c (beta + 1)"
    )


def not_judged(reference: float | None) -> str:
    """Return the warning that nothing tells whether a model with inferred groups is worse than class-balanced ERM.

    Args:
        reference (`float`, *optional*): class-balanced accuracy of the biased models, where it is known.
    """
    at_least = "" if reference is None else f", of which the biased models have {100 * reference:.1f} %"
    return (
        "No evaluation of this model was asked for, so nothing tells whether the groups that were inferred help or "
        "make it worse than class-balanced ERM. Give an eval_dataset and eval_strategy='epoch', or call "
        f"trainer.evaluate() and look at class_balanced_accuracy{at_least}"
    )
