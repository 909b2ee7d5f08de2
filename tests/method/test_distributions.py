"""Eq. 2, 4, 8 and 9 of the paper, computed here in exact fractions, against the package's float64."""

import math
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gerne_hf import beta_bounds, biased_distribution, extrapolated_distribution, less_biased_distribution
from gerne_hf.groups.proportions import group_proportions, uniform_target
from gerne_hf.method.distributions import check_c

TOLERANCE = 1e-12
property_test = settings(derandomize=True, deadline=None, max_examples=150)

degrees = st.floats(0.01, 1.0)
betas = st.floats(-1.0, 20.0)


@st.composite
def group_counts(draw, least: int = 1):
    num_classes, num_attributes = draw(st.integers(1, 5)), draw(st.integers(2, 8))
    row = st.lists(st.integers(least, 50_000), min_size=num_attributes, max_size=num_attributes).filter(any)
    return np.array(draw(st.lists(row, min_size=num_classes, max_size=num_classes)))


def exact_alpha(counts):
    return [[Fraction(int(n), int(sum(row))) for n in row] for row in counts]


def exact_mixture(counts, factor: Fraction):
    """alpha_ya + factor (1/A - alpha_ya) for every group."""
    share = Fraction(1, counts.shape[1])
    return [[alpha + factor * (share - alpha) for alpha in row] for row in exact_alpha(counts)]


def assert_equal(found: np.ndarray, expected: list[list[Fraction]]) -> None:
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.array(expected, dtype=np.float64), rtol=0, atol=TOLERANCE)


@property_test
@given(group_counts(least=0))
def test_alpha_is_eq_2(counts):
    assert_equal(group_proportions(counts), exact_alpha(counts))
    assert_equal(biased_distribution(group_proportions(counts)), exact_alpha(counts))


@property_test
@given(group_counts(least=0), degrees)
def test_less_biased_distribution_is_eq_4(counts, c):
    found = less_biased_distribution(group_proportions(counts), c)
    assert_equal(found, exact_mixture(counts, Fraction(c)))
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=0, atol=TOLERANCE)


@property_test
@given(group_counts(least=0), degrees, betas)
def test_extrapolated_distribution_is_eq_8(counts, c, beta):
    found = extrapolated_distribution(group_proportions(counts), c, beta)
    assert_equal(found, exact_mixture(counts, Fraction(c) * (Fraction(beta) + 1)))
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=0, atol=TOLERANCE)


@property_test
@given(group_counts(), degrees, betas)
def test_extrapolated_distribution_combines_the_two_batches_as_eq_5(counts, c, beta):
    alpha = group_proportions(counts)
    biased, less_biased = biased_distribution(alpha), less_biased_distribution(alpha, c)
    combined = less_biased + beta * (less_biased - biased)
    np.testing.assert_allclose(extrapolated_distribution(alpha, c, beta), combined, rtol=0, atol=TOLERANCE)


@property_test
@given(group_counts(), degrees)
def test_special_settings(counts, c):
    alpha = group_proportions(counts)
    uniform = np.full(alpha.shape, 1 / alpha.shape[1])
    close = {"rtol": 0, "atol": TOLERANCE}
    np.testing.assert_allclose(extrapolated_distribution(alpha, c, -1.0), alpha, **close)
    np.testing.assert_allclose(extrapolated_distribution(alpha, 1.0, 0.0), uniform, **close)
    np.testing.assert_allclose(extrapolated_distribution(alpha, c, 1 / c - 1), uniform, **close)


@property_test
@given(group_counts(least=0), degrees)
def test_bounds_are_eq_9(counts, c):
    alpha_max = max(max(row) for row in exact_alpha(counts))
    excess = alpha_max - Fraction(1, counts.shape[1])
    assume(excess > Fraction(1, 1000))
    lower, upper = beta_bounds(group_proportions(counts), c)
    assert lower == -1.0
    assert upper == pytest.approx(float(alpha_max / (Fraction(c) * excess) - 1), rel=TOLERANCE, abs=TOLERANCE)


@property_test
@given(group_counts(least=0), degrees, st.floats(0, 1))
def test_p_ext_is_a_distribution_exactly_within_the_bounds(counts, c, share):
    alpha = group_proportions(counts)
    assume(alpha.max() - 1 / alpha.shape[1] > 1e-3)
    lower, upper = beta_bounds(alpha, c)
    inside = extrapolated_distribution(alpha, c, lower + share * (upper - lower))
    assert inside.min() >= -TOLERANCE and inside.max() <= 1 + TOLERANCE
    assert abs(extrapolated_distribution(alpha, c, upper).min()) <= TOLERANCE
    assert extrapolated_distribution(alpha, c, upper + 1e-6 * (upper + 1)).min() < -1e-8


@property_test
@given(group_counts(least=0), degrees)
def test_bounds_for_the_target_without_empty_groups(counts, c):
    alpha, target = group_proportions(counts), uniform_target(counts)
    assume((alpha - target).max() > 1e-3)
    upper = beta_bounds(alpha, c, target)[1]
    at_bound = extrapolated_distribution(alpha, c, upper, target)
    beyond = extrapolated_distribution(alpha, c, upper + 1e-6 * (upper + 1), target)
    assert at_bound[counts > 0].min() == pytest.approx(0, abs=TOLERANCE)
    assert (at_bound[counts == 0] == 0).all()
    assert beyond.min() < -1e-8


@property_test
@given(group_counts(least=0))
def test_uniform_target_shares_a_class_among_its_present_groups(counts):
    expected = [[Fraction(int(n > 0), int((row > 0).sum())) for n in row] for row in counts]
    assert_equal(uniform_target(counts), expected)


def test_colored_mnist_half_percent():
    counts = np.zeros((10, 10), dtype=int)
    sizes = np.array([5444, 6179, 5470, 5638, 5307, 4987, 5417, 5715, 5389, 5454])  # 55,000 rows over ten digits
    for digit, size in enumerate(sizes):
        minority = 24 if digit == 0 else 25  # 249 over all digits
        others = [colour for colour in range(10) if colour != digit]
        counts[digit, others] = [minority // 9 + (i < minority % 9) for i in range(9)]
        counts[digit, digit] = size - minority
    assert counts.sum() == 55_000 and counts.sum() - np.trace(counts) == 249
    lower, upper = beta_bounds(group_proportions(counts), c=0.5)
    assert lower == -1.0
    assert round(upper, 2) == 1.22


@pytest.mark.parametrize("num_attributes", [1, 2, 3, 7, 10])
def test_balanced_groups_put_no_bound_on_beta(num_attributes):
    assert beta_bounds(np.full((3, num_attributes), 1 / num_attributes), 0.5) == (-1.0, math.inf)


def test_results_are_copies():
    alpha = np.array([[0.9, 0.1]])
    for result in (
        biased_distribution(alpha),
        less_biased_distribution(alpha, 0.5),
        extrapolated_distribution(alpha, 0.5, 1.0),
    ):
        result[:] = 7
    assert alpha.tolist() == [[0.9, 0.1]]


@pytest.mark.parametrize("c", [0.0, -0.1, 1.0001, 2, math.nan, math.inf])
def test_c_outside_its_range_is_refused(c):
    alpha = np.array([[0.9, 0.1]])
    message = rf"must lie in \(0, 1\]; found {c}"
    for call in (
        lambda: check_c(c),
        lambda: beta_bounds(alpha, c),
        lambda: less_biased_distribution(alpha, c),
        lambda: extrapolated_distribution(alpha, c, 1.0),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("beta", [math.nan, math.inf, -math.inf, "1.0", None, 1j])
def test_beta_that_is_no_number_is_refused(beta):
    with pytest.raises(ValueError, match=re.escape(f"beta must be a finite number; found {beta}")):
        extrapolated_distribution(np.array([[0.9, 0.1]]), 0.5, beta)


@pytest.mark.parametrize(
    ("alpha", "message"),
    [
        ([0.5, 0.5], r"alpha must be a \(K, A\) array.*found shape \(2,\)"),
        (np.zeros((0, 2)), r"found shape \(0, 2\)"),
        ([[0.5, 0.4]], r"every row of alpha must be a distribution.*\[\[0\.5, 0\.4\]\]"),
        ([[1.5, -0.5]], r"\[\[1\.5, -0\.5\]\]"),
        ([[math.nan, 1.0]], r"\[\[nan, 1\.0\]\]"),
    ],
)
def test_alpha_that_is_no_distribution_is_refused(alpha, message):
    for call in (biased_distribution, lambda a: extrapolated_distribution(a, 0.5, 1.0), lambda a: beta_bounds(a, 0.5)):
        with pytest.raises(ValueError, match=message):
            call(alpha)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (np.full((2, 2), 0.5), r"target must have the shape of alpha, \(1, 2\); found \(2, 2\)"),
        ([[0.5, 0.6]], r"every row of target must be a distribution.*\[\[0\.5, 0\.6\]\]"),
        ([[-0.5, 1.5]], r"\[\[-0\.5, 1\.5\]\]"),
        ([[math.nan, 1.0]], r"\[\[nan, 1\.0\]\]"),
    ],
)
def test_target_that_does_not_fit_is_refused(target, message):
    alpha = np.array([[0.9, 0.1]])
    for call in (
        lambda: beta_bounds(alpha, 0.5, target),
        lambda: less_biased_distribution(alpha, 0.5, target),
        lambda: extrapolated_distribution(alpha, 0.5, 1.0, target),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_lists_are_taken():
    assert group_proportions([[5]]).tolist() == [[1.0]]
    assert biased_distribution([[0.75, 0.25]]).tolist() == [[0.75, 0.25]]
    assert less_biased_distribution([[0.75, 0.25]], 0.5, [[0.5, 0.5]]).tolist() == [[0.625, 0.375]]
    assert beta_bounds([[0.75, 0.25]], 1.0, [[0.5, 0.5]]) == (-1.0, 2.0)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([3, 4], r"counts must be a \(K, A\) array.*found shape \(2,\)"),
        (np.zeros((2, 0)), r"counts must be a \(K, A\) array.*found shape \(2, 0\)"),
        ([[3, -4]], "counts must not be negative; found -4"),
        ([[3, 4], [0, 0], [1, 0], [0, 0]], r"classes \[1, 3\] have no rows"),
    ],
)
def test_counts_without_proportions_are_refused(counts, message):
    with pytest.raises(ValueError, match=message):
        group_proportions(np.array(counts))
