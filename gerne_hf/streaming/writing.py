"""`partition_by_group`: reading a data set once and writing the rows of each group to parquet files of their own.

Imports modules of this room, and `utils/`. `partitions.py` streams what is written here.
"""

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
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from transformers.utils import logging

from ..utils.locks import locked
from .coding import GroupCoder, Key, read_tables
from .data_files import check_columns
from .manifest import DATA_PREFIX, Manifest, folder_of
from .partitions import GroupPartitions, check_files
from .shards import Limits, Shard, ShardWriter, split_by_code

logger = logging.get_logger(__name__)

_BUILDERS = {".parquet": "parquet", ".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json"}
_ROWS_PER_READ = 1000
_SAMPLED_ROWS = 4096
"""One in this many rows is hashed with all of its columns, for the fingerprint of the source."""


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
    """Read a data set once and write its rows by group, so that a [`GerneTrainer`] can stream them.

    Memory does not grow with the number of rows. A process holds at most `buffer_bytes` of rows that wait to be
    written, a block of each open file (at most 64 files), one batch of 1000 rows (100 with images), and what
    `datasets` needs for reading: of parquet files it decodes one at a time, of which pyarrow reads up to 1 GiB ahead.

    The file `partition.json` of the folder is replaced at the very end, in one step. If the writing stops before that,
    for whatever reason, a partition that was there before is still whole. Pages of the files have checksums, which are
    compared whenever rows are read.

    Of two processes that write to one folder one fails, and what the other wrote is whole: a local folder is locked,
    anywhere else the one that ends last finds the other's partition and gives its own up.

    Call this in one process only: under `accelerate launch` in the main process, before the others load the result.

    Args:
        dataset: a `datasets.IterableDataset` or `datasets.Dataset`; or a path or glob of parquet, CSV or JSON lines
            files, or a list of these, which `load_dataset` streams. Images in files of their own are embedded.
        path (`str`): the folder to write, local or anywhere that `fsspec` knows (`hf://`, `s3://`, ...).
        label_column (`str`, *optional*), attribute_column (`str` or `Sequence[str]`, *optional*):
            The columns that make up the groups, as for [`GroupIndex.from_dataset`].
        split (`str`, *optional*, defaults to `"train"`): name of the split that the rows of files form; all files are
            read, whatever it is.
        num_proc (`int`, *optional*, defaults to `1`): number of processes; each reads and writes a part of the
            source's shards.
        overwrite (`bool`, *optional*, defaults to `False`): whether to replace a partition at `path`.
        shard_rows (`int`, *optional*, defaults to `1_000_000`): rows at which a parquet file is ended.
        shard_bytes (`int`, *optional*, defaults to 256 MiB): bytes on disk at which a parquet file is ended.
        block_bytes (`int`, *optional*, defaults to 1 MiB): most bytes of a row group, the unit in which rows are read
            and shuffled.
        buffer_bytes (`int`, *optional*, defaults to 64 MiB): most bytes of rows that wait in each process.
        storage_options (`dict`, *optional*): options for `fsspec`.

    Returns:
        [`GroupPartitions`]: the written rows, to train on.

    Raises:
        FileExistsError: if `path` is a file, or holds a partition or other files.
        FolderInUseError: if another process is writing to `path`.
        OSError: if writing fails, as on a full disk; the message says what is left in the folder.
        TypeError, ValueError: if columns make no groups, files or rows differ in their columns or types, a file is
            damaged, the source has no rows, or numbers are below 1.
    """
    limits = Limits(shard_rows, shard_bytes, block_bytes, buffer_bytes)
    if not isinstance(num_proc, int) or num_proc < 1:
        raise ValueError(f"num_proc, the processes that write, must be a whole number from 1 on; found {num_proc!r}")
    fs, root = fsspec.core.url_to_fs(path, **(storage_options or {}))
    if num_proc > 1 and isinstance(fs, MemoryFileSystem):
        raise ValueError(f"{path} lies in the memory of this process, where no other one can write: set num_proc=1")
    _previous(fs, root, path, overwrite)
    with contextlib.ExitStack() as until_the_end:
        if isinstance(fs, LocalFileSystem):
            way_out = "Wait for its end, or choose another folder"
            lock = locked(root, "writing a partition", way_out, name=f"{Manifest.NAME}.lock")
            until_the_end.enter_context(lock)
        old = _previous(fs, root, path, overwrite)
        source = _as_stream(dataset, split, num_proc)
        features = _features(source)
        coder = GroupCoder(
            features, label_column, attribute_column
        )  # a missing column is found before any row is read
        _replace(_Place(fs, root, path, old), source, features, coder, limits, num_proc)
    return GroupPartitions.load(path, storage_options=storage_options)


@dataclass(frozen=True)
class _Place:
    """Where a partition is written: a file system and the folder on it, its name, and `partition.json` as it was."""

    fs: Any
    root: str
    path: str
    old: bytes | None


def _replace(
    place: _Place,
    source: datasets.IterableDataset,
    features: datasets.Features,
    coder: GroupCoder,
    limits: Limits,
    num_proc: int,
) -> None:
    """Write the rows of a stream beside what is there, and take its place in one step at the very end."""
    if num_proc > source.num_shards:
        logger.warning_once(
            f"num_proc={num_proc}, and the data set comes in {source.num_shards} shard(s), which cannot be divided: "
            f"{source.num_shards} process(es) read it."
        )
        num_proc = source.num_shards
    fs, root = place.fs, place.root.rstrip("/")
    data = f"{DATA_PREFIX}{uuid.uuid4().hex[:12]}"
    folder = f"{root}/{data}"
    before = [entry for entry in _names(fs, root) if entry.startswith(DATA_PREFIX)]
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
        if _manifest_of(fs, root) != place.old:
            raise FileExistsError(
                f"another process has written a partition to {place.path} while this one was at work; that one is "
                "whole, and this one was given up. Let one process write at a time, or choose another folder"
            )
        check_files(manifest, fs, folder, place.path)
        manifest.write(fs, root)
    except BaseException as error:
        with contextlib.suppress(Exception):
            fs.rm(folder, recursive=True)
        if isinstance(error, OSError) and not isinstance(error, FileExistsError):
            state = "There is no partition there" if place.old is None else "The partition that was there is whole"
            raise OSError(error.errno, f"{error}. Writing the partition {place.path} stopped; {state}") from error
        raise
    for name in before:  # data of the replaced partition, or of a killed process
        with contextlib.suppress(FileNotFoundError):
            fs.rm(f"{root}/{name}", recursive=True)


def _names(fs: Any, root: str) -> list[str]:
    """Return the names of what lies in a folder; none if there is no folder."""
    if not fs.exists(root):
        return []
    return [str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in fs.ls(root, detail=False)]


def _manifest_of(fs: Any, root: str) -> bytes | None:
    """Return `partition.json` as it is now, None if there is none."""
    fs.invalidate_cache()
    path = f"{root.rstrip('/')}/{Manifest.NAME}"
    return fs.cat_file(path) if fs.exists(path) else None


def _previous(fs: Any, root: str, path: str, overwrite: bool) -> bytes | None:
    """Return the `partition.json` of a folder, None without one; raise an error if it holds what must stay."""
    if fs.isfile(root):
        raise FileExistsError(f"{path} is a file; choose a folder that is empty or new")
    names = _names(fs, root)
    if Manifest.NAME in names and not overwrite:
        raise FileExistsError(
            f"{path} holds a partition already. Load it with GroupPartitions.load({path!r}), or replace it with "
            "overwrite=True"
        )
    others = [name for name in names if not name.startswith((DATA_PREFIX, Manifest.NAME))]
    if others:
        raise FileExistsError(
            f"{path} holds other files ({', '.join(sorted(others)[:5])}); choose a folder that is empty or new"
        )
    return _manifest_of(fs, root)


def _as_stream(dataset: Any, split: str, num_proc: int) -> datasets.IterableDataset:
    """Return any source as a stream in the format "arrow"."""
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
    """Return a stream of the rows of data files, all of one type."""
    builders = {os.path.splitext(str(name))[1].lower() for name in files}
    if len(builders) != 1 or not builders <= _BUILDERS.keys():
        raise ValueError(
            f"data files of the type(s) {', '.join(map(repr, sorted(builders)))} were given; they must be of one of "
            f"the types {', '.join(_BUILDERS)}. Anything else can be given as a datasets.IterableDataset"
        )
    builder = _BUILDERS[builders.pop()]
    check_columns(builder, datasets.load_dataset_builder(builder, data_files={split: files}).config.data_files[split])
    return datasets.load_dataset(builder, data_files={split: files}, split=split, streaming=True)


def _features(source: datasets.IterableDataset) -> datasets.Features:
    """Return the features of a stream; where it declares none, those of its first rows."""
    if source.features is not None:
        return source.features
    for table in read_tables(source, _ROWS_PER_READ):
        return datasets.Features.from_arrow_schema(table.schema)
    raise ValueError("the data set has no rows, so there is nothing to partition")


@dataclass(frozen=True)
class _Job:
    """The work of one process: what it reads, and where it writes."""

    source: datasets.IterableDataset
    features: datasets.Features
    columns: tuple[str, ...]
    fs: Any
    folder: str
    limits: Limits


@dataclass(frozen=True)
class _Part:
    """The result of one process: what it has written."""

    codes: dict[Key, int]
    counts: list[int]
    shards: dict[str, list[Shard]]
    digest: bytes


def _write_part(job: _Job, part: int, progress: bool) -> _Part:
    """Do one job, the one with the number `part`."""
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
    """Keep the jobs where a forked process finds them: their sources may hold functions that cannot be pickled."""
    _JOBS[:] = jobs


def _run_job(number: int) -> _Part:
    """Do one of the jobs that this process was forked with."""
    return _write_part(_JOBS[number], number, progress=False)


def _run(jobs: list[_Job]) -> Iterator[_Part]:
    """Do all jobs, each in a process of its own if there are several, and yield their results in order."""
    if len(jobs) == 1:
        yield _write_part(jobs[0], 0, progress=True)
        return
    with concurrent.futures.ProcessPoolExecutor(len(jobs), initializer=_take_jobs, initargs=(jobs,)) as pool:
        yield from datasets.utils.tqdm(
            pool.map(_run_job, range(len(jobs))), total=len(jobs), unit=" parts", desc="Partitioning by group"
        )
