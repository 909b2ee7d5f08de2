"""Partitions whose files are damaged, and two writers of one folder: one clear sentence, and never a wrong row."""

import json
import re
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, IterableDataset, load_dataset
from helpers import table
from partitions_by_hand import assert_partitioned

from gerne_hf.streaming import GroupPartitions, partition_by_group
from gerne_hf.streaming.stream import Ticket
from gerne_hf.utils.locks import FolderInUseError


@pytest.fixture
def path(tmp_path):
    """A partition with blocks of a few rows."""
    return Path(partition_by_group(table(), str(tmp_path / "p"), attribute_column="place", block_bytes=500).path)


def rows(path):
    """All rows of a partition, in the order of a pass."""
    partitions = GroupPartitions.load(str(path))
    counts = partitions.groups.counts.ravel()
    return partitions.__getitems__([Ticket(0, 0, 0, g, k) for g, n in enumerate(counts) for k in range(n)])


def shard(path):
    return sorted(path.rglob("*.parquet"))[1]


def test_a_flipped_bit_is_never_a_wrong_row(path):
    """Wherever it is: in the rows, the headers of pages or the footer of the file."""
    right, file = rows(path), shard(path)
    content, random = file.read_bytes(), np.random.default_rng(0)
    outcomes = []
    for place, bit in zip(random.integers(len(content), size=120), random.integers(8, size=120), strict=True):
        damaged = bytearray(content)
        damaged[place] ^= 1 << bit
        file.write_bytes(damaged)
        try:
            outcomes.append(rows(path) == right)
        except ValueError as error:
            assert str(file) in str(error) and "partition anew" in str(error)
    assert all(outcomes) and len(outcomes) < 60
    file.write_bytes(content)
    assert rows(path) == right


def test_a_shard_of_zeros_is_named(path):
    file = shard(path)
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(ValueError, match=rf"^{re.escape(str(file))} is damaged \(.*Copy the file anew"):
        rows(path)


def test_a_shard_without_a_column_is_named(path):
    file = shard(path)
    content = pq.read_table(file).drop_columns("row")
    pq.write_table(content, file, row_group_size=pq.ParquetFile(file).metadata.row_group(0).num_rows)
    manifest = json.loads((path / "partition.json").read_text())
    for entry in (entry for files in manifest["shards"] for entry in files):
        entry["size"] = (next(path.glob("data-*")) / entry["file"]).stat().st_size
    (path / "partition.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=rf"{re.escape(str(file))} has the columns inputs, label, place, and parti"):
        rows(path)


def test_a_partition_of_an_earlier_version_is_read(path):
    """Its pages have no checksums."""
    right = rows(path)
    for file in path.rglob("*.parquet"):
        blocks = pq.ParquetFile(file)
        size, schema = file.stat().st_size, blocks.schema_arrow
        parts = [blocks.read_row_group(i) for i in range(blocks.num_row_groups)]
        with pq.ParquetWriter(file, schema, write_statistics=False, use_dictionary=False) as writer:
            for part in parts:
                writer.write_table(part, row_group_size=len(part))
        assert file.stat().st_size < size
        manifest = path / "partition.json"
        manifest.write_text(manifest.read_text().replace(f'"size":{size}', f'"size":{file.stat().st_size}'))
    assert rows(path) == right


# ---- two writers --------------------------------------------------------------------------------------------------

SMALL = [[5, 5], [5, 5]]

MEANWHILE = []
"""What happens in the midst of a writer's rows; `datasets` hashes all that a generator holds."""


def generate():
    for i, row in enumerate(table(SMALL)):
        if i == 10:
            MEANWHILE.pop()()
        yield row


def source(meanwhile):
    """Rows to write; in their midst something else happens."""
    MEANWHILE[:] = [meanwhile]
    return IterableDataset.from_generator(generate, features=table(SMALL).features)


@pytest.mark.parametrize("old", [False, True])
def test_of_two_writers_the_second_fails(tmp_path, old):
    place, raised = str(tmp_path / "p"), []
    if old:
        partition_by_group(table(), place, attribute_column="place")

    def second():
        with pytest.raises(FolderInUseError, match="has been writing a partition there since") as caught:
            partition_by_group(table(), place, attribute_column="place", overwrite=True)
        raised.append(caught)

    partition_by_group(source(second), place, attribute_column="place", overwrite=old)
    assert raised
    assert_partitioned(GroupPartitions.load(place), table(SMALL))
    assert len(list(Path(place).iterdir())) == 2


@pytest.mark.parametrize("old", [False, True])
def test_where_there_are_no_locks_the_one_that_ends_last_fails(old):
    place = f"memory://two-writers-{old}/p"
    if old:
        partition_by_group(table([[9, 9], [9, 9]]), place, attribute_column="place")

    def second():
        partition_by_group(table(), place, attribute_column="place", overwrite=True)

    with pytest.raises(FileExistsError, match="another process has written a partition to .*that one is whole"):
        partition_by_group(source(second), place, attribute_column="place", overwrite=old)
    assert len(rows_of(place)) == 88 and len(fsspec.filesystem("memory").ls(f"/two-writers-{old}/p")) == 2
    fsspec.filesystem("memory").rm(f"/two-writers-{old}", recursive=True)


def rows_of(place):
    partitions = GroupPartitions.load(place)
    counts = partitions.groups.counts.ravel()
    return partitions.__getitems__([Ticket(0, 0, 0, g, k) for g, n in enumerate(counts) for k in range(n)])


# ---- source files -------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    data = Dataset.from_dict({"text": [f"t{i}" for i in range(40)], "label": [0, 1] * 20, "place": [0, 0, 1, 1] * 10})
    return data, [str(tmp_path / f"{name}.parquet") for name in "ab"]


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("column", ["text", "place"])
def test_a_source_file_without_a_column_is_named(tmp_path, files, column, kind):
    """`datasets` would fill the column with None."""
    data, paths = files
    paths = [path.replace("parquet", kind) for path in paths]
    getattr(data, f"to_{kind}")(paths[0])
    getattr(data.remove_columns(column), f"to_{kind}")(paths[1])
    message = rf"b\.{kind} has the columns .*, and .*a\.{kind} has text, label, place"
    for given in (paths, str(tmp_path / f"*.{kind}")):
        with pytest.raises(ValueError, match=message):
            partition_by_group(given, str(tmp_path / "p"), attribute_column="place")


@pytest.mark.parametrize("streamed", [False, True])
def test_a_source_file_of_zeros_is_named(tmp_path, files, streamed):
    data, paths = files
    for path in paths:
        data.to_parquet(path)
    Path(paths[1]).write_bytes(bytes(Path(paths[0]).stat().st_size))
    given = load_dataset("parquet", data_files=paths, split="train", streaming=True) if streamed else paths
    with pytest.raises(ValueError, match=r"b\.parquet cannot be read .*damaged"):
        partition_by_group(given, str(tmp_path / "p"), attribute_column="place")
