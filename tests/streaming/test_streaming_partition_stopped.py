"""partition_by_group where it stops: what was there before stays whole, and bad input is refused."""

import json
import multiprocessing
import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, IterableDataset
from helpers import table
from partitions_by_hand import assert_partitioned

from gerne_hf.streaming import GroupPartitions, partition_by_group
from gerne_hf.streaming import writing as writing_module

# ---- what was there before ----------------------------------------------------------------------------------------


@pytest.fixture
def old(tmp_path):
    """A partition that must stay whole."""
    return partition_by_group(table(), str(tmp_path / "p"), attribute_column="place")


def assert_whole(old):
    assert_partitioned(GroupPartitions.load(old.path), table())


def test_an_old_partition_is_replaced_only_if_asked(tmp_path, old):
    with pytest.raises(FileExistsError, match="holds a partition already.*overwrite=True"):
        partition_by_group(table([[5, 5], [5, 5]]), old.path, attribute_column="place")
    assert_whole(old)
    new = partition_by_group(table([[5, 5], [5, 5]]), old.path, attribute_column="place", overwrite=True)
    assert len(new) == 20 and new.fingerprint != old.fingerprint
    assert len(list(Path(old.path).iterdir())) == 2  # partition.json and the new data
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("x")
    with pytest.raises(FileExistsError, match="holds other files .mine.txt."):
        partition_by_group(table(), str(tmp_path / "other"), attribute_column="place", overwrite=True)


def test_a_disk_that_is_full(old):
    """The kernel refuses to let any file grow beyond 4 kB, in the midst of a shard."""
    data = Dataset.from_dict({"label": [0, 1] * 2000, "place": [0, 1, 1, 0] * 1000, "noise": np.random.rand(4000)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        with pytest.raises(OSError, match="too large.*stopped; The partition that was there is whole") as caught:
            partition_by_group(data, old.path, attribute_column="place", overwrite=True, block_bytes=1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno is not None
    assert_whole(old)
    assert len(list(Path(old.path).iterdir())) == 2  # what was written of the new one is gone


@pytest.mark.parametrize("num_proc", [1, 2])
def test_a_source_that_fails(old, num_proc):
    def rows(parts):
        for part in parts:
            for i in range(1200):
                if part == 1 and i == 1100:
                    raise RuntimeError("the connection was lost")
                yield {"label": i % 2, "place": i % 2}

    stream = IterableDataset.from_generator(rows, gen_kwargs={"parts": [0, 1]})
    with pytest.raises(RuntimeError, match="the connection was lost"):
        partition_by_group(stream, old.path, attribute_column="place", overwrite=True, num_proc=num_proc)
    assert_whole(old)
    assert len(list(Path(old.path).iterdir())) == 2


def write_until_killed(path):
    def rows():
        for i in range(1500):
            if i == 1400:
                os.kill(os.getpid(), signal.SIGKILL)
            yield {"label": i % 2, "place": i % 3}

    stream = IterableDataset.from_generator(rows)
    partition_by_group(stream, path, attribute_column="place", overwrite=True, block_bytes=100)


def test_a_process_that_is_killed(old):
    process = multiprocessing.get_context("fork").Process(target=write_until_killed, args=(old.path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(list(Path(old.path).iterdir())) == 4  # the rest of the killed one is still there, and harmless
    assert_whole(old)
    partition_by_group(table(), old.path, attribute_column="place", overwrite=True)
    assert len(list(Path(old.path).iterdir())) == 2
    assert_whole(old)


# ---- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "error", "message"),
    [
        ([0.5, 1.0], TypeError, "'place' holds double values"),
        ([1, None], ValueError, "'place' has null values, the first in row 1"),
        ([[1], [2]], TypeError, "'place' holds lists"),
    ],
)
def test_columns_that_make_no_groups(tmp_path, column, error, message):
    data = Dataset.from_dict({"label": [0, 1], "place": column})
    with pytest.raises(error, match=message):
        partition_by_group(data, str(tmp_path / "p"), attribute_column="place")
    assert not list((tmp_path / "p").iterdir())


def test_the_row_of_a_null_is_that_of_the_stream(tmp_path):
    values = [1] * 2500 + [None]
    data = Dataset.from_dict({"label": [0, 1] * 1250 + [0], "place": values})
    with pytest.raises(ValueError, match="the first in row 2500"):
        partition_by_group(data, str(tmp_path / "p"), attribute_column="place")


def test_other_bad_input(tmp_path):
    path = str(tmp_path / "p")
    with pytest.raises(ValueError, match="no attribute column 'plaec'; its columns are 'inputs', 'label'"):
        partition_by_group(table(), path, attribute_column="plaec")
    with pytest.raises(ValueError, match="none of label, labels, label_ids"):
        partition_by_group(table().rename_column("label", "y"), path, attribute_column="place")
    with pytest.raises(ValueError, match="has no rows"):
        partition_by_group(table().select([]), path, attribute_column="place")
    with pytest.raises(ValueError, match=r"class ids \[-1\]"):
        partition_by_group(Dataset.from_dict({"label": [0, -1]}), path)
    with pytest.raises(TypeError, match="Stream cannot be read as tables.*IterableDataset.from_generator"):
        partition_by_group(type("Stream", (), {})(), path)
    with pytest.raises(ValueError, match="block_bytes must be at least 1; found 0"):
        partition_by_group(table(), path, block_bytes=0)


def test_fewer_shards_than_processes_is_said(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(writing_module.logger, "propagate", True)
    writing_module.logger.parent.propagate = True
    data = table()
    with caplog.at_level("WARNING"):
        partitions = partition_by_group(
            data.to_iterable_dataset(num_shards=2), str(tmp_path / "p"), attribute_column="place", num_proc=5
        )
    assert_partitioned(partitions, data)
    assert caplog.text.count("num_proc=5, and the data set comes in 2 shard(s)") == 1


def damaged(old, **changes):
    path = Path(old.path, "partition.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return GroupPartitions.load(old.path)


def test_folders_that_are_no_whole_partition(tmp_path, old):
    with pytest.raises(FileNotFoundError, match="holds no partition.json.*interrupted"):
        GroupPartitions.load(str(tmp_path))
    with pytest.raises(ValueError, match="version 7; this release of gerne_hf reads .*version 1"):
        damaged(old, version=7)
    with pytest.raises(ValueError, match="says format 'other'"):
        damaged(old, version=1, format="other")
    with pytest.raises(ValueError, match=r"group \(class0, 1\) has 9 rows by its count and 8 in its files"):
        damaged(old, format="gerne_hf group partition", counts=[[40, 9], [10, 30]])
    old = partition_by_group(table(), str(tmp_path / "q"), attribute_column="place")
    file = sorted(Path(old.path).glob("data-*/*/*.parquet"))[0]
    content = file.read_bytes()
    file.write_bytes(content[:-10])
    with pytest.raises(ValueError, match="cut off, or of another partition"):
        GroupPartitions.load(old.path)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks data-.*a file of the group \("):
        GroupPartitions.load(old.path)
    Path(old.path, "partition.json").write_text('{"format": ')
    with pytest.raises(ValueError, match="partition.json is damaged"):
        GroupPartitions.load(old.path)
