"""`GroupSets`: the group indices of a training set and of its evaluation sets, which share the names of their groups.

Imports the modules of this room only. The trainer that owns a `GroupSets` is in
[`group_trainer`](gerne_hf.training.group_trainer).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers.utils import logging

from .index import LABEL_COLUMNS, GroupIndex
from .names import shared_name_with_two_ids
from .sources import column_names, only_iterated
from .streamed import StreamedRows

logger = logging.get_logger(__name__)

UNLABELLED = "test"
"""Description of a set that may lack labels: what `Trainer.predict` calls the set it is given."""


class GroupSets:
    """Indexes evaluation sets by group, and remembers the indices of those that are given at construction.

    Args:
        label_column (`str`, *optional*): the column of the class; the first of [`LABEL_COLUMNS`] that exists if not
            given.
        attribute_columns (`Sequence[str]`, *optional*): the columns whose product is the attribute.
        overlapping_columns (`Sequence[str]`, *optional*): boolean columns, an attribute each, of which a row may have
            several at once. Evaluation sets are then indexed by the combination of these columns, and
            `attribute_columns` need not be there.
        may_lack_classes (`bool`, *optional*, defaults to `False`): whether training rows may lack classes that
            evaluation sets have; which ones is said.
    """

    def __init__(
        self,
        label_column: str | None = None,
        attribute_columns: Sequence[str] = (),
        overlapping_columns: Sequence[str] = (),
        may_lack_classes: bool = False,
    ):
        self.may_lack_classes = may_lack_classes
        self.label_column = label_column
        self.attribute_columns = tuple(attribute_columns)
        self.overlapping_columns = tuple(overlapping_columns)
        self.reference: GroupIndex | None = None
        """The training rows by the attribute that is evaluated, or by class alone where it is unknown in training."""
        self.known: list[tuple[Any, GroupIndex | None]] = []
        """The evaluation sets given at construction, each with its index."""

    def use_evaluation_sets(self, eval_dataset: Any) -> None:
        """Index the evaluation sets now, so that a missing column is found before training and not after an epoch.

        Args:
            eval_dataset: a data set, a dictionary of data sets by name, or None.
        """
        named = eval_dataset if isinstance(eval_dataset, dict) else {"evaluation": eval_dataset}
        self.known = [
            (data, None if only_iterated(data) else self.index(data, name))
            for name, data in named.items()
            if data is not None
        ]

    def index_of(self, dataset: Any, description: str) -> GroupIndex | None:
        """Return the index of an evaluation set, the one made at construction where it is that set."""
        for data, index in self.known:
            if data is dataset:
                return index
        if only_iterated(dataset):
            return None
        return self.index(dataset, description.lower())

    def streamed(self, dataset: Any, description: str) -> StreamedRows:
        """Return the rows of a set that can only be iterated, whose groups are found while they are read.

        Args:
            dataset: such a set.
            description (`str`): what it is called in messages.
        """
        return StreamedRows(
            dataset, self.label_column, self.attribute_columns, self.overlapping_columns, description.lower()
        )

    def is_known(self, index: GroupIndex | None, dataset: Any = None) -> bool:
        """Return True if an index, or a set that has none, is of an evaluation set that was given at construction."""
        return any(data is dataset if known is None else index is known for data, known in self.known)

    def index(self, dataset: Any, description: str) -> GroupIndex | None:
        """Index an evaluation set, with the names of the training set's groups.

        Args:
            dataset: a data set with columns.
            description (`str`): what the set is called in messages.

        Returns:
            [`GroupIndex`]: None for a set without labels that is to be predicted ("test").

        Raises:
            ValueError: for a missing label or attribute column, naming the columns there are, and for classes that the
                training set lacks or has under other ids.
        """
        names = column_names(dataset)
        if self.overlapping_columns:
            self._require_columns(self.overlapping_columns, names, description)
            index = GroupIndex.from_dataset(dataset, self.label_column, self.overlapping_columns)
            self._refuse_other_class_ids(index, description)
            return index
        if not any(name in names for name in ((self.label_column,) if self.label_column else LABEL_COLUMNS)):
            if description == UNLABELLED:
                return None
            raise ValueError(
                f"the {description} set has no label column: {self.label_column or ', '.join(LABEL_COLUMNS)} is not "
                f"among its columns {', '.join(map(repr, names))}"
            )
        more = ". Group metrics need the attribute in every set that is evaluated"
        self._require_columns(self.attribute_columns, names, description, more)
        index = GroupIndex.from_dataset(dataset, self.label_column, self.attribute_columns, self.reference)
        if self.reference is not None:
            self._report_unseen_groups(self.reference, index, description)
        return index

    def train_counts(self, index: GroupIndex) -> np.ndarray | None:
        """Return the training rows of each group of an evaluation set, `(K, A)`; None where nobody knows them."""
        return None if self.reference is None else aligned_counts(self.reference, index)

    @staticmethod
    def _require_columns(needed: Sequence[str], names: Sequence[str], description: str, more: str = "") -> None:
        missing = [name for name in needed if name not in names]
        if missing:
            raise ValueError(
                f"the {description} set has no attribute column {', '.join(map(repr, missing))}; its columns are "
                f"{', '.join(map(repr, names))}{more}"
            )

    def _refuse_other_class_ids(self, index: GroupIndex, description: str) -> None:
        """Refuse a set that is not coded by the names of the training set, if it has a class under another id."""
        trained = () if self.reference is None else self.reference.label_names
        moved = shared_name_with_two_ids(index.label_names, trained)
        if moved is not None:
            raise ValueError(
                f"the class {moved!r} has the id {index.label_names.index(moved)} in the {description} set, and "
                f"another in the training set, whose classes are {', '.join(trained)}. Give both the same ClassLabel: "
                "dataset.cast_column(name, train_dataset.features[name])"
            )

    def _report_unseen_groups(self, reference: GroupIndex, index: GroupIndex, description: str) -> None:
        """Refuse classes that the training set lacks, unless it may, and warn of groups that have no training rows."""
        if index.num_classes > reference.num_classes and not self.may_lack_classes:
            extra = ", ".join(index.label_names[reference.num_classes :])
            raise ValueError(
                f"the {description} set has classes that training lacks: {extra}. The model cannot predict them; "
                "filter these rows out"
            )
        trained = aligned_counts(reference, index)
        if trained is None:
            return
        unseen = np.flatnonzero((trained.ravel() == 0) & (index.counts.ravel() > 0))
        if len(unseen):
            names = ", ".join(f"{index.group_name(g)} with {index.counts.ravel()[g]} rows" for g in unseen)
            logger.warning(
                f"The {description} set has groups that training lacks: {names}. They are part of the group metrics, "
                "with 0 training rows."
            )


def aligned_counts(trained: GroupIndex, index: GroupIndex) -> np.ndarray | None:
    """Return the training rows of each group in the shape of an evaluation set's groups.

    Args:
        trained ([`GroupIndex`]): the training rows.
        index ([`GroupIndex`]): the rows of an evaluation set, whose names continue those of the training set.

    Returns:
        `np.ndarray` of shape `(K, A)`, int64: None where the attribute is unknown in training.
    """
    if len(trained.attribute_values) != len(index.attribute_values):
        return None
    if len(trained.attribute_values) <= 1:
        columns = np.arange(trained.num_attributes)
    else:  # a new value in one of several columns renumbers their product
        columns = np.array([index.attribute_names.index(name) for name in trained.attribute_names])
    counts = np.zeros(index.counts.shape, dtype=np.int64)
    counts[np.ix_(np.arange(trained.num_classes), columns)] = trained.counts
    return counts
