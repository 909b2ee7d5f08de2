"""Reading the rows of one group from its files, with a window of several blocks in memory at a time.

Imports `shards.py` and `shuffling.py`. `partitions.py` has one reader for each group.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .shards import Shard
from .shuffling import Pass


class GroupReader:
    """Read the rows of a group pass after pass, each pass in the order of a [`Pass`].

    Args:
        fs (`fsspec.AbstractFileSystem`), folder (`str`): the folder of the data.
        group (`int`): the group id.
        shards (`list[Shard]`): the group's files.
        columns (`Sequence[str]`): names of the columns of every file, in order.
        buffer_bytes (`float`): bytes of rows to hold in memory; at least one block is held.
    """

    # What is in memory: the pass it belongs to, its window in that pass, and the window's blocks as one table.
    _key: tuple[int, int, int, int] | None
    _pass: Pass
    _window: int | None
    _start: int
    _stop: int
    _blocks: list[int] | None
    _table: pa.Table | None
    _order: np.ndarray

    def __init__(
        self, fs: Any, folder: str, group: int, shards: list[Shard], columns: Sequence[str], buffer_bytes: float
    ):
        self.fs, self.folder, self.group, self.shards, self.columns = fs, folder, group, shards, tuple(columns)
        self.block_rows = np.array([rows for shard in shards for rows in shard.blocks], dtype=np.int64)
        self.rows = int(self.block_rows.sum())
        self.largest_block = max((shard.block_bytes for shard in shards), default=0)
        self.blocks_per_window = max(1, int(buffer_bytes // max(self.largest_block, 1)))
        self._first_block = np.cumsum([0, *(len(shard.blocks) for shard in shards)])
        self._forget()

    @property
    def memory_bound(self) -> int:
        """The most bytes of rows in memory, except while a new window is read."""
        return min(self.blocks_per_window, len(self.block_rows)) * self.largest_block

    def take(self, seed: int, epoch: int, numbers: np.ndarray) -> Iterator[pa.Table]:
        """Yield the rows for some of the draws of this group in an epoch, as tables.

        Args:
            seed (`int`), epoch (`int`): the seed and the epoch of the sampler.
            numbers (`np.ndarray` of shape `(n,)`): numbers of the draws, ascending; draw k is row `k % rows` of pass
                `k // rows`.

        Yields:
            `pa.Table`: the next rows.
        """
        done = 0
        while done < len(numbers):
            turn, position = divmod(int(numbers[done]), self.rows)
            place = self._load(seed, epoch, turn, position)
            # Take rows up to the end of the window, or of the pass, which ends within the window in which it began.
            shift = place - position - self._start
            upto = int(np.searchsorted(numbers, turn * self.rows + min(position + self._stop - place, self.rows)))
            assert self._table is not None  # a local variable would keep this window in memory with the next one
            yield self._table.take(pa.array(self._order[numbers[done:upto] - turn * self.rows + shift]))
            done = upto

    def _load(self, seed: int, epoch: int, turn: int, position: int) -> int:
        """Read the window that holds a position of a pass, unless it is in memory, and return the position's place."""
        # Group ids count from 1 here: NumPy ignores trailing zeros of a seed, and [seed, epoch] is the sampler's own.
        key = (seed, epoch, 1 + self.group, turn)
        if self._key != key:
            self._pass = Pass.lay_out(self.block_rows, self.blocks_per_window, np.random.default_rng(key))
            self._key, self._window = key, None
        place = self._pass.place(position)
        window = self._pass.window_of(place)
        if self._window != window:
            self._start, self._stop, blocks = self._pass.window(window)
            if blocks != self._blocks:
                self._blocks = self._table = None  # two windows in memory at once would take twice the memory
                self._table = self._read(blocks)
                self._blocks = blocks
            self._order = np.random.default_rng([*key, 1 + window]).permutation(self._stop - self._start)
            self._window = window
        return place

    def _read(self, blocks: list[int]) -> pa.Table:
        """Return the rows of some blocks, whose numbers ascend."""
        files = np.searchsorted(self._first_block, blocks, side="right") - 1
        tables = []
        for file in np.unique(files):
            inside = np.array(blocks)[files == file] - self._first_block[file]
            tables.append(self._read_file(self.shards[file], inside.tolist()))
        return pa.concat_tables(tables).combine_chunks()  # a copy, so that nothing else of the files stays in memory

    def _read_file(self, shard: Shard, blocks: list[int]) -> pa.Table:
        """Return the rows of some blocks of one file, whose checksums are compared."""
        path = f"{self.folder}/{shard.file}"
        with self.fs.open(path, "rb") as handle:
            try:
                return self._read_blocks(handle, path, shard, blocks)
            except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
                if getattr(error, "errno", None) is not None:  # of the disk or the network, not of the content
                    error.add_note(f"This happened while {path} was read.")
                    raise
                said = " ".join(str(error).split())
                raise ValueError(
                    f"{path} is damaged ({said}). Copy the file anew, or write the partition anew with "
                    "partition_by_group"
                ) from None

    def _read_blocks(self, handle: Any, path: str, shard: Shard, blocks: list[int]) -> pa.Table:
        """Return the rows of some blocks of an open file; raise an error if it is another one than expected."""
        # pre_buffer would also read blocks that come next in the file, and hold rows that are not asked for.
        file = pq.ParquetFile(handle, pre_buffer=False, page_checksum_verification=True)
        found = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        if found != shard.blocks:
            raise ValueError(
                f"{path} holds {sum(found):,} rows in {len(found)} blocks, and partition.json says "
                f"{sum(shard.blocks):,} in {len(shard.blocks)}: the file is of another partition. Write the "
                "partition anew with partition_by_group"
            )
        if tuple(file.schema_arrow.names) != self.columns:
            raise ValueError(
                f"{path} has the columns {', '.join(file.schema_arrow.names)}, and partition.json says "
                f"{', '.join(self.columns)}: the file is damaged or of another partition. Write the partition anew "
                "with partition_by_group"
            )
        return file.read_row_groups(blocks, use_threads=False)

    def _forget(self) -> None:
        """Drop the rows that are in memory."""
        self._key = self._window = self._blocks = self._table = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the rows in memory, as another process (a DataLoader worker) reads its own."""
        dropped = ("_pass", "_order", "_table", "_blocks", "_start", "_stop")
        return {name: value for name, value in vars(self).items() if name not in dropped}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()
