"""Just Train Twice (Liu et al., ICML 2021): rows that a first model gets wrong are drawn more often.

Overrides the hooks `training_groups` and `make_plan`; the first model is the biased model of
[`pseudo_attributes`](gerne_hf.pseudo_attributes).
"""

from typing import Any

import numpy as np

from ..groups.index import GroupIndex
from ..method.plans import BatchPlan
from ..streaming.stream import GroupStream
from ..trainer import GerneTrainer
from .config import BaselineConfig


def error_distribution(errors: GroupIndex, upweight: float) -> np.ndarray:
    """Return the joint distribution of class and right or wrong: wrong rows are `upweight` times as likely.

    Args:
        errors ([`GroupIndex`]): rows by class and by "wrong" and "right" (in this order).
        upweight (`float`): lambda_up of the paper.

    Returns:
        `np.ndarray` of shape `(K, 2)`, float64: sums to one.
    """
    mass = errors.counts * [upweight, 1.0]
    return mass / mass.sum()


class JTTTrainer(GerneTrainer):
    """Trains twice: the biased model of [`PseudoAttributes`] (the first model), then on its errors, upweighted.

    The first model, its scores and their folder are those of GERNE with unknown attributes: where both are trained
    with the same `biased_*` settings, one fit serves both.

    Args:
        args ([`BaselineConfig`]): `jtt_upweight`, and the `biased_*` settings of the first model; `plan` is "erm".
            Other arguments as for [`GerneTrainer`].

    Raises:
        ValueError: for another plan.
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

    def run_identity(self) -> dict[str, Any]:
        """Return what this run depends on: besides what [`GerneTrainer`] says, the weight of the errors."""
        upweight = getattr(self.args, "jtt_upweight", None)
        return {**super().run_identity(), "method_settings": {"jtt_upweight": upweight}}

    def training_groups(self) -> GroupIndex | None:
        """Return the rows by class and by whether the first model is wrong on them; the first call trains it."""
        return self.groups if self.train_dataset is None else self.fit_biased_model().errors()

    def make_plan(self) -> BatchPlan:
        """Return the plan whose rows are drawn by the first model's errors."""
        if self.pseudo is None:  # at construction: errors are not known yet, the batch size is
            return super().make_plan()
        upweight = getattr(self.args, "jtt_upweight", BaselineConfig.jtt_upweight)
        distribution = error_distribution(self.known_groups, upweight)
        return BatchPlan.single("jtt", self._train_batch_size, distribution)
