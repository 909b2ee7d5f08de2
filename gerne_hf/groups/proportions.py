"""Proportions of groups within their classes, and the unbiased distribution (pure NumPy)."""

import numpy as np


def group_proportions(counts: np.ndarray) -> np.ndarray:
    """Share of each attribute within its class, `alpha_ya = |X_ya| / |X_y|` (Eq. 2).

    Args:
        counts (`np.ndarray` of shape `(K, A)`): number of training rows of each group.

    Returns:
        `np.ndarray` of shape `(K, A)`, float64: rows sum to one.

    Raises:
        ValueError: if a class has no rows, or a count is negative.
    """
    counts = np.asarray(counts)
    if counts.ndim != 2 or counts.size == 0:
        raise ValueError(f"counts must be a (K, A) array with at least one group; found shape {counts.shape}")
    if (counts < 0).any():
        raise ValueError(f"counts must not be negative; found {counts.min()}")
    totals = counts.sum(axis=1, keepdims=True)
    if (totals == 0).any():
        empty = np.flatnonzero(totals[:, 0] == 0).tolist()
        raise ValueError(f"classes {empty} have no rows, so their group proportions are undefined")
    return counts / totals


def uniform_target(counts: np.ndarray) -> np.ndarray:
    """The unbiased distribution: uniform over the groups of a class that have rows.

    With no empty group this is the paper's `1 / A`. An empty group cannot be drawn from; its mass goes in equal parts
    to the other groups of its class.

    Args:
        counts (`np.ndarray` of shape `(K, A)`): number of training rows of each group.

    Returns:
        `np.ndarray` of shape `(K, A)`, float64: rows sum to one, zero where a group is empty.
    """
    present = (np.asarray(counts) > 0).astype(np.float64)
    return group_proportions(present)
