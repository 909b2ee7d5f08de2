"""`group_metrics` over groups that overlap, against plain counts and against groups that do not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gerne_hf import GroupIndex, group_metrics
from gerne_hf.evaluation.metrics import flatten_group_metrics, group_counts


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_against_a_plain_count(seed):
    rng = np.random.default_rng(seed)
    rows, classes = int(rng.integers(5, 60)), int(rng.integers(2, 4))
    labels, predicted = rng.integers(0, classes, rows), rng.integers(0, classes, rows)
    members = rng.random((rows, 3)) < rng.uniform(0.05, 0.9)
    members[0, 0] = True
    result = group_metrics(predicted, labels, members, attribute_names=["a", "b", "c"])
    accuracies = {}
    for group in result["groups"]:
        k = "abc".index(group["attribute"])
        hits = [predicted[i] == labels[i] for i in range(rows) if members[i, k] and str(labels[i]) == group["label"]]
        assert group["count"] == len(hits)
        if hits:
            assert group["accuracy"] == pytest.approx(np.mean(hits))
            assert group["ci_low"] <= group["accuracy"] <= group["ci_high"]
            accuracies[f"({group['label']}, {group['attribute']})"] = np.mean(hits)
        else:
            assert group["accuracy"] is None
    assert len(result["groups"]) == 3 * (labels.max() + 1)
    assert result["worst_group_accuracy"] == pytest.approx(min(accuracies.values()))
    assert accuracies[result["worst_group"]] == pytest.approx(result["worst_group_accuracy"])
    assert result["group_balanced_accuracy"] == pytest.approx(np.mean(list(accuracies.values())))
    assert result["accuracy"] == pytest.approx(np.mean(predicted == labels))
    by_class = [np.mean(predicted[labels == y] == y) for y in np.unique(labels)]
    assert result["worst_class_accuracy"] == pytest.approx(min(by_class))
    assert result["class_balanced_accuracy"] == pytest.approx(np.mean(by_class))
    assert flatten_group_metrics(result)["worst_group_accuracy"] == result["worst_group_accuracy"]


def test_groups_that_do_not_overlap_give_what_attribute_ids_give():
    rng = np.random.default_rng(0)
    labels, predicted, attributes = rng.integers(0, 2, (3, 200))
    names = {"label_names": ["calm", "rude"], "attribute_names": ["a", "b"]}
    members = attributes[:, None] == np.arange(2)
    assert group_metrics(predicted, labels, members, **names) == group_metrics(predicted, labels, attributes, **names)


def test_scores_and_training_counts():
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    members = [[True, True], [True, False], [False, False]]
    result = group_metrics(scores, [0, 1, 1], members, np.array([[5, 6], [7, 8]]), attribute_names=["a", "b"])
    assert [group["train_count"] for group in result["groups"]] == [5, 6, 7, 8]
    assert [group["count"] for group in result["groups"]] == [1, 1, 1, 0]
    assert result["worst_group_accuracy"] == 1.0 and result["accuracy"] == pytest.approx(2 / 3)
    assert "adjusted_accuracy" not in result  # shares of overlapping groups don't add up


def test_a_class_that_only_training_has():
    """K is the largest of what names, training counts and references say; A is the number of columns."""
    result = group_metrics([0], [0], np.array([[True, False]]), np.array([[1, 2], [3, 4], [5, 6]]))
    assert [(group["label"], group["attribute"]) for group in result["groups"][-2:]] == [("2", "0"), ("2", "1")]
    assert [group["train_count"] for group in result["groups"]] == [1, 2, 3, 4, 5, 6]


def test_one_attribute_that_some_rows_have():
    result = group_metrics([0, 1, 1], [0, 0, 1], np.array([[True], [False], [True]]))
    assert [group["count"] for group in result["groups"]] == [1, 1] and result["worst_group_accuracy"] == 1.0
    assert result["accuracy"] == pytest.approx(2 / 3)


def test_training_counts_of_both_kinds():
    rng = np.random.default_rng(1)
    labels, members = rng.integers(0, 3, 80), rng.random((80, 4)) < 0.4
    counts = group_counts(labels, members, 3, 4)
    expected = [[sum(members[i, k] for i in range(80) if labels[i] == y) for k in range(4)] for y in range(3)]
    assert counts.tolist() == expected and counts.dtype == np.int64
    attributes = np.arange(80) % 4
    index = GroupIndex.from_arrays(labels, attributes)
    assert group_counts(labels.astype(np.uint8), attributes, 3, 4).tolist() == index.counts.tolist()


@pytest.mark.parametrize(
    "attributes, more, message",
    [
        (np.ones((3, 2)), {}, r"attributes of shape \(3, 2\) must be booleans.*found float64.*one attribute id a row"),
        (np.ones((3, 2), dtype=int), {}, "must be booleans, a row of data by an attribute; found int64"),
        (np.ones((3, 0), dtype=bool), {}, r"attributes of shape \(3, 0\)"),
        (np.ones((2, 2), dtype=bool), {}, "one entry a row; found .*'attributes': 2"),
        (np.ones((3, 2, 1), dtype=bool), {}, r"one integer a row; found shape \(3, 2, 1\) of bool"),
        (np.zeros((3, 2), dtype=bool), {}, "no row has any of the 2 attributes"),
        (np.ones((3, 2), dtype=bool), {"attribute_names": ["a"]}, "has 1 names, and .* has 2 columns"),
        (np.ones((3, 2), dtype=bool), {"attribute_names": list("abc")}, "has 3 names, and .* has 2 columns"),
        (
            np.ones((3, 2), dtype=bool),
            {"train_group_counts": np.ones((2, 3))},
            r"must have the shape \(2, 2\); found \(2, 3\)",
        ),
        (np.ones((3, 2), dtype=bool), {"train_group_counts": [1, 2]}, r"shape \(2, 2\); found \(2,\)"),
    ],
)
def test_bad_arrays(attributes, more, message):
    with pytest.raises(ValueError, match=message):
        group_metrics([0, 1, 1], [0, 1, 1], attributes, **more)
