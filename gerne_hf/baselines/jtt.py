"""Just Train Twice, JTT (Liu et al., ICML 2021): rows that a first model gets wrong are trained on more often.

As in the authors' repository. Imports `trainer.py` and rooms below it. Overrides the hooks `biased_fit`,
`training_groups` and `make_plan`. Next: [`jtt_biased_model`](gerne_hf.baselines.jtt_biased_model), a variant.
"""

import copy
from typing import Any

import numpy as np

from ..groups.index import GroupIndex
from ..method.plans import BatchPlan, Segment
from ..streaming.stream import GroupStream
from ..trainer import GerneTrainer
from .config import BaselineConfig


def error_plan(errors: GroupIndex, upweight: int, rows: int) -> BatchPlan:
    """Return the plan of JTT's second training, whose epoch has each error `1 + upweight` times, other rows once.

    It minimizes `lambda * sum over errors of L + sum over all rows of L`. The paper's own objective has `lambda` in
    place of `1 + lambda` for an error; this is the authors' code, which appends the errors `up_weight` times to the
    training set.

    Args:
        errors ([`GroupIndex`]): the rows by class, and by whether the first model is "wrong" or "right" on them, in
            this order.
        upweight (`int`): lambda_up, how many more times an epoch has an error.
        rows (`int`): rows in a batch.

    Returns:
        [`BatchPlan`]

    Example:

    ```python
    >>> from gerne_hf.groups import GroupIndex
    >>> errors = GroupIndex.from_arrays([0, 0, 0, 0], [0, 1, 1, 1])
    >>> plan = error_plan(errors, upweight=2, rows=4)
    >>> plan.repeats.tolist(), plan.segments[0].distribution.tolist()
    ([[3, 1]], [[0.5, 0.5]])

    ```
    """
    repeats = np.broadcast_to([1 + upweight, 1], errors.counts.shape)
    mass = errors.counts * repeats
    return BatchPlan("jtt", (Segment("jtt", rows, mass / mass.sum(), 1.0),), every_row=True, repeats=repeats)


class JTTTrainer(GerneTrainer):
    """Train plain ERM for some epochs, then a second model by plain ERM that sees the first one's errors more often.

    Both models start from the same weights, with the same optimizer, learning rate and weight decay. The first is
    trained for `jtt_first_epochs` epochs and its last weights are kept, without any selection; a schedule of the
    learning rate ends with them (the authors train with a constant one, of which these are the first epochs). What it
    gets wrong on the training rows is the error set. An epoch of the second model is longer than the training set by
    `jtt_upweight` times the number of errors.

    Args:
        args ([`BaselineConfig`]): settings; `jtt_first_epochs` and `jtt_upweight` are those of JTT. `plan` must be
            "erm"; `class_balanced` and the fields `biased_*` have no part in it, but `biased_model` may name a first
            model that is trained already.
        kwargs: the other arguments of [`GerneTrainer`].

    Raises:
        ValueError: for another plan, for `pseudo_attributes=True`, for a stream as training set, and for a
            `jtt_upweight` that is no whole number.
    """

    whole_repeats = True
    """Whether `jtt_upweight` must be a whole number."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.args.plan != "erm" or self.args.pseudo_attributes:
            raise ValueError("JTT draws rows by its own errors; use plan='erm' and pseudo_attributes=False")
        if isinstance(self.train_dataset, GroupStream):
            raise ValueError(
                f"JTT scores each training row by its number, and {type(self.train_dataset).__name__} has none; give "
                "a map-style train_dataset"
            )
        if self.whole_repeats and not float(self.upweight).is_integer():
            raise ValueError(
                f"jtt_upweight, how many more times an epoch has an error, must be a whole number; found "
                f"{self.upweight}. The variant 'jtt_biased_model', which draws rows, takes any"
            )
        self.check_optimizer_of_biased_model()

    @property
    def upweight(self) -> float:
        """lambda_up: an error occurs `1 + upweight` times as often as another row."""
        return getattr(self.args, "jtt_upweight", BaselineConfig.jtt_upweight)

    def run_identity(self) -> dict[str, Any]:
        """Return what this run depends on: what [`GerneTrainer`] says, the factor of the errors, the first epochs."""
        own = {name: getattr(self.args, name, None) for name in ("jtt_upweight", "jtt_first_epochs")}
        return {**super().run_identity(), "method_settings": own}

    def biased_fit(self) -> dict[str, Any]:
        """Return the settings of the first model: those of the run, for fewer epochs, as plain ERM, unselected."""
        first, kwargs = copy.copy(self.args), (self.optimizer_cls_and_kwargs or (None, {}))[1]
        first.biased_epochs = getattr(first, "jtt_first_epochs", BaselineConfig.jtt_first_epochs)
        first.biased_learning_rate = kwargs.get("lr", first.learning_rate)
        first.biased_weight_decay = kwargs.get("weight_decay", first.weight_decay)
        first.biased_folds = 1
        return {"args": first, "eval_dataset": None, "class_balanced": False}

    def training_groups(self) -> GroupIndex | None:
        """Return the rows by class and by whether the first model is wrong on them. The first call trains it."""
        return self.groups if self.train_dataset is None else self.fit_biased_model().errors()

    def make_plan(self) -> BatchPlan:
        """Return a plan whose epoch has every row once, and the errors of the first model more often."""
        if self.pseudo is None:  # at construction, when the batch size is asked for and errors are not known yet
            return super().make_plan()
        return error_plan(self.known_groups, int(self.upweight), self._train_batch_size)
