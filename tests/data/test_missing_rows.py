"""Rows that lack a value: all are named at once, or left out and counted, in the loaders of a user's own data."""

import datasets
import pytest

from gerne_hf.data import load_texts
from gerne_hf.data.missing import usable_rows


def splits():
    rows = {
        "text": [None if i in (3, 7) else f"text {i}" for i in range(60)],
        "label": ["cat" if i % 2 else "dog" for i in range(60)],
        "place": [None if i == 5 else ("sea" if i % 3 else "land") for i in range(60)],
    }
    train = datasets.Dataset.from_dict(rows)
    test = datasets.Dataset.from_dict(
        {**rows, "label": [None if i == 9 else name for i, name in enumerate(rows["label"])]}
    )
    return datasets.DatasetDict(train=train, validation=train, test=test)


def test_all_faults_in_one_message():
    with pytest.raises(ValueError) as error:
        load_texts(splits(), attribute_columns=["place"])
    said = str(error.value)
    for part in (
        "split 'train' has no value of 'text' in 2 rows, the first of them row 3",
        "split 'train' has no value of 'place' in 1 row, the first of them row 5",
        "split 'test' has no value of 'label' in 1 row, the first of them row 9",
        "--skip_unusable_rows",
    ):
        assert part in said


def test_rows_are_left_out_and_counted(capsys):
    data = load_texts(splits(), attribute_columns=["place"], skip_unusable_rows=True)
    assert "3 of 60 in 'train', 3 of 60 in 'validation', 4 of 60 in 'test'" in capsys.readouterr().out
    assert [len(data[key]) for key in ("train", "validation", "test")] == [57, 57, 56]
    assert data["train"]["text"][3] == "text 4" and "text 5" not in data["train"]["text"][:]


def test_a_split_without_a_usable_row():
    rows = datasets.Dataset.from_dict({"text": [None, "a"], "label": [0, None]})
    with pytest.raises(ValueError, match="no row of the split 'train' has all values"):
        usable_rows(datasets.DatasetDict(train=rows), ["text", "label"], "x", skip=True)


def test_columns_that_are_not_needed_may_lack_values():
    rows = datasets.DatasetDict(train=splits()["train"])
    assert usable_rows(rows, ["label"], "x")["train"] is rows["train"]
