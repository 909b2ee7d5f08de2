"""`GroupPartitions`: training rows streamed from a partition by group, a window of each group in memory at a time."""

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
    """The rows that [`partition_by_group`] wrote: `GerneTrainer(train_dataset=GroupPartitions.load(path), ...)`.

    Batches are laid out by the plan as for a data set in memory, with the same groups at every place for the same
    seed. Within a group the rows come pass after pass, each row once a pass, in an order that is new in each pass: the
    blocks (row groups of the files) are read in random order, from a random place of it on, and shuffled within a
    window of as many blocks as the memory allows. A group that fits its window is read once and shuffled whole.

    The row behind the `k`-th draw of a group is a function of seed, epoch and `k`. So the stream is the same for any
    number of DataLoader workers, and of processes that divides the batches of an epoch; each reads the blocks of its
    own batches only. A run that
    resumes in mid-epoch draws the groups again, without reading a row, and goes on at the block and row where it was.

    Memory: each process (each DataLoader worker is one) holds one window a group, together at most
    [`GroupPartitions.memory_bound`] bytes, and while it reads the next window of a group one more of that group.

    Args:
        path (`str`): the folder.
        manifest ([`Manifest`]): the content of its `partition.json`.
        fs (`fsspec.AbstractFileSystem`), root (`str`): the same folder to `fsspec`.
        buffer_bytes (`int`): bytes for the windows of all groups; at least one block a group is held.
    """

    def __init__(self, path: str, manifest: Manifest, fs: Any, root: str, buffer_bytes: int):
        self.path = path
        self.groups, self.features = manifest.groups, manifest.features
        self.label_column, self.attribute_columns = manifest.label_column, manifest.attribute_columns
        self.fingerprint = manifest.fingerprint
        folder = f"{root.rstrip('/')}/{manifest.data}"
        self.groups = dataclasses.replace(self.groups, source=f"{self.fingerprint} {buffer_bytes}")
        share = buffer_bytes / max(int((self.groups.counts > 0).sum()), 1)
        self._readers = [GroupReader(fs, folder, group, shards, share) for group, shards in enumerate(manifest.shards)]

    @classmethod
    def load(
        cls, path: str, buffer_bytes: int = 64 << 20, storage_options: dict[str, Any] | None = None
    ) -> "GroupPartitions":
        """Open a partition; no row is read.

        Args:
            path (`str`): the folder, local or anything that `fsspec` knows.
            buffer_bytes (`int`, defaults to 64 MiB): bytes for the windows of all groups. Larger windows shuffle
                better, and the order of the rows depends on it.
            storage_options (`dict`, *optional*): for `fsspec`.

        Raises:
            FileNotFoundError: if there is no partition, or files of it are missing.
            ValueError: for another format or version, and for files of another size.
        """
        if buffer_bytes < 1:
            raise ValueError(f"buffer_bytes must be at least 1; found {buffer_bytes}")
        fs, root = fsspec.core.url_to_fs(path, **(storage_options or {}))
        manifest = Manifest.read(fs, root, path)
        _check_files(manifest, fs, f"{root.rstrip('/')}/{manifest.data}", path)
        return cls(path, manifest, fs, root, buffer_bytes)

    def __len__(self) -> int:
        return len(self.groups)

    def __repr__(self) -> str:
        files = sum(len(reader.shards) for reader in self._readers)
        return f"GroupPartitions({self.path!r}, {len(self):,} rows, {self.groups.counts.size} groups, {files} files)"

    @property
    def memory_bound(self) -> int:
        """Most bytes of rows that a process holds, while it reads no new window; sizes are those at the writing, and
        a reader may add a bit a value (to mark nulls)."""
        return sum(reader.memory_bound for reader in self._readers)

    def reader(self, process_index: int = 0, num_processes: int = 1) -> "GroupPartitions":
        """This partition: a ticket says all that is needed to find its row."""
        return self

    def __getitems__(self, tickets: list[Ticket]) -> list[Any]:
        seed, epoch = tickets[0].seed, tickets[0].epoch
        groups, numbers = np.array([(ticket.group, ticket.number) for ticket in tickets], dtype=np.int64).T
        order = np.lexsort((numbers, groups))
        tables = []
        for part in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
            tables += self._readers[groups[part[0]]].take(seed, epoch, numbers[part])
        rows = pa.concat_tables(tables).take(pa.array(np.argsort(order)))
        return self._as_rows(rows.to_pydict())


def _check_files(manifest: Manifest, fs: Any, folder: str, path: str) -> None:
    """Refuse a partition whose files are not those of its manifest."""
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


def _list(fs: Any, folder: str) -> Iterable[tuple[str, dict]]:
    return fs.find(folder, detail=True).items() if fs.exists(folder) else ()
