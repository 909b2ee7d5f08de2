"""The spaces that c, beta, rule and t are drawn from: always settings that the trainer takes."""

import math
import warnings

import numpy as np
import optuna
import pytest
from helpers import EVEN, SKEWED

from gerne_hf import GerneConfig
from gerne_hf.groups.proportions import group_proportions
from gerne_hf.method.distributions import beta_bounds
from gerne_hf.method.pseudo_groups import hard_counts
from gerne_hf.tuning.space import (
    C_CHOICES,
    MAX_SHIFT,
    InferredSpace,
    beta_range,
    choices_of_c,
    draw_inferred_settings,
    draw_settings,
    largest_shift,
    starting_points,
    threshold_range,
)

pytestmark = pytest.mark.usefixtures("quick_and_quiet")


def drawn(counts, trials=120):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    return [draw_settings(study.ask(), np.array(counts)) for _ in range(trials)]


@pytest.mark.parametrize(
    "counts", [SKEWED, [[995, 5], [5, 995]], [[50, 3, 1], [1, 4, 5], [2, 2, 9]], [[9, 0], [3, 5]]]
)
def test_beta_is_inside_its_bounds(counts):
    alpha, target = group_proportions(np.array(counts)), np.array(counts) > 0
    target = target / target.sum(axis=1, keepdims=True)
    settings = drawn(counts)
    assert {s["c"] for s in settings} == set(C_CHOICES)
    for c in C_CHOICES:
        lower, upper = beta_bounds(alpha, c, target)
        betas = [s["beta"] for s in settings if s["c"] == c]
        assert all(lower <= beta <= upper for beta in betas)
        cut = min(upper, MAX_SHIFT / c - 1)
        assert min(betas) < lower + 0.25 * (cut - lower) and max(betas) > lower + 0.75 * (cut - lower)
    for s in settings:  # the names and the types are those of the config
        assert list(s) == ["c", "beta"]
        GerneConfig(output_dir="unused", use_cpu=True, report_to="none", **s)


def test_an_infinite_bound_is_cut_off():
    assert beta_bounds(group_proportions(np.array(EVEN)), 0.25)[1] == math.inf
    assert beta_range(np.array(EVEN), 0.25) == (-1.0, MAX_SHIFT / 0.25 - 1)
    assert beta_range(np.array([[501, 499]]), 1.0) == (-1.0, MAX_SHIFT - 1)  # finite, and far away
    assert all(math.isfinite(s["beta"]) for s in drawn(EVEN, trials=20))


def inferred(space, trials=120, **arguments):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    return [draw_inferred_settings(study.ask(), space, **arguments) for _ in range(trials)]


@pytest.mark.parametrize("sizes, own", [((48, 40), 0.2), ((2, 90), 0.5), ((5000, 700, 301), 0.01), ((3, 3), 0.4)])
def test_thresholds_leave_no_part_empty(sizes, own):
    sizes = np.array(sizes)
    low, high = threshold_range(sizes)
    assert hard_counts(sizes, low).min() == 1 and hard_counts(sizes, low * 0.999).min() == 0 and high == 0.5
    low, high = threshold_range(sizes, around=own)
    settings = inferred(InferredSpace({"threshold": 1.6}, sizes, own))
    for s in settings:
        assert own / 4 <= s["threshold"] <= own * 4 and low <= s["threshold"] <= high <= 0.5
        hard = hard_counts(sizes, s["threshold"])
        assert (hard >= 1).all() and (hard < sizes).all()
        upper = beta_bounds(np.stack([hard, sizes - hard], axis=1) / sizes[:, None], s["c"])[1]
        assert 1 - 1e-9 <= s["c"] * (s["beta"] + 1) <= 1.6 + 1e-9 and s["beta"] <= upper + 1e-9
    middle = math.sqrt(low * high)  # log-uniform: as many below as above
    assert 0.3 < np.mean([s["threshold"] < middle for s in settings]) < 0.7 or low == high


def test_inferred_groups_have_a_narrow_space():
    space = InferredSpace({"validation_shift": 1.2, "confident_mistakes": 1.6}, np.array([50, 50]))
    settings = inferred(space)
    for rule, most in space.rules.items():
        shifts = [s["c"] * (s["beta"] + 1) for s in settings if s["pseudo_rule"] == rule]
        assert 1 - 1e-9 <= min(shifts) < 1.05 and most - 0.05 < max(shifts) <= most + 1e-9 and len(shifts) > 30
    assert {s["c"] for s in settings} == set(C_CHOICES) and all("threshold" not in s for s in settings)
    for s in settings:  # the names and the types are those of the config
        GerneConfig(output_dir="unused", use_cpu=True, report_to="none", pseudo_attributes=True, **s)


def test_the_largest_shift_leaves_no_group_with_a_negative_weight():
    alpha, target = np.array([[0.1, 0.9], [0.5, 0.5]]), np.array([[0.9, 0.1], [0.5, 0.5]])
    most = largest_shift(alpha, target)
    assert most == 1.125 and (alpha + most * (target - alpha)).min() == pytest.approx(0, abs=1e-9)
    assert largest_shift(alpha, alpha) == 1.6  # no bound at all
    assert largest_shift(alpha, np.array([[1.0, 0.0], [0.5, 0.5]])) == 1.0


def test_the_settings_of_a_start_are_taken_as_they_are():
    args = GerneConfig(output_dir="unused", use_cpu=True, report_to="none", c=0.6, beta=3, pseudo_attributes=True)
    space = InferredSpace({"validation_shift": 1.2}, np.array([50, 50]))
    starts = starting_points(args, space)
    own = {"pseudo_rule": "validation_shift", "c": 0.6, "beta": 3.0}
    assert starts == {"your settings": own, "class-balanced ERM": {**own, "beta": -1.0}}
    assert starting_points(args, None) == {"your settings": {"c": 0.6, "beta": 3.0}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna warns of a value outside its interval
        for start in starts.values():
            study = optuna.create_study()
            study.enqueue_trial(start)
            assert draw_inferred_settings(study.ask(), space, choices_of_c(0.6), start) == start
    args.pseudo_rule, args.threshold = "auto", 0.25
    starts = starting_points(args, InferredSpace({"threshold": 1.6}, np.array([50, 50]), 0.25))
    assert [start["threshold"] for start in starts.values()] == [0.25, 0.25]


def test_a_class_of_one_row_cannot_be_split():
    with pytest.raises(ValueError, match="class 1 has 1 training rows"):
        threshold_range(np.array([9, 1]))
