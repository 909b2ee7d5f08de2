"""A variant of JTT: its first model is GERNE's biased model, and rows are drawn with replacement.

The first model is class-balanced, with a tenth of the learning rate and twice the weight decay, selected on the
validation set, so one fit serves this method and GERNE with unknown attributes. The original is
[`jtt`](gerne_hf.baselines.jtt). Overrides the hooks `biased_fit` and `make_plan`.
"""

from typing import Any

import numpy as np

from ..groups.index import GroupIndex
from ..method.plans import BatchPlan
from ..pseudo_attributes.inferring_trainer import InferringTrainer
from .jtt import JTTTrainer


def error_distribution(errors: GroupIndex, upweight: float) -> np.ndarray:
    """Return the distribution by which rows are drawn: a wrong row is `1 + upweight` times as likely as a right one.

    Args:
        errors ([`GroupIndex`]): the rows by class, and by whether the first model is "wrong" or "right" on them, in
            this order.
        upweight (`float`): lambda_up in the paper.

    Returns:
        `np.ndarray` of shape `(K, 2)`, float64: the probability of each class together with "wrong" or "right"; sums
        to one.

    Example:

    ```python
    >>> from gerne_hf.groups import GroupIndex
    >>> errors = GroupIndex.from_arrays([0, 0, 0, 0], [0, 1, 1, 1])
    >>> error_distribution(errors, upweight=2.0).tolist()
    [[0.5, 0.5]]

    ```
    """
    mass = errors.counts * [1.0 + upweight, 1.0]
    return mass / mass.sum()


class BiasedModelJTTTrainer(JTTTrainer):
    """Train the biased model of [`PseudoAttributes`], then a second model that sees the first one's errors more often.

    The first model, its scores and their folder are those of GERNE with unknown attributes. If both methods are
    trained with the same `biased_*` settings, the first model is fitted once and used by both.

    Args:
        args ([`BaselineConfig`]): settings; `jtt_upweight` says how many more times an error is drawn, and the
            `biased_*` fields are those of the first model. `plan` must be "erm".
        kwargs: the other arguments of [`GerneTrainer`].

    Raises:
        ValueError: as [`JTTTrainer`].
    """

    whole_repeats = False
    """Whether `jtt_upweight` must be a whole number."""

    def biased_fit(self) -> dict[str, Any]:
        """Return the settings of GERNE's biased model."""
        return InferringTrainer.biased_fit(self)

    def make_plan(self) -> BatchPlan:
        """Return a plan of one segment, whose rows are drawn by the errors of the first model."""
        if self.pseudo is None:  # at construction, when the batch size is asked for and errors are not known yet
            return super().make_plan()
        return BatchPlan.single("jtt", self._train_batch_size, error_distribution(self.known_groups, self.upweight))
