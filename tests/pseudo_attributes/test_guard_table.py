"""The guard: its table before training by hand, each of its warnings, and that there is none without a reason."""

import numpy as np
import pytest
from planted import BALANCED, BIASED, NAMES, planted

from gerne_hf import GroupIndex
from gerne_hf.pseudo_attributes import ClassSplit, InferredGroups, infer_groups
from gerne_hf.pseudo_attributes.guard import guard_table, guard_warnings, shares_of_class, warning_after_training

GOOD = {"in_sample_accuracy": 0.95, "out_of_fold_accuracy": 0.9}


def groups(counts, rule="validation_shift", evaluation=None, names=("hard", "easy"), reasons=None):
    """Inferred groups with these counts, split wherever the first value has rows."""
    counts = np.array(counts)
    codes = np.repeat(np.arange(counts.size), counts.ravel())
    labels, attributes = (part.astype(np.uint32) for part in divmod(codes, counts.shape[1]))
    index = GroupIndex.from_codes(labels, NAMES, [(attributes, names)])
    splits = [
        ClassSplit(name, int(row.sum()), int(row[0]), 0.5, "because") for name, row in zip(NAMES, counts, strict=True)
    ]
    held_out = None if evaluation is None else groups(evaluation, rule).index
    return InferredGroups(rule, index, np.full(counts.shape, 0.5), tuple(splits), held_out)


EVEN = np.full((2, 2), 0.25)
WHOLE = np.array([[0.0, 0.5], [0.25, 0.25]])


def test_the_table_by_hand():
    mass = np.array([[0.0, 0.4], [0.45, 0.15]])  # classes drawn as 40 % and 60 %
    lines = guard_table(groups([[0, 1200], [50, 950]]), mass).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["class", "rows", "hard rows", "% of rows", "% of training mass", "why"]
    assert cells[2:] == [
        ["cat", "1,200", "0", "0.0", "0.0", "because"],
        ["dog", "1,000", "50", "5.0", "75.0", "because"],
    ]
    assert np.allclose(shares_of_class(mass), [[0, 1], [0.75, 0.25]])


def test_the_table_by_predicted_attributes():
    rows, evaluation, _, held_out = planted()
    found = infer_groups(
        rows,
        NAMES,
        "validation_attributes",
        evaluation=evaluation,
        attributes=held_out,
        attribute_names=("land", "sea"),
    )
    table = guard_table(found, EVEN)
    assert "minority rows" in table and "hard rows" not in table and table.count(" 50.0 |") == 2


def told(inferred, mass=EVEN, record=GOOD, folds=2, evaluated=True):
    return guard_warnings(inferred, mass, record, folds, evaluated)


def test_nothing_to_warn_of():
    assert told(groups([[100, 900], [80, 920]])) == []
    assert told(groups([[0, 1000], [80, 920]]), WHOLE) == []


def test_few_rows_with_much_mass():
    (warning,) = told(groups([[29, 900], [80, 920]]))
    assert warning.startswith("29 rows of class cat, hard, get 50 % of the class's training mass")
    assert "A smaller c (beta + 1)" in warning
    assert told(groups([[30, 900], [80, 920]])) == []
    assert told(groups([[29, 900], [80, 920]]), np.array([[0.125, 0.375], [0.25, 0.25]])) == []


def test_few_rows_of_several_attribute_values_with_much_mass():
    """Each value has little of the mass, and all of them together have nearly all."""
    counts = np.array([[500, 3, 3, 3, 2], [400, 400, 400, 400, 400]])
    codes = [np.repeat(np.tile(np.arange(5, dtype=np.uint32), 2), counts.ravel())]
    labels = np.repeat(np.arange(2, dtype=np.uint32), counts.sum(axis=1))
    index = GroupIndex.from_codes(labels, NAMES, [(codes[0], tuple("abcde"))])
    classes = (ClassSplit("cat", 511, 11, 0.7, ""), ClassSplit("dog", 2000, 0, 0.0, "left whole"))
    found = InferredGroups("validation_attributes", index, np.full((2, 5), 0.2), classes)
    (warning,) = told(found, np.full((2, 5), 0.1))
    assert warning.startswith("11 rows of class cat, of 4 attribute values, get 80 % of the class's training mass")


def test_a_small_class_is_not_warned_of_for_its_majority():
    """25 rows of 30 are few, but 5 of 6 of the class: they are drawn less often than they occur."""
    (warning,) = told(groups([[5, 25], [80, 920]]))
    assert "5 rows of class cat, hard" in warning


@pytest.mark.parametrize("of_evaluation, warns", [([20, 180], True), ([26, 174], True), ([80, 120], False)])
def test_a_share_that_validation_has_too(of_evaluation, warns):
    inferred = groups([[100, 900], [0, 900]], "threshold", [of_evaluation, [0, 200]])
    warnings = told(inferred, np.array([[0.25, 0.25], [0, 0.5]]))
    assert len(warnings) == warns
    if warns:
        assert "Nothing shows that the 100 hard rows of class cat are a minority" in warnings[0]
        assert "pseudo_rule='validation_shift' leaves it whole" in warnings[0]
        assert f"{of_evaluation[0] / 2:.1f} % of its validation rows and 10.0 % of its training rows" in warnings[0]
    assert told(groups([[100, 900], [0, 900]], "mistakes", [of_evaluation, [0, 200]]), EVEN) == []


def test_without_a_validation_set():
    (warning,) = told(groups([[100, 900], [80, 920]]), evaluated=False)
    assert "There is no validation set, so nothing shows whether the hard rows are a minority" in warning


@pytest.mark.parametrize(
    "seen, unseen, folds, message",
    [
        (0.74, 0.7, 2, "underfit: they are right on 74.0 % of rows that they were trained on"),
        (0.76, 0.7, 2, None),
        (0.9995, 0.9995, 1, "may have memorized them. biased_folds=2 scores each row"),
        (0.998, 0.998, 1, None),
        (
            1.0,
            0.84,
            2,
            "100.0 % of the rows that they were trained on and on 84.0 % of others: they memorize",
        ),
        (1.0, 0.86, 2, None),
    ],
)
def test_models_that_underfit_or_memorize(seen, unseen, folds, message):
    record = {"in_sample_accuracy": seen, "out_of_fold_accuracy": unseen}
    warnings = told(groups([[100, 900], [80, 920]]), record=record, folds=folds)
    assert (message is None and not warnings) or (len(warnings) == 1 and message in warnings[0])


def test_scores_that_come_from_elsewhere_have_no_accuracies():
    assert told(groups([[100, 900], [80, 920]]), record={}) == []


@pytest.mark.parametrize("model, reference", [(None, 0.8), (0.8, None), (0.781, 0.8), (0.9, 0.8)])
def test_no_warning_after_training(model, reference):
    assert warning_after_training(model, reference) is None


def test_the_warning_after_training():
    warning = warning_after_training(0.77, 0.8)
    assert "77.0 %, is below that of the biased models, 80.0 %" in warning and "train with plan='erm'" in warning


def test_planted_groups_that_are_found_are_not_warned_of():
    rows, evaluation, _, _ = planted([[1900, 100], [100, 1900]], BALANCED)
    assert told(infer_groups(rows, NAMES, evaluation=evaluation)) == []
    assert len(told(infer_groups(*planted(BIASED)[:1], NAMES, "threshold", threshold=0.01), evaluated=False)) == 3
