"""Which rows look like those that validation has more of: planted shifts, sets that are alike, and the correction."""

import numpy as np
import pytest
from planted import BALANCED, BIASED, features_of, planted

from gerne_hf.pseudo_attributes.shift import (
    MIN_DEVIATIONS,
    attribute_accuracy,
    attributes_from_validation,
    shift_scores,
    split_by_shift,
    standardized,
)


def one_class(share, of_evaluation, seed, rows=600, held_out=200, gap=5.0):
    """Features of one class whose minority has the two shares, and which training rows are of the minority."""
    rng = np.random.default_rng(seed)
    minority, wanted = rng.random(rows) < share, rng.random(held_out) < of_evaluation
    zeros = np.zeros(rows, dtype=int)
    train, evaluation = features_of(zeros, minority, rng, gap), features_of(zeros[:held_out], wanted, rng, gap)
    return standardized(train, evaluation), minority, wanted


@pytest.mark.parametrize("share, of_evaluation", [(0.05, 0.5), (0.05, 0.25), (0.02, 0.5), (0.1, 0.5), (0.1, 0.8)])
def test_a_planted_minority(share, of_evaluation):
    (train, evaluation), minority, wanted = one_class(share, of_evaluation, seed=3)
    scores, held_out = shift_scores(train, evaluation)
    split = split_by_shift(scores, held_out[None])
    assert split.differs and split.auc > 0.55
    assert (split.hard & minority).sum() / split.hard.sum() > 0.75
    assert (split.hard & minority).sum() / minority.sum() > 0.5
    assert (split.evaluation_hard & wanted).sum() / split.evaluation_hard.sum() > 0.85
    assert abs(split.target - wanted.mean()) < 0.15


def test_two_models_are_one_split():
    (train, evaluation), minority, _ = one_class(0.05, 0.5, seed=1)
    scored = [shift_scores(train[part::2], evaluation) for part in (0, 1)]
    split = split_by_shift(np.concatenate([s[0] for s in scored]), np.stack([s[1] for s in scored]))
    order = np.r_[np.arange(0, 600, 2), np.arange(1, 600, 2)]
    assert (split.hard & minority[order]).sum() / split.hard.sum() > 0.75
    assert split.evaluation_hard.shape == (200,)


def test_the_same_rows_scored_twice_are_no_more_evidence():
    """The standard error is that of the rows there are, whatever number of models scored them."""
    (train, evaluation), _, _ = one_class(0.3, 0.4, seed=1)
    scores, held_out = shift_scores(train, evaluation)
    once, twice = split_by_shift(scores, held_out[None]), split_by_shift(scores, np.stack([held_out] * 4))
    assert once.deviations == pytest.approx(twice.deviations) and once.auc == pytest.approx(twice.auc)


def test_the_rank_test_by_counting():
    rng = np.random.default_rng(0)
    scores, held_out = rng.normal(size=40), rng.normal(0.8, size=15)
    split = split_by_shift(scores, held_out[None])
    pairs = (held_out[:, None] > scores[None]).mean()
    assert split.auc == pytest.approx(pairs)
    assert split.deviations == pytest.approx((pairs - 0.5) / np.sqrt((40 + 15 + 1) / (12 * 40 * 15)))


def test_sets_that_are_alike_are_hardly_ever_split():
    """Over 60 pairs of sets from one distribution, with and without a minority in both."""
    split = 0
    for seed in range(60):
        share = (0.0, 0.05, 0.3)[seed % 3]
        (train, evaluation), _, _ = one_class(share, share, seed, rows=200, held_out=100)
        scores, held_out = shift_scores(train, evaluation)
        split += split_by_shift(scores, held_out[None]).differs
    assert split <= 1 and MIN_DEVIATIONS >= 3


def test_each_row_is_scored_by_a_model_that_was_not_fitted_on_it(monkeypatch):
    import sklearn.linear_model as linear

    seen, scored = [], []

    class Spy(linear.LogisticRegression):
        def fit(self, rows, *rest, **kwargs):
            seen.append({tuple(row) for row in rows})
            return super().fit(rows, *rest, **kwargs)

        def decision_function(self, rows):
            scored.append({tuple(row) for row in rows})
            return super().decision_function(rows)

    monkeypatch.setattr(linear, "LogisticRegression", Spy)
    (train, evaluation), _, _ = one_class(0.1, 0.5, seed=0, rows=40, held_out=25)
    shift_scores(train, evaluation)
    assert len(seen) == len(scored) == 10 and sum(map(len, scored)) == 65
    assert all(not fitted & held_out for fitted, held_out in zip(seen, scored, strict=True))


def test_features_are_put_on_one_scale():
    rng = np.random.default_rng(0)
    train = rng.normal(5, [1, 100, 0.01, 0], size=(500, 4)).astype(np.float32)
    found, other = standardized(train, train[:3] + 1)
    assert np.allclose(found.mean(axis=0), 0, atol=1e-5) and (found**2).sum(axis=1).mean() < 1.01
    assert found.dtype == np.float64 and other.shape == (3, 4) and np.abs(found[:, 3]).max() < 1e-6
    zeros = standardized(np.zeros((4, 2), np.float16), np.ones((1, 2), np.float16))
    assert np.isfinite(zeros[0]).all()


# ---- attributes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", [[[950, 50], [20, 980]], [[990, 10], [500, 500]], BIASED])
def test_planted_shares_are_recovered(train):
    """The validation set is balanced and training is not: without the correction many of the majority are taken for
    the minority."""
    rows, evaluation, attributes, held_out = planted(train, BALANCED, folds=1, gap=3.0)
    features, known = standardized(rows.features, evaluation.features[0])
    found = attributes_from_validation(features, known, held_out, 2, rows.labels, evaluation.labels, 2)
    assert np.allclose(found.sum(axis=1), 1)
    for label, counts in enumerate(train):
        shares = found[rows.labels == label].mean(axis=0)
        assert np.abs(shares - np.array(counts) / sum(counts)).max() < 0.02
    predicted = found.argmax(axis=1)
    minority = attributes != rows.labels
    of_class = rows.labels == 0
    assert (predicted == attributes)[of_class & minority].mean() > 0.25
    assert (predicted == attributes)[predicted != rows.labels].mean() > 0.75


def test_a_value_that_a_class_lacks_gets_no_share():
    rows, evaluation, _, held_out = planted([[400, 0], [20, 380]], BALANCED, folds=1)
    features, known = standardized(rows.features, evaluation.features[0])
    found = attributes_from_validation(features, known, held_out, 2, rows.labels, evaluation.labels, 2)
    assert found[rows.labels == 0, 1].mean() < 0.01


def test_accuracy_of_attributes_is_that_of_rows_not_fitted():
    _, evaluation, _, held_out = planted(gap=6.0)
    assert attribute_accuracy(evaluation.features[0].astype(float), held_out) > 0.95
    rng = np.random.default_rng(0)  # more units than rows: in sample it would be 1
    assert attribute_accuracy(rng.normal(size=(60, 200)), rng.integers(2, size=60)) < 0.75


def test_of_many_rows_some_are_fitted_and_all_are_scored(monkeypatch):
    rng = np.random.default_rng(0)
    train, evaluation = rng.normal(size=(400, 3)), rng.normal(size=(200, 3)) + [3.0, 0.0, 0.0]
    every = shift_scores(train, evaluation)
    monkeypatch.setattr("gerne_hf.pseudo_attributes.shift.MOST_ROWS", 50)
    some = shift_scores(train, evaluation)
    assert [part.shape for part in some] == [(400,), (200,)]
    assert not np.array_equal(every[0], some[0])
    assert some[1].mean() - some[0].mean() > 2.0
