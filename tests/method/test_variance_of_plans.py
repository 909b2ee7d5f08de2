"""The gradient of a batch on a toy: plans of one expectation differ in its variance (App. B)."""

import numpy as np
import pytest

from gerne_hf import BatchPlan, GroupIndex, GroupSampler

COUNTS = [[190, 10], [20, 80]]
ROWS, BATCHES = 32, 4000


@pytest.fixture(scope="module")
def gradients():
    """What 4,000 batches of each plan estimate of a gradient, one number a row: mean and variance; and p_ext's own."""
    codes = np.repeat(np.arange(4), np.ravel(COUNTS))
    groups = GroupIndex.from_arrays(codes // 2, codes % 2)
    per_row = np.random.default_rng(0).normal(loc=[1.0, -2.0, 0.5, 3.0], size=(300, 4))[np.arange(300), codes]
    found, expected = {}, {}
    for name in ("independent", "sampling_weighting", "collapsed"):
        plan = BatchPlan.build(name, ROWS, groups.alpha, c=0.5, beta=1.2)
        means = np.array([per_row[codes == group].mean() for group in range(4)])
        expected[name] = float(plan.expected_weights().ravel() @ means)
        batches = np.concatenate([*GroupSampler(groups, plan, ROWS * BATCHES).blocks()])
        total = np.zeros(len(batches))
        for segment, part in zip(plan.segments, plan.slices(), strict=True):
            rows = batches[:, part]
            weights = 1.0 if segment.group_weights is None else segment.group_weights.ravel()[codes[rows]]
            total += segment.coefficient * (weights * per_row[rows]).mean(axis=1)
        found[name] = total.mean(), total.var()
    return found, expected


def test_sw_has_the_expected_gradient_of_the_extrapolated_distribution(gradients):
    found, expected = gradients
    assert expected["sampling_weighting"] == pytest.approx(expected["collapsed"], abs=1e-12)
    for name, (mean, variance) in found.items():
        assert abs(mean - expected["collapsed"]) <= 5 * np.sqrt(variance / BATCHES), name


def test_sw_has_a_smaller_variance_than_gerne(gradients):
    found, _ = gradients
    assert found["sampling_weighting"][1] < 0.5 * found["independent"][1]
    assert found["collapsed"][1] < found["sampling_weighting"][1]
