"""The gate: a model that is worse on average than class-balanced ERM is taken only where all are."""

import numpy as np
import pytest

from gerne_hf import GroupIndex
from gerne_hf.evaluation.gate import GATE_TOLERANCE, GatedAccumulator, gated_accuracy
from gerne_hf.evaluation.metrics import flatten_group_metrics


@pytest.mark.parametrize(
    "class_balanced, reference, expected",
    [(0.8, None, 0.6), (0.8, 0.75, 0.6), (0.8, 0.8, 0.6), (0.781, 0.8, 0.6), (0.77, 0.8, -0.23), (0.0, 0.9, -1.0)],
)
def test_by_hand(class_balanced, reference, expected):
    assert gated_accuracy(0.6, class_balanced, reference) == pytest.approx(expected)


def test_any_model_inside_the_gate_is_better_than_all_outside():
    rng = np.random.default_rng(0)
    inside = [gated_accuracy(worst, 0.8, 0.81) for worst in rng.random(50)]
    outside = [gated_accuracy(worst, balanced, 0.81) for worst, balanced in rng.random((50, 2)) * [1, 0.78]]
    assert min(inside) >= 0 > max(outside)
    # Of models outside, the one with the better average is the better one.
    assert gated_accuracy(0.9, 0.5, 0.81) < gated_accuracy(0.1, 0.6, 0.81)


LABELS = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
HARD_ROWS = np.array([1, 1, 0, 0, 0, 1, 0, 0, 0, 0], dtype=bool)
PREDICTED = np.array([0, 1, 0, 0, 0, 1, 1, 1, 1, 0])
"""Of class 0, hard rows 1 / 2 and easy rows 3 / 3; of class 1, hard rows 1 / 1 and easy rows 3 / 4."""


def accumulator(reference):
    index = GroupIndex.from_arrays(LABELS)
    codes = np.where(HARD_ROWS, 0, 1).astype(np.uint8)
    inferred = GroupIndex.from_codes(LABELS.astype(np.uint32), index.label_names, [(codes, ("hard", "easy"))])
    return index, GatedAccumulator(index, inferred, reference)


@pytest.mark.parametrize("reference, gated", [(None, 0.5), (0.81, 0.5), (0.83, -0.2)])
def test_an_evaluation_by_counting(reference, gated):
    index, subject = accumulator(reference)
    for part in (slice(0, 4), slice(4, 10)):
        subject.add(LABELS[part], index.codes[part], PREDICTED[part])
    result = subject.result()
    assert result["class_balanced_accuracy"] == pytest.approx(0.8) and result["worst_class_accuracy"] == 0.8
    assert result["worst_inferred_group_accuracy"] == 0.5 and result["gated_accuracy"] == pytest.approx(gated)
    flat = flatten_group_metrics(result)
    assert flat["gated_accuracy"] == result["gated_accuracy"] and flat["worst_inferred_group_accuracy"] == 0.5
    assert len(result["groups"]) == 2  # the table of groups stays that of the classes
    assert GATE_TOLERANCE == 0.02


def test_rows_in_another_order_are_refused():
    """Their inferred groups would be those of other rows."""
    index, subject = accumulator(None)
    order = np.arange(10)[::-1]
    subject.add(LABELS[order], index.codes[order], PREDICTED[order])
    with pytest.raises(ValueError, match="rows are not in the data set's order.*select on 'worst_class_accuracy'"):
        subject.result()
