"""`infer_groups`: every rule on planted minorities, every reason for leaving a class whole, and what is refused."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import BALANCED, BIASED, NAMES, planted
from pseudo_scores import by_sorting

from gerne_hf.method.pseudo_groups import EASY, HARD, RULES
from gerne_hf.pseudo_attributes import ScoredEvaluation, ScoredRows, infer_groups

ONE_SIDED = [[200, 200], [20, 380]]
"""Only class "dog" has a minority."""


def precision_and_recall(found, minority):
    hits = (found & minority).sum()
    return hits / max(found.sum(), 1), hits / minority.sum()


def infer(rule, rows, evaluation, held_out=None, threshold=None):
    given = dict(attributes=held_out, attribute_names=("a", "b")) if rule == "validation_attributes" else {}
    return infer_groups(rows, NAMES, rule, evaluation=evaluation, threshold=threshold, **given)


# ---- what each rule finds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule, precision, recall",
    [
        ("validation_shift", 0.9, 0.8),
        ("validation_attributes", 0.9, 0.8),
        ("confident_mistakes", 0.99, 0.7),
        ("mistakes", 0.99, 0.7),
        ("threshold", 0.7, 0.7),
    ],
)
def test_a_planted_minority_is_found(rule, precision, recall):
    rows, evaluation, attributes, held_out = planted()
    threshold = 0.05 if rule == "threshold" else None
    found = infer(rule, rows, evaluation, held_out, threshold)
    minority = attributes != rows.labels
    of_hard = precision_and_recall(found.hard, minority)
    assert of_hard[0] >= precision and of_hard[1] >= recall
    assert found.rule == rule and not found.whole
    for split in found.classes:
        assert split.rows == 400 and 5 <= split.hard <= 30 and "left whole" not in split.reason
    if rule != "validation_attributes":  # there the attributes of the validation rows are given
        codes = found.evaluation.codes
        assert precision_and_recall(codes % 2 == HARD, held_out != evaluation.labels)[0] >= 0.9
        assert np.array_equal(codes // 2, evaluation.labels)


@pytest.mark.parametrize("rule", ["validation_shift", "validation_attributes", "confident_mistakes", "mistakes"])
def test_only_the_class_with_a_minority_is_split(rule):
    """Landbirds balanced, waterbirds not: the first class is left alone. One that goes by mistakes needs a validation
    set that has as many of its mistakes."""
    rows, evaluation, attributes, held_out = planted(ONE_SIDED)
    found = infer(rule, rows, evaluation, held_out)
    assert "left whole" in found.classes[0].reason or found.classes[0].hard > 150  # by attributes both halves are one
    assert found.classes[1].hard >= 10 and not found.whole
    if rule != "validation_attributes":
        assert found.classes[0].hard == 0 and not found.hard[rows.labels == 0].any()
        assert found.target[0, EASY] == 1
    minority = (attributes != rows.labels) & (rows.labels == 1)
    assert precision_and_recall(found.hard & (rows.labels == 1), minority)[0] >= 0.9


def test_without_heads_the_probabilities_are_the_features():
    """Where the model has no linear head there are no features; the minority is then found by its probabilities."""
    rows, evaluation, attributes, _ = planted()
    found = infer("validation_shift", replace(rows, features=None), replace(evaluation, features=None))
    assert precision_and_recall(found.hard, attributes != rows.labels)[0] >= 0.9


def test_the_threshold_is_the_papers():
    rows, evaluation, _, _ = planted()
    found = infer("threshold", rows, None, threshold=0.1)
    assert set(np.flatnonzero(found.hard)) == by_sorting(rows.scores, rows.labels, Fraction(1, 10))
    assert found.evaluation is None and found.target.tolist() == [[0.5, 0.5]] * 2
    assert infer("threshold", rows, evaluation, threshold=0.1).evaluation is not None


def test_a_threshold_by_class():
    rows, evaluation, _, _ = planted()
    found = infer("threshold", rows, evaluation, threshold={"dog": 0.25, "cat": None})
    assert [split.hard for split in found.classes] == [0, 100]
    assert found.classes[0].reason == "left whole as asked" and "t = 0.25" in found.classes[1].reason
    assert found.target.tolist() == [[0, 1], [0.5, 0.5]]
    assert found.evaluation.counts[0].tolist() == [0, 120]
    both = infer("threshold", rows, evaluation, threshold={"dog": None, "cat": None})
    assert both.whole and both.target.tolist() == [[0, 1], [0, 1]] and not both.hard.any()


# ---- classes left whole -------------------------------------------------------------------------------------------


def test_mistakes_that_validation_has_too_are_no_minority():
    """A tenth of each class is hard in itself, in training as in validation."""
    rows, evaluation, _, _ = planted([[360, 40], [40, 360]], [[180, 20], [20, 180]])
    for rule in ("mistakes", "confident_mistakes"):
        found = infer(rule, rows, evaluation)
        assert found.whole and not found.hard.any() and found.target.tolist() == [[0, 1], [0, 1]]
        for split in found.classes:
            assert "so nothing shows a minority that training has too little of" in split.reason
        alone = infer(rule, rows, None)
        assert not alone.whole
        assert all("without a validation set nothing shows" in split.reason for split in alone.classes)


@pytest.mark.parametrize("rule", ["mistakes", "confident_mistakes"])
def test_fewer_than_five_mistakes_are_left_alone(rule):
    rows, evaluation, _, _ = planted([[396, 4], [20, 380]], wrong=1.0)
    found = infer(rule, rows, evaluation)
    assert found.classes[0].reason == "left whole: 4 of 400 rows are hard, and 5 are needed"
    assert found.classes[1].hard == 20


@pytest.mark.parametrize("rule", ["mistakes", "confident_mistakes"])
@pytest.mark.parametrize("right", [0, 150])
def test_a_class_of_mistakes_is_left_alone(rule, right):
    """Most of its rows are no minority of it: the biased models have not learned this class."""
    rows, evaluation, _, _ = planted([[right, 400 - right], [20, 380]], wrong=1.0)
    found = infer(rule, rows, evaluation)
    assert found.classes[0].reason.endswith("of 400 rows are hard, so the biased models have not learned it")
    assert found.classes[0].reason.startswith("left whole: ") and not found.hard[rows.labels == 0].any()
    assert found.classes[1].hard == 20


def test_mistakes_are_confident_below_half_of_an_even_share():
    chances = np.array([[0.26, 0.74], [0.24, 0.76]] * 6 + [[0.9, 0.1]] * 20, dtype=np.float32)
    rows = ScoredRows(chances, np.zeros(32, dtype=int), np.zeros(32, dtype=int))
    assert infer_groups(rows, ["only"] + ["other"] * 0, "mistakes").classes[0].hard == 12
    labels = np.r_[np.zeros(32, dtype=int), np.ones(8, dtype=int)]
    rows = ScoredRows(np.r_[chances, np.full((8, 2), 0.5, np.float32)], labels, np.zeros(40, dtype=int))
    assert infer_groups(rows, NAMES, "confident_mistakes").classes[0].hard == 6  # below 1 / (2 K) = 0.25


def test_sets_that_are_alike_are_left_whole():
    rows, evaluation, _, _ = planted(BIASED, [[114, 6], [6, 114]])
    found = infer("validation_shift", rows, evaluation)
    assert found.whole and found.evaluation.counts[:, HARD].sum() == 0
    assert all("its training and validation rows are alike (AUC 0." in split.reason for split in found.classes)


def test_a_class_with_too_few_validation_rows_is_left_whole():
    rows, evaluation, _, _ = planted(BIASED, [[5, 4], [60, 60]])
    found = infer("validation_shift", rows, evaluation)
    assert "400 training and 9 validation rows are too few to compare, 10 of each" in found.classes[0].reason
    assert found.classes[1].hard >= 5
    rows, evaluation, _, _ = planted([[7, 1], [20, 380]], BALANCED)
    found = infer("validation_shift", rows, evaluation)
    assert "8 training and 120 validation rows are too few to compare" in found.classes[0].reason


def test_sets_that_differ_in_most_rows_are_left_whole():
    """What the validation set has more of is most of the class: that is no minority."""
    rows, evaluation, _, _ = planted([[380, 20], [140, 260]], [[60, 60], [4, 116]])
    found = infer("validation_shift", rows, evaluation)
    assert found.classes[0].hard >= 5 and found.classes[1].hard == 0
    assert "the sets differ" in found.classes[1].reason and "but not by a minority" in found.classes[1].reason


def test_attributes_that_cannot_be_predicted_leave_all_whole():
    rows, evaluation, _, held_out = planted()
    shuffled = np.random.default_rng(1).permutation(held_out)
    found = infer("validation_attributes", rows, evaluation, shuffled)
    assert found.whole and not found.hard.any() and not found.minority.any()
    assert all("left whole: only" in split.reason and "75 % are needed" in split.reason for split in found.classes)
    assert np.allclose(found.target, found.index.alpha)  # drawn as they occur


def test_fewer_than_five_rows_of_an_attribute_value_are_no_minority():
    """One row of a value must not get half of its class's mass."""
    rows, evaluation, attributes, held_out = planted([[398, 2], [20, 380]], [[900, 900], [900, 900]], gap=12.0)
    found = infer("validation_attributes", rows, evaluation, held_out)
    assert found.index.counts[0].tolist() == [398, 2]
    assert found.classes[0].hard == 0 and not found.hard[rows.labels == 0].any()
    assert "fewer than 5 rows have a value well below an even share" in found.classes[0].reason
    assert np.allclose(found.target, [[398 / 400, 2 / 400], [0.5, 0.5]])


def by_values(counts, gap=9.0):
    """Infer groups of a single class by attributes that are easy to predict, from rows of each value."""
    rng, size = np.random.default_rng(0), len(counts)
    attributes, held_out = np.repeat(np.arange(size), counts), np.repeat(np.arange(size), 40)
    labels = np.zeros(len(attributes), dtype=int)

    def features(values):
        return np.eye(size)[values] * gap + rng.normal(size=(len(values), size))

    rows = ScoredRows(np.ones((len(labels), 1), np.float32), labels, labels, features(attributes))
    scores = np.ones((1, len(held_out), 1), np.float32)
    evaluation = ScoredEvaluation(scores, held_out * 0, features(held_out)[None])
    names = tuple("abcdefghijklmnopqrstuvwxyz"[:size])
    return infer_groups(
        rows, ["x"], "validation_attributes", evaluation=evaluation, attributes=held_out, attribute_names=names
    )


def test_three_attribute_values_of_which_one_is_tiny():
    found = by_values([300, 30, 3])
    assert found.index.counts.tolist() == [[300, 30, 3]]
    assert found.classes[0].hard == 33 and found.minority.tolist() == [[0, 1, 1]]
    assert np.allclose(found.target, [[5 / 13, 5 / 13, 3 / 13]])


def test_many_tiny_attribute_values_are_a_minority_together():
    """As on Colored MNIST, where each class has two or three rows of each of nine colours."""
    found = by_values([500, *[3] * 5, *[2] * 4])
    (counts,) = found.index.counts  # a row or two may be predicted wrong
    assert 20 <= found.classes[0].hard <= 23 and found.hard.sum() == found.classes[0].hard and counts[1:].max() <= 3
    assert np.allclose(found.target[0], np.minimum(counts, 5) / np.minimum(counts, 5).sum())
    assert found.target[0, 0] < 0.25


def test_a_tiny_attribute_value_changes_nothing_for_the_others():
    assert by_values([250, 150]).minority.tolist() == [[0, 1]]
    assert by_values([250, 150, 3]).minority.tolist() == [[0, 1, 1]]
    assert by_values([220, 180, 3]).classes[0].hard == 0 and by_values([220, 180]).classes[0].hard == 0


def test_a_class_that_is_nearly_balanced_by_attributes_is_left_whole():
    """45 % against 55 % are no minority; 30 % against 70 % are one."""
    rows, evaluation, _, held_out = planted([[220, 180], [120, 280]])
    found = infer("validation_attributes", rows, evaluation, held_out)
    assert [split.hard for split in found.classes][0] == 0 and 110 <= found.classes[1].hard <= 130
    assert np.allclose(found.target, [found.index.alpha[0], [0.5, 0.5]])


# ---- in general ---------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_counts_targets_and_index_agree(data):
    rule = data.draw(st.sampled_from(RULES))
    classes = data.draw(st.integers(2, 3))
    size = st.integers(0, 40)
    train = [[data.draw(st.integers(4, 40)), data.draw(size)] for _ in range(classes)]
    held_out = [[data.draw(st.integers(3, 30)), data.draw(st.integers(3, 30))] for _ in range(classes)]
    gap, seed, folds = data.draw(st.sampled_from([0.0, 1.0, 4.0])), data.draw(st.integers(0, 99)), 1 + seed_of(train)
    rows, evaluation, _, known = planted(train, held_out, seed, folds, gap=gap)
    names = ("x", "y", "z")[:classes]
    threshold = None
    if rule == "threshold":
        threshold = {name: data.draw(st.sampled_from([None, 0.25, 0.5])) for name in names}
    given = dict(attributes=known, attribute_names=("a", "b")) if rule == "validation_attributes" else {}
    found = infer_groups(rows, names, rule, evaluation=evaluation, threshold=threshold, **given)

    assert np.array_equal(found.index.codes // found.index.num_attributes, rows.labels)
    assert np.allclose(found.target.sum(axis=1), 1) and (found.target >= 0).all()
    assert not found.target[found.index.counts == 0].any()  # nothing is drawn from a group without rows
    for label, split in enumerate(found.classes):
        own = rows.labels == label
        assert split.rows == own.sum() and split.hard == found.hard[own].sum() < split.rows
        assert np.isclose(split.target, found.target[label][found.minority[label]].sum()) or not split.hard
        assert ("left whole" in split.reason) == (split.hard == 0)
        if split.hard and rule != "threshold":
            assert split.hard >= 5
        if not split.hard:
            assert np.allclose(found.target[label], found.index.alpha[label])  # as class-balanced ERM
        else:
            # drawn more often than they occur, unless most of the class is hard
            assert rule == "threshold" or split.target >= min(0.5, split.hard / split.rows) - 1e-9
            assert split.target <= 0.9 + 1e-9
    assert found.whole == (not found.hard.any())
    assert np.array_equal(found.evaluation.codes // found.evaluation.num_attributes, evaluation.labels)
    again = infer_groups(rows, names, rule, evaluation=evaluation, threshold=threshold, **given)
    assert np.array_equal(again.index.codes, found.index.codes) and np.array_equal(again.target, found.target)


def seed_of(counts):
    """One fold or two, as the data happen to be."""
    return int(np.sum(counts)) % 2


# ---- what is refused ----------------------------------------------------------------------------------------------


def test_an_unknown_rule_is_refused():
    rows, _, _, _ = planted()
    with pytest.raises(ValueError, match="must be one of 'validation_shift', .*found 'nearest'"):
        infer_groups(rows, NAMES, "nearest")


@pytest.mark.parametrize("rule", ["validation_shift", "validation_attributes"])
def test_rules_of_a_validation_set_need_one(rule):
    with pytest.raises(ValueError, match=f"{rule}' needs scores of a validation set. Give an eval_dataset, or choose"):
        infer_groups(planted()[0], NAMES, rule)


@pytest.mark.parametrize(
    "threshold, message",
    [
        (None, "the rule 'threshold' needs a threshold"),
        ({"cat": 0.1}, "lacks class 'dog'; the classes are 'cat', 'dog'"),
        ({"cat": 0.1, "dog": 0.1, "eel": None}, "names 'eel', which is no class"),
        ({"cat": 0.1, "dog": 0.001}, "makes 0 of the 400 rows of class dog hard"),
        (1.5, r"must lie in \(0, 1\); found 1.5"),
    ],
)
def test_bad_thresholds_are_refused(threshold, message):
    with pytest.raises(ValueError, match=message):
        infer_groups(planted()[0], NAMES, "threshold", threshold=threshold)


def test_an_attribute_value_with_four_validation_rows_is_named():
    rows, evaluation, _, held_out = planted(BIASED, [[60, 2], [2, 60]])
    with_few = np.where(np.arange(len(held_out)) < 4, 2, held_out)
    arguments = dict(evaluation=evaluation, attribute_names=("land", "sea", "sky"))
    with pytest.raises(ValueError, match="attribute value 'sky' has 4 validation rows, and 5 are needed"):
        infer_groups(rows, NAMES, "validation_attributes", attributes=with_few, **arguments)
    with_five = np.where(np.arange(len(held_out)) < 5, 2, held_out)
    infer_groups(rows, NAMES, "validation_attributes", attributes=with_five, **arguments)
    for missing in (dict(attributes=None, attribute_names=()), dict(attributes=held_out * 0, attribute_names=("x",))):
        with pytest.raises(ValueError, match="at least two attribute values; found"):
            infer_groups(rows, NAMES, "validation_attributes", evaluation=evaluation, **missing)
