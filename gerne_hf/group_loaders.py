"""The loaders of a Trainer over rows that carry their group ids, and the group indices of its evaluation sets."""

import contextlib
from collections.abc import Iterator
from typing import Any

import datasets
import numpy as np
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_utils import RemoveColumnsCollator
from transformers.utils import logging

from .checks import check_classes
from .column_names import column_names
from .distributions import biased_distribution, less_biased_distribution, uniform_target
from .grouped_data import GroupCollator, GroupedDataset, UniformRowsCollator
from .groups import LABEL_COLUMNS, GroupIndex
from .plans import BatchPlan, biased_rows, check_rows
from .streaming.stream import GroupedStream, GroupStream

logger = logging.get_logger(__name__)


class GroupLoadersMixin:
    """The part of [`GerneTrainer`] that reads the data; goes before `Trainer` in the bases."""

    _hidden_columns: tuple = ()
    groups: GroupIndex | None
    reference_groups: GroupIndex | None
    """Training groups by the attribute that is evaluated; where that is unknown in training, by class alone."""

    # ---- evaluation sets ------------------------------------------------------------------------------------------

    def _index_evaluation_sets(self, eval_dataset: Any) -> None:
        """Index the data sets given at construction, so that a missing column is found now and not after an epoch."""
        self._persistent_loaders: list[tuple[Any, DataLoader]] = []
        vars(self).pop("_eval_dataloaders", None)
        named = eval_dataset if isinstance(eval_dataset, dict) else {"evaluation": eval_dataset}
        self._known_sets = [(data, self._index(data, name)) for name, data in named.items() if data is not None]

    def _index(self, dataset: Any, description: str) -> GroupIndex | None:
        """The group index of an evaluation set, with the training set's names; None for a set without labels."""
        names = column_names(dataset)
        label_column = self.args.label_column
        if not any(name in names for name in ((label_column,) if label_column else LABEL_COLUMNS)):
            if description == "test":  # predict() on unlabelled rows
                return None
            raise ValueError(
                f"the {description} set has no label column: {label_column or ', '.join(LABEL_COLUMNS)} is not among "
                f"its columns {', '.join(map(repr, names))}"
            )
        missing = [name for name in self.args.attribute_columns if name not in names]
        if missing:
            raise ValueError(
                f"the {description} set has no attribute column {', '.join(map(repr, missing))}; its columns are "
                f"{', '.join(map(repr, names))}. Group metrics need the attribute in every set that is evaluated"
            )
        index = GroupIndex.from_dataset(dataset, label_column, self.args.attribute_columns, self.reference_groups)
        if self.reference_groups is not None:
            self._report_unseen_groups(index, description)
        return index

    def _report_unseen_groups(self, index: GroupIndex, description: str) -> None:
        if index.num_classes > self.reference_groups.num_classes:
            extra = ", ".join(index.label_names[self.reference_groups.num_classes :])
            raise ValueError(
                f"the {description} set has classes that training lacks: {extra}. The model cannot predict them; "
                "filter these rows out"
            )
        trained = aligned_counts(self.reference_groups, index)
        if trained is None:
            return
        unseen = np.flatnonzero((trained.ravel() == 0) & (index.counts.ravel() > 0))
        if len(unseen):
            names = ", ".join(f"{index.group_name(g)} with {index.counts.ravel()[g]} rows" for g in unseen)
            logger.warning(
                f"The {description} set has groups that training lacks: {names}. They are part of the group metrics, "
                "with 0 training rows."
            )

    def _groups_of(self, dataset: Any, description: str) -> GroupIndex | None:
        for data, index in self._known_sets:
            if data is dataset:
                return index
        return self._index(dataset, description.lower())

    # ---- loaders --------------------------------------------------------------------------------------------------

    def _get_dataloader(
        self, dataset, description, batch_size, sampler_fn=None, is_training=False, dataloader_key=None
    ):
        """The parent's loader over rows that carry their group ids."""
        groups = self._training_groups() if is_training else self._groups_of(dataset, description)
        order = contextlib.nullcontext() if is_training else _all_rows_in_order(self.args)
        rest = description, batch_size, sampler_fn, is_training, dataloader_key
        if groups is None:
            with order:
                return super()._get_dataloader(dataset, *rest)
        check_classes(self.model, groups)
        collator = self.data_collator
        # The parent removes columns from a datasets.Dataset, or else from the rows before they are collated. The view
        # hides the first and its rows, being tuples, pass the second untouched, so both are done here.
        if isinstance(dataset, datasets.Dataset):
            dataset, inner = self._remove_unused_columns(dataset, description), collator
        else:
            inner = self._get_collator_with_removed_columns(collator, description)
        if isinstance(dataset, GroupStream):
            view = GroupedStream(dataset.reader(self.args.process_index, self.args.world_size), groups, self.args.seed)
        else:
            view = GroupedDataset(dataset, groups, self.args.seed if is_training else None)
        self.data_collator = GroupCollator(
            inner, groups.num_attributes, (*self.args.attribute_columns, *self._hidden_columns)
        )
        try:
            with order:
                return super()._get_dataloader(view, *rest)
        finally:
            self.data_collator = collator

    def get_eval_dataloader(self, eval_dataset=None):
        """The parent's, which with persistent workers takes the first set's loader for all sets that have no name."""
        if not self.args.dataloader_persistent_workers or isinstance(eval_dataset, str):
            return super().get_eval_dataloader(eval_dataset)
        wanted = self.eval_dataset if eval_dataset is None else eval_dataset
        for data, loader in self._persistent_loaders:
            if data is wanted:
                return loader
        vars(self).get("_eval_dataloaders", {}).pop("eval", None)
        self._persistent_loaders.append((wanted, super().get_eval_dataloader(eval_dataset)))
        return self._persistent_loaders[-1][1]

    def _get_collator_with_removed_columns(self, data_collator, description=None):
        """The parent's, but faster; not for rows that carry group ids, where it would find no columns to remove."""
        if isinstance(data_collator, GroupCollator):
            return data_collator
        collator = super()._get_collator_with_removed_columns(data_collator, description)
        return UniformRowsCollator(collator) if type(collator) is RemoveColumnsCollator else collator

    def get_biased_dataloader(self) -> DataLoader:
        """The stream of biased batches, `p_b(a|y) = alpha_ya`, as a loader, its part of a training batch at a time."""
        self._index_anew_if_replaced()
        self._training_groups()
        return self._stream("biased", self._biased_rows(), biased_distribution(self.groups.alpha))

    def get_less_biased_dataloader(self) -> DataLoader:
        """The stream of less biased batches (Eq. 4) as a loader, its part of a training batch at a time."""
        self._index_anew_if_replaced()
        self._training_groups()
        distribution = less_biased_distribution(self.groups.alpha, self.args.c, uniform_target(self.groups.counts))
        return self._stream("less_biased", self._train_batch_size - self._biased_rows(), distribution)

    def _biased_rows(self) -> int:
        check_rows("independent", self._train_batch_size, 2)
        return biased_rows(self._train_batch_size, self.args.biased_share)

    def _stream(self, name: str, rows: int, distribution: np.ndarray) -> DataLoader:
        classes = self._class_probabilities()
        weights = 1.0 / self.groups.num_classes if classes is None else classes[:, None]
        plan = BatchPlan.single(name, rows, weights * distribution)
        dataset, sampler = self.train_dataset, self._sampler_of(plan, self.args.seed)
        if isinstance(dataset, GroupStream):
            dataset = dataset.reader(self.args.process_index, self.args.world_size)
        return Trainer._get_dataloader(self, dataset, name, rows, lambda dataset: sampler, True)


@contextlib.contextmanager
def _all_rows_in_order(args: Any) -> Iterator[None]:
    """Group figures are of every row, and scores belong to rows by their order, whatever training batches are."""
    before = args.dataloader_drop_last, args.dataloader_in_order
    args.dataloader_drop_last, args.dataloader_in_order = False, True
    try:
        yield
    finally:
        args.dataloader_drop_last, args.dataloader_in_order = before


def aligned_counts(trained: GroupIndex, index: GroupIndex) -> np.ndarray | None:
    """Training counts in the shape of an evaluation set's groups, whose names continue those of training; None where
    the attribute is unknown in training."""
    if len(trained.attribute_values) != len(index.attribute_values):
        return None
    if len(trained.attribute_values) <= 1:
        columns = np.arange(trained.num_attributes)
    else:  # a new value in one of several columns renumbers their product
        columns = np.array([index.attribute_names.index(name) for name in trained.attribute_names])
    counts = np.zeros(index.counts.shape, dtype=np.int64)
    counts[np.ix_(np.arange(trained.num_classes), columns)] = trained.counts
    return counts
