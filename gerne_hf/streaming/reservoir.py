"""`ReservoirStream`: training on a stream that cannot be written to disk, from the rows of each group seen lately.

Imports modules of this room. Where the stream can be written to disk, `writing.py` and `partitions.py` are better.
"""

import copy
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from datasets.arrow_writer import get_arrow_writer_batch_size_from_features
from datasets.distributed import split_dataset_by_node
from torch.utils.data import get_worker_info
from transformers.utils import logging

from .coding import GroupCoder, read_tables
from .stream import GroupStream, Ticket

logger = logging.get_logger(__name__)

_ROWS_PER_READ = 256


class ReservoirStream(GroupStream):
    """Train on a stream of rows while it is read: batches are drawn from rows of each group that were read lately.

    Each group has a reservoir of up to `buffer_rows_per_group` rows. A row that is read is put into the reservoir of
    its group; once that is full it replaces a random row there. For each row that is drawn for a batch,
    `rows_per_draw` rows of the stream are read. This decides which rows are trained on:

    - Groups occur in batches exactly as the batch plan says, whatever their share of the stream is.
    - Within a group rows are drawn uniformly, with replacement, from the reservoir. A row stays there while
      `buffer_rows_per_group` more rows of its group are read, on average; how long it stays has an exponential tail.
      If the stream is long and in random order, each row of a group is drawn equally often in expectation.
    - Rows of a group that is drawn more often than it is read are repeated until new ones are read. If a group has the
      share q of the stream and is drawn with probability p, each of its rows is drawn p / (q * `rows_per_draw`) times
      on average.
    - The shares of the groups (alpha), from which the plan is made, are those of `counts`, or of the first
      `prefix_rows` rows. If the stream is not in random order, the latter are not the shares in the whole stream.

    At its end the stream begins again. It has no length, so `max_steps` must be set. With several processes or
    DataLoader workers each of them reads a part of the stream and has reservoirs of its own. The parts are whole
    shards of the source if their number can be divided by that of the parts, else every n-th row. A resumed run reads
    the stream again up to its place: this is exact if the stream comes in the same order, and takes as long as reading
    does. Where the stream can be written to disk, [`partition_by_group`] is better.

    Args:
        dataset (`datasets.IterableDataset`): the stream.
        buffer_rows_per_group (`int`, *optional*, defaults to `1000`): rows that each reservoir holds.
        label_column (`str`, *optional*), attribute_column (`str` or `Sequence[str]`, *optional*):
            The columns that make up the groups, as for [`GroupIndex.from_dataset`].
        counts (`Mapping`, *optional*): number of rows of each group, by `(label, attribute)`, or
            `(label, first attribute, second attribute)` and so on, with values as in the stream. If not given, the
            first `prefix_rows` rows are read and counted at once.
        prefix_rows (`int`, *optional*, defaults to `100_000`): rows to count.
        rows_per_draw (`float`, *optional*, defaults to `1.0`): rows that are read for each row that is drawn.

    Raises:
        TypeError: if `dataset` is anything but a `datasets.IterableDataset`.
        ValueError: if sizes are not positive, columns make no groups, or the stream has no rows.
    """

    def __init__(
        self,
        dataset: datasets.IterableDataset,
        buffer_rows_per_group: int = 1000,
        label_column: str | None = None,
        attribute_column: str | Sequence[str] | None = None,
        counts: Mapping[Any, int] | None = None,
        prefix_rows: int = 100_000,
        rows_per_draw: float = 1.0,
    ):
        if not isinstance(dataset, datasets.IterableDataset):
            raise TypeError(
                f"ReservoirStream reads a datasets.IterableDataset; found {type(dataset).__name__}. "
                "IterableDataset.from_generator makes one of any iterable, and a map-style data set needs no reservoir"
            )
        numbers: dict[str, float] = {"buffer_rows_per_group": buffer_rows_per_group, "prefix_rows": prefix_rows}
        for name, value in {**numbers, "rows_per_draw": rows_per_draw}.items():
            if not value > 0:
                raise ValueError(f"{name} must be positive; found {value}")
        self._source = dataset.with_format("arrow")
        self.buffer_rows_per_group, self.rows_per_draw = int(buffer_rows_per_group), float(rows_per_draw)
        first = next(iter(self._source.iter(1)), None)
        if first is None:
            raise ValueError("the stream has no rows")
        self.features = dataset.features or datasets.Features.from_arrow_schema(first.schema)
        self._coder = GroupCoder(self.features, label_column, attribute_column)
        if counts is not None:
            if not isinstance(counts, Mapping) or not counts or min(map(int, counts.values())) < 1:
                raise ValueError(
                    f"counts must give the rows, 1 or more, of each group by its values; found {counts!r}"
                )
            self._coder.add(map(self._coder.as_stored, counts), map(int, counts.values()))
        else:
            for table in _first_rows(self._source, prefix_rows):
                self._coder.encode(table)
        self.label_column, self.attribute_columns = self._coder.label_column, self._coder.attribute_columns
        groups, self._ids = self._coder.groups()
        source = f"{self.buffer_rows_per_group} {self.rows_per_draw} {groups.counts.tolist()} {self.features}"
        self.groups = dataclasses.replace(groups, source=source)
        self._place = (0, 1)
        self._rows: _Reservoirs | None = None

    def __repr__(self) -> str:
        return f"ReservoirStream({self.groups.counts.size} groups, {self.buffer_rows_per_group} rows a group)"

    def reader(self, process_index: int = 0, num_processes: int = 1) -> "ReservoirStream":
        """Return the part of the stream that one process reads, with reservoirs of its own.

        Args:
            process_index (`int`, *optional*, defaults to `0`): number of the process.
            num_processes (`int`, *optional*, defaults to `1`): number of processes.

        Returns:
            [`ReservoirStream`]
        """
        twin = copy.copy(self)
        twin._place, twin._rows = (process_index, num_processes), None
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the reservoirs, as another process (a DataLoader worker) fills its own."""
        return {**vars(self), "_rows": None}

    def __getitems__(self, tickets: list[Ticket]) -> list[Any]:
        """Return a row of the group that each ticket of one batch asks for."""
        seed, epoch, batch = tickets[0][:3]
        process, num_processes = self._place
        info = get_worker_info()
        workers = 1 if info is None else info.num_workers
        # The workers of a process take its batches in turn. The part of the stream that a worker reads follows from
        # the number of its batch and not from its own number, so that it is the same in a resumed run, where another
        # worker may come first.
        turn, part = divmod(batch // num_processes, workers)
        place = (process * workers + part, num_processes * workers)
        key = (seed, epoch, place)
        if self._rows is None or self._rows.key != key or self._rows.turn > turn:
            self._rows = _Reservoirs(self, key)
        self._rows.advance(turn, len(tickets))
        points = np.random.default_rng([seed, epoch, 1, batch]).random(len(tickets))
        rows = [self._rows.draw(ticket.group, point) for ticket, point in zip(tickets, points, strict=True)]
        columns = {name: [row[name] for row in rows] for name in self.features}
        return self.as_rows(columns)


class _Reservoirs:
    """Hold the reservoirs of one reader, which is at some point of its part of the stream.

    Args:
        stream ([`ReservoirStream`]): the whole stream.
        key (`tuple`): seed, epoch, and the part of the stream as `(index, number of parts)`.
    """

    def __init__(self, stream: ReservoirStream, key: tuple[int, int, tuple[int, int]]):
        seed, epoch, (index, parts) = self.key = key
        self.turn = 0
        self._stream, self._size = stream, stream.buffer_rows_per_group
        self._part = split_dataset_by_node(stream._source, index, parts) if parts > 1 else stream._source
        self._held: list[list[dict[str, Any]]] = [[] for _ in range(stream.groups.counts.size)]
        self._rng = np.random.default_rng([seed, epoch, 2, index])
        self._arrivals = self._arrive()
        self._arrived = self._due = 0.0
        self._passes = 0
        self._fill()

    def advance(self, turn: int, rows: int) -> None:
        """Read the rows of the stream that are due before this reader's batch number `turn`, which has `rows` rows."""
        self._due += (turn - self.turn) * rows * self._stream.rows_per_draw
        self.turn = turn
        for _ in range(int(self._due - self._arrived)):
            next(self._arrivals)
            self._arrived += 1

    def draw(self, group: int, point: float) -> dict[str, Any]:
        """Return a row of a group (its id), chosen by a point in [0, 1)."""
        held = self._held[group]
        return held[int(point * len(held))]

    def _fill(self) -> None:
        """Read the first rows: as many as all reservoirs hold together, and more until each holds at least one row."""
        needed = np.flatnonzero(self._stream.groups.counts.ravel()).tolist()
        for arrived in itertools.count():
            enough = arrived >= self._size * len(needed) and all(self._held[group] for group in needed)
            if enough or self._passes:
                break
            next(self._arrivals)
        missing = [self._stream.groups.group_name(group) for group in needed if not self._held[group]]
        if missing:
            index, parts = self.key[2]
            raise ValueError(
                f"part {index + 1} of {parts} of the stream, read to its end, has no rows of the groups "
                f"{', '.join(missing[:10])}, which the plan draws from. Use fewer processes or DataLoader workers, "
                "correct the counts, or write the stream by group with partition_by_group"
            )

    def _arrive(self) -> Iterator[None]:
        """Put one row of the stream after another into its reservoir, one for each step; never ends."""
        coder = copy.copy(self._stream._coder)
        per_read = get_arrow_writer_batch_size_from_features(self._stream.features) or _ROWS_PER_READ
        coder.rows = 0
        for epoch in itertools.count():
            self._part.set_epoch(epoch)
            empty = True
            for table in read_tables(self._part, per_read):
                codes = coder.encode(table, grow=False)
                self._say_unknown(table, codes, coder.columns)
                chances = self._rng.random(len(table))
                for row, code, chance in zip(table.to_pylist(), codes.tolist(), chances.tolist(), strict=True):
                    if code >= 0:
                        self._put(int(self._stream._ids[code]), row, chance)
                    empty = False
                    yield
            if empty:
                raise ValueError("the stream, or a process's part of it, has no rows")
            self._passes += 1

    def _put(self, group: int, row: dict[str, Any], chance: float) -> None:
        """Put a row into the reservoir of its group; if that is full it replaces the row that `chance` chooses."""
        held = self._held[group]
        if len(held) < self._size:
            held.append(row)
        else:
            held[int(chance * self._size)] = row

    def _say_unknown(self, table: pa.Table, codes: np.ndarray, columns: tuple[str, ...]) -> None:
        """Warn once of rows whose group was not counted, and which are therefore left out."""
        unknown = np.flatnonzero(codes < 0)
        if len(unknown):
            row = table.select(list(columns)).slice(int(unknown[0]), 1).to_pylist()[0]
            logger.warning_once(
                f"The stream has rows of a group that counts (or the first prefix_rows rows) lack, such as {row}; "
                "they are left out. Name the group in counts, or count more rows."
            )


def _first_rows(source: datasets.IterableDataset, rows: int) -> Iterator[pa.Table]:
    """Yield the first rows of a stream as tables."""
    left = rows
    for table in read_tables(source, min(rows, 1000)):
        yield table.slice(0, left)
        left -= len(table)
        if left <= 0:
            return
