"""The paired bootstrap: figures by hand, its coverage, and a plain bootstrap that draws row by row."""

import numpy as np
import pytest

from gerne_hf.comparison.telling_apart import Rows, difference
from gerne_hf.evaluation.metrics import group_metrics

CELLS, UNIT = np.repeat([0, 1, 2, 3], [400, 100, 80, 420]), np.eye(2, dtype=bool)
LEVELS = np.array([0.95, 0.7, 0.75, 0.96])


def drawn(rng, levels=LEVELS):
    return Rows(rng.random(len(CELLS)) < np.asarray(levels)[CELLS], CELLS, UNIT)


def test_a_large_difference_is_told_and_none_is_not():
    rng = np.random.default_rng(0)
    good, bad = drawn(rng, [0.9, 0.9, 0.9, 0.9]), drawn(rng, [0.9, 0.5, 0.9, 0.9])
    found = difference([good], [bad])
    assert found.is_told and found.low < found.value < found.high and 0.3 < found.value < 0.5
    back = difference([bad], [good])
    assert back.is_told and back.high < 0
    same = difference([good], [good])
    assert (same.value, same.low, same.high, same.is_told) == (0.0, 0.0, 0.0, False)


@pytest.mark.parametrize("statistic", ["worst_group_accuracy", "group_balanced_accuracy", "accuracy"])
def test_the_value_is_that_of_the_metrics(statistic):
    rng = np.random.default_rng(1)
    first, second = ([drawn(rng) for _ in range(3)] for _ in range(2))
    labels, attributes = CELLS // 2, CELLS % 2

    def mean(runs):
        found = [group_metrics(np.where(r.correct, labels, 1 - labels), labels, attributes)[statistic] for r in runs]
        return np.mean(found)

    assert difference(first, second, statistic).value == pytest.approx(mean(first) - mean(second), abs=1e-12)


def test_groups_that_overlap():
    """Of two attributes a row has both, one or none; figures by `group_metrics` over the memberships."""
    rng = np.random.default_rng(2)
    memberships = np.array([[False, False], [True, False], [True, True]])
    cells = rng.integers(0, 6, size=600)
    first, second = (Rows(rng.random(600) < level, cells, memberships) for level in (0.8, 0.6))
    labels = cells // 3

    def worst(rows):
        predicted = np.where(rows.correct, labels, 1 - labels)
        return group_metrics(predicted, labels, memberships[cells % 3])["worst_group_accuracy"]

    assert difference([first], [second]).value == pytest.approx(worst(first) - worst(second), abs=1e-12)


def test_the_interval_is_that_of_a_bootstrap_row_by_row():
    rng = np.random.default_rng(3)
    first, second = drawn(rng), drawn(rng, [0.9, 0.6, 0.7, 0.9])
    found = difference([first], [second])
    places = [np.flatnonzero(CELLS == cell) for cell in range(4)]
    gains = []
    for _ in range(2000):
        own = [rng.choice(rows, size=len(rows)) for rows in places]
        gains.append(min(first.correct[r].mean() for r in own) - min(second.correct[r].mean() for r in own))
    assert [found.low, found.high] == pytest.approx(np.quantile(gains, [0.025, 0.975]), abs=0.02)


def test_seeds_widen_the_interval():
    """Seeds that disagree by far: their rows alone would tell the methods apart."""
    rng = np.random.default_rng(4)
    levels = [0.4, 0.9, 0.6]
    first = [drawn(rng, [0.95, level, 0.95, 0.95]) for level in levels]
    second = [drawn(rng, [0.95, 0.5, 0.95, 0.95]) for _ in levels]
    assert difference(first[1:2], second[1:2]).is_told
    found = difference(first, second)
    assert found.seeds == 3 and not found.is_told and found.high - found.low > 0.3


def test_methods_that_are_equal_are_seldom_told_apart():
    """Of 200 pairs of models with the same accuracies, about one in twenty is: at most 20 here."""
    rng = np.random.default_rng(5)
    told = sum(difference([drawn(rng)], [drawn(rng)], resamples=400).is_told for _ in range(200))
    assert told <= 20


def test_draws_follow_from_the_seed():
    rng = np.random.default_rng(6)
    first, second = drawn(rng), drawn(rng)
    assert difference([first], [second], seed=1) == difference([first], [second], seed=1)
    assert difference([first], [second], seed=1) != difference([first], [second], seed=2)


def test_what_cannot_be_compared_is_refused():
    rng = np.random.default_rng(7)
    rows = drawn(rng)
    with pytest.raises(ValueError, match="same seeds, one at least; found 1 and 2"):
        difference([rows], [rows, rows])
    with pytest.raises(ValueError, match="same seeds, one at least; found 0 and 0"):
        difference([], [])
    with pytest.raises(ValueError, match="tested on different rows"):
        difference([rows], [Rows(rows.correct[::-1], CELLS[::-1], UNIT)])
    with pytest.raises(ValueError, match="must be one of worst_group_accuracy, .* found 'f1'"):
        difference([rows], [rows], "f1")
