"""A data set and a collator that carry the group id of each row into the batch, for any rows and any collator.

Imports [`random`](gerne_hf.utils.random), and [`index`](gerne_hf.groups.index) of this room. The loaders made of them
are in [`GroupTrainer`](gerne_hf.training.group_trainer.GroupTrainer).
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

import datasets
import numpy as np
import torch
from torch.utils.data import Dataset, TensorDataset
from transformers import (
    DataCollatorWithPadding,
    DefaultDataCollator,
    TrainingArguments,
    default_data_collator,
)
from transformers.trainer_utils import RemoveColumnsCollator

from ..utils.random import batch_seed, seeded
from .index import LABEL_COLUMNS, GroupIndex

GROUP_KEY = "gerne_group_ids"
"""The key under which a batch holds its group ids; the trainer takes it out before it calls the model."""


class GroupedRows(NamedTuple):
    """The rows of one batch, as the loader hands them to the collator.

    Args:
        rows (`list`): rows of the underlying data set.
        groups (`np.ndarray` of shape `(B,)`, int64): their group ids.
        seed (`int`, *optional*): what the collator's random transforms start at; None if they are left alone.
    """

    rows: list[Any]
    groups: np.ndarray
    seed: int | None = None


class GroupedDataset(Dataset):
    """A map-style data set whose batches come with group ids. Single rows are those of the underlying data set.

    Args:
        dataset: any map-style data set.
        groups ([`GroupIndex`]): the index made from this very data set.
        seed (`int`, *optional*): if given, what random transforms draw for a batch depends on this seed and on the
            rows of the batch alone, so that a resumed run draws the same; if not given, they draw as they always do.
    """

    def __init__(self, dataset: Any, groups: GroupIndex, seed: int | None = None):
        self.dataset = dataset
        self.groups = groups
        self.seed = seed
        stored = type(dataset) in (list, tuple, TensorDataset)
        plain = stored or (isinstance(dataset, datasets.Dataset) and dataset.format["type"] != "custom")
        self._draws = seed is not None and not plain

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index]

    def __getitems__(self, indices: Sequence[int]) -> GroupedRows:
        numbers = np.asarray(indices, dtype=np.int64)
        seed = None if self.seed is None else batch_seed(self.seed, numbers)
        if self._draws and seed is not None:
            with seeded(seed):
                rows = self._rows(indices)
        else:
            rows = self._rows(indices)
        return GroupedRows(rows, self.group_ids(numbers), seed)

    def _rows(self, indices: Sequence[int]) -> list[Any]:
        dataset = self.dataset
        if hasattr(dataset, "__getitems__"):
            return dataset.__getitems__(indices)
        return [dataset[index] for index in indices]

    def group_ids(self, numbers: np.ndarray) -> np.ndarray:
        """Return the group ids of rows. Override this where rows are asked for by something other than their numbers.

        Args:
            numbers (`np.ndarray`, int64): what the sampler asked for: row numbers, of shape `(B,)`.

        Returns:
            `np.ndarray` of shape `(B,)`, int64
        """
        return self.groups.codes[numbers].astype(np.int64)


class UniformRowsCollator(RemoveColumnsCollator):
    """Removes the columns that the model does not take, as `RemoveColumnsCollator` does, in less time.

    `RemoveColumnsCollator` looks at every key of every row. If all rows of a batch have the same keys, it is enough to
    look at those of the first row. The default collator itself looks at no other keys than those of the first row, so
    for that collator the columns are removed from the first row alone.

    Args:
        collator (`RemoveColumnsCollator`): the collator in whose place this one is used; its settings are taken over.
    """

    def __init__(self, collator: RemoveColumnsCollator):
        vars(self).update(vars(collator))
        self._reads_first_keys = _is_default(self.data_collator)

    def __call__(self, features: list[Any]) -> dict[str, Any]:
        if self._reads_first_keys:
            return self.data_collator([self._remove_columns(features[0]), *features[1:]])
        if not _same_keys(features):
            return super().__call__(features)
        kept = self._remove_columns(features[0])  # logs once what is left out
        unused = [key for key in features[0] if key not in kept]
        if unused:
            features = [row.copy() for row in features]
        for key in unused:
            for row in features:
                del row[key]
        return self.data_collator(features)


def _is_default(collator: Any) -> bool:
    """Return whether this is the default collator, which takes from each row the keys of the first row."""
    return collator is default_data_collator or type(collator) is DefaultDataCollator


def keeps_labels(collator: Any) -> bool:
    """Return whether this is a collator of Transformers that draws nothing and takes labels as the rows have them.

    Args:
        collator (`Callable`): the collator, outside the wrapper that removes columns.
    """
    return collator is default_data_collator or isinstance(collator, (DefaultDataCollator, DataCollatorWithPadding))


def _same_keys(rows: list[Any]) -> bool:
    """Return whether all rows are plain dictionaries with the same keys."""
    if type(rows[0]) is not dict:
        return False
    keys = rows[0].keys()
    for row in rows:  # this loop is faster than all(...)
        if type(row) is not dict or row.keys() != keys:
            return False
    return True


def _text_label(rows: list[Any]) -> str | None:
    """Return the field of the rows that holds the label if it is a text there, else None."""
    row = rows[0] if rows and isinstance(rows[0], Mapping) else {}
    return next((name for name in LABEL_COLUMNS if isinstance(row.get(name), str)), None)


class GroupCollator:
    """Collates the rows with the user's collator and adds their group ids as `batch[GROUP_KEY]`.

    A batch plan says by position which rows of a batch belong to which segment, so the collator must return the rows
    it was given in their order. Every batch is checked for this by its labels, before the model sees it.

    Args:
        collator (`Callable`): the collator that the loader would use otherwise.
        num_attributes (`int`): A, the number of attribute values; the class of group id `g` is `g // A`.
        attribute_columns (`Sequence[str]`, *optional*): columns that are taken out of the batch if the collator left
            them there: some models refuse inputs they do not know, others ignore them silently.
    """

    def __init__(
        self,
        collator: Callable[[list[Any]], dict[str, Any]],
        num_attributes: int,
        attribute_columns: Sequence[str] = (),
    ):
        self.collator = collator
        self.num_attributes = num_attributes
        self.attribute_columns = attribute_columns
        self._draws = not keeps_labels(getattr(collator, "data_collator", collator))  # in the one that removes columns

    def __call__(self, features: GroupedRows) -> dict[str, Any]:
        rows, groups, seed = features
        # Another seed than that of the data set's transforms, so that both do not draw the same numbers.
        with seeded(seed ^ 1) if self._draws and seed is not None else contextlib.nullcontext():
            batch = self._collated(rows)
        self._check(batch, groups // self.num_attributes)
        for name in self.attribute_columns:
            batch.pop(name, None)
        batch[GROUP_KEY] = torch.from_numpy(groups)
        return batch

    @property
    def _name(self) -> str:
        """What messages call the user's collator, which may be inside the wrapper that removes columns."""
        inner = getattr(self.collator, "data_collator", self.collator)
        return getattr(inner, "__name__", type(inner).__name__)

    def _collated(self, rows: list[Any]) -> Any:
        """Collate the rows, and say what is wrong where texts are the labels and the collator stumbles over them."""
        try:
            batch = self.collator(rows)
        except Exception as error:
            name = _text_label(rows)
            if name is None:
                raise
            raise ValueError(
                f"the rows' {name!r} are texts ({rows[0][name]!r}), and the collator {self._name} makes no class ids "
                f"of them. Number the classes: dataset.class_encode_column({name!r})"
            ) from error
        if not isinstance(batch, MutableMapping):
            raise TypeError(
                f"the collator {self._name} returned a {type(batch).__name__}, and a batch is a dictionary by the "
                "names of the model's inputs, with the labels as 'labels'. Let it return one"
            )
        return batch

    def _check(self, batch: dict[str, Any], expected: np.ndarray) -> None:
        """Refuse a batch whose labels are not the expected ones, row by row; each message says what is wrong."""
        labels = batch.get("labels")
        if isinstance(labels, torch.Tensor):
            if labels.dtype is torch.int64 and labels.is_cpu and labels.equal(torch.from_numpy(expected)):
                return  # what nearly every batch is; the rest takes longer
            labels = labels.detach().cpu()  # a collator may put its batches on the device
            whole = labels.ndim == 1 and not labels.is_floating_point()
            if whole and np.array_equal(labels.numpy(), expected):
                return
        name = self._name
        if labels is None:
            raise ValueError(
                f"the collator {name} returned no 'labels', only {', '.join(batch)}. Group metrics and the training "
                "loss need them: let the collator return the labels under that name"
            )
        if not isinstance(labels, torch.Tensor):
            raise TypeError(
                f"the collator {name} returned the labels as a {type(labels).__name__}; a tensor of one integer class "
                "id a row is needed: torch.tensor(labels)"
            )
        if labels.ndim != 1 or labels.is_floating_point():
            raise ValueError(
                f"the collator {name} returned labels of shape {tuple(labels.shape)} and type {labels.dtype}; one "
                "integer class id a row is needed (soft and multi-label targets have no group)"
            )
        if len(labels) != len(expected):
            raise ValueError(
                f"the collator {name} was given {len(expected)} rows and returned {len(labels)}. A batch is laid out "
                "by the plan, row by row, so a collator must not drop, pack or add rows"
            )
        if not np.array_equal(labels.numpy(), expected):
            raise ValueError(
                f"the collator {name} returned rows in another order than it was given (or changed their labels). A "
                "batch is laid out by the plan, row by row, so a collator must keep the order"
            )


class ColumnsLeftOut:
    """Collates with the user's collator, and leaves columns out of the batch that the model does not take.

    Args:
        collator (`Callable`): the user's collator.
        columns (`Sequence[str]`): the columns.
    """

    def __init__(self, collator: Callable[[list[Any]], Any], columns: Sequence[str]):
        self.collator, self.columns = collator, columns

    def __call__(self, features: list[Any]) -> Any:
        batch = self.collator(features)
        if isinstance(batch, MutableMapping):
            for name in self.columns:
                batch.pop(name, None)
        return batch


@contextlib.contextmanager
def all_rows_in_order(args: TrainingArguments) -> Iterator[None]:
    """Let loaders that are made meanwhile give every row, in the order of the data set.

    Evaluations need that, whatever the settings of training loaders are: group metrics count all rows, and scores are
    matched to rows by position.

    Args:
        args ([`~transformers.TrainingArguments`]): its `dataloader_drop_last` and `dataloader_in_order` are set, and
            afterwards they are as before.
    """
    before = args.dataloader_drop_last, args.dataloader_in_order
    args.dataloader_drop_last, args.dataloader_in_order = False, True
    try:
        yield
    finally:
        args.dataloader_drop_last, args.dataloader_in_order = before
