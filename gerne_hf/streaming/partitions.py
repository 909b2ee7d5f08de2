"""`GroupPartitions`: training rows streamed from files by group, with a part of each group in memory at a time.

Imports modules of this room. `writing.py` writes such files, `windows.py` reads the rows of one group.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa

from .manifest import Manifest
from .stream import GroupStream, Ticket
from .windows import GroupReader


class GroupPartitions(GroupStream):
    """Stream the rows that [`partition_by_group`] wrote: `GerneTrainer(train_dataset=GroupPartitions.load(path))`.

    Batches are made by the batch plan as for a data set in memory, and for the same seed every row of a batch has the
    same group (unless an epoch is every row once, where the order is another). Which row of the group it is differs:
    the rows of a group come in passes. A pass gives each row once, in an order of its own. The blocks (row groups of
    the parquet files) are read in random order, starting at a random place, and rows are shuffled within a window of
    as many blocks as memory allows. A group that fits into its window is read once and shuffled as a whole.

    The row of the `k`-th draw of a group is a function of seed, epoch and `k`. So the stream is the same for any
    number of DataLoader workers, and for any number of processes that divides the number of batches in an epoch; each
    of them reads only the blocks of its own batches. A run that resumes within an epoch draws the groups again without
    reading a row, and goes on at the block and row where it stopped.

    Each process holds one window for each group (each DataLoader worker is a process of its own). The windows take at
    most [`GroupPartitions.memory_bound`] bytes, and a second window of one group while that is read.

    Args:
        path (`str`): the folder as the user named it.
        manifest ([`Manifest`]): the content of its `partition.json`.
        fs (`fsspec.AbstractFileSystem`), root (`str`): the same folder as `fsspec` knows it.
        buffer_bytes (`int`): bytes for the windows of all groups together; at least one block of each group is held.
    """

    def __init__(self, path: str, manifest: Manifest, fs: Any, root: str, buffer_bytes: int):
        self.path = path
        self.groups, self.features = manifest.groups, manifest.features
        self.label_column, self.attribute_columns = manifest.label_column, manifest.attribute_columns
        self.fingerprint = manifest.fingerprint
        folder = f"{root.rstrip('/')}/{manifest.data}"
        self.groups = dataclasses.replace(self.groups, source=f"{self.fingerprint} {buffer_bytes}")
        share = buffer_bytes / max(int((self.groups.counts > 0).sum()), 1)
        self._readers = [
            GroupReader(fs, folder, group, shards, list(self.features), share)
            for group, shards in enumerate(manifest.shards)
        ]

    @classmethod
    def load(
        cls, path: str, buffer_bytes: int = 64 << 20, storage_options: dict[str, Any] | None = None
    ) -> "GroupPartitions":
        """Open a partition by group, without reading any row.

        Args:
            path (`str`): the folder, local or anywhere that `fsspec` knows.
            buffer_bytes (`int`, *optional*, defaults to 64 MiB): bytes for the windows of all groups together. Larger
                windows shuffle better. The order of the rows depends on this number.
            storage_options (`dict`, *optional*): options for `fsspec`.

        Returns:
            [`GroupPartitions`]

        Raises:
            FileNotFoundError: if there is no partition, or files of it are missing.
            ValueError: if it has another format or version, files have another size, or `buffer_bytes` is below 1.
        """
        if buffer_bytes < 1:
            raise ValueError(f"buffer_bytes must be at least 1; found {buffer_bytes}")
        fs, root = fsspec.core.url_to_fs(path, **(storage_options or {}))
        manifest = Manifest.read(fs, root, path)
        check_files(manifest, fs, f"{root.rstrip('/')}/{manifest.data}", path)
        return cls(path, manifest, fs, root, buffer_bytes)

    def __len__(self) -> int:
        return len(self.groups)

    def __repr__(self) -> str:
        files = sum(len(reader.shards) for reader in self._readers)
        return f"GroupPartitions({self.path!r}, {len(self):,} rows, {self.groups.counts.size} groups, {files} files)"

    @property
    def memory_bound(self) -> int:
        """The most bytes of rows that a process holds, except while it reads a new window.

        Sizes are those of the rows when they were written; reading may add one bit for each value, to mark nulls.
        """
        return sum(reader.memory_bound for reader in self._readers)

    def reader(self, process_index: int = 0, num_processes: int = 1) -> "GroupPartitions":
        """Return this partition itself, as a [`Ticket`] says all that is needed to find its row."""
        return self

    def __getitems__(self, tickets: list[Ticket]) -> list[Any]:
        """Return the rows that the tickets of one batch ask for, in their order."""
        seed, epoch = tickets[0].seed, tickets[0].epoch
        groups, numbers = np.array([(ticket.group, ticket.number) for ticket in tickets], dtype=np.int64).T
        order = np.lexsort((numbers, groups))
        tables = []
        for part in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
            tables += self._readers[groups[part[0]]].take(seed, epoch, numbers[part])
        rows = pa.concat_tables(tables).take(pa.array(np.argsort(order)))
        return self.as_rows(rows.to_pydict())


def check_files(manifest: Manifest, fs: Any, folder: str, path: str) -> None:
    """Raise an error unless the files in a folder of data are those that a manifest lists, with their sizes.

    Args:
        manifest ([`Manifest`]): the manifest.
        fs (`fsspec.AbstractFileSystem`), folder (`str`): the folder of the data.
        path (`str`): the folder of the partition as the user named it, for messages.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file has another size, or groups have other counts than their files.
    """
    found = {name.rsplit(folder.lstrip("/"), 1)[-1].lstrip("/"): info["size"] for name, info in _list(fs, folder)}
    for group, (shards, rows) in enumerate(zip(manifest.shards, manifest.groups.counts.ravel(), strict=True)):
        held = sum(sum(shard.blocks) for shard in shards)
        if held != rows:
            raise ValueError(
                f"{path}: the group {manifest.groups.group_name(group)} has {rows:,} rows by its count and {held:,} "
                "in its files. Write the partition anew with partition_by_group"
            )
        for shard in shards:
            if shard.file not in found:
                raise FileNotFoundError(
                    f"{path} lacks {manifest.data}/{shard.file}, a file of the group "
                    f"{manifest.groups.group_name(group)}. Copy the folder whole, or write the partition anew"
                )
            if found[shard.file] != shard.size:
                raise ValueError(
                    f"{path}/{manifest.data}/{shard.file} has {found[shard.file]:,} bytes, and partition.json says "
                    f"{shard.size:,}: it is cut off, or of another partition. Write the partition anew"
                )


def _list(fs: Any, folder: str) -> Iterable[tuple[str, dict[str, Any]]]:
    """Return the files below a folder, each with its size and more; none if there is no folder."""
    return fs.find(folder, detail=True).items() if fs.exists(folder) else ()
