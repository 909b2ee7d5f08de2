"""Trainers that evaluate over groups that overlap: a row may have several attributes at once, or none."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..groups.index import GroupIndex
from ..groups.sources import column_names
from ..trainer import GerneTrainer
from .metrics import flatten_group_metrics, group_metrics

_TRUE = ("True", "1")


def with_overlapping_groups(
    trainer_class: type[GerneTrainer], attribute_columns: Sequence[str], train_group_counts: np.ndarray | None = None
) -> type[GerneTrainer]:
    """A trainer class whose evaluations are over overlapping groups; training is as it was.

    `attribute_column` then says what the groups of training are, and the evaluation sets need not have it.

    Args:
        trainer_class (`type`): [`GerneTrainer`] or a subclass.
        attribute_columns (`Sequence[str]`): boolean columns of the evaluation sets, an attribute each.
        train_group_counts (`np.ndarray` of shape `(K, A)`, *optional*): for tables.
    """
    settings = {"overlapping_columns": tuple(attribute_columns), "overlapping_train_counts": train_group_counts}
    # The name stays: trainers keep state in checkpoints under it.
    return type(trainer_class.__name__, (OverlappingEvaluationMixin, trainer_class), settings)


class OverlappingEvaluationMixin:
    """Evaluation over overlapping groups; goes before [`GerneTrainer`] in the bases. A row's group id stands for its
    label and the whole combination of its attributes, so it is right in any row order and on any number of processes.
    """

    overlapping_columns: tuple[str, ...]
    overlapping_train_counts: np.ndarray | None = None

    def _index(self, dataset: Any, description: str) -> GroupIndex | None:
        """Rows by label and combination of attributes."""
        names = column_names(dataset)
        missing = [name for name in self.overlapping_columns if name not in names]
        if missing:
            raise ValueError(
                f"the {description} set has no attribute column {', '.join(map(repr, missing))}; its columns are "
                f"{', '.join(map(repr, names))}"
            )
        return GroupIndex.from_dataset(dataset, self.args.label_column, self.overlapping_columns)

    def _memberships(self, index: GroupIndex) -> np.ndarray:
        """The overlapping attributes in each combination of them."""
        return combination_memberships(index)

    def _compute_metrics(self, prediction: Any, compute_result: bool = True) -> dict[str, float]:
        """The parent's, with the figures of overlapping groups in place of those of combinations."""
        metrics = super()._compute_metrics(prediction, compute_result)
        index = self._evaluated_groups
        if index is None or not compute_result:
            return metrics
        labels, groups, predicted = (np.concatenate(column) for column in zip(*self._batched, strict=True))
        memberships = combination_memberships(index)[groups % index.num_attributes]
        combined = flatten_group_metrics(self._result)
        self._result = group_metrics(
            predicted, labels, memberships, self.overlapping_train_counts, index.label_names, self.overlapping_columns
        )
        own = {key: value for key, value in metrics.items() if key not in combined}
        return {**flatten_group_metrics(self._result), **own}


def combination_memberships(index: GroupIndex) -> np.ndarray:
    """`(A, I)`, bool: which of its I boolean columns are true in each of an index's A combinations of them.

    Raises:
        ValueError: for columns that hold something else than booleans, or 0 and 1.
    """
    for values in index.attribute_values:
        if not set(values) <= {"True", "False", "0", "1"}:
            raise ValueError(f"columns of overlapping attributes must hold booleans; found {', '.join(values[:5])}")
    sizes = [len(values) for values in index.attribute_values]
    places = np.unravel_index(np.arange(index.num_attributes), sizes)
    true = [np.array([value in _TRUE for value in values]) for values in index.attribute_values]
    return np.stack([flags[place] for flags, place in zip(true, places, strict=True)], axis=1)
