"""Mixture balancing (LaBonte et al., NeurIPS 2024): classes are balanced by leaving rows out and by repeating rows.

From "The Group Robustness is in the Details: Revisiting Finetuning under Spurious Correlations". Needs no attributes.
Overrides the hooks `expected_groups` and `make_plan`.
"""

import math
from typing import Any

import numpy as np

from ..groups.index import GroupIndex
from ..method.plans import BatchPlan
from ..trainer import GerneTrainer
from .config import BaselineConfig
from .parts import check_plain, in_two_parts, labels_of


def left_out(labels: np.ndarray, ratio: float, seed: int) -> np.ndarray:
    """Choose the rows that are left out, so that no class has more than `ratio` times the rows of the smallest one.

    Args:
        labels (int array of shape `(N,)`): class ids.
        ratio (`float`): the largest class-imbalance ratio that is left, at least 1. With 1 all classes are cut to the
            smallest (subsetting), with a large one nothing is left out (upsampling).
        seed (`int`): decides which rows stay.

    Returns:
        `np.ndarray` of shape `(N,)`, bool.

    Example:

    ```python
    >>> out = left_out(np.array([0] * 90 + [1] * 10), ratio=3.0, seed=0)
    >>> int(out[:90].sum()), int(out[90:].sum())
    (60, 0)

    ```
    """
    counts = np.bincount(labels)
    most = math.ceil(counts[counts > 0].min() * ratio)
    order = np.random.default_rng(seed).permutation(len(labels))
    out = np.zeros(len(labels), dtype=bool)
    for label in np.flatnonzero(counts > most):
        out[order[labels[order] == label][most:]] = True
    return out


class MixtureTrainer(GerneTrainer):
    """Train on a subset in which no class has more than `mixture_ratio` times the rows of the smallest, classes alike.

    The rows of the subset are drawn with replacement, `p(y) = 1 / K`, each row of a class alike: large classes are
    subsetted, and the small ones upsampled for the rest. The subset is drawn once, by the seed. An epoch has as many
    rows as the training set, as for the other methods here; in the authors' code it has as many as the subset.

    Args:
        args ([`BaselineConfig`]): settings; `mixture_ratio` is the ratio. `plan` must be "erm".
        kwargs: the other arguments of [`GerneTrainer`].

    Raises:
        ValueError: for another plan, for `pseudo_attributes=True`, and for a stream as training set.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        check_plain(self, "mixture balancing")

    @property
    def ratio(self) -> float:
        """The largest class-imbalance ratio of the subset."""
        return getattr(self.args, "mixture_ratio", BaselineConfig.mixture_ratio)

    def run_identity(self) -> dict[str, Any]:
        """Return what this run depends on: what [`GerneTrainer`] says, and the ratio."""
        return {**super().run_identity(), "method_settings": {"mixture_ratio": self.ratio}}

    def expected_groups(self, reference: GroupIndex) -> GroupIndex:
        """Return the rows by class and by whether they are left out.

        Args:
            reference ([`GroupIndex`]): the training rows by class, or by class and attribute.
        """
        out = left_out(labels_of(reference), self.ratio, self.args.seed)
        return in_two_parts(reference, out, ("kept", "left out"))

    def make_plan(self) -> BatchPlan:
        """Return a plan of one segment, that draws the kept rows of each class equally often."""
        kept = self.known_groups.counts * [1, 0] > 0
        return BatchPlan.single("mixture", self._train_batch_size, kept / kept.sum())
