"""What is in the files of a partition, read without the package and compared with `GroupIndex`."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from datasets import Dataset

from gerne_hf import GroupIndex
from gerne_hf.streaming import GroupPartitions


def rows_of(partitions: GroupPartitions) -> list[list[dict]]:
    """The rows of each group, from the files themselves."""
    manifest = json.loads(Path(partitions.path, "partition.json").read_text())
    folder = Path(partitions.path, manifest["data"])
    files = [[pq.ParquetFile(folder / shard["file"]).read() for shard in shards] for shards in manifest["shards"]]
    return [[row for part in parts for row in part.to_pylist()] for parts in files]


def assert_partitioned(partitions: GroupPartitions, data: Dataset, attribute_column="place") -> None:
    """Names, order and counts are those of `GroupIndex`, and each group has just its rows."""
    index = GroupIndex.from_dataset(data, attribute_column=attribute_column)
    groups = partitions.groups
    assert groups.label_names == index.label_names and groups.attribute_names == index.attribute_names
    assert groups.attribute_values == index.attribute_values
    assert (groups.counts == index.counts).all() and len(partitions) == len(data)
    for group, found in enumerate(rows_of(partitions)):
        expected = [data[int(i)] for i in np.flatnonzero(index.codes == group)]
        assert sorted(map(repr, found)) == sorted(map(repr, expected))
