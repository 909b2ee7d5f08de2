"""The space that c, beta and t are drawn from: always settings that the trainer takes."""

import math

import numpy as np
import optuna
import pytest
from helpers import EVEN, SKEWED

from gerne_hf import GerneConfig
from gerne_hf.groups.proportions import group_proportions
from gerne_hf.method.distributions import beta_bounds
from gerne_hf.method.pseudo_groups import hard_counts
from gerne_hf.tuning.space import C_CHOICES, MAX_SHIFT, beta_range, draw_settings, threshold_range

pytestmark = pytest.mark.usefixtures("quick_and_quiet")


def drawn(counts, pseudo_attributes=False, trials=120):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    return [draw_settings(study.ask(), np.array(counts), pseudo_attributes) for _ in range(trials)]


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


@pytest.mark.parametrize("sizes", [(48, 40), (2, 90), (5000, 700, 301), (3, 3)])
def test_thresholds_leave_no_part_empty(sizes):
    sizes = np.array(sizes)
    low, high = threshold_range(sizes)
    assert hard_counts(sizes, low).min() == 1 and hard_counts(sizes, low * 0.999).min() == 0 and high == 0.5
    # The trainer's own groups are those of another threshold; only the sizes of the classes count.
    settings = drawn(np.stack([sizes // 2, sizes - sizes // 2], axis=1), pseudo_attributes=True)
    for s in settings:
        hard = hard_counts(sizes, s["threshold"])
        assert (hard >= 1).all() and (hard < sizes).all()
        lower, upper = beta_bounds(np.stack([hard, sizes - hard], axis=1) / sizes[:, None], s["c"])
        assert lower <= s["beta"] <= min(upper, MAX_SHIFT / s["c"] - 1)
    middle = math.sqrt(low * high)  # log-uniform: as many below as above
    assert 0.3 < np.mean([s["threshold"] < middle for s in settings]) < 0.7 or low == high


def test_a_class_of_one_row_cannot_be_split():
    with pytest.raises(ValueError, match="class 1 has 1 training rows"):
        threshold_range(np.array([9, 1]))
