"""`GroupIndex` against brute force, over several attribute columns, with a reference, and what it refuses."""

import datasets
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gerne_hf import GroupIndex
from gerne_hf.groups import columns
from gerne_hf.groups import index as groups

property_test = settings(derandomize=True, deadline=None, max_examples=150)

LABELS = [1, 0, 1, 1, 0, 2, 1]
PLACES = ["sea", "land", "sea", "land", "land", "sea", "sea"]


def dataset(**extra) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"label": LABELS, "place": PLACES, **extra})


def assert_brute_force(index: GroupIndex, labels: list, attributes: list) -> None:
    """`labels` and `attributes` hold names."""
    shape = (index.num_classes, index.num_attributes)
    assert len(index) == len(labels) and index.counts.shape == index.alpha.shape == shape
    everything = []
    for i, label in enumerate(index.label_names):
        of_class = [row for row, value in enumerate(labels) if value == label]
        for j, attribute in enumerate(index.attribute_names):
            rows = [row for row in of_class if attributes[row] == attribute]
            assert index.rows(label, attribute).tolist() == index.rows(i, j).tolist() == rows
            assert index.counts[i, j] == len(rows)
            assert index.alpha[i, j] == pytest.approx(len(rows) / len(of_class), abs=1e-15)
            assert (index.codes[rows] == i * index.num_attributes + j).all()
            assert index.group_name(i * index.num_attributes + j) == f"({label}, {attribute})"
            everything += rows
        assert index.class_probabilities[i] == pytest.approx(len(of_class) / len(labels), abs=1e-15)
    assert sorted(everything) == sorted(index.order.tolist()) == list(range(len(labels)))


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=3)


@property_test
@given(st.lists(st.tuples(words, st.integers(-4, 4)), min_size=1, max_size=40))
def test_arrays_against_brute_force(pairs):
    labels, attributes = map(list, zip(*pairs, strict=True))
    index = GroupIndex.from_arrays(np.array(labels, dtype=object), attributes)
    assert list(index.label_names) == sorted(set(labels))
    assert list(index.attribute_names) == [str(value) for value in sorted(set(attributes))]
    assert_brute_force(index, labels, [str(value) for value in attributes])


@property_test
@given(st.lists(st.tuples(st.booleans(), words, st.integers(0, 3)), min_size=1, max_size=40))
def test_two_attribute_columns_against_brute_force(rows):
    labels, first, second = map(list, zip(*rows, strict=True))
    data = datasets.Dataset.from_dict({"label": labels, "first": first, "second": second})
    index = GroupIndex.from_dataset(data, attribute_column=["first", "second"])
    assert index.attribute_values == (tuple(sorted(set(first))), tuple(str(v) for v in sorted(set(second))))
    expected = [f"{a} & {b}" for a in sorted(set(first)) for b in sorted(set(second))]
    assert list(index.attribute_names) == expected
    joined = [f"{a} & {b}" for a, b in zip(first, second, strict=True)]
    assert_brute_force(index, [str(value) for value in labels], joined)


def test_three_attribute_columns():
    data = dataset(night=[True, False, True, True, False, False, True], lens=[35, 50, 50, 35, 35, 50, 50])
    index = GroupIndex.from_dataset(data, attribute_column=["place", "night", "lens"])
    assert index.num_attributes == 8
    assert index.attribute_names[0] == "land & False & 35" and index.attribute_names[-1] == "sea & True & 50"
    names = [f"{p} & {n} & {f}" for p, n, f in zip(PLACES, data["night"], data["lens"], strict=True)]
    assert_brute_force(index, [str(label) for label in LABELS], names)


def test_many_rows_over_several_chunks(monkeypatch):
    monkeypatch.setattr(columns, "_CHUNK_ROWS", 97)
    monkeypatch.setattr(groups, "_SORT_CHUNK", 61)
    rng = np.random.default_rng(0)
    labels, attributes = rng.integers(0, 6, 1000), rng.integers(0, 50, 1000).astype(str)
    for index in (
        GroupIndex.from_arrays(labels, attributes),
        GroupIndex.from_dataset({"label": labels, "a": attributes}, attribute_column="a"),
        GroupIndex.from_dataset(datasets.Dataset.from_dict({"label": labels, "a": attributes}), attribute_column="a"),
    ):
        assert_brute_force(index, labels.astype(str).tolist(), attributes.tolist())


@pytest.mark.parametrize("convert", [lambda d: d, lambda d: d.to_pandas(), lambda d: d.to_dict()])
def test_all_kinds_of_data_sets_agree(convert):
    index = GroupIndex.from_dataset(convert(dataset()), "label", "place")
    assert index.label_names == ("0", "1", "2") and index.attribute_names == ("land", "sea")
    assert index.counts.tolist() == [[2, 0], [1, 3], [0, 1]]
    assert_brute_force(index, [str(label) for label in LABELS], PLACES)


@pytest.mark.parametrize("column", ["label", "labels", "label_ids"])
def test_default_label_columns(column):
    data = datasets.Dataset.from_dict({"id": [7] * 7, column: LABELS, "place": PLACES})
    index = GroupIndex.from_dataset(data, attribute_column="place")
    assert index.counts.tolist() == [[2, 0], [1, 3], [0, 1]]


def test_label_is_preferred_to_labels():
    index = GroupIndex.from_dataset(dataset(labels=["x"] * 7), attribute_column="place")
    assert index.label_names == ("0", "1", "2")


def test_no_attribute_is_one_attribute():
    for index in (GroupIndex.from_dataset(dataset()), GroupIndex.from_arrays(LABELS)):
        assert index.attribute_names == ("all",) and index.attribute_values == ()
        assert index.counts.tolist() == [[2], [4], [1]]
        assert index.rows(2, "all").tolist() == [5]


def test_smallest_types():
    def types(num_rows, num_labels, num_attributes):
        rows = np.arange(num_rows)
        index = GroupIndex.from_arrays(rows % num_labels, rows // num_labels % num_attributes)
        assert index.counts.shape == (num_labels, num_attributes)
        return index.codes.dtype, index.order.dtype

    assert types(256, 2, 128) == (np.uint8, np.uint8)
    assert types(257, 2, 128) == (np.uint8, np.uint16)
    assert types(258, 2, 129) == (np.uint16, np.uint16)
    assert types(65_536, 256, 256) == (np.uint16, np.uint16)
    assert types(65_537, 256, 256) == (np.uint16, np.uint32)
    assert types(66_000, 257, 256) == (np.uint32, np.uint32)


def test_one_class_with_256_attributes():
    index = GroupIndex.from_arrays([0] * 300, np.arange(300) % 256)
    assert index.counts.shape == (1, 256) and index.counts.sum() == 300
    assert index.codes.tolist() == (np.arange(300) % 256).tolist()


def test_names_and_ids_that_do_not_exist():
    index = GroupIndex.from_dataset(dataset(), attribute_column="place")
    with pytest.raises(KeyError, match="no attribute 'forest'; there are land, sea"):
        index.rows(0, "forest")
    with pytest.raises(KeyError, match="no label '7'; there are 0, 1, 2"):
        index.rows("7", "sea")
    with pytest.raises(IndexError, match="label 3 is out of range: there are 3"):
        index.rows(3, 0)
    with pytest.raises(IndexError, match="attribute -1 is out of range: there are 2"):
        index.rows(0, -1)


def test_repr_shows_the_smallest_group():
    index = GroupIndex.from_arrays([0] * 1500 + [1] * 20, [0] * 1400 + [1] * 100 + [0] * 8 + [1] * 12)
    assert repr(index) == "GroupIndex(1,520 rows, 2 classes x 2 attributes, smallest group 8)"


# ---- a reference index ----------------------------------------------------------------------------------------------


def test_a_reference_keeps_ids_and_new_values_follow():
    train = GroupIndex.from_dataset({"label": ["dog", "cat"], "place": ["sea", "land"]}, "label", "place")
    new = {"label": ["dog", "ape", "dog", "cat"], "place": ["bog", "sea", "sea", "air"]}
    index = GroupIndex.from_dataset(new, "label", "place", reference=train)
    assert train.label_names == ("cat", "dog") and train.attribute_names == ("land", "sea")
    assert index.label_names == ("cat", "dog", "ape") and index.attribute_names == ("land", "sea", "air", "bog")
    assert_brute_force_counts(index, new["label"], new["place"])


def test_a_reference_keeps_values_that_are_missing():
    train = GroupIndex.from_dataset(dataset(), attribute_column="place")
    index = GroupIndex.from_dataset({"label": [0, 1], "place": ["sea", "sea"]}, "label", "place", reference=train)
    assert index.label_names == train.label_names and index.attribute_names == train.attribute_names
    assert index.counts.tolist() == [[0, 1], [0, 1], [0, 0]]
    assert index.codes.tolist() == [1, 3]


def test_a_reference_with_two_attribute_columns():
    train = GroupIndex.from_dataset(dataset(lens=[35, 50] * 3 + [35]), attribute_column=["place", "lens"])
    new = {"label": [2, 0], "place": ["sea", "bog"], "lens": [85, 35]}
    index = GroupIndex.from_dataset(new, attribute_column=["place", "lens"], reference=train)
    assert index.attribute_values == (("land", "sea", "bog"), ("35", "50", "85"))
    assert index.codes.tolist() == [2 * 9 + 1 * 3 + 2, 0 * 9 + 2 * 3 + 0]
    with pytest.raises(ValueError, match="the reference index has 2 attribute columns, this one 1"):
        GroupIndex.from_dataset(new, attribute_column="place", reference=train)


def assert_brute_force_counts(index, labels, places):
    for label in index.label_names:
        for place in index.attribute_names:
            rows = [i for i, pair in enumerate(zip(labels, places, strict=True)) if pair == (label, place)]
            assert index.rows(label, place).tolist() == rows


def with_classes(names: list[str], ids: list[int]) -> datasets.Dataset:
    features = datasets.Features({"label": datasets.ClassLabel(names=names)})
    return datasets.Dataset.from_dict({"label": ids}, features=features)


def test_a_reference_and_class_ids():
    train = GroupIndex.from_dataset(with_classes(["cat", "dog"], [0, 1]))
    same = GroupIndex.from_dataset({"label": [1, 1, 0]}, reference=train)
    assert same.label_names == ("cat", "dog") and same.codes.tolist() == [1, 1, 0]
    more = GroupIndex.from_dataset(with_classes(["cat", "dog", "ape"], [2, 0]), reference=train)
    assert more.label_names == ("cat", "dog", "ape") and more.codes.tolist() == [2, 0]
    plain = GroupIndex.from_dataset({"label": [0, 1]})
    assert GroupIndex.from_dataset(with_classes(["cat", "dog"], [1]), reference=plain).codes.tolist() == [1]


def test_contradictory_class_names_are_refused():
    train = GroupIndex.from_dataset(with_classes(["cat", "dog"], [0, 1]))
    with pytest.raises(
        ValueError, match="label column 'label' calls class 0 'dog', and the training set calls it 'cat'"
    ):
        GroupIndex.from_dataset(with_classes(["dog", "cat"], [0, 1]), reference=train)


# ---- what cannot be trained on --------------------------------------------------------------------------------------


def test_a_gap_in_the_class_ids_is_refused():
    index = GroupIndex.from_arrays([0, 2, 2, 4], [0, 1, 0, 1])
    assert index.counts.shape == (5, 2)
    for needs_attributes in (True, False):
        with pytest.raises(ValueError, match="the classes 1, 3 have no training rows.*number the labels"):
            index.check_trainable("ignore", needs_attributes)


def test_many_gaps_in_the_class_ids_are_not_all_named():
    for gaps, named in ((10, "the classes 1, 2, .*, 10 have no"), (11, "the classes 1, 2, .*, 10 and 1 more have no")):
        with pytest.raises(ValueError, match=named):
            GroupIndex.from_arrays([0, gaps + 1], [0, 1]).check_trainable()


def test_an_unused_class_name_is_refused():
    index = GroupIndex.from_dataset(with_classes(["cat", "dog", "ape"], [0, 2]))
    with pytest.raises(ValueError, match="the classes dog have no training rows.*drop unused names"):
        index.check_trainable(needs_attributes=False)


def test_empty_groups():
    index = GroupIndex.from_dataset(dataset(), attribute_column="place")
    message = r"2 of 6 groups have no training rows: \(0, sea\), \(2, land\)\. .*empty_groups='ignore'"
    with pytest.raises(ValueError, match=message):
        index.check_trainable()
    index.check_trainable("ignore")
    index.check_trainable("error", needs_attributes=False)


def test_many_empty_groups_are_not_all_named():
    with pytest.raises(ValueError, match=r"12 of 16 groups .*\(3, 0\) and 2 more"):
        GroupIndex.from_arrays(range(4), range(4)).check_trainable()
    for values, message in ((11, r"10 of 22 groups .*\(1, 10\)\. Collect"), (12, r"11 of 24 .*\(1, 10\) and 1 more")):
        with pytest.raises(ValueError, match=message):
            GroupIndex.from_arrays([0] * values + [1], [*range(values), 0]).check_trainable()


def test_a_single_attribute_value_is_refused():
    index = GroupIndex.from_arrays([0, 1], ["sea", "sea"])
    with pytest.raises(ValueError, match="the attribute has the single value 'sea'.*or the plan 'erm'"):
        index.check_trainable()
    index.check_trainable(needs_attributes=False)


@pytest.mark.parametrize("empty", [{"label": [], "place": []}, pd.DataFrame({"label": [], "place": []}, dtype=int)])
def test_no_rows(empty):
    index = GroupIndex.from_dataset(empty, attribute_column="place")
    assert len(index) == 0
    assert "0 rows" in repr(index)
    with pytest.raises(ValueError, match="the training set has no rows"):
        index.check_trainable("ignore", needs_attributes=False)


def test_arrays_of_different_length_are_refused():
    with pytest.raises(ValueError, match="labels and attributes differ in length: 3 and 2"):
        GroupIndex.from_arrays([0, 1, 1], [0, 1])


@pytest.mark.parametrize("values", [[True, False, 1, 0], [1, 0, True], [0, 1, "a"], ["a", "b", 1]])
def test_kinds_that_change_from_chunk_to_chunk_are_refused(monkeypatch, values):
    """True equals 1 in Python: their rows would become one group."""
    monkeypatch.setattr(columns, "_CHUNK_ROWS", 2)
    for arrays, role in (((values,), "label"), (([0] * len(values), values), "attribute")):
        with pytest.raises(TypeError, match=f"{role} column '{role}s' holds values of several kinds .*one kind in a"):
            GroupIndex.from_arrays(*arrays)
