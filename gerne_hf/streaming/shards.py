"""Writing rows by group into parquet files of bounded size, with a bounded number of rows waiting in memory."""

import contextlib
import os
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_MOST_OPEN_FILES = 64
_MOST_PIECES = 32
_BYTES_PER_COLUMN = 1024
"""What a table takes for each column besides its values: more than the values, where it has few rows."""


@dataclass(frozen=True)
class Limits:
    """Sizes of what is written; see [`partition_by_group`].

    Raises:
        ValueError: for a limit below 1.
    """

    shard_rows: int
    shard_bytes: int
    block_bytes: int
    buffer_bytes: int

    def __post_init__(self):
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1; found {value}")


@dataclass
class Shard:
    """One parquet file.

    Args:
        file (`str`): its path within the folder of the data.
        blocks (`list[int]`): rows of each row group.
        block_bytes (`int`): most bytes of a row group in memory.
        size (`int`): bytes of the file.
    """

    file: str
    blocks: list[int] = field(default_factory=list)
    block_bytes: int = 0
    size: int = 0


@dataclass
class _Open:
    shard: Shard
    handle: Any
    writer: pq.ParquetWriter


class ShardWriter:
    """Gathers rows by group and writes a row group when a group has `block_bytes` of them, and when `buffer_bytes`
    wait in all, one of the group with the most.

    Args:
        fs (`fsspec.AbstractFileSystem`), folder (`str`): where to write.
        part (`int`): number of the writer, part of the files' names.
        schema (`pa.Schema`): of the rows.
        limits ([`Limits`]): the sizes.
    """

    def __init__(self, fs: Any, folder: str, part: int, schema: pa.Schema, limits: Limits):
        self.fs, self.folder, self.part, self.schema, self.limits = fs, folder, part, schema, limits
        self.shards: dict[str, list[Shard]] = {}
        self._waiting: dict[str, list[pa.Table]] = {}
        self._bytes: dict[str, int] = {}
        self._pieces = 0
        self._open: OrderedDict[str, _Open] = OrderedDict()

    def add(self, group: str, rows: pa.Table) -> None:
        """Take rows of the group whose folder is `group`; the table must hold nothing else in memory."""
        step = max(1, int(self.limits.block_bytes * len(rows) / max(rows.nbytes, 1)))
        for start in range(0, len(rows), step):
            piece = rows.slice(start, step)
            if self._bytes.get(group, 0) + piece.nbytes > self.limits.block_bytes and group in self._waiting:
                self._flush(group)
            waiting = self._waiting.setdefault(group, [])
            waiting.append(piece)
            self._pieces += 1
            self._bytes[group] = self._bytes.get(group, 0) + piece.nbytes
            if len(waiting) > _MOST_PIECES:
                self._pieces -= len(waiting) - 1
                waiting[:] = [pa.concat_tables(waiting).combine_chunks()]
        while self._waiting and self.waiting_bytes > self.limits.buffer_bytes:
            self._flush(max(self._bytes, key=self._bytes.get))

    @property
    def waiting_bytes(self) -> int:
        """Memory of the rows that wait to be written."""
        return sum(self._bytes.values()) + self._pieces * len(self.schema) * _BYTES_PER_COLUMN

    def close(self) -> dict[str, list[Shard]]:
        """Write what waits and end all files; the shards of each group."""
        for group in list(self._waiting):
            self._flush(group)
        for group in list(self._open):
            self._end(group)
        return self.shards

    def abandon(self) -> None:
        """Let go of all files, finished or not."""
        for entry in self._open.values():
            for step in (entry.writer.close, entry.handle.close):
                with contextlib.suppress(Exception):
                    step()
        self._open.clear()

    def _flush(self, group: str) -> None:
        waiting = self._waiting.pop(group)
        self._pieces -= len(waiting)
        table = pa.concat_tables(waiting).combine_chunks()
        size = self._bytes.pop(group)
        entry = self._open_file(group)
        entry.writer.write_table(table, row_group_size=max(len(table), 1))
        entry.shard.blocks.append(len(table))
        entry.shard.block_bytes = max(entry.shard.block_bytes, size)
        pa.default_memory_pool().release_unused()  # many small tables came and went
        full = entry.handle.tell() >= self.limits.shard_bytes or sum(entry.shard.blocks) >= self.limits.shard_rows
        if full:
            self._end(group)

    def _open_file(self, group: str) -> _Open:
        if group in self._open:
            self._open.move_to_end(group)
            return self._open[group]
        if len(self._open) >= _MOST_OPEN_FILES:
            self._end(next(iter(self._open)))  # the one that waited longest
        shards = self.shards.setdefault(group, [])
        shard = Shard(f"{group}/{self.part:03d}-{len(shards):05d}.parquet")
        path = f"{self.folder}/{shard.file}"
        self.fs.makedirs(os.path.dirname(path), exist_ok=True)
        handle = self.fs.open(path, "wb")
        # Statistics are for readers that look for values, and these blocks are read whole. Dictionaries would take
        # several times the memory of a block in each open file.
        writer = pq.ParquetWriter(handle, self.schema, write_statistics=False, use_dictionary=False)
        shards.append(shard)
        self._open[group] = _Open(shard, handle, writer)
        return self._open[group]

    def _end(self, group: str) -> None:
        entry = self._open[group]
        entry.writer.close()
        entry.handle.flush()
        entry.shard.size = entry.handle.tell()
        entry.handle.close()
        del self._open[group]


def split_by_code(rows: pa.Table, codes: np.ndarray) -> dict[int, pa.Table]:
    """The rows of each code as tables that share no memory with `rows`."""
    order = np.argsort(codes, kind="stable")
    present, starts = np.unique(codes[order], return_index=True)
    return {
        int(code): rows.take(pa.array(part)) for code, part in zip(present, np.split(order, starts[1:]), strict=True)
    }
