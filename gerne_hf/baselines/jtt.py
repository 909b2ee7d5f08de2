"""Just Train Twice, JTT (Liu et al., ICML 2021): rows that a first model gets wrong are drawn more often.

Imports `trainer.py` and rooms below it. Overrides the hooks `training_groups` and `make_plan`; the first model is the
biased model of [`pseudo_attributes`](gerne_hf.pseudo_attributes).
"""

from typing import Any

import numpy as np

from ..groups.index import GroupIndex
from ..method.plans import BatchPlan
from ..streaming.stream import GroupStream
from ..trainer import GerneTrainer
from .config import BaselineConfig


def error_distribution(errors: GroupIndex, upweight: float) -> np.ndarray:
    """Return the distribution by which JTT draws rows: a wrong row is `upweight` times as likely as a right one.

    Args:
        errors ([`GroupIndex`]): the rows by class, and by whether the first model is "wrong" or "right" on them, in
            this order.
        upweight (`float`): the factor, lambda_up in the paper.

    Returns:
        `np.ndarray` of shape `(K, 2)`, float64: the probability of each class together with "wrong" or "right"; sums
        to one.

    Example:

    ```python
    >>> from gerne_hf.groups import GroupIndex
    >>> errors = GroupIndex.from_arrays([0, 0, 0, 0], [0, 1, 1, 1])
    >>> error_distribution(errors, upweight=3.0).tolist()
    [[0.5, 0.5]]

    ```
    """
    mass = errors.counts * [upweight, 1.0]
    return mass / mass.sum()


class JTTTrainer(GerneTrainer):
    """Train the biased model of [`PseudoAttributes`], then a second model that sees the first one's errors more often.

    The first model, its scores and their folder are those of GERNE with unknown attributes. If both methods are
    trained with the same `biased_*` settings, the first model is fitted once and used by both.

    Args:
        args ([`BaselineConfig`]): settings; `jtt_upweight` says how much more often errors are drawn, and the
            `biased_*` fields are those of the first model. `plan` must be "erm".
        kwargs: the other arguments of [`GerneTrainer`].

    Raises:
        ValueError: for another plan, for `pseudo_attributes=True`, and for a stream as training set.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.args.plan != "erm" or self.args.pseudo_attributes:
            raise ValueError("JTT draws rows by its own errors; use plan='erm' and pseudo_attributes=False")
        if isinstance(self.train_dataset, GroupStream):
            raise ValueError(
                f"JTT scores each training row by its number, and {type(self.train_dataset).__name__} has none; give "
                "a map-style train_dataset"
            )
        self.check_optimizer_of_biased_model()

    def run_identity(self) -> dict[str, Any]:
        """Return what this run depends on: what [`GerneTrainer`] says, and the factor of the errors."""
        upweight = getattr(self.args, "jtt_upweight", None)
        return {**super().run_identity(), "method_settings": {"jtt_upweight": upweight}}

    def training_groups(self) -> GroupIndex | None:
        """Return the rows by class and by whether the first model is wrong on them. The first call trains it."""
        return self.groups if self.train_dataset is None else self.fit_biased_model().errors()

    def make_plan(self) -> BatchPlan:
        """Return a plan of one segment, whose rows are drawn by the errors of the first model."""
        if self.pseudo is None:  # at construction, when the batch size is asked for and errors are not known yet
            return super().make_plan()
        upweight = getattr(self.args, "jtt_upweight", BaselineConfig.jtt_upweight)
        distribution = error_distribution(self.known_groups, upweight)
        return BatchPlan.single("jtt", self._train_batch_size, distribution)
