"""A column of categories added to a data set of any kind: its codes, its rows, and the columns that were there."""

import datasets
import numpy as np
import pytest
import torch
from helpers import Rows

from gerne_hf import GroupIndex
from gerne_hf.groups.columns import encode_column
from gerne_hf.groups.sources import add_column

LABELS = [1, 0, 1, 1, 0]
CODES = np.array([2, 0, 0, 1, 2], dtype=np.uint8)
NAMES = ("zebra", "ant", "bee")  # not in alphabetical order: codes must follow this one


class Plain(torch.utils.data.Dataset):
    """Rows by number and columns by name; no `__getitems__`."""

    column_names = ["label", "x"]

    def __len__(self):
        return len(LABELS)

    def __getitem__(self, key):
        columns = {"label": LABELS, "x": list(range(5))}
        return columns[key] if isinstance(key, str) else {name: values[key] for name, values in columns.items()}


class Tuples(Plain):
    def __getitem__(self, key):
        row = super().__getitem__(key)
        return row if isinstance(key, str) else tuple(row.values())


def table() -> datasets.Dataset:
    return datasets.Dataset.from_dict({"label": LABELS, "x": list(range(5))})


@pytest.mark.parametrize("make", [table, Plain, lambda: Rows(table())], ids=["datasets", "plain", "rows"])
def test_the_column_is_a_group_column_and_the_others_stay(make):
    data = add_column(make(), "kind", CODES, NAMES)
    assert len(data) == 5 and list(data.column_names) == ["label", "x", "kind"]
    codes, names = encode_column(data, "kind", "attribute")
    assert codes.tolist() == CODES.tolist() and list(names) == list(NAMES)
    index = GroupIndex.from_dataset(data, "label", "kind")
    assert index.label_names == ("0", "1") and index.attribute_names == NAMES
    assert index.codes.tolist() == [label * 3 + code for label, code in zip(LABELS, CODES, strict=True)]
    expected = [{"label": LABELS[i], "x": i, "kind": int(CODES[i])} for i in range(5)]
    assert [data[i] for i in range(5)] == expected
    assert data.__getitems__([3, 0, 3]) == [expected[i] for i in (3, 0, 3)]


def test_a_map_style_data_set_gives_the_names_of_the_column():
    data = add_column(Plain(), "kind", CODES, NAMES)
    assert list(data["kind"]) == [NAMES[code] for code in CODES] and data["x"] == list(range(5))


def test_rows_that_are_no_dictionaries_stay_as_they_are():
    data = add_column(Tuples(), "kind", CODES, NAMES)
    assert data[2] == (1, 2) and data.__getitems__([4, 2]) == [(0, 4), (1, 2)]


def test_the_format_stays():
    every = add_column(table().with_format("numpy", dtype=np.float32), "kind", CODES, NAMES)
    assert every.format["type"] == "numpy" and every.format["columns"] == ["label", "x", "kind"]
    assert every.format["format_kwargs"] == {"dtype": np.float32} and isinstance(every[0]["kind"], np.integer)
    some = add_column(table().with_format("torch", columns=["x"]), "kind", CODES, NAMES)
    assert list(some[1]) == ["x"] and some[1]["x"].tolist() == 1
    rest = add_column(table().with_format("torch", columns=["x"], output_all_columns=True), "kind", CODES, NAMES)
    assert set(rest[1]) == {"label", "x", "kind"} and rest[1]["kind"] == 0
    changed = add_column(table().with_transform(lambda batch: {"n": [len(batch)]}), "kind", CODES, NAMES)
    assert changed[0] == {"n": 3}


@pytest.mark.parametrize("make", [table, Plain])
def test_what_does_not_fit_is_refused(make):
    with pytest.raises(ValueError, match="has a column 'x' already; choose another name, or remove it"):
        add_column(make(), "x", CODES, NAMES)
    with pytest.raises(ValueError, match="the column 'kind' has 4 values for 5 rows"):
        add_column(make(), "kind", CODES[:4], NAMES)
