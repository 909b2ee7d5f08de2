"""Pseudo-attributes from scores: which rows are hard, the column they become, the files, and how well they recover."""

import math
import os
import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from datasets import ClassLabel
from helpers import EVEN, MLP, SKEWED, Rows, config, mlp, table, trainer

from gerne_hf import GroupIndex, PseudoAttributes
from gerne_hf.pseudo_attributes import fingerprint, provisional_index
from gerne_hf.reports import format_recovery
from gerne_hf.thresholds import EASY, HARD, check_threshold, hard_counts, pseudo_attributes, smallest_threshold

pytestmark = pytest.mark.usefixtures("without_pictures")


def scored(dataset, levels=10, seed=0):
    """Scores with ties for a data set, as a fit would give them."""
    index = GroupIndex.from_dataset(dataset)
    scores = np.random.default_rng(seed).integers(levels, size=len(index)).astype(np.float32) / levels
    columns = sorted(dataset.column_names)
    record = {"label_column": None, "columns": columns}
    labels = index.codes.astype(np.int64)
    mark = fingerprint(dataset, None, columns)
    return PseudoAttributes(scores, labels.copy(), labels, index.label_names, mark, record=record)


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


def by_sorting(scores, labels, exact):
    """The hard rows by their definition: of each class the floor(t n) first in the order of (score, row)."""
    hard = set()
    for label in set(labels.tolist()):
        rows = sorted((scores[row], row) for row in np.flatnonzero(labels == label).tolist())
        hard |= {row for _, row in rows[: exact.numerator * len(rows) // exact.denominator]}
    return hard


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


# ---- precision and recall -----------------------------------------------------------------------------------------


def by_counting(pseudo, attributes, rows, threshold):
    """Precision and recall of the minority groups, row by row in plain Python."""
    hard = by_sorting(pseudo.scores, pseudo.labels, Fraction(str(threshold)))
    known = {row: (int(pseudo.labels[row]), attribute) for row, attribute in zip(rows, attributes, strict=True)}
    groups = list(known.values())
    minority = set()
    for row, (label, attribute) in known.items():
        in_class = [a for y, a in groups if y == label]
        if in_class.count(attribute) * len(set(in_class)) < len(in_class):
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
