"""`GroupIndex.from_parquet`: the same index as from the data set, and no column read but those two."""

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gerne_hf import GroupIndex
from gerne_hf.groups import sources as parquet_columns

PLACES = ["sea", "land", "sea", "land", "land", "sea", "sea"]
LABELS = [1, 0, 1, 1, 0, 2, 1]


def write(path, row_group_size=2, **columns) -> str:
    pq.write_table(pa.table(columns or {"label": LABELS, "place": PLACES}), path, row_group_size=row_group_size)
    return str(path)


def assert_same(left: GroupIndex, right: GroupIndex) -> None:
    assert (left.label_names, left.attribute_values) == (right.label_names, right.attribute_values)
    for name in ("counts", "codes", "order"):
        ours, theirs = getattr(left, name), getattr(right, name)
        assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs), name


@settings(derandomize=True, deadline=None, max_examples=20)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.text("ab \u20ac", max_size=2), st.booleans()),
        min_size=1,
        max_size=30,
    ),
    st.integers(1, 9),
    st.integers(0, 30),
)
def test_the_index_is_that_of_the_data_set(tmp_path_factory, rows, row_group_size, cut):
    folder = tmp_path_factory.mktemp("parquet")
    data = datasets.Dataset.from_dict(
        dict(zip(("label", "place", "night"), map(list, zip(*rows, strict=True)), strict=True))
    )
    cut = min(cut, len(data))
    files = []
    table = data.with_format("arrow")[:]
    for name, part in (("a", table.slice(0, cut)), ("b", table.slice(cut))):
        files.append(folder / f"{name}.parquet")
        pq.write_table(part, files[-1], row_group_size=row_group_size)
    for attribute in ("place", ["place", "night"], None):
        expected = GroupIndex.from_dataset(data, "label", attribute)
        assert_same(GroupIndex.from_parquet(files, "label", attribute), expected)
        assert_same(GroupIndex.from_parquet(files, None, attribute, reference=expected), expected)


def test_names_of_a_class_label_come_from_the_file(tmp_path):
    names = datasets.ClassLabel(names=["wren", "gull", "owl", "kiwi"])
    data = datasets.Dataset.from_dict({"label": LABELS, "place": PLACES}).cast_column("label", names)
    data.to_parquet(str(tmp_path / "birds.parquet"))
    index = GroupIndex.from_parquet(str(tmp_path / "birds.parquet"), attribute_column="place")
    assert index.label_names == ("wren", "gull", "owl", "kiwi") and index.counts[3].sum() == 0
    assert_same(index, GroupIndex.from_dataset(data, attribute_column="place"))


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_kinds_of_text(tmp_path, kind):
    path = write(tmp_path / "a.parquet", label=LABELS, place=pa.array(PLACES).cast(kind))
    assert_same(GroupIndex.from_parquet(path, "label", "place"), GroupIndex.from_arrays(LABELS, PLACES))


def test_no_other_column_is_read(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet", label=LABELS, image=[bytes(4000)] * len(LABELS), place=PLACES)
    read = []
    opened = parquet_columns.pq.ParquetFile.iter_batches

    def watched(self, batch_size, row_groups, columns, **settings):
        read.extend(columns)
        return opened(self, batch_size, row_groups, columns, **settings)

    monkeypatch.setattr(parquet_columns.pq.ParquetFile, "iter_batches", watched)
    assert_same(GroupIndex.from_parquet(path, "label", "place"), GroupIndex.from_arrays(LABELS, PLACES))
    assert set(read) == {"label", "place"}


def test_rows_are_read_in_bounded_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_columns, "_CHUNK_ROWS", 3)
    path = write(tmp_path / "a.parquet", row_group_size=100)
    chunks = list(parquet_columns.ParquetColumns(path).chunks("place"))
    assert [len(chunk) for chunk in chunks] == [3, 3, 1]
    assert_same(GroupIndex.from_parquet([path], "label", "place"), GroupIndex.from_arrays(LABELS, PLACES))


def test_bad_values_are_named_by_their_row(tmp_path):
    first = write(tmp_path / "a.parquet")
    second = write(tmp_path / "b.parquet", label=[0, 1], place=["sea", None])
    with pytest.raises(ValueError, match="'place' has null values, the first in row 8"):
        GroupIndex.from_parquet([first, second], "label", "place")
    with pytest.raises(TypeError, match="'place' holds double"):
        GroupIndex.from_parquet(write(tmp_path / "c.parquet", label=[0], place=[0.5]), "label", "place")
    with pytest.raises(TypeError, match="'place' holds lists"):
        GroupIndex.from_parquet(write(tmp_path / "d.parquet", label=[0], place=[[1, 0]]), "label", "place")


def test_bad_files(tmp_path):
    path = write(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="no attribute column 'light'; its columns are 'label', 'place'"):
        GroupIndex.from_parquet(path, "label", "light")
    with pytest.raises(ValueError, match="no parquet files"):
        GroupIndex.from_parquet([])
    with pytest.raises(FileNotFoundError, match="there is no parquet file .*missing.parquet"):
        GroupIndex.from_parquet([path, tmp_path / "missing.parquet"])
    other = write(tmp_path / "b.parquet", label=LABELS, place=LABELS)
    with pytest.raises(ValueError, match=r"b.parquet has the columns .*place \(int64\).*place \(string\)"):
        GroupIndex.from_parquet([path, other])
    (tmp_path / "text.parquet").write_text("label,place\n0,sea\n")
    with pytest.raises(ValueError, match="text.parquet cannot be read as a parquet file"):
        GroupIndex.from_parquet(tmp_path / "text.parquet")
    with pytest.raises(ValueError, match="cannot be read as a parquet file"):
        GroupIndex.from_parquet(tmp_path)
