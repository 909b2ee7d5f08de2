"""Reading the rows of one group, a window of blocks in memory at a time."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .shards import Shard
from .shuffling import Pass


class GroupReader:
    """The rows of a group in the order of [`Pass`], pass after pass.

    Args:
        fs (`fsspec.AbstractFileSystem`), folder (`str`): where the data are.
        group (`int`): the group id.
        shards (`list[Shard]`): the group's files.
        buffer_bytes (`float`): bytes of rows to hold; at least one block is held.
    """

    def __init__(self, fs: Any, folder: str, group: int, shards: list[Shard], buffer_bytes: float):
        self.fs, self.folder, self.group, self.shards = fs, folder, group, shards
        self.block_rows = np.array([rows for shard in shards for rows in shard.blocks], dtype=np.int64)
        self.rows = int(self.block_rows.sum())
        self.largest_block = max((shard.block_bytes for shard in shards), default=0)
        self.blocks_per_window = max(1, int(buffer_bytes // max(self.largest_block, 1)))
        self._first_block = np.cumsum([0, *(len(shard.blocks) for shard in shards)])
        self._forget()

    @property
    def memory_bound(self) -> int:
        """Most bytes of rows in memory, while no new window is read."""
        return min(self.blocks_per_window, len(self.block_rows)) * self.largest_block

    def take(self, seed: int, epoch: int, numbers: np.ndarray) -> Iterator[pa.Table]:
        """The rows that the epoch's stream gives out as these draws, ascending, of the group."""
        done = 0
        while done < len(numbers):
            turn, position = divmod(int(numbers[done]), self.rows)
            place = self._load(seed, epoch, turn, position)
            # The window's rows up to its end, or to the end of the pass, which lies within the window it began in.
            shift = place - position - self._start
            upto = int(np.searchsorted(numbers, turn * self.rows + min(position + self._stop - place, self.rows)))
            yield self._table.take(pa.array(self._order[numbers[done:upto] - turn * self.rows + shift]))
            done = upto

    def _load(self, seed: int, epoch: int, turn: int, position: int) -> int:
        """Have the window in memory that holds a position of a pass; its place in the order of reading."""
        # Group ids from 1 on: trailing zeros would make this the seed of the draws of groups.
        key = (seed, epoch, 1 + self.group, turn)
        if self._key != key:
            self._pass = Pass.lay_out(self.block_rows, self.blocks_per_window, np.random.default_rng(key))
            self._key, self._window = key, None
        place = self._pass.place(position)
        window = self._pass.window_of(place)
        if self._window != window:
            self._start, self._stop, blocks = self._pass.window(window)
            if blocks != self._blocks:
                self._blocks = self._table = None  # two windows at once would be twice the memory
                self._table = self._read(blocks)
                self._blocks = blocks
            self._order = np.random.default_rng([*key, 1 + window]).permutation(self._stop - self._start)
            self._window = window
        return place

    def _read(self, blocks: list[int]) -> pa.Table:
        """The rows of some blocks, ascending."""
        files = np.searchsorted(self._first_block, blocks, side="right") - 1
        tables = []
        for file in np.unique(files):
            inside = np.array(blocks)[files == file] - self._first_block[file]
            tables.append(self._read_file(self.shards[file], inside.tolist()))
        return pa.concat_tables(tables).combine_chunks()  # a copy: nothing else of the files stays in memory

    def _read_file(self, shard: Shard, blocks: list[int]) -> pa.Table:
        path = f"{self.folder}/{shard.file}"
        with self.fs.open(path, "rb") as handle:
            # Read-ahead of blocks that come next in the file would be memory for rows that nobody asked for.
            file = pq.ParquetFile(handle, pre_buffer=False)
            found = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
            if found != shard.blocks:
                raise ValueError(
                    f"{path} holds {sum(found):,} rows in {len(found)} blocks, and partition.json says "
                    f"{sum(shard.blocks):,} in {len(shard.blocks)}: the file is of another partition. Write the "
                    "partition anew with partition_by_group"
                )
            return file.read_row_groups(blocks, use_threads=False)

    def _forget(self) -> None:
        self._key: tuple | None = None
        self._window: int | None = None
        self._blocks: list[int] | None = None
        self._table: pa.Table | None = None

    def __getstate__(self) -> dict:
        """Another process reads for itself."""
        dropped = ("_pass", "_order", "_table", "_blocks", "_start", "_stop")
        return {name: value for name, value in vars(self).items() if name not in dropped}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._forget()
