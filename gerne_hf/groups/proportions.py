"""Shares of groups within their classes, and the distribution in which no attribute value is favoured.

Pure NumPy: imports nothing of this package and no torch. The distributions of batches, which build on these, are in
[`distributions`](gerne_hf.method.distributions).
"""

import numpy as np


def group_proportions(counts: np.ndarray) -> np.ndarray:
    """Return the share of each attribute value within its class, `alpha_ya = |X_ya| / |X_y|` (Eq. 2).

    Args:
        counts (`np.ndarray` of shape `(K, A)`): number of training rows of each group: K classes, A attribute values.

    Returns:
        `np.ndarray` of shape `(K, A)`, float64: each class (row of the array) sums to one.

    Raises:
        ValueError: if a class has no rows, a count is negative, or the array has another shape.

    Example:

    ```python
    >>> import numpy as np
    >>> group_proportions(np.array([[3, 1], [0, 2]]))
    array([[0.75, 0.25],
           [0.  , 1.  ]])

    ```
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


def filled_counts(counts: np.ndarray) -> np.ndarray:
    """Return the counts with one row for each group of the classes that have none, so that their shares exist.

    Args:
        counts (`np.ndarray` of shape `(K, A)`): number of training rows of each group: K classes, A attribute values.

    Returns:
        `np.ndarray` of shape `(K, A)`

    Example:

    ```python
    >>> filled_counts(np.array([[3, 0], [0, 0]])).tolist()
    [[3, 0], [1, 1]]

    ```
    """
    return np.where(np.asarray(counts).sum(axis=1, keepdims=True) == 0, 1, counts)


def uniform_target(counts: np.ndarray) -> np.ndarray:
    """Return the unbiased distribution: uniform over those groups of a class that have rows.

    If no group is empty, this is the paper's `1 / A`. An empty group cannot be drawn from, so its share is divided
    equally among the other groups of its class.

    Args:
        counts (`np.ndarray` of shape `(K, A)`): number of training rows of each group: K classes, A attribute values.

    Returns:
        `np.ndarray` of shape `(K, A)`, float64: each class (row of the array) sums to one; zero where a group is
        empty.

    Raises:
        ValueError: if a class has no rows, or the array has another shape.

    Example:

    ```python
    >>> import numpy as np
    >>> uniform_target(np.array([[3, 1], [0, 2]]))
    array([[0.5, 0.5],
           [0. , 1. ]])

    ```
    """
    present = (np.asarray(counts) > 0).astype(np.float64)
    return group_proportions(present)
