"""partition_by_group: what is written of any source, and its bounds."""

import json
import os
from pathlib import Path

import datasets
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, IterableDataset
from helpers import decode_images, images, table
from partitions_by_hand import assert_partitioned

from gerne_hf.streaming import GroupPartitions, partition_by_group
from gerne_hf.streaming.shards import Limits, ShardWriter

COLUMNS = {
    "integers": [7, -3, 7, 12],
    "booleans": [True, False, True, True],
    "strings": ["sea", "", "a/b: *?", "\N{SNOWMAN}"],
}


@pytest.mark.parametrize("values", COLUMNS.values(), ids=COLUMNS)
def test_attributes_of_any_type(tmp_path, values):
    data = Dataset.from_dict({"label": [0, 1, 2, 1] * 5, "place": values * 5, "row": list(range(20))})
    assert_partitioned(partition_by_group(data, str(tmp_path / "p"), attribute_column="place"), data)


@pytest.mark.parametrize("num_proc", [1, 3])
def test_a_stream_of_shards(tmp_path, num_proc):
    data = table([[40, 8], [10, 30]])
    stream = data.to_iterable_dataset(num_shards=5)
    partitions = partition_by_group(
        stream, str(tmp_path / "p"), attribute_column="place", num_proc=num_proc, block_bytes=300
    )
    assert_partitioned(partitions, data)
    assert partitions.groups.label_names == ("class0", "class1")  # those of the ClassLabel


def test_a_generator_without_features(tmp_path):
    data = Dataset.from_dict({"label": ["no", "yes"] * 6, "a": [0, 1, 2] * 4, "b": [True, True, False, False] * 3})
    stream = IterableDataset.from_generator(lambda: iter(data))
    partitions = partition_by_group(stream, str(tmp_path / "p"), attribute_column=["a", "b"])
    assert_partitioned(partitions, data, ["a", "b"])
    assert partitions.groups.attribute_names[1] == "0 & True" and partitions.attribute_columns == ("a", "b")
    assert partitions.groups.counts.shape == (2, 6)


@pytest.mark.parametrize("kind", ["parquet", "csv", "json"])
def test_paths_of_data_files(tmp_path, kind):
    data = table().remove_columns("inputs").cast_column("label", datasets.Value("int64"))
    suffix = "jsonl" if kind == "json" else kind
    for i in range(2):
        getattr(data.shard(2, i), f"to_{kind}")(str(tmp_path / f"{i}.{suffix}"))
    partitions = partition_by_group(str(tmp_path / f"*.{suffix}"), str(tmp_path / "p"), attribute_column="place")
    assert_partitioned(partitions, data)
    with pytest.raises(ValueError, match=r"type\(s\) '.txt' were given.*\.parquet"):
        partition_by_group("rows.txt", str(tmp_path / "q"))


def test_images_are_embedded_and_decoded(tmp_path):
    from PIL import Image

    for i in range(6):
        Image.new("L", (4, 4), 40 * i).save(tmp_path / f"{i}.png")
    paths = [str(tmp_path / f"{i}.png") for i in range(6)]
    data = Dataset.from_dict({"image": paths, "label": [0, 1] * 3, "place": [0, 0, 1, 1, 0, 1]})
    data = data.cast_column("image", datasets.Image())
    partitions = partition_by_group(data, str(tmp_path / "p"), attribute_column="place")
    for path in paths:
        os.remove(path)
    shades = [np.unique(row["image"]).tolist() for row in read_all(partitions)]
    assert sorted(shades) == [[40 * i] for i in range(6)]


def test_a_transform(tmp_path):
    data = images()
    partitions = partition_by_group(data, str(tmp_path / "p"), attribute_column="place").with_transform(decode_images)
    rows = read_all(partitions)
    assert len(rows) == len(data) and rows[0]["pixel_values"].shape == (3, 16, 16) and "image" not in rows[0]


def read_all(partitions):
    from gerne_hf.streaming.stream import Ticket

    counts = partitions.groups.counts.ravel()
    tickets = [Ticket(0, 0, 0, group, number) for group in range(len(counts)) for number in range(counts[group])]
    return partitions.__getitems__(tickets)


def test_shards_and_blocks_are_bounded(tmp_path):
    data = Dataset.from_dict({"label": [0] * 900 + [1] * 100, "text": ["x" * 100] * 1000})
    path = str(tmp_path / "p")
    partition_by_group(data, path, shard_rows=200, block_bytes=3000, buffer_bytes=10_000)
    manifest = json.loads(Path(path, "partition.json").read_text())
    (large,), (small,) = ([shards] for shards in manifest["shards"])
    for shard in large + small:
        assert max(shard["blocks"]) <= 30 and shard["block_bytes"] <= 3000
        file = pq.ParquetFile(Path(path, manifest["data"], shard["file"]))
        assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == shard["blocks"]
    assert [sum(shard["blocks"]) for shard in large[:-1]] == [sum(large[0]["blocks"])] * (len(large) - 1)
    assert 200 <= sum(large[0]["blocks"]) < 230
    partition_by_group(data, path, shard_bytes=1, block_bytes=3000, overwrite=True)
    manifest = json.loads(Path(path, "partition.json").read_text())
    assert all(len(shard["blocks"]) == 1 for shards in manifest["shards"] for shard in shards)


def writer_of(folder, buffer_bytes, schema):
    fs = fsspec.filesystem("file")
    return ShardWriter(fs, str(folder), 0, schema, Limits(10**6, 10**9, 10**6, buffer_bytes))


def test_few_rows_wait_in_memory(tmp_path):
    """At no time do more than `buffer_bytes` wait, however many groups there are."""
    schema = pa.schema([("value", pa.int64())])
    writer = writer_of(tmp_path, 50_000, schema)
    rng = np.random.default_rng(0)
    waiting = []
    for _ in range(300):
        size = int(rng.integers(1, 60))
        writer.add(f"g{rng.integers(100)}", pa.table([rng.integers(9, size=size)], schema=schema))
        waiting.append(writer.waiting_bytes)
        held = [part for parts in writer._waiting.values() for part in parts]
        assert sum(part.nbytes for part in held) + 1024 * len(held) == waiting[-1]
    shards = writer.close()
    assert 45_000 < max(waiting) <= 50_000 and writer.waiting_bytes == 0
    assert len(shards) == len(list(tmp_path.iterdir())) > 64  # more groups than files that are open at a time
    assert sum(sum(shard.blocks) for files in shards.values() for shard in files) == sum(
        pq.read_metadata(file).num_rows for file in tmp_path.glob("*/*.parquet")
    )


def resident() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def test_many_small_tables_take_no_more_than_their_rows(tmp_path):
    """A minority comes a few rows at a time; each of these tables takes more than its values."""
    schema = pa.schema([(name, pa.int64()) for name in "abcd"])
    source = pa.table([np.arange(1000)] * 4, schema=schema)
    for warm in (True, False):
        writer = writer_of(tmp_path / str(warm), 10**8, schema)
        before = resident()
        for i in range(1000 if warm else 16_000):
            writer.add(f"g{i % 20}", source.take(pa.array([i % 1000, 3])))
    assert resident() - before < 12 << 20  # 16,000 tables of 2 kB would be 32 MiB
    writer.abandon()


def test_labels_alone(tmp_path):
    data = table()
    partitions = partition_by_group(data, str(tmp_path / "p"))
    assert partitions.groups.counts.tolist() == [[48], [40]] and partitions.attribute_columns == ()
    classes = ClassLabel(names=["class0", "class1"])
    assert partitions.features["label"] == classes


def test_a_file_system_other_than_the_local_one(tmp_path):
    data = table()
    partitions = partition_by_group(data, "memory://somewhere/p", attribute_column="place", block_bytes=300)
    again = GroupPartitions.load("memory://somewhere/p")
    assert sorted(row["row"] for row in read_all(again)) == list(range(len(data)))
    assert again.fingerprint == partitions.fingerprint
    partition_by_group(data.select(range(40)), "memory://somewhere/p", attribute_column="place", overwrite=True)
    assert len(GroupPartitions.load("memory://somewhere/p")) == 40
