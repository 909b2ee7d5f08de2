"""Which methods can be told apart: a paired bootstrap over test rows and seeds. Pure NumPy, no trainer, no file.

[`ranking`](gerne_hf.comparison.ranking) puts the figures of a comparison through it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
"""How often rows and seeds are drawn again."""

STATISTICS = ("worst_group_accuracy", "group_balanced_accuracy", "accuracy")
"""What can be compared: the accuracy of the worst group, the mean over groups, and the accuracy of all rows."""


@dataclass(frozen=True)
class Rows:
    """What one model got right of a test set.

    Args:
        correct (`np.ndarray` of shape `(N,)`, bool): of each row, whether the model is right.
        cells (`np.ndarray` of shape `(N,)`, int): of each row, the id of its cell, label times the number of
            attribute cells plus the attribute cell.
        memberships (`np.ndarray` of shape `(cells, A)`, bool): which of A attributes each attribute cell has; the unit
            matrix, unless groups overlap.
    """

    correct: np.ndarray
    cells: np.ndarray
    memberships: np.ndarray

    def same_rows(self, other: "Rows") -> bool:
        """Return whether two models were tested on the same rows, as far as their groups show it.

        Args:
            other ([`Rows`]): of the other model.
        """
        return np.array_equal(self.cells, other.cells) and np.array_equal(self.memberships, other.memberships)


@dataclass(frozen=True)
class Difference:
    """By how much one method is better than another on the test set.

    Args:
        value (`float`): the difference of the means over seeds.
        low, high (`float`): the 95 % interval of the difference.
        seeds (`int`): how many seeds both methods have.
    """

    value: float
    low: float
    high: float
    seeds: int

    @property
    def is_told(self) -> bool:
        """Whether the interval leaves out 0, so that the two methods can be told apart."""
        return self.low > 0 or self.high < 0


def difference(
    first: Sequence[Rows],
    second: Sequence[Rows],
    statistic: str = "worst_group_accuracy",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    r"""Return by how much the first method is better than the second, with a paired bootstrap interval.

    Rows are drawn again with replacement within each cell of label and attribute, the same ones for both methods and
    all seeds. Seeds are drawn again in pairs, as both methods had the same; with S of them the deviations from their
    mean are widened by `sqrt(S / (S - 1))`, as a mean over few seeds varies by more than its resamples do. With one
    seed the interval is of the rows alone.

    Args:
        first, second (`Sequence[Rows]`): of each seed, in the same order, what the method's model got right.
        statistic (`str`, *optional*, defaults to `"worst_group_accuracy"`): one of `STATISTICS`.
        resamples (`int`, *optional*, defaults to `2000`): how often rows and seeds are drawn again.
        seed (`int`, *optional*, defaults to `0`): seed of the draws.

    Raises:
        ValueError: for another statistic, for different numbers of seeds or none, and for different rows.

    Example:

    ```python
    >>> import numpy as np
    >>> cells, unit = np.repeat([0, 1, 2, 3], 50), np.eye(2, dtype=bool)
    >>> good, bad = np.arange(200) % 10 > 0, np.arange(200) % 2 > 0
    >>> found = difference([Rows(good, cells, unit)], [Rows(bad, cells, unit)])
    >>> round(found.value, 6), found.is_told
    (0.4, True)

    ```
    """
    if statistic not in STATISTICS:
        raise ValueError(f"statistic must be one of {', '.join(STATISTICS)}; found {statistic!r}")
    if not first or len(first) != len(second):
        raise ValueError(f"both methods need the same seeds, one at least; found {len(first)} and {len(second)}")
    reference = first[0]
    if not all(reference.same_rows(other) for other in (*first, *second)):
        raise ValueError("the runs were tested on different rows, and cannot be compared row by row")
    seeds, rng = len(first), np.random.default_rng(seed)
    bits = np.stack([rows.correct for rows in (*first, *second)], axis=1).astype(bool)
    shape = (-1, reference.memberships.shape[0])
    counts = np.bincount(reference.cells, minlength=_size(reference)).reshape(shape)
    found = np.stack([np.bincount(reference.cells[own], minlength=counts.size) for own in bits.T])
    drawn = np.zeros((resamples, 2 * seeds, counts.size))
    for cell in np.flatnonzero(counts.ravel()):
        # rows with the same pattern of hits are alike: to draw how many there are of each is to draw the rows
        own = bits[reference.cells == cell]
        _, place, times = np.unique(np.packbits(own, axis=1), axis=0, return_index=True, return_counts=True)
        many = rng.multinomial(len(own), times / len(own), size=resamples)
        drawn[:, :, cell] = many @ own[place].astype(np.float64)
    value = _gain(_figures(found[None], counts, reference.memberships, statistic))[0]
    again = _gain(_figures(drawn, counts, reference.memberships, statistic))
    means = again.mean(axis=1)
    if seeds > 1:
        picked = np.take_along_axis(again, rng.integers(0, seeds, size=(resamples, seeds)), axis=1)
        means = means + (picked.mean(axis=1) - means) * np.sqrt(seeds / (seeds - 1))
    low, high = np.quantile(means, [0.025, 0.975])
    return Difference(float(value.mean()), float(low), float(high), seeds)


def _size(rows: Rows) -> int:
    """Return how many cells there are: whole classes, as many as the rows show."""
    cells = rows.memberships.shape[0]
    return (int(rows.cells.max()) // cells + 1) * cells


def _gain(figures: np.ndarray) -> np.ndarray:
    """Return, seed by seed, the first method's figure less the second's: `(B, 2 S)` to `(B, S)`."""
    first, second = np.split(figures, 2, axis=1)
    return first - second


def _figures(hits: np.ndarray, counts: np.ndarray, memberships: np.ndarray, statistic: str) -> np.ndarray:
    """Return the statistic for numbers of hits by cell, `(B, 2 S, cells)`, of which there are `counts` rows."""
    if statistic == "accuracy":
        return hits.sum(axis=2) / counts.sum()
    members = memberships.astype(np.float64)
    of_groups = (hits.reshape(*hits.shape[:2], *counts.shape) @ members).reshape(*hits.shape[:2], -1)
    rows = (counts @ members).ravel()
    accuracy = of_groups[:, :, rows > 0] / rows[rows > 0]
    return accuracy.min(axis=2) if statistic == "worst_group_accuracy" else accuracy.mean(axis=2)
