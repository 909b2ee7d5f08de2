"""Writing rows into parquet files of bounded size, by group, with a bounded number of rows waiting in memory.

Imports no other module of the package. `writing.py` uses it.
"""

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
"""Waiting tables of a group that are joined to one when there are more of them."""
_BYTES_PER_COLUMN = 1024
"""Bytes that a table takes for each column besides its values; with few rows this is more than the values take."""


@dataclass(frozen=True)
class Limits:
    """Hold the sizes of what is written.

    Args:
        shard_rows, shard_bytes (`int`): a file is ended when it has this many rows, or bytes on disk.
        block_bytes (`int`): most bytes of a row group in memory.
        buffer_bytes (`int`): most bytes of rows that wait to be written.

    Raises:
        ValueError: if a limit is below 1.
    """

    shard_rows: int
    shard_bytes: int
    block_bytes: int
    buffer_bytes: int

    def __post_init__(self) -> None:
        """Check the values."""
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1; found {value}")


@dataclass
class Shard:
    """Describe one parquet file.

    Args:
        file (`str`): its path within the folder of the data.
        blocks (`list[int]`): number of rows of each row group ("block").
        block_bytes (`int`): bytes in memory of the largest row group.
        size (`int`): bytes of the file.
    """

    file: str
    blocks: list[int] = field(default_factory=list)
    block_bytes: int = 0
    size: int = 0


@dataclass
class _Open:
    """A file that is being written."""

    shard: Shard
    handle: Any
    writer: pq.ParquetWriter


class ShardWriter:
    """Gather rows by group, and write them to files in blocks (row groups).

    A block is written when `limits.block_bytes` of a group wait; and, for the group with the most bytes, when
    `limits.buffer_bytes` wait in all groups together.

    Args:
        fs (`fsspec.AbstractFileSystem`), folder (`str`): the folder to write to.
        part (`int`): number of this writer, which is part of the names of its files.
        schema (`pa.Schema`): schema of the rows.
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
        """Take rows of one group.

        Args:
            group (`str`): name of the group's folder.
            rows (`pa.Table`): the rows; they must share no memory with other rows, which would stay in memory too.
        """
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
            self._flush(max(self._bytes, key=self._bytes.__getitem__))

    @property
    def waiting_bytes(self) -> int:
        """Bytes in memory of the rows that wait to be written."""
        return sum(self._bytes.values()) + self._pieces * len(self.schema) * _BYTES_PER_COLUMN

    def close(self) -> dict[str, list[Shard]]:
        """Write all rows that wait, end all files, and return the files of each group by the name of its folder."""
        for group in list(self._waiting):
            self._flush(group)
        for group in list(self._open):
            self._end(group)
        return self.shards

    def abandon(self) -> None:
        """Close all files as they are, finished or not."""
        for entry in self._open.values():
            for step in (entry.writer.close, entry.handle.close):
                with contextlib.suppress(Exception):
                    step()
        self._open.clear()

    def _flush(self, group: str) -> None:
        """Write the waiting rows of a group as one block, and end its file if that is full."""
        waiting = self._waiting.pop(group)
        self._pieces -= len(waiting)
        table = pa.concat_tables(waiting).combine_chunks()
        size = self._bytes.pop(group)
        entry = self._open_file(group)
        entry.writer.write_table(table, row_group_size=max(len(table), 1))
        entry.shard.blocks.append(len(table))
        entry.shard.block_bytes = max(entry.shard.block_bytes, size)
        pa.default_memory_pool().release_unused()  # many small tables were made and dropped
        full = entry.handle.tell() >= self.limits.shard_bytes or sum(entry.shard.blocks) >= self.limits.shard_rows
        if full:
            self._end(group)

    def _open_file(self, group: str) -> _Open:
        """Return the file of a group that is being written, a new one if there is none."""
        if group in self._open:
            self._open.move_to_end(group)
            return self._open[group]
        if len(self._open) >= _MOST_OPEN_FILES:
            self._end(next(iter(self._open)))  # the one that was written to longest ago
        shards = self.shards.setdefault(group, [])
        shard = Shard(f"{group}/{self.part:03d}-{len(shards):05d}.parquet")
        path = f"{self.folder}/{shard.file}"
        self.fs.makedirs(os.path.dirname(path), exist_ok=True)
        handle = self.fs.open(path, "wb")
        # Statistics would only help readers that look for single values, and these blocks are read as a whole.
        # Dictionaries would take several times the memory of a block for each open file.
        writer = pq.ParquetWriter(
            handle, self.schema, write_statistics=False, use_dictionary=False, write_page_checksum=True
        )
        shards.append(shard)
        self._open[group] = _Open(shard, handle, writer)
        return self._open[group]

    def _end(self, group: str) -> None:
        """End the file of a group."""
        entry = self._open[group]
        entry.writer.close()
        entry.handle.flush()
        entry.shard.size = entry.handle.tell()
        entry.handle.close()
        del self._open[group]


def split_by_code(rows: pa.Table, codes: np.ndarray) -> dict[int, pa.Table]:
    """Return the rows of each code as a table that shares no memory with `rows`.

    Args:
        rows (`pa.Table`): the rows.
        codes (`np.ndarray` of shape `(N,)`): an integer for each row.

    Returns:
        `dict[int, pa.Table]`: by code the rows that have it, in their order.

    Example:

    ```python
    >>> import numpy as np
    >>> import pyarrow as pa
    >>> tables = split_by_code(pa.table({"text": ["a", "b", "c"]}), np.array([1, 0, 1]))
    >>> tables[1].to_pydict()
    {'text': ['a', 'c']}

    ```
    """
    order = np.argsort(codes, kind="stable")
    present, starts = np.unique(codes[order], return_index=True)
    return {
        int(code): rows.take(pa.array(part)) for code, part in zip(present, np.split(order, starts[1:]), strict=True)
    }
