"""Rows asked for by group: the index stream of a batch plan where rows have no numbers, and what answers to it."""

import copy
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import datasets
import numpy as np
from torch.utils.data import Dataset

from ..groups.batches import GroupedDataset
from ..method.sampling import GroupSampler
from .coding import StreamGroups


class Ticket(NamedTuple):
    """A row that a batch asks for. It holds all that decides which row that is.

    Args:
        seed (`int`), epoch (`int`): of the index stream.
        batch (`int`): the batch's number in the epoch, over all processes.
        group (`int`): the row's group id.
        number (`int`): how many rows of this group the epoch asked for before.
    """

    seed: int
    epoch: int
    batch: int
    group: int
    number: int


class TicketSampler(GroupSampler):
    """Yields [`Ticket`]s so that every `plan.rows` of them are one batch of the plan.

    The groups are those of [`GroupSampler`], draw for draw. As the stream is a function of seed and epoch, a resumed
    run reaches its place by drawing groups again, without reading a row.
    """

    def __iter__(self) -> Iterator[Ticket]:
        asked = np.zeros(self.groups.counts.size, dtype=np.int64)
        batch = 0
        for group, _ in self.draws():
            numbers = _running_counts(group.ravel(), asked)
            batches = np.repeat(np.arange(batch, batch + len(group)), group.shape[1])
            batch += len(group)
            seed, epoch = itertools.repeat(self.seed), itertools.repeat(self.epoch)
            columns = (seed, epoch, batches.tolist(), group.ravel().tolist(), numbers.tolist())
            yield from map(Ticket._make, zip(*columns))  # noqa: B905  (two of them are endless)


def _running_counts(group: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """How often each entry's group came up before it; `asked`, the counts so far, is brought up to date."""
    order = np.argsort(group, kind="stable")
    ranked = group[order]
    first = np.searchsorted(ranked, ranked, side="left")
    numbers = np.empty_like(order)
    numbers[order] = asked[ranked] + np.arange(len(group)) - first
    asked += np.bincount(group, minlength=len(asked))
    return numbers


class GroupStream(Dataset, ABC):
    """Training rows that are fetched by group; the base of [`GroupPartitions`] and [`ReservoirStream`].

    Args:
        groups ([`StreamGroups`]): names and counts.
        features (`datasets.Features`): of the rows.
        label_column (`str`), attribute_columns (`tuple[str, ...]`): what the groups are made of.
    """

    groups: StreamGroups
    features: datasets.Features
    label_column: str
    attribute_columns: tuple[str, ...]
    _transform: Callable[[dict[str, list]], dict[str, list]] | None = None

    @property
    def column_names(self) -> list[str]:
        """The names of the rows' columns."""
        return list(self.features)

    def with_transform(self, transform: Callable[[dict[str, list]], dict[str, list]] | None) -> "GroupStream":
        """The same stream with a function applied to each batch of rows, as in `datasets.Dataset.with_transform`."""
        twin = copy.copy(self)
        twin._transform = transform
        return twin

    @abstractmethod
    def reader(self, process_index: int = 0, num_processes: int = 1) -> "GroupStream":
        """What one process reads its batches from: every `num_processes`-th of those that a sampler lays out."""

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, Ticket):
            return self.__getitems__([key])[0]
        raise TypeError(
            f"{type(self).__name__} gives rows by group, to train on; it has no row or column {key!r}. Evaluation and "
            "test sets are map-style: a datasets.Dataset, say"
        )

    @abstractmethod
    def __getitems__(self, tickets: list[Ticket]) -> list[Any]:
        """The rows that one batch asks for."""

    def _as_rows(self, columns: dict[str, list]) -> list[dict[str, Any]]:
        """Decode columns as they are stored, transform them, and take them apart."""
        columns = self.features.decode_batch(columns)
        if self._transform is not None:
            columns = self._transform(columns)
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


class GroupedStream(GroupedDataset):
    """A stream whose batches come with group ids, as [`GroupedDataset`] has it for rows by number."""

    def group_ids(self, numbers: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(numbers[:, Ticket._fields.index("group")])


def check_stream(stream: GroupStream, args: Any) -> None:
    """Refuse settings that rows fetched by group cannot serve.

    Args:
        stream ([`GroupStream`]): the training rows.
        args ([`GerneConfig`]): the settings.

    Raises:
        ValueError: for pseudo-attributes, `dispatch_batches`, and for groups made of other columns.
    """
    name = type(stream).__name__
    if args.pseudo_attributes:
        raise ValueError(
            f"pseudo_attributes=True needs rows by number, to score each one, and {name} has none. Score a map-style "
            "data set, add its pseudo-attribute as a column (PseudoAttributes.label), and stream that"
        )
    if args.accelerator_config.dispatch_batches:
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
