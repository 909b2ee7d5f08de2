"""Rows that are asked for by group, as they have no numbers: the sampler that asks, the base class that answers.

Imports `groups`, `method`, `config.py` and `coding.py`. `partitions.py` and `reservoir.py` have the streams.
"""

import copy
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import datasets
import numpy as np
from torch.utils.data import Dataset
from transformers.trainer_pt_utils import AcceleratorConfig

from ..config import GerneConfig
from ..groups.batches import GroupedDataset
from ..method.sampling import GroupSampler, in_batches
from .coding import StreamGroups

_SHUFFLED_ROWS = 1 << 20
"""Group ids that are put in random order at a time."""


class Ticket(NamedTuple):
    """Ask for a row of a group, on behalf of a batch. A ticket holds everything that decides which row that is.

    Args:
        seed (`int`), epoch (`int`): the seed and the epoch of the sampler.
        batch (`int`): number of the batch in the epoch, counted over all processes.
        group (`int`): the group id.
        number (`int`): how many rows of this group have been asked for in the epoch before.
    """

    seed: int
    epoch: int
    batch: int
    group: int
    number: int


class TicketSampler(GroupSampler):
    """Yield [`Ticket`]s so that every `plan.rows` of them, in order, are one batch of the plan.

    The groups are the same as those of the rows that [`GroupSampler`] yields. As they are a function of seed and
    epoch, a resumed run gets to its place by drawing groups again, without reading a row.
    """

    def __iter__(self) -> Iterator[Ticket]:  # type: ignore[override]  # tickets stand for the numbers of rows
        asked = np.zeros(self.groups.counts.size, dtype=np.int64)
        batch = 0
        for group, _ in self.draws():
            numbers = _running_counts(group.ravel(), asked)
            batches = np.repeat(np.arange(batch, batch + len(group)), group.shape[1])
            batch += len(group)
            seed, epoch = itertools.repeat(self.seed), itertools.repeat(self.epoch)
            columns = (seed, epoch, batches.tolist(), group.ravel().tolist(), numbers.tolist())
            yield from itertools.starmap(Ticket, zip(*columns))  # noqa: B905  (two of them are endless)


class EpochTicketSampler(TicketSampler):
    """Yield [`Ticket`]s that ask for each group as often as it has rows: every row once an epoch, in random order.

    For a plan whose `every_row` is True and a stream that gives each row of a group once before it begins anew. The
    last batch has the tickets that are left over.
    """

    def __len__(self) -> int:
        return int(self._asked().sum())

    def draws(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the group ids of the epoch's rows, many batches at once; points have no meaning here, and are ids.

        Returns:
            `Iterator[tuple[np.ndarray, np.ndarray]]`: pairs of arrays of shape `(batches, plan.rows)`, the last of
            `(1, rows left over)`.
        """
        for block in in_batches(self._group_ids(), self.plan.rows):
            yield block, block

    def _asked(self) -> np.ndarray:
        """Return how often an epoch asks for each group, `(K * A,)`."""
        counts, repeats = self.groups.counts, self.plan.repeats
        return (counts.copy() if repeats is None else counts * repeats).ravel()

    def _group_ids(self) -> Iterator[np.ndarray]:
        """Yield the ids in random order part by part, without an array of all rows."""
        rng = np.random.default_rng([self.seed, self.epoch])
        left = self._asked()
        while left.any():
            taken = rng.multivariate_hypergeometric(left, min(int(left.sum()), _SHUFFLED_ROWS), method="marginals")
            left -= taken
            yield rng.permutation(np.repeat(np.arange(len(left)), taken))


def _running_counts(group: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return how often the group of each entry came up before it; add the entries to `asked`, the counts so far."""
    order = np.argsort(group, kind="stable")
    ranked = group[order]
    first = np.searchsorted(ranked, ranked, side="left")
    numbers = np.empty_like(order)
    numbers[order] = asked[ranked] + np.arange(len(group)) - first
    asked += np.bincount(group, minlength=len(asked))
    return numbers


Transform = Callable[[dict[str, list[Any]]], dict[str, list[Any]]]
"""A function of a batch of rows, given as columns, that returns columns."""


class GroupStream(Dataset, ABC):
    """Training rows that are fetched by group: the base class of [`GroupPartitions`] and [`ReservoirStream`].

    A subclass sets these attributes:

    Args:
        groups ([`StreamGroups`]): names and counts of the groups.
        features (`datasets.Features`): features of the rows.
        label_column (`str`), attribute_columns (`tuple[str, ...]`): the columns that the groups are made of.
    """

    groups: StreamGroups
    features: datasets.Features
    label_column: str
    attribute_columns: tuple[str, ...]
    _transform: Transform | None = None

    @property
    def column_names(self) -> list[str]:
        """Names of the columns of the rows."""
        return list(self.features)

    @property
    def transform(self) -> Transform | None:
        """The function that is applied to each batch of rows; None for none."""
        return self._transform

    def with_transform(self, transform: Transform | None) -> "GroupStream":
        """Return the same stream with a function that is applied to each batch of rows.

        Args:
            transform (`Callable`, *optional*): function of the columns of a batch, as for
                `datasets.Dataset.with_transform`; None for no function.

        Returns:
            [`GroupStream`]: a copy.
        """
        twin = copy.copy(self)
        twin._transform = transform
        return twin

    @abstractmethod
    def reader(self, process_index: int = 0, num_processes: int = 1) -> "GroupStream":
        """Return the stream from which one process reads its batches: every `num_processes`-th of the sampler's.

        Args:
            process_index (`int`, *optional*, defaults to `0`): number of the process.
            num_processes (`int`, *optional*, defaults to `1`): number of processes.

        Returns:
            [`GroupStream`]
        """

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, Ticket):
            return self.__getitems__([key])[0]
        raise TypeError(
            f"{type(self).__name__} gives rows by group, to train on; it has no row or column {key!r}. Evaluation and "
            "test sets are map-style: a datasets.Dataset, say"
        )

    @abstractmethod
    def __getitems__(self, tickets: list[Ticket]) -> list[Any]:
        """Return the rows that the tickets of one batch ask for, in their order."""

    def as_rows(self, columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
        """Return stored columns as rows, decoded and transformed.

        Args:
            columns (`dict[str, list]`): the values of each column, as they are stored.

        Returns:
            `list[dict[str, Any]]`: a dictionary for each row.
        """
        columns = self.features.decode_batch(columns)
        if self._transform is not None:
            columns = self._transform(columns)
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


class GroupedStream(GroupedDataset):
    """Return the batches of a [`GroupStream`] with group ids, as [`GroupedDataset`] does for numbered rows."""

    def group_ids(self, numbers: np.ndarray) -> np.ndarray:
        """Return the group id of each ticket.

        Args:
            numbers (`np.ndarray` of shape `(n, 5)`, int64): the tickets of a batch.

        Returns:
            `np.ndarray` of shape `(n,)`, int64.
        """
        return np.ascontiguousarray(numbers[:, list(Ticket.__annotations__).index("group")])


def check_stream(stream: GroupStream, args: GerneConfig) -> None:
    """Raise an error if settings do not go with training rows that are fetched by group.

    Args:
        stream ([`GroupStream`]): the training rows.
        args ([`GerneConfig`]): the settings.

    Raises:
        ValueError: if pseudo-attributes or `dispatch_batches` are set, or the settings name other columns for the
            groups than the stream has.
    """
    name = type(stream).__name__
    if args.pseudo_attributes:
        raise ValueError(
            f"pseudo_attributes=True needs rows by number, to score each one, and {name} has none. Score a map-style "
            "data set, add its pseudo-attribute as a column (PseudoAttributes.label), and stream that"
        )
    accelerator = cast(AcceleratorConfig, args.accelerator_config)  # what TrainingArguments makes of it
    if accelerator.dispatch_batches:
        raise ValueError(
            f"dispatch_batches=True has the main process read all rows and send them on; with {name} each process "
            "reads its own batches. Leave dispatch_batches at its default"
        )
    label = args.label_column or stream.label_column
    wanted, found = (label, *args.attribute_columns), (stream.label_column, *stream.attribute_columns)
    if wanted != found:
        raise ValueError(
            f"the {name} holds groups made of the columns {', '.join(map(repr, found))} (label first), and the config "
            f"names {', '.join(map(repr, wanted))}. Set label_column and attribute_column to those of the stream, or "
            "make the stream anew with those of the config"
        )
