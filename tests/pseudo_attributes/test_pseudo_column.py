"""The column that pseudo-attributes become, on the data set that they were fitted on and no other, and their files."""

import os
from fractions import Fraction

import numpy as np
import pytest
import torch
from datasets import ClassLabel
from helpers import Rows, table
from pseudo_scores import by_sorting, scored

from gerne_hf import GroupIndex, PseudoAttributes
from gerne_hf.method.pseudo_groups import EASY, HARD

pytestmark = pytest.mark.usefixtures("without_pictures")


# ---- the column ---------------------------------------------------------------------------------------------------


def upper(rows):
    return {**rows, "inputs": torch.tensor(rows["inputs"]) + 100}


VIEWS = {
    "plain": lambda data: data,
    "transform": lambda data: data.with_transform(upper),
    "transform of some columns": lambda data: data.with_transform(upper, columns=["inputs"], output_all_columns=True),
    "torch": lambda data: data.with_format("torch"),
    "torch, some columns": lambda data: data.with_format("torch", columns=["inputs", "label"]),
    "selected": lambda data: data.select(range(87, 3, -2)),
    "shuffled": lambda data: data.shuffle(seed=3),
    "shuffled, torch": lambda data: data.shuffle(seed=3).with_format("torch"),
    "map-style": Rows,
}


@pytest.mark.parametrize("view", VIEWS)
def test_label_adds_the_column_and_changes_nothing_else(view):
    data = VIEWS[view](table())
    pseudo = scored(data)
    labelled = pseudo.label(0.2, data)
    assert len(labelled) == len(data) and "pseudo_attribute" not in data.column_names
    assert list(labelled.column_names) == [*data.column_names, "pseudo_attribute"]
    hard = by_sorting(pseudo.scores, pseudo.labels, Fraction(1, 5))
    for row in (0, 1, 20, len(data) - 1):
        before, after = data[row], dict(labelled[row])
        if view != "torch, some columns":  # which hides the new column too, as it hides the others
            assert int(after.pop("pseudo_attribute")) == (HARD if row in hard else EASY)
        assert after.keys() == before.keys()
        for name, value in before.items():
            assert type(after[name]) is type(value) and np.array_equal(after[name], value), name
    many = labelled.__getitems__([5, 2]) if hasattr(labelled, "__getitems__") else [labelled[5], labelled[2]]
    assert [row["row"] if "row" in row else row["label"] for row in many] == [
        row["row"] if "row" in row else row["label"] for row in (data[5], data[2])
    ]
    groups = GroupIndex.from_dataset(labelled, attribute_column="pseudo_attribute")
    for label in (0, 1):
        expected = [row for row in sorted(hard) if pseudo.labels[row] == label]
        assert groups.rows(label, "hard").tolist() == expected
    pseudo.check_dataset(labelled)  # the new column does not make it another data set


@pytest.mark.parametrize("view", ["plain", "map-style"])
def test_groups_of_the_column_are_those_of_the_index(view):
    data = VIEWS[view](table())
    pseudo = scored(data)
    found = GroupIndex.from_dataset(pseudo.label(0.2, data), attribute_column="pseudo_attribute")
    expected = pseudo.index(0.2)
    assert found.attribute_names == expected.attribute_names == ("hard", "easy")
    assert np.array_equal(found.codes, expected.codes) and np.array_equal(found.counts, expected.counts)


def test_label_needs_a_free_column_name_and_the_data_set():
    pseudo, data = scored(table()), table()
    with pytest.raises(ValueError, match="has a column 'place' already"):
        pseudo.label(0.2, data, column="place")
    assert pseudo.label(0.2, data, column="mine").column_names[-1] == "mine"
    with pytest.raises(ValueError, match="pass the data set that they belong to as dataset="):
        pseudo.label(0.2)


def other_labels(data):
    flipped = [1 - data["label"][0], *data["label"][1:]]
    return data.remove_columns("label").add_column("label", flipped, feature=data.features["label"])


def other_contents(data):
    return data.map(lambda row: {"inputs": [value + 1e-6 for value in row["inputs"]]})


OTHERS = {
    "other order": lambda data: data.select(range(len(data) - 1, -1, -1)),
    "other labels": other_labels,
    "other contents": other_contents,
    "other class names": lambda data: data.cast_column("label", ClassLabel(names=["cats", "dogs"])),
    "without a column": lambda data: data.remove_columns("place"),
}


@pytest.mark.parametrize("change", OTHERS)
def test_another_data_set_is_refused(tmp_path, change):
    data = table()
    pseudo, other = scored(data), OTHERS[change](data)
    pseudo.save(str(tmp_path))
    with pytest.raises(ValueError, match=r"belong to another data set: its fingerprint is \w{12}, that of.*Fit again"):
        pseudo.label(0.2, other)
    with pytest.raises(ValueError, match="belong to another data set"):
        PseudoAttributes.load(str(tmp_path), other)
    PseudoAttributes.load(str(tmp_path), table())


def test_one_row_fewer_is_refused():
    with pytest.raises(ValueError, match="scores of 88 rows, and the data set has 87"):
        scored(table()).label(0.2, table().select(range(87)))


@pytest.mark.parametrize("change", ["other order", "other labels"])
def test_another_map_style_data_set_is_refused(change):
    pseudo = scored(Rows(table()))
    pseudo.check_dataset(Rows(table()))
    with pytest.raises(ValueError, match="belong to another data set"):
        pseudo.check_dataset(Rows(OTHERS[change](table())))


# ---- files --------------------------------------------------------------------------------------------------------


def test_save_and_load_are_bit_equal(tmp_path):
    data = table()
    pseudo = scored(data, levels=10**6)
    pseudo.scores[:3] = [np.float32(1e-38), np.nextafter(np.float32(1), np.float32(0)), 0.0]
    pseudo.save(str(tmp_path))
    again = PseudoAttributes.load(str(tmp_path), data)
    assert again.scores.dtype == np.float32 and again.scores.tobytes() == pseudo.scores.tobytes()
    assert np.array_equal(again.predictions, pseudo.predictions) and np.array_equal(again.labels, pseudo.labels)
    assert (again.label_names, again.fingerprint, again.record) == (
        pseudo.label_names,
        pseudo.fingerprint,
        pseudo.record,
    )
    assert again.directory == pseudo.directory == str(tmp_path)
    assert np.array_equal(again.index(0.3).codes, pseudo.index(0.3).codes)
    assert again.label(0.3)["pseudo_attribute"][:] == pseudo.label(0.3, data)["pseudo_attribute"][:]
    assert not [name for name in os.listdir(tmp_path) if "partial" in name]


def test_a_half_written_folder_is_no_complete_fit(tmp_path):
    scored(table()).save(str(tmp_path))
    (tmp_path / "pseudo_attributes.json").rename(tmp_path / "pseudo_attributes.json.partial")
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(FileNotFoundError, match="holds no complete fit: there is no pseudo_attributes.json"):
            PseudoAttributes.load(str(folder))
