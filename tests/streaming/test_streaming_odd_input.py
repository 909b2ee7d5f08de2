"""Streams on odd input: rows that make no table, groups that cannot be, places and manifests that are none."""

import json

import fsspec
import pytest
from datasets import Dataset, Features, IterableDataset, Value

from gerne_hf.streaming import GroupPartitions, ReservoirStream, partition_by_group

FEATURES = Features({"text": Value("string"), "label": Value("int64"), "place": Value("string")})


def stream(change=None, rows=40, shards=2, features=None):
    def generate(parts):
        for part in parts:
            for i in range(part, rows, shards):
                row = {"text": f"t{i}", "label": i // 2 % 2, "place": ["sea", "land"][i // 4 % 2]}
                yield {**row, **(change(i) if change else {})}

    return IterableDataset.from_generator(generate, features, gen_kwargs={"parts": list(range(shards))})


def partition(source, path, **settings):
    return partition_by_group(source, str(path), attribute_column="place", **settings)


READERS = [partition, lambda source, path: ReservoirStream(source, attribute_column="place")]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("mapped", [False, True])
def test_rows_whose_types_differ_in_small(tmp_path, read, mapped):
    """A None, a whole number and an empty list are no other type, in whichever batch of rows they come."""
    odd = {20: {"text": None}, 30: {"weight": 3}, 31: {"tokens": []}, 2500: {"text": None, "weight": 3}}
    usual = {"weight": 0.5, "tokens": [1, 2]}
    source = stream(lambda i: {**usual, **odd.get(i, {})}, rows=3000)
    written = read(source.map(lambda row: row) if mapped else source, tmp_path / "parts")
    assert written.groups.counts.tolist() == [[750, 750], [750, 750]]
    if read is partition:
        files = [str(file) for file in (tmp_path / "parts").rglob("*.parquet")]
        rows = {
            int(row["text"][1:]): row
            for row in map(dict, Dataset.from_parquet(files, cache_dir=str(tmp_path / "cache")))
            if row["text"]
        }
        assert len(rows) == 2998 and rows[30]["weight"] == 3.0 and rows[31]["tokens"] == []
        assert all(row["tokens"] == [1, 2] for i, row in rows.items() if i != 31)


@pytest.mark.parametrize("read", READERS)
def test_rows_that_make_no_table(tmp_path, read):
    with pytest.raises(ValueError, match="rows of the stream make no table .*the values of a column one type"):
        read(stream(lambda i: {"place": 7} if i == 20 else {}), tmp_path / "parts")
    assert not (tmp_path / "parts" / "partition.json").exists()


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("features", [None, FEATURES])
def test_a_row_without_a_label(tmp_path, read, features):
    with pytest.raises(ValueError, match="label column 'label' has null values, the first in row 10"):
        read(stream(lambda i: {"label": None} if i == 20 else {}, features=features), tmp_path / "parts")


@pytest.mark.parametrize("columns", [["place", "place"], ["place", "label"]])
def test_a_column_named_twice(tmp_path, columns):
    with pytest.raises(ValueError, match="each may be named only once"):
        partition_by_group(stream(), str(tmp_path / "parts"), attribute_column=columns)


@pytest.mark.parametrize("number", [0, -1, 2.0, "2"])
def test_a_number_of_processes_that_is_none(tmp_path, number):
    with pytest.raises(ValueError, match=f"num_proc, .* must be a whole number from 1 on; found {number!r}"):
        partition(stream(), tmp_path / "parts", num_proc=number)


def test_the_memory_of_a_process_is_written_by_that_process():
    with pytest.raises(ValueError, match="memory://odd/parts lies in the memory of this process"):
        partition(stream(), "memory://odd/parts", num_proc=2)
    assert len(partition(stream(), "memory://odd/parts")) == 40
    fsspec.filesystem("memory").rm("/odd", recursive=True)


def test_a_file_is_no_place_and_no_partition(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileExistsError, match="file is a file; choose a folder that is empty or new"):
        partition(stream(), tmp_path / "file")
    with pytest.raises(FileNotFoundError, match="file holds no partition.json"):
        GroupPartitions.load(str(tmp_path / "file"))


@pytest.mark.parametrize(
    "name, value",
    [
        *((key, None) for key in ("counts", "shards", "features", "label_names", "data", "fingerprint")),
        ("counts", "abc"),
        ("shards", [[{"file": "a", "more": 1}]]),
        ("shards", [[]]),
        ("features", {"label": {"_type": "Nothing"}}),
    ],
)
def test_a_manifest_that_lacks_something(tmp_path, name, value):
    partition(stream(), tmp_path / "parts")
    file = tmp_path / "parts" / "partition.json"
    content = {**json.loads(file.read_text()), name: value}
    if value is None:
        del content[name]
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="partition.json is damaged .*; write the partition anew"):
        GroupPartitions.load(str(tmp_path / "parts"))


@pytest.mark.parametrize("counts", [{}, {(0, "sea"): -5, (1, "sea"): 3}, {(0, "sea"): 0}, [3, 4]])
def test_counts_that_count_nothing(counts):
    with pytest.raises(ValueError, match="counts must give the rows, 1 or more, of each group by its values"):
        ReservoirStream(stream(), attribute_column="place", counts=counts)
