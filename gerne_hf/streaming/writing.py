"""`partition_by_group`: a stream is read once and written as one sharded parquet data set a group."""

import concurrent.futures
import contextlib
import hashlib
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import fsspec
import numpy as np
from datasets.arrow_writer import get_arrow_writer_batch_size_from_features
from datasets.features.features import require_storage_embed
from datasets.table import embed_table_storage, table_cast
from fsspec.implementations.memory import MemoryFileSystem
from transformers.utils import logging

from .coding import GroupCoder, Key, read_tables
from .manifest import DATA_PREFIX, Manifest, folder_of
from .partitions import GroupPartitions
from .shards import Limits, Shard, ShardWriter, split_by_code

logger = logging.get_logger(__name__)

_BUILDERS = {".parquet": "parquet", ".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json"}
_ROWS_PER_READ = 1000
_SAMPLED_ROWS = 4096
"""Every so many rows one is hashed whole, for the fingerprint of the source."""


def partition_by_group(
    dataset: Any,
    path: str,
    label_column: str | None = None,
    attribute_column: str | Sequence[str] | None = None,
    *,
    split: str = "train",
    num_proc: int = 1,
    overwrite: bool = False,
    shard_rows: int = 1_000_000,
    shard_bytes: int = 256 << 20,
    block_bytes: int = 1 << 20,
    buffer_bytes: int = 64 << 20,
    storage_options: dict[str, Any] | None = None,
) -> GroupPartitions:
    """Read a data set once and write its rows by group, to be streamed by a [`GerneTrainer`].

    A process holds at most `buffer_bytes` of rows that wait to be written; besides them a block of each open file (64
    at most), one batch of 1000 rows (100 with images), and what `datasets` itself takes to read: of parquet files one
    at a time, decoded, which pyarrow reads ahead (up to 1 GiB). None of this grows with the number of rows.

    The folder's `partition.json` is replaced in one step at the end: until then, and whatever stops the writing, the
    partition that was there before is whole.

    Call it in one process; under `accelerate launch` in the main one, before the others load the result.

    Args:
        dataset: a `datasets.IterableDataset` or `datasets.Dataset`; or a path or glob of parquet, CSV or JSON lines
            files, or a list of such, which `load_dataset` streams. External images are embedded.
        path (`str`): the folder to write, local or anything that `fsspec` knows (`hf://`, `s3://`, ...).
        label_column (`str`, *optional*), attribute_column (`str` or `Sequence[str]`, *optional*):
            The columns that make up the groups, as in [`GroupIndex.from_dataset`].
        split (`str`, defaults to `"train"`): what the rows of files are called; all of the files are read.
        num_proc (`int`, defaults to `1`): processes that write, each its own part of the source's shards.
        overwrite (`bool`, defaults to `False`): whether to replace a partition at `path`.
        shard_rows, shard_bytes (`int`): a parquet file ends when it has this many rows, or bytes on disk.
        block_bytes (`int`, defaults to 1 MiB): most bytes of a row group, the unit that is read and shuffled.
        buffer_bytes (`int`, defaults to 64 MiB): most bytes that wait in each process.
        storage_options (`dict`, *optional*): for `fsspec`.

    Returns:
        [`GroupPartitions`]: the written data set.

    Raises:
        FileExistsError: if `path` holds a partition already, or anything else, or is a file.
        OSError: if the disk is full, for example; says what became of the folder.
        TypeError, ValueError: for columns that make no groups, for rows that differ in their columns or types, for a
            source without rows, and for numbers below 1.
    """
    limits = Limits(shard_rows, shard_bytes, block_bytes, buffer_bytes)
    if not isinstance(num_proc, int) or num_proc < 1:
        raise ValueError(f"num_proc, the processes that write, must be a whole number from 1 on; found {num_proc!r}")
    fs, root = fsspec.core.url_to_fs(path, **(storage_options or {}))
    if num_proc > 1 and isinstance(fs, MemoryFileSystem):
        raise ValueError(f"{path} lies in the memory of this process, where no other one can write: set num_proc=1")
    old = _previous(fs, root, path, overwrite)
    source = _as_stream(dataset, split, num_proc)
    features = _features(source)
    coder = GroupCoder(features, label_column, attribute_column)  # a missing column is found before anything is read
    if num_proc > source.num_shards:
        logger.warning_once(
            f"num_proc={num_proc}, and the data set comes in {source.num_shards} shard(s), which cannot be divided: "
            f"{source.num_shards} process(es) read it."
        )
        num_proc = source.num_shards
    data = f"{DATA_PREFIX}{uuid.uuid4().hex[:12]}"
    folder = f"{root.rstrip('/')}/{data}"
    try:
        fs.makedirs(folder, exist_ok=True)
        parts = [source.shard(num_shards=num_proc, index=i) for i in range(num_proc)] if num_proc > 1 else [source]
        shards: dict[str, list[Shard]] = {}
        digest = hashlib.sha256(repr([*features.items(), *coder.columns]).encode())
        for part in _run([_Job(source, features, coder.columns, fs, folder, limits) for source in parts]):
            coder.add(part.codes, part.counts)
            for name, files in part.shards.items():
                shards.setdefault(name, []).extend(files)
            digest.update(part.digest)
        if not shards:
            raise ValueError("the data set has no rows, so there is nothing to partition")
        manifest = Manifest.of(coder, features, shards, data, digest.hexdigest())
        manifest.write(fs, root)
    except BaseException as error:
        with contextlib.suppress(Exception):
            fs.rm(folder, recursive=True)
        if isinstance(error, OSError):
            state = "The partition that was there is whole" if old else "There is no partition there"
            raise OSError(error.errno, f"{error}. Writing the partition {path} stopped; {state}") from error
        raise
    for entry in fs.ls(root, detail=False):
        name = str(entry).rstrip("/").rsplit("/", 1)[-1]
        if name.startswith(DATA_PREFIX) and name != data:  # replaced now, or left by a run that was killed
            fs.rm(entry, recursive=True)
    return GroupPartitions.load(path, storage_options=storage_options)


def _previous(fs: Any, root: str, path: str, overwrite: bool) -> bool:
    """Whether there is a partition; refuses to mix with other files."""
    if fs.isfile(root):
        raise FileExistsError(f"{path} is a file; choose a folder that is empty or new")
    names = (
        [str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in fs.ls(root, detail=False)] if fs.exists(root) else []
    )
    old = Manifest.NAME in names
    if old and not overwrite:
        raise FileExistsError(
            f"{path} holds a partition already. Load it with GroupPartitions.load({path!r}), or replace it with "
            "overwrite=True"
        )
    others = [name for name in names if not name.startswith((DATA_PREFIX, Manifest.NAME))]
    if others:
        raise FileExistsError(
            f"{path} holds other files ({', '.join(sorted(others)[:5])}); choose a folder that is empty or new"
        )
    return old


def _as_stream(dataset: Any, split: str, num_proc: int) -> datasets.IterableDataset:
    """Any source as a stream of arrow tables."""
    if isinstance(dataset, (str, list, tuple)):
        dataset = _from_files([dataset] if isinstance(dataset, str) else list(dataset), split)
    if isinstance(dataset, datasets.Dataset):
        if not len(dataset):
            raise ValueError("the data set has no rows, so there is nothing to partition")
        dataset = dataset.to_iterable_dataset(num_shards=max(1, min(num_proc, len(dataset))))
    if isinstance(dataset, datasets.IterableDataset):
        return dataset.with_format("arrow")
    raise TypeError(
        f"{type(dataset).__name__} cannot be read as tables; give a datasets.IterableDataset "
        "(IterableDataset.from_generator makes one of any iterable), a datasets.Dataset, or the paths of data files"
    )


def _from_files(files: list[str], split: str) -> datasets.IterableDataset:
    builders = {os.path.splitext(str(name))[1].lower() for name in files}
    if len(builders) != 1 or not builders <= _BUILDERS.keys():
        raise ValueError(
            f"data files of the type(s) {', '.join(map(repr, sorted(builders)))} were given; they must be of one of "
            f"the types {', '.join(_BUILDERS)}. Anything else can be given as a datasets.IterableDataset"
        )
    return datasets.load_dataset(_BUILDERS[builders.pop()], data_files={split: files}, split=split, streaming=True)


def _features(source: datasets.IterableDataset) -> datasets.Features:
    """The features of a stream of tables; where none are declared, those of its first rows."""
    if source.features is not None:
        return source.features
    for table in read_tables(source, _ROWS_PER_READ):
        return datasets.Features.from_arrow_schema(table.schema)
    raise ValueError("the data set has no rows, so there is nothing to partition")


@dataclass(frozen=True)
class _Job:
    """What one process reads and writes."""

    source: datasets.IterableDataset
    features: datasets.Features
    columns: tuple[str, ...]
    fs: Any
    folder: str
    limits: Limits


@dataclass(frozen=True)
class _Part:
    """What one process has written."""

    codes: dict[Key, int]
    counts: list[int]
    shards: dict[str, list[Shard]]
    digest: bytes


def _write_part(job: _Job, part: int, progress: bool) -> _Part:
    coder = GroupCoder(job.features, job.columns[0], job.columns[1:])
    schema = job.features.arrow_schema
    embed = require_storage_embed(job.features)
    rows_per_read = get_arrow_writer_batch_size_from_features(job.features) or _ROWS_PER_READ
    writer = ShardWriter(job.fs, job.folder, part, schema, job.limits)
    digest = hashlib.sha256()
    folders: list[str] = []
    try:
        with datasets.utils.tqdm(unit=" rows", desc="Partitioning by group", disable=not progress or None) as bar:
            for table in read_tables(job.source, rows_per_read):
                table = table_cast(table, schema)
                first = -coder.rows % _SAMPLED_ROWS
                codes = coder.encode(table)
                folders += [folder_of(coder.columns, key) for key in list(coder.codes)[len(folders) :]]
                digest.update(codes.astype(np.uint32).tobytes())
                if first < len(table):
                    digest.update(repr(table.slice(first, 1).to_pylist()).encode())
                if embed:
                    table = embed_table_storage(table)
                for code, rows in split_by_code(table, codes).items():
                    writer.add(folders[code], rows)
                bar.update(len(table))
        return _Part(coder.codes, coder.counts, writer.close(), digest.digest())
    except BaseException:
        writer.abandon()
        raise


_JOBS: list[_Job] = []


def _take_jobs(jobs: list[_Job]) -> None:
    """Forked processes get the jobs as they are, whatever functions their sources hold."""
    _JOBS[:] = jobs


def _run_job(number: int) -> _Part:
    return _write_part(_JOBS[number], number, progress=False)


def _run(jobs: list[_Job]) -> Iterator[_Part]:
    """The jobs' results, in order."""
    if len(jobs) == 1:
        yield _write_part(jobs[0], 0, progress=True)
        return
    with concurrent.futures.ProcessPoolExecutor(len(jobs), initializer=_take_jobs, initargs=(jobs,)) as pool:
        yield from datasets.utils.tqdm(
            pool.map(_run_job, range(len(jobs))), total=len(jobs), unit=" parts", desc="Partitioning by group"
        )
