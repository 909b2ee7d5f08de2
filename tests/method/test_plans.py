"""Batch plans: their expected weights (Eq. 10), their segments, and what they refuse."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gerne_hf import BatchPlan, beta_bounds
from gerne_hf.groups.proportions import group_proportions, uniform_target
from gerne_hf.method.plans import PLANS

TOLERANCE = 1e-12
LEAST_ROWS = {name: {"independent": 2, "shared": 3}.get(name, 1) for name in PLANS}
ALPHA = np.array([[0.9, 0.06, 0.04], [0.05, 0.15, 0.8]])
property_test = settings(derandomize=True, deadline=None, max_examples=100)


@st.composite
def inputs(draw, least: int = 1):
    """Group counts, p(y), c, and a beta within its bounds."""
    num_classes, num_attributes = draw(st.integers(1, 4)), draw(st.integers(2, 5))
    row = st.lists(st.integers(least, 5000), min_size=num_attributes, max_size=num_attributes).filter(any)
    counts = np.array(draw(st.lists(row, min_size=num_classes, max_size=num_classes)))
    c = draw(st.floats(0.05, 1.0))
    alpha, target = group_proportions(counts), uniform_target(counts)
    assume((alpha - target).max() > 1e-2)
    lower, upper = beta_bounds(alpha, c, target)
    beta = lower + draw(st.floats(0, 1)) * (upper - lower)
    classes = np.array(draw(st.lists(st.integers(1, 9), min_size=num_classes, max_size=num_classes)))
    return counts, classes / classes.sum(), c, beta


def equation_10(alpha, target, classes, c, beta):
    """Weight of each group's mean loss, by plan."""
    p_ext = alpha + c * (beta + 1) * (target - alpha)
    conditional = {"erm": alpha, "resampling": target}
    filled = alpha * classes[:, None] > 0
    alike = {"group_weighted_loss": filled / filled.sum()}  # whatever p(y) is
    return {name: alike.get(name, classes[:, None] * conditional.get(name, p_ext)) for name in PLANS}


def test_there_are_eight_plans():
    assert len(set(PLANS)) == len(PLANS) == 8


@pytest.mark.parametrize("name", PLANS)
@property_test
@given(inputs(least=1), st.integers(3, 64))
def test_expected_weights_are_eq_10(name, case, rows):
    counts, classes, c, beta = case
    alpha = group_proportions(counts)
    plan = BatchPlan.build(name, rows, alpha, c, beta, classes)
    uniform = np.full(alpha.shape, 1 / alpha.shape[1])
    expected = equation_10(alpha, uniform, classes, c, beta)[name]
    np.testing.assert_allclose(plan.expected_weights(), expected, rtol=0, atol=TOLERANCE)


@property_test
@given(inputs(least=1), st.integers(2, 64), st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_the_split_of_the_rows_leaves_the_expected_weights(case, rows, share):
    counts, classes, c, beta = case
    alpha = group_proportions(counts)
    plan = BatchPlan.build("independent", rows, alpha, c, beta, classes, biased_share=share)
    half = BatchPlan.build("independent", rows, alpha, c, beta, classes)
    np.testing.assert_array_equal(plan.expected_weights(), half.expected_weights())
    biased, less_biased = (segment.rows for segment in plan.segments)
    assert plan.rows == rows and min(biased, less_biased) >= 1
    assert abs(biased - share * rows) < 1 or 1 in (biased, less_biased)
    assert [segment.rows for segment in half.segments] == [rows // 2, rows - rows // 2]


@pytest.mark.parametrize(
    "rows, share, biased", [(10, 0.3, 3), (100, 0.29, 29), (7, 0.5, 3), (3, 0.01, 1), (3, 0.99, 2)]
)
def test_the_rows_of_a_share(rows, share, biased):
    plan = BatchPlan.build("independent", rows, ALPHA, biased_share=share)
    assert [segment.rows for segment in plan.segments] == [biased, rows - biased]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, math.nan])
def test_a_share_beyond_its_range_is_refused(share):
    with pytest.raises(ValueError, match="biased_share, the biased batch's share of the rows, must lie in"):
        BatchPlan.build("independent", 8, ALPHA, biased_share=share)


@pytest.mark.parametrize("name", PLANS)
@property_test
@given(inputs(least=0), st.integers(3, 64))
def test_expected_weights_with_empty_groups(name, case, rows):
    counts, classes, c, beta = case
    alpha, target = group_proportions(counts), uniform_target(counts)
    plan = BatchPlan.build(name, rows, alpha, c, beta, classes, target)
    expected = equation_10(alpha, target, classes, c, beta)[name]
    np.testing.assert_allclose(plan.expected_weights(), expected, rtol=0, atol=TOLERANCE)
    for segment in plan.segments:
        assert (segment.distribution[counts == 0] == 0).all(), segment.name


@pytest.mark.parametrize("name", PLANS)
@property_test
@given(inputs(least=0), st.integers(3, 64))
def test_segments_draw_from_distributions_with_the_class_probabilities(name, case, rows):
    counts, classes, c, beta = case
    plan = BatchPlan.build(name, rows, group_proportions(counts), c, beta, classes, uniform_target(counts))
    for segment in plan.segments:
        assert segment.distribution.min() >= 0, segment.name
        assert segment.distribution.sum() == pytest.approx(1, abs=TOLERANCE), segment.name
    if name != "shared":  # a class with p_b = p_lb has no rows in the remainders of "shared"
        for segment in plan.segments:
            np.testing.assert_allclose(segment.distribution.sum(axis=1), classes, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", PLANS)
def test_classes_are_balanced_by_default(name):
    plan = BatchPlan.build(name, 12, ALPHA, 0.5, 0.4)
    np.testing.assert_allclose(plan.expected_weights().sum(axis=1), [0.5, 0.5], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", PLANS)
def test_segments_fill_every_batch_size(name):
    for rows in range(LEAST_ROWS[name], 68):
        plan = BatchPlan.build(name, rows, ALPHA, 0.5, 0.4)
        assert plan.rows == sum(segment.rows for segment in plan.segments) == rows
        assert min(segment.rows for segment in plan.segments) >= 1
        covered = np.concatenate([np.arange(rows)[part] for part in plan.slices()])
        assert covered.tolist() == list(range(rows))
        assert [len(range(rows)[part]) for part in plan.slices()] == [segment.rows for segment in plan.segments]
        np.testing.assert_allclose(
            plan.expected_weights(),
            BatchPlan.build(name, 64, ALPHA, 0.5, 0.4).expected_weights(),
            rtol=0,
            atol=TOLERANCE,
        )


@pytest.mark.parametrize("name", PLANS)
def test_too_small_batches_are_refused(name):
    least = LEAST_ROWS[name]
    message = f"plan {name!r} needs a batch of at least {least} rows.*found {least - 1}.*per_device_train_batch_size"
    with pytest.raises(ValueError, match=message):
        BatchPlan.build(name, least - 1, ALPHA, 0.5, 0.4)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="unknown plan 'gdro'; the plans are independent, shared, .*reweighting"):
        BatchPlan.build("gdro", 8, ALPHA)


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize(
    ("c", "beta", "message"),
    [
        (0.0, 1.0, r"\(0, 1\]; found 0.0"),
        (1.5, 1.0, r"\(0, 1\]; found 1.5"),
        (math.nan, 1.0, "found nan"),
        (0.5, math.nan, "beta must be a finite number; found nan"),
    ],
)
def test_bad_c_and_beta_are_refused_by_every_plan(name, c, beta, message):
    with pytest.raises(ValueError, match=message):
        BatchPlan.build(name, 8, ALPHA, c, beta)


def test_the_papers_two_batches():
    plan = BatchPlan.build("independent", 9, ALPHA, 0.5, 0.4)
    biased, less_biased = plan.segments
    assert (biased.rows, less_biased.rows) == (4, 5)
    np.testing.assert_allclose(plan.coefficients, [-0.4, 1.4], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(biased.distribution, ALPHA / 2, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(less_biased.distribution, (ALPHA + 0.5 * (1 / 3 - ALPHA)) / 2, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", ["independent", "shared"])
@property_test
@given(inputs(least=0), st.integers(3, 64))
def test_components_are_the_losses_of_the_two_batches(name, case, rows):
    counts, classes, c, beta = case
    alpha, target = group_proportions(counts), uniform_target(counts)
    plan = BatchPlan.build(name, rows, alpha, c, beta, classes, target)
    parts = np.stack([segment.distribution for segment in plan.segments])
    biased, less_biased = (np.tensordot(plan.components[key], parts, 1) for key in ("loss_biased", "loss_less_biased"))
    np.testing.assert_allclose(biased, classes[:, None] * alpha, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(less_biased, classes[:, None] * (alpha + c * (target - alpha)), rtol=0, atol=TOLERANCE)
    factors = (1 + beta) * plan.components["loss_less_biased"] - beta * plan.components["loss_biased"]
    np.testing.assert_allclose(plan.coefficients, factors, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", PLANS)
def test_slopes_are_what_the_coefficients_gain_when_beta_grows_by_one(name):
    low, high = (BatchPlan.build(name, 12, ALPHA, 0.5, beta) for beta in (-0.3, 0.7))
    if name in ("independent", "shared"):
        np.testing.assert_allclose(low.slopes, high.coefficients - low.coefficients, rtol=0, atol=TOLERANCE)
    else:
        assert low.slopes is None


def test_shared_has_each_row_of_both_batches_once():
    plan = BatchPlan.build("shared", 1000, ALPHA, 0.5, 0.4)
    p_b, p_lb = ALPHA / 2, (ALPHA + 0.5 * (1 / 3 - ALPHA)) / 2
    mass = np.minimum(p_b, p_lb).sum()
    shared, biased_only, less_biased_only = plan.segments
    assert biased_only.rows == less_biased_only.rows
    assert shared.rows / (shared.rows + biased_only.rows) == pytest.approx(mass, abs=2e-3)
    assert (biased_only.distribution > 0).tolist() == (p_b > p_lb).tolist()
    assert (less_biased_only.distribution > 0).tolist() == (p_lb > p_b).tolist()


@pytest.mark.parametrize("rows", range(3, 40))
def test_the_rows_of_shared_are_the_nearest_to_their_part(rows):
    p_b, p_lb = ALPHA / 2, (ALPHA + 0.5 * (1 / 3 - ALPHA)) / 2
    mass = np.minimum(p_b, p_lb).sum()
    shared, biased_only, less_biased_only = (s.rows for s in BatchPlan.build("shared", rows, ALPHA, 0.5).segments)
    assert biased_only == less_biased_only and shared + 2 * biased_only == rows
    part = rows * (1 - mass) / (2 - mass)
    assert abs(biased_only - part) <= 0.5 or (biased_only, part < 1) == (1, True)


def test_shared_of_almost_balanced_groups_still_extrapolates():
    plan = BatchPlan.build("shared", 9, np.array([[0.5001, 0.4999]]), 0.5, 1.0)
    assert len(plan.segments) == 3 and plan.coefficients[1] == pytest.approx(-0.00005)


def test_shared_without_anything_to_extrapolate_is_one_segment():
    balanced = np.full((2, 4), 0.25)
    plan = BatchPlan.build("shared", 1, balanced, 0.5, 5.0)
    assert [(segment.rows, segment.coefficient) for segment in plan.segments] == [(1, 1.0)]
    np.testing.assert_allclose(plan.expected_weights(), balanced / 2, rtol=0, atol=TOLERANCE)


def test_shared_without_a_common_group_is_refused():
    with pytest.raises(ValueError, match="no group in common; choose the plan 'independent'"):
        BatchPlan.build("shared", 8, np.array([[1.0, 0.0]]), 1.0, 1.0, target=np.array([[0.0, 1.0]]))


def test_collapsed_beyond_the_bound_is_refused():
    upper = beta_bounds(ALPHA, 0.5)[1]
    at_bound = BatchPlan.build("collapsed", 8, ALPHA, 0.5, upper).segments[0].distribution
    assert at_bound.min() == pytest.approx(0, abs=TOLERANCE) and at_bound.min() >= 0
    rounded_up = BatchPlan.build("collapsed", 8, ALPHA, 0.5, upper + 1e-9).segments[0].distribution
    assert rounded_up.min() == 0 and rounded_up.sum() == pytest.approx(1, abs=TOLERANCE)
    with pytest.raises(ValueError, match="makes negative"):
        BatchPlan.build("collapsed", 8, ALPHA, 0.5, upper + 1e-6)
    with pytest.raises(ValueError, match=rf"beta=2.5 makes negative; choose beta in \[-1, {upper:.4g}\] or the plan"):
        BatchPlan.build("collapsed", 8, ALPHA, 0.5, 2.5)


def test_the_plans_that_weight_rows():
    for name in PLANS:
        plan = BatchPlan.build(name, 8, ALPHA, 0.5, 0.4)
        weighted = [segment.group_weights is not None for segment in plan.segments]
        assert any(weighted) == (name in ("reweighting", "sampling_weighting", "group_weighted_loss"))
    weights = BatchPlan.build("reweighting", 8, ALPHA, 0.5, 0.4).segments[0].group_weights
    np.testing.assert_allclose(weights, (ALPHA + 0.7 * (1 / 3 - ALPHA)) / ALPHA, rtol=1e-12)


def test_sw_draws_the_less_biased_batch_and_weights_it_to_the_extrapolated_distribution():
    (segment,) = BatchPlan.build("sampling_weighting", 8, ALPHA, 0.5, 0.4).segments
    p_lb, p_ext = ALPHA + 0.5 * (1 / 3 - ALPHA), ALPHA + 0.7 * (1 / 3 - ALPHA)
    assert (segment.name, segment.rows, segment.coefficient) == ("less_biased", 8, 1.0)
    np.testing.assert_allclose(segment.distribution, p_lb / 2, rtol=1e-12)
    np.testing.assert_allclose(segment.group_weights, p_ext / p_lb, rtol=1e-12)


def test_the_group_weighted_loss_weights_rows_by_n_over_g_times_n_g():
    counts = np.array([[60, 4, 20], [10, 6, 0]])
    classes = counts.sum(axis=1) / 100
    plan = BatchPlan.build("group_weighted_loss", 8, group_proportions(counts), class_probabilities=classes)
    expected = np.where(counts > 0, 100 / (5 * np.maximum(counts, 1)), 0)
    np.testing.assert_allclose(plan.segments[0].group_weights, expected, rtol=1e-12)
    np.testing.assert_allclose(plan.segments[0].distribution, counts / 100, rtol=1e-12)


def test_single_stream():
    plan = BatchPlan.single("biased", 5, ALPHA / 2)
    assert plan.rows == 5 and plan.coefficients.tolist() == [1.0]
    np.testing.assert_array_equal(plan.expected_weights(), ALPHA / 2)
    with pytest.raises(ValueError, match="plan 'biased' needs a batch of at least 1 rows.*found 0"):
        BatchPlan.single("biased", 0, ALPHA / 2)
