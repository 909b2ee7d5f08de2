"""Group distributions of GERNE and the bounds of its extrapolation factor (pure NumPy, float64).

Everything here is a function of `alpha`, the `(K, A)` array of the attributes' shares within each class (Eq. 2 of
"Gradient Extrapolation for Debiased Representation Learning", ICCV 2025), and of `target`, the unbiased distribution
that the less biased batch moves towards: `1 / A` in the paper. All distributions are conditional, `p(a | y)`: each row
sums to one.
"""

import math
import numbers

import numpy as np

_SUM_TOLERANCE = 1e-9


def biased_distribution(alpha: np.ndarray) -> np.ndarray:
    """`p_b(a | y) = alpha_ya`, the distribution of the biased batch.

    Args:
        alpha (`np.ndarray` of shape `(K, A)`): group proportions within each class.

    Returns:
        `np.ndarray` of shape `(K, A)`, float64.
    """
    return _checked_alpha(alpha).copy()


def less_biased_distribution(alpha: np.ndarray, c: float, target: np.ndarray | None = None) -> np.ndarray:
    """`p_lb(a | y) = alpha_ya + c (1/A - alpha_ya)` (Eq. 4), the distribution of the less biased batch.

    Args:
        alpha (`np.ndarray` of shape `(K, A)`): group proportions within each class.
        c (`float`): degree of bias reduction, in (0, 1]; 1 gives the unbiased distribution.
        target (`np.ndarray` of shape `(K, A)`, *optional*): the unbiased distribution; `1 / A` if not given.

    Returns:
        `np.ndarray` of shape `(K, A)`, float64.
    """
    return extrapolated_distribution(alpha, c, 0.0, target)


def extrapolated_distribution(
    alpha: np.ndarray, c: float, beta: float, target: np.ndarray | None = None
) -> np.ndarray:
    """`p_ext(a | y) = alpha_ya + c (beta + 1)(1/A - alpha_ya)` (Eq. 8): what training on `L_ext` amounts to.

    Inside the [bounds of beta](beta_bounds) this is a distribution; outside of them some entries are negative.

    Args:
        alpha (`np.ndarray` of shape `(K, A)`): group proportions within each class.
        c (`float`): degree of bias reduction, in (0, 1].
        beta (`float`): extrapolation factor.
        target (`np.ndarray` of shape `(K, A)`, *optional*): the unbiased distribution; `1 / A` if not given.

    Returns:
        `np.ndarray` of shape `(K, A)`, float64: rows sum to one.
    """
    alpha = _checked_alpha(alpha)
    check_c(c)
    if not isinstance(beta, numbers.Real) or not math.isfinite(beta):
        raise ValueError(f"beta must be a finite number; found {beta}")
    return alpha + c * (beta + 1.0) * (_checked_target(alpha, target) - alpha)


def beta_bounds(alpha: np.ndarray, c: float, target: np.ndarray | None = None) -> tuple[float, float]:
    """The interval of beta in which `p_ext` stays in [0, 1] (Eq. 9, App. C).

    `beta` lies in `[-1, alpha_max / (c (alpha_max - 1/A)) - 1]`, where alpha_max is the largest entry of alpha. The
    general form that is computed, the minimum over the groups above their target share, gives the same figure for the
    uniform target. Groups at or below their target put no bound on beta; where there are no others (every class has
    its target distribution already) the upper bound is infinite.

    Args:
        alpha (`np.ndarray` of shape `(K, A)`): group proportions within each class.
        c (`float`): degree of bias reduction, in (0, 1].
        target (`np.ndarray` of shape `(K, A)`, *optional*): the unbiased distribution; `1 / A` if not given.

    Returns:
        `tuple[float, float]`: lower and upper bound, both inclusive.
    """
    alpha = _checked_alpha(alpha)
    check_c(c)
    target = _checked_target(alpha, target)
    excess = alpha - target
    above = excess > np.finfo(np.float64).eps
    if not above.any():
        return -1.0, math.inf
    return -1.0, float((alpha[above] / (c * excess[above])).min() - 1.0)


def check_c(c: float) -> None:
    """Raise a `ValueError` unless `c`, the degree of bias reduction, lies in (0, 1]."""
    if not isinstance(c, numbers.Real) or not 0.0 < c <= 1.0:
        raise ValueError(f"c, the degree of bias reduction (Eq. 4), must lie in (0, 1]; found {c}")


def _checked_alpha(alpha: np.ndarray) -> np.ndarray:
    alpha = np.asarray(alpha, dtype=np.float64)
    if alpha.ndim != 2 or alpha.size == 0:
        raise ValueError(f"alpha must be a (K, A) array with at least one group; found shape {alpha.shape}")
    if not is_distribution(alpha, axis=1):
        raise ValueError(f"every row of alpha must be a distribution (non-negative, sum 1); found {alpha.tolist()}")
    return alpha


def _checked_target(alpha: np.ndarray, target: np.ndarray | None) -> np.ndarray:
    if target is None:
        return np.full_like(alpha, 1.0 / alpha.shape[1])
    target = np.asarray(target, dtype=np.float64)
    if target.shape != alpha.shape:
        raise ValueError(f"target must have the shape of alpha, {alpha.shape}; found {target.shape}")
    if not is_distribution(target, axis=1):
        raise ValueError(f"every row of target must be a distribution (non-negative, sum 1); found {target.tolist()}")
    return target


def is_distribution(masses: np.ndarray, axis: int | None = None) -> bool:
    """Whether the masses, along an axis or all together, are numbers, not negative and of sum 1."""
    return bool((masses >= 0).all() and (np.abs(masses.sum(axis=axis) - 1) <= _SUM_TOLERANCE).all())
