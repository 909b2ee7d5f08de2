"""The group distributions that batches are drawn from, and the bounds of the extrapolation factor beta.

Pure NumPy in float64; imports nothing of this package. Next: [`plans`](gerne_hf.method.plans), which makes batches of
these distributions.

Everything here is a function of `alpha`, the `(K, A)` array with the share of each attribute value within each class
(Eq. 2 of "Gradient Extrapolation for Debiased Representation Learning", ICCV 2025), and of `target`, the unbiased
distribution that the less biased batch moves towards: `1 / A` in the paper. K is the number of classes and A the
number of attribute values. All distributions are conditional, `p(a | y)`: each row of an array sums to one.
"""

import math
import numbers

import numpy as np

_SUM_TOLERANCE = 1e-9


def biased_distribution(alpha: np.ndarray) -> np.ndarray:
    """Return the distribution of the biased batch, `p_b(a | y) = alpha_ya`: that of the training set itself.

    Args:
        alpha (`np.ndarray` of shape `(K, A)`): group proportions within each class (Eq. 2).

    Returns:
        `np.ndarray` of shape `(K, A)`, float64: a copy of `alpha`.

    Raises:
        ValueError: if `alpha` is no such array of distributions.

    Example:

    ```python
    >>> biased_distribution(np.array([[0.9, 0.1], [0.2, 0.8]])).tolist()
    [[0.9, 0.1], [0.2, 0.8]]

    ```
    """
    return _checked_alpha(alpha).copy()


def less_biased_distribution(alpha: np.ndarray, c: float, target: np.ndarray | None = None) -> np.ndarray:
    """Return the distribution of the less biased batch, `p_lb(a | y) = alpha_ya + c (1/A - alpha_ya)` (Eq. 4).

    Args:
        alpha (`np.ndarray` of shape `(K, A)`): group proportions within each class (Eq. 2).
        c (`float`): degree of bias reduction, in (0, 1]; 1 gives the unbiased distribution.
        target (`np.ndarray` of shape `(K, A)`, *optional*): the unbiased distribution; `1 / A` if not given.

    Returns:
        `np.ndarray` of shape `(K, A)`, float64: rows sum to one.

    Raises:
        ValueError: if `alpha` or `target` is no array of distributions, or `c` lies outside (0, 1].

    Example:

    ```python
    >>> less_biased_distribution(np.array([[0.9, 0.1], [0.2, 0.8]]), c=0.5).round(6).tolist()
    [[0.7, 0.3], [0.35, 0.65]]

    ```
    """
    return extrapolated_distribution(alpha, c, 0.0, target)


def extrapolated_distribution(
    alpha: np.ndarray, c: float, beta: float, target: np.ndarray | None = None
) -> np.ndarray:
    """Return the extrapolated distribution, `p_ext(a | y) = alpha_ya + c (beta + 1)(1/A - alpha_ya)` (Eq. 8).

    In expectation, training on the extrapolated loss `L_ext` is training on rows that are drawn from it. Inside the
    [bounds of beta](beta_bounds) this is a distribution; outside of them some entries are negative.

    Args:
        alpha (`np.ndarray` of shape `(K, A)`): group proportions within each class (Eq. 2).
        c (`float`): degree of bias reduction, in (0, 1].
        beta (`float`): extrapolation factor; -1 gives the biased distribution, 0 the less biased one.
        target (`np.ndarray` of shape `(K, A)`, *optional*): the unbiased distribution; `1 / A` if not given.

    Returns:
        `np.ndarray` of shape `(K, A)`, float64: rows sum to one.

    Raises:
        ValueError: if `alpha` or `target` is no array of distributions, `c` lies outside (0, 1], or `beta` is not
            finite.

    Example:

    ```python
    >>> extrapolated_distribution(np.array([[0.9, 0.1], [0.2, 0.8]]), c=0.5, beta=1.5).round(6).tolist()
    [[0.4, 0.6], [0.575, 0.425]]

    ```
    """
    alpha = _checked_alpha(alpha)
    check_c(c)
    if not isinstance(beta, numbers.Real) or not math.isfinite(beta):
        raise ValueError(f"beta must be a finite number; found {beta}")
    return alpha + c * (beta + 1.0) * (_checked_target(alpha, target) - alpha)


def beta_bounds(alpha: np.ndarray, c: float, target: np.ndarray | None = None) -> tuple[float, float]:
    """Return the interval of beta in which the extrapolated distribution stays in [0, 1] (Eq. 9, App. C).

    In the paper this is `[-1, alpha_max / (c (alpha_max - 1/A)) - 1]`, where `alpha_max` is the largest entry of
    `alpha`. Computed is the general form, the minimum over all groups whose share is above their target; for the
    uniform target it gives the same figure. Groups at or below their target put no bound on beta. If there are no
    others, because every class has its target distribution already, the upper bound is infinite.

    Args:
        alpha (`np.ndarray` of shape `(K, A)`): group proportions within each class (Eq. 2).
        c (`float`): degree of bias reduction, in (0, 1].
        target (`np.ndarray` of shape `(K, A)`, *optional*): the unbiased distribution; `1 / A` if not given.

    Returns:
        `tuple[float, float]`: lower and upper bound, both inclusive.

    Raises:
        ValueError: if `alpha` or `target` is no array of distributions, or `c` lies outside (0, 1].

    Example:

    ```python
    >>> lower, upper = beta_bounds(np.array([[0.9, 0.1], [0.2, 0.8]]), c=0.5)
    >>> lower, round(upper, 6)
    (-1.0, 3.5)

    ```
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
    """Refuse a degree of bias reduction outside (0, 1].

    Args:
        c (`float`): degree of bias reduction (Eq. 4).

    Raises:
        ValueError: for anything but a number in (0, 1].

    Example:

    ```python
    >>> check_c(0.5)
    >>> check_c(0.0)
    Traceback (most recent call last):
    ValueError: c, the degree of bias reduction (Eq. 4), must lie in (0, 1]; found 0.0

    ```
    """
    if not isinstance(c, numbers.Real) or not 0.0 < c <= 1.0:
        raise ValueError(f"c, the degree of bias reduction (Eq. 4), must lie in (0, 1]; found {c}")


def _checked_alpha(alpha: np.ndarray) -> np.ndarray:
    """Return alpha in float64, if it is an array with a distribution over the attribute values for each class."""
    alpha = np.asarray(alpha, dtype=np.float64)
    if alpha.ndim != 2 or alpha.size == 0:
        raise ValueError(f"alpha must be a (K, A) array with at least one group; found shape {alpha.shape}")
    if not is_distribution(alpha, axis=1):
        raise ValueError(f"every row of alpha must be a distribution (non-negative, sum 1); found {alpha.tolist()}")
    return alpha


def _checked_target(alpha: np.ndarray, target: np.ndarray | None) -> np.ndarray:
    """Return the unbiased distribution in float64, uniform if none is given, if it is one of the shape of alpha."""
    if target is None:
        return np.full_like(alpha, 1.0 / alpha.shape[1])
    target = np.asarray(target, dtype=np.float64)
    if target.shape != alpha.shape:
        raise ValueError(f"target must have the shape of alpha, {alpha.shape}; found {target.shape}")
    if not is_distribution(target, axis=1):
        raise ValueError(f"every row of target must be a distribution (non-negative, sum 1); found {target.tolist()}")
    return target


def is_distribution(masses: np.ndarray, axis: int | None = None) -> bool:
    """Return whether masses are a distribution: numbers that are not negative and sum to one within rounding.

    Args:
        masses (`np.ndarray`): the masses, of any shape.
        axis (`int`, *optional*): the axis along which each sum is taken; all masses together are one distribution if
            not given.

    Returns:
        `bool`: for several distributions, whether all of them are.

    Example:

    ```python
    >>> is_distribution(np.array([0.25, 0.75])), is_distribution(np.array([1.25, -0.25]))
    (True, False)

    ```
    """
    return bool((masses >= 0).all() and (np.abs(masses.sum(axis=axis) - 1) <= _SUM_TOLERANCE).all())
