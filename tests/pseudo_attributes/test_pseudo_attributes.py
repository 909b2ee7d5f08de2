"""Pseudo-attributes at a threshold: which rows are hard, bad thresholds, recovery of the minority, and the cost."""

import math
import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from helpers import EVEN, MLP, SKEWED, config, mlp, table, trainer
from pseudo_scores import by_sorting, scored

from gerne_hf import GroupIndex, PseudoAttributes
from gerne_hf.method.pseudo_groups import (
    EASY,
    HARD,
    check_threshold,
    hard_counts,
    provisional_index,
    pseudo_attributes,
    smallest_threshold,
)
from gerne_hf.reports.tables import format_recovery

pytestmark = pytest.mark.usefixtures("without_pictures")


def score_sets(count):
    """Random scores, labels, thresholds: few rows and many, one class and many, and often only few distinct scores."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        classes = int(rng.integers(1, 12))
        labels = rng.permutation(np.repeat(np.arange(classes), rng.integers(2, rng.choice([4, 12, 80]), classes)))
        levels = int(rng.choice([1, 2, 3, 10, 10**6]))
        scores = rng.integers(levels, size=len(labels)).astype(np.float32) / levels
        digits = int(rng.integers(1, 5))
        yield rng, scores, labels, int(rng.integers(1, 10**digits)) / 10**digits, classes


# ---- which rows are hard ------------------------------------------------------------------------------------------


def test_a_thousand_random_score_sets():
    accepted = 0
    for rng, scores, labels, threshold, classes in score_sets(1000):
        exact = Fraction(str(threshold))
        found = pseudo_attributes(scores, labels, threshold, classes)
        assert found.shape == labels.shape and set(found.tolist()) <= {HARD, EASY}
        assert set(np.flatnonzero(found == HARD).tolist()) == by_sorting(scores, labels, exact)
        counts = np.bincount(labels)
        for label in range(classes):
            of_class = labels == label
            hard = found[of_class] == HARD
            assert hard.sum() == math.floor(exact * int(counts[label]))
            if 0 < hard.sum() < len(hard):
                assert scores[of_class][hard].max() <= scores[of_class][~hard].min()
        assert np.array_equal(found, pseudo_attributes(scores.copy(), labels.copy(), threshold, classes))

        # Any order of the rows that keeps that of equal scores gives the same hard rows.
        moved = rng.permutation(len(labels))
        ranks = np.argsort(np.argsort(scores, kind="stable")).astype(np.float64)
        without_ties = pseudo_attributes(ranks[moved], labels[moved], threshold, classes)
        assert np.array_equal(without_ties, found[moved])

        works = all(math.floor(exact * int(count)) > 0 for count in counts)
        names = [f"c{label}" for label in range(classes)]
        if works:
            accepted += 1
            check_threshold(counts, threshold, names)
            for label in range(classes):
                assert set(found[labels == label]) == {HARD, EASY}
        else:
            with pytest.raises(ValueError):
                check_threshold(counts, threshold, names)
    assert 200 < accepted < 800


@pytest.mark.parametrize("rows, threshold, hard", [(100, 0.29, 29), (1000, 0.003, 3), (10, 0.7, 7), (10**7, 1e-7, 1)])
def test_the_floor_is_that_of_the_decimal_number(rows, threshold, hard):
    """In binary 0.29 * 100 is 28.999..., and truncation would lose a row."""
    assert hard_counts([rows], threshold).tolist() == [hard]
    assert hard_counts(np.array([rows]), np.float64(threshold)).tolist() == [hard]


def test_equal_scores_are_cut_by_row():
    labels = np.array([0, 1] * 5)
    assert pseudo_attributes(np.full(10, 0.5), labels, 0.4, 2).tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1, 1]


# ---- bad thresholds -----------------------------------------------------------------------------------------------


def test_the_threshold_suggested_works_and_is_the_smallest():
    rng = np.random.default_rng(1)
    for _ in range(500):
        counts = rng.integers(2, 10 ** int(rng.integers(1, 8)) + 2, size=int(rng.integers(1, 8)))
        names = [f"class-{label}." for label in range(len(counts))]
        least = int(counts.min())
        with pytest.raises(ValueError) as caught:
            check_threshold(counts, 0.9 / least, names)
        first = int(np.argmax(hard_counts(counts, 0.9 / least) == 0))
        assert f"{counts[first]:,} rows of class {names[first]}" in str(caught.value)
        suggested = float(re.search(r"works for all classes is ([\d.e-]+)$", str(caught.value)).group(1))
        assert suggested == smallest_threshold(counts)
        check_threshold(counts, suggested, names)
        assert suggested <= (1 + 2e-5) / least  # the smallest of six digits
        assert hard_counts([least], suggested * (1 - 1e-4)) == 0


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.1, 1.5, math.nan, math.inf])
def test_a_threshold_outside_its_interval_is_refused(tmp_path, threshold):
    with pytest.raises(ValueError, match=r"threshold t must lie in \(0, 1\); found"):
        check_threshold([10, 10], threshold, ["a", "b"])
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\); found"):
        scored(table()).attributes(threshold)
    with pytest.raises(ValueError, match=r"threshold, the share of each class.*must lie in \(0, 1\); found"):
        config(tmp_path, pseudo_attributes=True, threshold=threshold)


def test_an_empty_part_is_refused_before_any_training(tmp_path):
    forwards = count_forwards()
    with pytest.raises(ValueError, match="makes 0 of the 48 rows of class class0 hard.*all classes is 0.025$"):
        trainer(tmp_path, pseudo_attributes=True, threshold=0.02)
    with pytest.raises(ValueError, match="makes 0 of the 40 rows of class class1 hard"):
        scored(table()).label(0.024, table())
    assert forwards.stop() == 0


@pytest.mark.parametrize("counts, name", [([100, 1], "b"), ([1, 100], "a"), ([100, 0], "b")])
def test_a_class_that_cannot_be_split(counts, name):
    """No threshold works, so none may be suggested."""
    for threshold in (0.001, 0.5):
        with pytest.raises(ValueError, match=f"class {name} has {min(counts)} rows? and cannot be split"):
            check_threshold(counts, threshold, ["a", "b"])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused(value):
    good = scored(table())
    scores = good.scores.copy()
    scores[[7, 30]] = value
    with pytest.raises(ValueError, match="2 scores are not finite, the first in row 7.*biased_learning_rate"):
        PseudoAttributes(scores, good.predictions, good.labels, good.label_names, good.fingerprint)


# ---- precision and recall -----------------------------------------------------------------------------------------


def by_counting(pseudo, attributes, rows, threshold):
    """Precision and recall of the minority groups, row by row in plain Python."""
    hard = by_sorting(pseudo.scores, pseudo.labels, Fraction(str(threshold)))
    known = {row: (int(pseudo.labels[row]), attribute) for row, attribute in zip(rows, attributes, strict=True)}
    groups = list(known.values())
    minority = set()
    for row, (label, attribute) in known.items():
        in_class = [a for y, a in groups if y == label]
        if in_class.count(attribute) * len(set(in_class)) < len(in_class) / 2:  # below half of an even share
            minority.add(row)
    found = hard & set(known)
    hits = len(found & minority)
    return hits / len(found) if found else None, hits / len(minority) if minority else None, len(hard)


@pytest.mark.parametrize("seed", range(8))
def test_recovery_against_counting(seed):
    rng = np.random.default_rng(seed)
    pseudo = scored(table(SKEWED, seed=seed), levels=12, seed=seed)
    values = np.array(["red", "green", "blue"] if seed % 2 else [3, 5, 9])
    attributes = values[rng.choice(3, size=88, p=[0.7, 0.2, 0.1])]
    rows = np.arange(88) if seed < 4 else rng.permutation(88)[: 5 * seed]
    thresholds = [0.03, 0.1, 0.25, 0.5, 0.9]
    found = pseudo.recovery(attributes[rows], thresholds, None if seed < 4 else rows)
    assert [entry["threshold"] for entry in found] == thresholds
    for entry, threshold in zip(found, thresholds, strict=True):
        expected = by_counting(pseudo, attributes[rows].tolist(), rows.tolist(), threshold)
        assert (entry["precision"], entry["recall"], entry["hard_rows"]) == expected
    assert found[-1]["recall"] > found[0]["recall"]
    printed = format_recovery(found).splitlines()
    assert len(printed) == 2 + len(thresholds) and printed[0].startswith("| threshold t | hard rows | precision, %")
    assert f"{100 * found[2]['recall']:.1f}" in printed[4]


def test_recovery_with_rows_of_one_class_only():
    """Attributes may be known for a few rows, and these need not cover the classes."""
    pseudo = scored(table())
    for label in (0, 1):
        rows = np.flatnonzero(pseudo.labels == label)
        places = np.array(table()["place"])[rows]
        found = pseudo.recovery(places, [0.2], rows)[0]
        assert (found["precision"], found["recall"], found["hard_rows"]) == by_counting(
            pseudo, places.tolist(), rows.tolist(), 0.2
        )


def test_recovery_where_nothing_is_known_to_be_hard():
    pseudo = scored(table(EVEN))
    easy = np.flatnonzero(pseudo.attributes(0.1) == EASY)[:9]
    found = pseudo.recovery(np.zeros(9, dtype=int), [0.1], easy)[0]
    assert found["precision"] is None and found["recall"] is None
    assert format_recovery([found]).splitlines()[-1].split("|")[3].strip() == "-"


# ---- what a threshold costs ---------------------------------------------------------------------------------------


class count_forwards:  # noqa: N801
    """Counts the forward passes of every model."""

    def __init__(self):
        self.calls = 0
        self._handle = torch.nn.modules.module.register_module_forward_hook(self._count)

    def _count(self, module, inputs, output):
        self.calls += isinstance(module, MLP)

    def stop(self):
        self._handle.remove()
        return self.calls


def test_a_second_threshold_costs_no_forward_pass(tmp_path):
    data = table()
    forwards = count_forwards()
    try:
        pseudo = PseudoAttributes.fit(args=config(tmp_path), train_dataset=data, model=mlp())
        assert forwards.calls == 2 + 6  # two steps, and 88 rows in batches of 16, once
        for threshold in (0.1, 0.2, 0.5):
            pseudo.attributes(threshold), pseudo.index(threshold), pseudo.label(threshold)
            pseudo.recovery(data["place"][:], [threshold])
        assert forwards.calls == 8

        subject = trainer(tmp_path, train=data, pseudo_attributes=True, attribute_column=None, threshold=0.1)
        subject.get_train_dataloader()
        assert np.array_equal(subject.groups.codes, pseudo.index(0.1).codes)
        subject.args.threshold = 0.4
        subject.get_train_dataloader()
        assert np.array_equal(subject.groups.codes, pseudo.index(0.4).codes)
        assert forwards.calls == 8
    finally:
        forwards.stop()


@pytest.mark.parametrize("threshold", [0.05, 0.2, 0.33, 0.8])
def test_the_provisional_index_has_the_sizes_and_the_bounds_of_the_final_one(tmp_path, threshold):
    pseudo = scored(table())
    provisional = provisional_index(GroupIndex.from_dataset(table(), attribute_column="place"), threshold)
    final = pseudo.index(threshold)
    assert np.array_equal(provisional.counts, final.counts)
    assert final.counts[:, 0].tolist() == [math.floor(Fraction(str(threshold)) * 48), math.floor(threshold * 40)]
    assert provisional.attribute_names == final.attribute_names and provisional.label_names == final.label_names
    one_go = trainer(tmp_path, pseudo_attributes=True, threshold=threshold, beta=-1.0)
    two_steps = trainer(tmp_path, train=pseudo.label(threshold, table()), attribute_column="pseudo_attribute", beta=-1)
    assert one_go.beta_bounds == two_steps.beta_bounds
    one_go.get_train_dataloader()
    assert one_go.beta_bounds == two_steps.beta_bounds
