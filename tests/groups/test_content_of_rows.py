"""What a data set holds, as a hash: the same however it is stored, another for another row, and nothing decoded."""

import os

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch
from helpers import Rows, table

from gerne_hf.groups import contents, fingerprint
from gerne_hf.groups.contents import content_of
from gerne_hf.groups.fingerprints import check_fingerprint
from gerne_hf.groups.sources import RowsOf, add_column

ROWS = 200
NOT_AN_IMAGE = b"no image at all"


def every_kind():
    """Columns of every kind, with null values where a column may have them."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(0, 9, ROWS).tolist()
    columns = {
        "number": [x if x % 7 else None for x in range(ROWS)],
        "float": rng.normal(size=ROWS).tolist(),
        "flag": [bool(x % 2) if x % 5 else None for x in range(ROWS)],
        "text": ["é" * x if x else None for x in sizes],
        "raw": [rng.bytes(x) for x in sizes],
        "ids": [list(range(x)) if x else None for x in sizes],
        "ids with null": [[None if y % 3 == 0 else y for y in range(x)] for x in sizes],
        "lists": [[["a"] * y for y in range(x)] for x in sizes],
        "texts": [["u", "v" * x] for x in sizes],
        "pair": [{"p": x, "q": "z" * x} if x else None for x in sizes],
        "image": [{"bytes": NOT_AN_IMAGE + rng.bytes(x), "path": f"{x}.jpg"} for x in sizes],
        "matrix": rng.normal(size=(ROWS, 2, 2)).tolist(),
    }
    data = datasets.Dataset.from_dict(columns)
    return data.cast_column("image", datasets.Image()).cast_column("matrix", datasets.Array2D((2, 2), "float32"))


@pytest.fixture(scope="module")
def data():
    return every_kind()


@pytest.fixture(scope="module")
def shuffled(data):
    return data.select(np.random.default_rng(1).permutation(ROWS)[:120])


def test_the_way_rows_are_stored_does_not_matter(shuffled, tmp_path):
    parts = [shuffled.select(range(start, min(start + 17, 120))).flatten_indices() for start in range(0, 120, 17)]
    shuffled.save_to_disk(tmp_path / "saved", num_shards=3)
    shuffled.to_parquet(tmp_path / "rows.parquet")
    read = datasets.Dataset.from_parquet(
        str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path / "cache"), features=shuffled.features
    )
    twins = [shuffled.flatten_indices(), datasets.concatenate_datasets(parts), read]
    for twin in [*twins, datasets.load_from_disk(tmp_path / "saved")]:
        for name in shuffled.column_names:
            assert content_of(twin, [name]) == content_of(shuffled, [name]), name


@pytest.mark.parametrize("name", every_kind().column_names)
def test_two_rows_that_change_places_are_other_rows(data, name):
    plain = data.with_format("arrow")[name].to_pylist()
    other = next(row for row in range(1, ROWS) if plain[row] != plain[0])
    order = [other, *range(1, other), 0, *range(other + 1, ROWS)]
    assert content_of(data.select(order), [name]) != content_of(data, [name])


def test_many_selected_rows_count_by_their_numbers(data, monkeypatch):
    monkeypatch.setattr(contents, "_COPIED", 0)
    there, back = data.select(range(ROWS - 1, -1, -1)), data.select([1, 0, *range(2, ROWS)])
    assert content_of(there) == content_of(data.select(range(ROWS - 1, -1, -1)))
    assert len({content_of(rows).rows for rows in (data, there, back)}) == 3


def test_of_a_set_that_is_too_large_some_rows_are_read_and_its_files_are_known(data, tmp_path, monkeypatch):
    data.save_to_disk(tmp_path / "saved")
    stored = datasets.load_from_disk(tmp_path / "saved")
    monkeypatch.setattr(contents, "LARGEST", 4000)
    monkeypatch.setattr(contents, "_BLOCKS", 10)
    content = content_of(stored)
    assert 0 < content.read < ROWS and content.files and content_of(data).read is None
    (file,) = (tmp_path / "saved").glob("*.arrow")
    os.utime(file, (1, 1))
    later = content_of(stored)
    assert later.rows == content.rows and later.whole != content.whole


def images(folder):
    folder.mkdir(parents=True)
    paths = [folder / f"{row}.png" for row in range(3)]
    for path in paths:
        path.write_bytes(NOT_AN_IMAGE)
    return datasets.Dataset.from_dict({"image": [str(path) for path in paths]}).cast_column("image", datasets.Image())


def test_files_of_images_count_by_name_size_and_for_certainty_by_their_time(tmp_path):
    one, moved = images(tmp_path / "here"), images(tmp_path / "there" / "deeper")
    before = content_of(one)
    assert before.rows == content_of(moved).rows and before.whole != content_of(moved).whole
    os.utime(tmp_path / "here" / "1.png", (1, 1))
    assert content_of(one).rows == before.rows and content_of(one).whole != before.whole
    (tmp_path / "here" / "1.png").write_bytes(NOT_AN_IMAGE * 2)
    assert content_of(one).rows != before.rows


def test_a_transform_is_no_row_and_counts_beside_them():
    plain, one = table(), table().with_transform(lambda rows: rows)
    other = table().with_transform(lambda rows: {name: values[::-1] for name, values in rows.items()})
    assert len({content_of(each).rows for each in (plain, one, other)}) == 1
    assert len({content_of(each).code for each in (plain, one, other)}) == 3
    rng = np.random.default_rng(0)
    drawn = content_of(table().with_transform(lambda rows: rng.permutation(rows)))
    assert drawn.whole is None and "a random generator" in drawn.unknown[0]


class Arrays(torch.utils.data.Dataset):
    column_names = ("inputs", "label")

    def __init__(self, inputs, label):
        self.columns = {"inputs": inputs, "label": label}


def test_other_data_sets_count_by_what_they_hold():
    inputs, label = np.arange(12.0).reshape(6, 2), np.array([0, 1, 0, 1, 0, 1])
    assert content_of(Arrays(inputs, label)) == content_of(Arrays(inputs.copy(), label.copy()))
    assert content_of(Arrays(-inputs, label)).rows != content_of(Arrays(inputs, label)).rows
    assert content_of(Rows(table())).rows == content_of(Rows(table())).rows != content_of(Rows(table(seed=3))).rows
    order = np.array([0, 2, 1, 3, 4, 5])
    assert content_of(RowsOf(Arrays(inputs, label), order)) != content_of(RowsOf(Arrays(inputs, label), order[::-1]))
    codes = np.zeros(88, dtype=int)
    added = [add_column(Rows(table()), "new", codes + number, ["a", "b"]) for number in (0, 1)]
    assert content_of(added[0]).rows != content_of(added[1]).rows
    assert content_of(added[0], table().column_names) == content_of(added[1], table().column_names)
    assert content_of(datasets.Dataset.from_dict({"a": [1]}).to_iterable_dataset()).whole is None
    tables = [{"rows": pa.table({"x": [value]})} for value in (1, 2)]
    assert content_of(tables[0]).whole != content_of(tables[1]).whole


def test_a_fingerprint_is_of_all_rows_and_of_the_names_of_classes():
    one = table()
    changed = one.map(lambda row: {"inputs": [-x for x in row["inputs"]] if row["row"] == 41 else row["inputs"]})
    named = one.cast_column("label", datasets.ClassLabel(names=["wren", "gull"]))
    found = [fingerprint(each) for each in (one, table(), changed, named)]
    assert found[0] == found[1] and len(set(found)) == 3
    with_more = one.add_column("more", list(range(88)))
    assert fingerprint(with_more, None, one.column_names) == fingerprint(one, None, one.column_names)


def test_a_fingerprint_of_an_earlier_release_cannot_be_compared():
    check_fingerprint(fingerprint(table()), table())
    with pytest.raises(ValueError, match="belong to another data set: its fingerprint is 0{12}, that of"):
        check_fingerprint("0" * 32, table())
    with pytest.raises(ValueError, match="by an earlier release of gerne_hf, whose fingerprint looked at 64 rows"):
        check_fingerprint("0" * 64, table())
