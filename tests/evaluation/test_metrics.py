"""Group metrics against brute force, Wilson's interval against known values, and what is refused."""

import math
from statistics import NormalDist, mean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gerne_hf import group_metrics
from gerne_hf.evaluation.metrics import SUMMARY_METRICS, flatten_group_metrics, wilson_interval

property_test = settings(derandomize=True, deadline=None, max_examples=200)
NUM_CLASSES, NUM_ATTRIBUTES = 3, 4

rows = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 3)),  # prediction, reference, attribute
    min_size=1,
    max_size=60,
)
train_counts = st.lists(st.integers(0, 50), min_size=12, max_size=12).map(lambda flat: np.array(flat).reshape(3, 4))


def columns_of(data):
    return tuple(np.array(column) for column in zip(*data, strict=True))


def accuracy_of(data) -> float:
    return sum(prediction == reference for prediction, reference, _ in data) / len(data)


@property_test
@given(rows, train_counts)
def test_against_brute_force(data, train):
    result = group_metrics(*columns_of(data), train_group_counts=train)
    groups, weights = {}, {}
    for label in range(NUM_CLASSES):
        for attribute in range(NUM_ATTRIBUTES):
            members = [row for row in data if row[1:] == (label, attribute)]
            if members:
                groups[label, attribute] = accuracy_of(members)
                weights[label, attribute] = train[label, attribute]
            entry = result["groups"][label * NUM_ATTRIBUTES + attribute]
            assert (entry["label"], entry["attribute"]) == (str(label), str(attribute))
            assert entry["count"] == len(members) and entry["train_count"] == train[label, attribute]
            assert entry["accuracy"] == pytest.approx(groups.get((label, attribute)))
    assert len(result["groups"]) == NUM_CLASSES * NUM_ATTRIBUTES
    classes = [accuracy_of(members) for y in range(NUM_CLASSES) if (members := [row for row in data if row[1] == y])]
    expected = {
        "accuracy": accuracy_of(data),
        "group_balanced_accuracy": mean(groups.values()),
        "worst_group_accuracy": min(groups.values()),
        "class_balanced_accuracy": mean(classes),
        "worst_class_accuracy": min(classes),
    }
    if sum(weights.values()):
        total = sum(weights.values())
        expected["adjusted_accuracy"] = sum(groups[g] * weights[g] for g in groups) / total
    for name in SUMMARY_METRICS:
        assert (name in result) == (name in expected)
        if name in expected:
            assert type(result[name]) is float and result[name] == pytest.approx(expected[name], abs=1e-12)
    label, attribute = result["worst_group"].strip("()").split(", ")
    assert groups[int(label), int(attribute)] == min(groups.values())


@property_test
@given(rows)
def test_without_training_counts_or_names(data):
    result = group_metrics(*columns_of(data))
    assert "adjusted_accuracy" not in result
    assert "train_count" not in result["groups"][0]
    shape = (max(row[1] for row in data) + 1, max(row[2] for row in data) + 1)
    assert len(result["groups"]) == math.prod(shape)
    assert result["accuracy"] == pytest.approx(accuracy_of(data))


@property_test
@given(rows, st.integers(0, 5))
def test_scores_are_predictions_by_their_largest(data, seed):
    predictions, references, attributes = columns_of(data)
    scores = np.random.default_rng(seed).random((len(data), 3))
    scores[np.arange(len(data)), predictions] += 1
    assert group_metrics(scores, references, attributes) == group_metrics(predictions, references, attributes)


# ---- Wilson's interval ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("correct", "count", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (1, 1, 0.2065, 1.0),
        (50, 100, 0.4038, 0.5962),
        (81, 263, 0.2553, 0.3662),  # Newcombe (1998), table I
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_has_known_values(correct, count, low, high):
    assert wilson_interval(correct, count) == pytest.approx((low, high), abs=5e-5)


@property_test
@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_solves_its_equation(case):
    """Its ends are the proportions p that lie z standard errors, sqrt(p (1 - p) / n), from the share found."""
    correct, count = case
    share, z = correct / count, NormalDist().inv_cdf(0.975)
    low, high = wilson_interval(correct, count)
    assert 0 <= low <= share <= high <= 1
    for end in (low, high):
        assert (share - end) ** 2 == pytest.approx(z * z * end * (1 - end) / count, abs=1e-12)
    assert high - low > 0


def test_wilson_interval_without_trials():
    assert wilson_interval(0, 0) == (None, None)


def test_intervals_of_groups():
    references = [0] * 10 + [1] * 10
    attributes = [1] * 10 + [0] * 10
    predictions = [0] * 8 + [1] * 2 + [0] * 10
    groups = group_metrics(predictions, references, attributes)["groups"]
    assert (groups[1]["ci_low"], groups[1]["ci_high"]) == pytest.approx((0.4902, 0.9433), abs=5e-5)
    assert (groups[2]["ci_low"], groups[2]["ci_high"]) == pytest.approx((0.0, 0.2775), abs=5e-5)


# ---- empty groups, names, weights -----------------------------------------------------------------------------------


def test_empty_groups_are_in_no_summary():
    result = group_metrics([0, 1, 0, 1], [0, 1, 1, 1], [0, 1, 1, 1])
    assert [group["count"] for group in result["groups"]] == [1, 0, 0, 3]
    for group in (result["groups"][1], result["groups"][2]):
        assert group["accuracy"] is group["ci_low"] is group["ci_high"] is None
    assert result["group_balanced_accuracy"] == pytest.approx((1 + 2 / 3) / 2)
    assert result["worst_group_accuracy"] == pytest.approx(2 / 3) and result["worst_group"] == "(1, 1)"


def test_adjusted_accuracy_weights_groups_by_their_training_rows():
    predictions, references, attributes = [0, 1, 1, 0], [0, 0, 1, 1], [0, 1, 0, 1]
    train = np.array([[3498, 184], [56, 1057]])
    result = group_metrics(predictions, references, attributes, train)
    assert result["adjusted_accuracy"] == pytest.approx((3498 + 56) / train.sum())
    assert result["accuracy"] == 0.5
    # The group (1, 1) has no rows here: its 1057 training rows are left out.
    result = group_metrics(predictions[:3], references[:3], attributes[:3], train)
    assert result["adjusted_accuracy"] == pytest.approx((3498 + 56) / (3498 + 184 + 56))


def test_groups_that_training_lacks_are_reported_with_no_weight():
    result = group_metrics([0, 1, 2], [0, 1, 2], [0, 1, 2], train_group_counts=[[5, 5], [5, 5]])
    assert len(result["groups"]) == 9
    assert [group["train_count"] for group in result["groups"]] == [5, 5, 0, 5, 5, 0, 0, 0, 0]
    assert result["groups"][8]["count"] == 1 and result["adjusted_accuracy"] == 1.0
    assert "adjusted_accuracy" not in group_metrics([2], [2], [2], train_group_counts=[[5, 5], [5, 5]])


def test_names():
    names = {"label_names": ["land bird", "water bird", "other"], "attribute_names": ["land", "water"]}
    result = group_metrics([0, 0, 1], [0, 1, 1], [0, 0, 1], **names)
    assert result["worst_group"] == "(water bird, land)"
    assert len(result["groups"]) == 6
    assert [group["label"] for group in result["groups"]] == [n for n in names["label_names"] for _ in range(2)]


def test_booleans_and_all_kinds_of_integers():
    as_bool = group_metrics(np.array([True, False]), np.array([True, True]), np.array([False, True]))
    for kind in (np.int8, np.uint8, np.uint64):
        assert group_metrics(*(np.array(x, dtype=kind) for x in ([1, 0], [1, 1], [0, 1]))) == as_bool
    wide = group_metrics(np.zeros(300, np.uint8), np.zeros(300, np.uint8), (np.arange(300) % 200).astype(np.uint8))
    assert len(wide["groups"]) == 200 and wide["groups"][199]["count"] == 1


def test_negative_predictions_are_wrong_but_allowed():
    assert group_metrics([-1, 0], [0, 0], [0, 0])["accuracy"] == 0.5


# ---- flat figures ---------------------------------------------------------------------------------------------------


def test_flattened_figures():
    result = group_metrics([0, 1, 1], [0, 0, 1], [0, 0, 1], np.array([[2, 2], [2, 2]]), ["cat", "dog"], ["in", "out"])
    flat = flatten_group_metrics(result)
    assert list(flat)[: len(SUMMARY_METRICS)] == list(SUMMARY_METRICS)
    assert {name: flat[name] for name in SUMMARY_METRICS} == {name: result[name] for name in SUMMARY_METRICS}
    assert flat["group_accuracy/cat|in"] == 0.5 and flat["group_count/cat|in"] == 2
    assert (flat["group_ci_low/dog|out"], flat["group_ci_high/dog|out"]) == wilson_interval(1, 1)
    assert len(flat) == len(SUMMARY_METRICS) + 2 * 4  # empty groups are left out
    assert all(isinstance(value, int | float) for value in flat.values())


def test_flattened_without_training_counts():
    flat = flatten_group_metrics(group_metrics([0], [0], [0]))
    assert "adjusted_accuracy" not in flat and flat["worst_group_accuracy"] == 1.0


# ---- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], [0], [0]), r"one entry a row; found .*'predictions': 2, 'references': 1, 'attributes': 1"),
        (([0], [0], [0, 1]), r"'attributes': 2"),
        (([], [], []), "there are no rows"),
        (([0.5], [0], [0]), "predictions must be one integer a row; found .*float64"),
        (([0], [0.0], [0]), "references must be one integer a row"),
        (([0], [0], np.array(["2026-01-01"], "datetime64[D]")), "attributes must be one integer a row.*GroupIndex"),
        (([0], [[0, 1]], [0]), r"references must be one integer a row; found shape \(1, 2\)"),
        ((np.zeros((2, 2, 2)), [0, 0], [0, 0]), r"predictions must be one integer a row; found shape \(2, 2, 2\)"),
        (([0, 0], [0, -1], [0, 0]), "references must not be negative; found -1"),
        (([0, 0], [0, 0], [-3, 0]), "attributes must not be negative; found -3"),
        (([0], [0], [0], [5, 4]), r"train_group_counts must have the shape \(K, A\); found \(2,\)"),
        (([0], [0], [0], [[5, -4]]), "train_group_counts must be numbers of rows, whole and not negative; found -4"),
        (([0], [0], [0], [[0.9, 0.1]]), "whole and not negative; found 0.9"),
        (([0], [0], [0], np.zeros((1, 2, 3))), r"must have the shape \(K, A\); found \(1, 2, 3\)"),
        (([0], [2], [0], None, ["a", "b"]), "label_names has 2 names, and 3 are needed"),
        (([0], [0], [1], None, None, ["a"]), "attribute_names has 1 names, and 2 are needed"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        group_metrics(*arguments)
