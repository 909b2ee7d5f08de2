"""Evaluation over groups that overlap: a row may have several attributes at once, or none.

A row's group id stands for its label and the whole combination of its attributes, so the figures are right in any
order of the rows and on any number of processes. Which columns these attributes are is said by
`GerneConfig.overlapping_columns`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..groups.index import GroupIndex
from .accumulator import GroupAccumulator, warn_of_rows_without_prediction
from .metrics import group_metrics

_TRUE = ("True", "1")


class OverlappingAccumulator(GroupAccumulator):
    """Collects the rows of an evaluation whose groups overlap.

    Args:
        index ([`GroupIndex`]): the rows by label and by the combination of the boolean columns.
        columns (`Sequence[str]`): names of the A boolean columns, an attribute each.
        train_counts (`np.ndarray` of shape `(K, A)`, *optional*): training rows of each overlapping group.

    Raises:
        ValueError: for columns that hold something else than booleans, or 0 and 1.
    """

    def __init__(self, index: GroupIndex, columns: Sequence[str], train_counts: np.ndarray | None = None):
        super().__init__(index, train_counts)
        self.attribute_names = tuple(columns)
        self._memberships = combination_memberships(index)

    def memberships(self) -> np.ndarray:
        """Return which of the A attributes are true in each of the index's combinations, bool, `(combinations, A)`."""
        return self._memberships

    def result(self) -> dict[str, Any]:
        """Return the [`group_metrics`] over overlapping groups of all rows so far."""
        labels, groups, predicted = self.columns()
        warn_of_rows_without_prediction(predicted)
        memberships = self._memberships[groups % self.index.num_attributes]
        result = group_metrics(
            predicted, labels, memberships, self.train_counts, self.index.label_names, self.attribute_names
        )
        return self.with_scores(result, predicted, labels, memberships)


def combination_memberships(index: GroupIndex) -> np.ndarray:
    """Return which of an index's boolean columns are true in each combination of their values.

    Args:
        index ([`GroupIndex`]): made from I boolean columns, so with A combinations of their values.

    Returns:
        `np.ndarray` of shape `(A, I)`, bool.

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
