"""No columns, plans or samplers make a wrong distribution silently: a right one, or an error with a message."""

import collections
import math

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gerne_hf import BatchPlan, GroupIndex, GroupSampler
from gerne_hf.groups.proportions import uniform_target
from gerne_hf.method.plans import PLANS

fuzz = settings(derandomize=True, deadline=None, max_examples=120, database=None)

odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 4),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=3),
    st.sampled_from(["1", "True", "nan", "None", "", " ", "\0", "a\0", b"a", (1,), [1], {"a": 1}, 1j, np.nan]),
)
columns = st.one_of(
    st.lists(odd, max_size=8),
    st.lists(st.integers(0, 3), max_size=8),
    st.lists(st.booleans(), max_size=8),
    st.lists(st.sampled_from(["a", "b", "a ", "A", "\0"]), max_size=8),
    st.lists(st.one_of(st.integers(0, 2), st.none()), max_size=8),
)


def assert_right(index: GroupIndex, labels: list, attributes: list) -> None:
    """Rows are in one group exactly if their label and their attribute are the same, of the names that they have."""
    assert len(index) == len(labels) and index.counts.sum() == len(labels)
    of_rows = collections.defaultdict(set)
    for row, pair in enumerate(zip(labels, attributes, strict=True)):
        of_rows[tuple((type(value), value) for value in pair)].add(row)
    groups = collections.defaultdict(set)
    for group in range(index.counts.size):
        y, a = divmod(group, index.num_attributes)
        rows = index.rows(y, a).tolist()
        assert rows == sorted(rows) and len(rows) == index.counts[y, a]
        if rows:
            groups[group] = set(rows)
            assert {(str(labels[row]), str(attributes[row])) for row in rows} == {
                (index.label_names[y], index.attribute_names[a])
            }
    assert sorted(map(sorted, groups.values())) == sorted(map(sorted, of_rows.values()))


@fuzz
@given(st.data())
def test_any_columns(data):
    labels = data.draw(columns)
    attributes = data.draw(columns)
    attributes = (attributes * len(labels))[: len(labels)] if attributes else attributes
    try:
        index = GroupIndex.from_arrays(labels, attributes)
    except (TypeError, ValueError) as error:
        assert "label" in str(error) or "attribute" in str(error), f"{labels}, {attributes}: {error!r}"
        return
    assert_right(index, labels, attributes)


@fuzz
@given(st.data())
def test_any_data_set(data):
    labels = data.draw(columns)
    attributes = data.draw(st.lists(odd, min_size=len(labels), max_size=len(labels)))
    try:
        table = datasets.Dataset.from_dict({"label": labels, "place": attributes})
    except Exception:  # no data set can hold such a column
        return
    try:
        index = GroupIndex.from_dataset(table, "label", "place")
    except (TypeError, ValueError) as error:
        assert "'label'" in str(error) or "'place'" in str(error), f"{labels}, {attributes}: {error!r}"
        return
    assert_right(index, table["label"][:], table["place"][:])


def test_numbers_and_texts_that_look_alike_are_not_mixed():
    for values in ([1, "1"], ["1", 1], [True, 1], [True, "True"], [b"a", "a"]):
        with pytest.raises((TypeError, ValueError), match="'attributes'"):
            GroupIndex.from_arrays([0] * len(values), values)


def test_columns_of_too_many_groups():
    many = np.arange(3000)
    data = datasets.Dataset.from_dict({"label": [0] * 3000, "id": many, "other": many})
    with pytest.raises(ValueError, match="9,000,000 groups.*3,000, 3,000 values"):
        GroupIndex.from_dataset(data, "label", ["id", "other"])


wild_number = st.one_of(
    st.floats(), st.floats(-2, 3), st.integers(-3, 12), st.sampled_from([None, True, "0.5", math.nan, 1j, [0.5]])
)


@fuzz
@given(st.data())
def test_any_plan(data):
    shape = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    counts = np.array(data.draw(st.lists(st.integers(0, 9), min_size=12, max_size=12)))[: shape[0] * shape[1]]
    counts = counts.reshape(shape)
    if (counts.sum(axis=1) == 0).any():
        return
    alpha, target = counts / counts.sum(axis=1, keepdims=True), uniform_target(counts)
    name, rows, c, beta = data.draw(st.tuples(st.sampled_from(PLANS), wild_number, wild_number, wild_number))
    try:
        plan = BatchPlan.build(name, rows, alpha, c, beta, target=target)
    except (TypeError, ValueError) as error:
        assert any(word in str(error) for word in ("rows", "c,", "beta", "plan")), repr(error)
        return
    assert plan.rows == rows and all(type(segment.rows) is int and segment.rows > 0 for segment in plan.segments)
    for segment in plan.segments:
        drawn = segment.distribution
        assert (drawn >= 0).all() and abs(drawn.sum() - 1) < 1e-9 and (drawn[counts == 0] == 0).all()
        assert np.allclose(drawn.sum(axis=1), 1 / len(counts), atol=1e-9) or name == "shared"
    expected = {"erm": alpha, "resampling": target}.get(name, alpha + c * (beta + 1) * (target - alpha))
    tolerance = 1e-9 * (1 + abs(beta))
    assert np.allclose(plan.expected_weights(), expected / len(counts), rtol=1e-6, atol=tolerance)


ALPHA = np.array([[0.9, 0.1], [0.2, 0.8]])


@pytest.mark.parametrize("rows", [0, -4, 7.5, 8.0, "8", None, True, math.nan])
def test_rows_that_are_no_number_of_rows(rows):
    for name in PLANS:
        with pytest.raises(ValueError, match="rows"):
            BatchPlan.build(name, rows, ALPHA)


@pytest.mark.parametrize(
    "target", [[[0.5, 0.6], [0.5, 0.5]], [[1.5, -0.5], [0.5, 0.5]], [[math.nan, 1], [0.5, 0.5]], [[1, 1], [1, 1]]]
)
def test_targets_that_are_no_distributions(target):
    for name in PLANS:
        with pytest.raises(ValueError, match="target"):
            BatchPlan.build(name, 8, ALPHA, target=np.array(target, float))


@pytest.mark.parametrize("classes", [[0.5, 0.6], [1.5, -0.5], [math.nan, 1], [1.0], [0.5, 0.25, 0.25], [[0.5], [0.5]]])
def test_class_probabilities_that_are_none(classes):
    for name in PLANS:
        with pytest.raises(ValueError, match="class_probabilities"):
            BatchPlan.build(name, 8, ALPHA, class_probabilities=np.array(classes))


@pytest.mark.parametrize("drawn", [[[0.5, 0.6]], [[1.5, -0.5]], [[math.nan, 1]], [0.5, 0.5], [[0, 0]]])
def test_single_streams_of_no_distribution(drawn):
    with pytest.raises(ValueError, match="distribution"):
        BatchPlan.single("stream", 8, np.array(drawn))


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (1, 2), (2, 1)])
def test_a_plan_of_other_groups(shape):
    groups = GroupIndex.from_arrays([0, 0, 1, 1], ["sea", "land", "sea", "land"])
    plan = BatchPlan.single("stream", 8, np.full(shape, 1 / np.prod(shape)))
    with pytest.raises(ValueError, match=rf"\({shape[0]}, {shape[1]}\).*\(2, 2\)"):
        GroupSampler(groups, plan)


@pytest.mark.parametrize("settings", [{"num_rows": -1}, {"num_rows": 2.5}, {"batch_multiple": 0}, {"seed": -1}])
def test_lengths_and_seeds_that_are_none(settings):
    groups = GroupIndex.from_arrays([0, 0, 1, 1], ["sea", "land", "sea", "land"])
    with pytest.raises(ValueError, match=next(iter(settings))):
        GroupSampler(groups, BatchPlan.build("erm", 4, groups.alpha), **settings)
