"""Group DRO (Sagawa et al., ICLR 2020): the losses of the groups are weighted, the largest loss most.

Imports `trainer.py` and `config.py` of this room. Overrides the hooks `total_loss` and `uses_one_forward` of
[`PlanTrainer`](gerne_hf.training.plan_trainer.PlanTrainer); a callback keeps the weights in checkpoints.
"""

from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from ..trainer import GerneTrainer
from .config import BaselineConfig


def update_group_weights(weights: torch.Tensor, losses: torch.Tensor, step_size: float) -> torch.Tensor:
    """Return the new group weights, `q_g <- q_g exp(eta L_g)`, normalized (Algorithm 1 of the paper).

    Args:
        weights (`torch.Tensor` of shape `(G,)`): the group weights q, which sum to one.
        losses (`torch.Tensor` of shape `(G,)`): mean loss of each group in the batch, 0 for a group without rows.
        step_size (`float`): the step size eta.

    Returns:
        `torch.Tensor` of shape `(G,)`: the new q.

    Example:

    ```python
    >>> import torch
    >>> weights = update_group_weights(torch.tensor([0.5, 0.5]), torch.tensor([0.0, 1.0]), step_size=1.0)
    >>> [round(weight, 3) for weight in weights.tolist()]
    [0.269, 0.731]

    ```
    """
    return torch.softmax(weights.log() + step_size * losses, dim=0)


def generalization_adjustment(counts: torch.Tensor, factor: float) -> torch.Tensor:
    """Return what is added to the loss of each group, `C / sqrt(n_g)` (Eq. 5 of the paper).

    Args:
        counts (`torch.Tensor` of shape `(G,)`): training rows of each group, n_g.
        factor (`float`): C.

    Returns:
        `torch.Tensor` of shape `(G,)`, float32: 0 for a group without rows, which has no weight either.

    Example:

    ```python
    >>> import torch
    >>> generalization_adjustment(torch.tensor([100, 4, 0]), factor=2.0).tolist()
    [0.20000000298023224, 1.0, 0.0]

    ```
    """
    return torch.where(counts > 0, factor / counts.clamp(min=1).float().sqrt(), 0.0)


class GroupDROTrainer(GerneTrainer):
    """Minimize `sum over groups of q_g (L_g + C / sqrt(n_g))`; the weights q change with every batch, n_g are rows.

    The rows are those that `args.plan` draws. The adjustment has no gradient: it moves the weights q, and the loss
    that is logged.

    The original implementation draws all groups equally often, which is `plan="resampling"`. Losses and counts of the
    groups are summed over all processes, so that q is that of the global batch and the same on each process. It is
    saved in `trainer_state.json` and restored when training is resumed.

    Args:
        args ([`BaselineConfig`]): settings; `group_dro_step_size` is the step size eta, `group_dro_adjustment` is C.
        kwargs: the other arguments of [`GerneTrainer`].

    Raises:
        ValueError: for a plan other than "resampling" and "erm"; and for a `compute_loss_func`, because it returns a
            mean, which cannot be weighted by group.
    """

    plans_without_attributes = ()
    """Plans that need no attributes: none here, because the weights need the groups whatever the plan is."""

    _adjusted: tuple[Any, torch.Tensor] | None = None

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        config = self.args
        if config.plan not in ("resampling", "erm"):
            raise ValueError(f"Group DRO weights rows; plan must be 'resampling' or 'erm', found {config.plan!r}")
        if self.loss_func is not None:
            raise ValueError("Group DRO needs the loss of each row, and compute_loss_func returns a mean")
        self._step_size = getattr(config, "group_dro_step_size", BaselineConfig.group_dro_step_size)
        self._factor = getattr(config, "group_dro_adjustment", BaselineConfig.group_dro_adjustment)
        self.add_callback(GroupWeights())

    def run_identity(self) -> dict[str, Any]:
        """Return what this run depends on: what [`GerneTrainer`] says, step size of the weights and adjustment."""
        own = {"group_dro_step_size": getattr(self.args, "group_dro_step_size", None)}
        if self._factor:  # checkpoints from before there was an adjustment go on
            own["group_dro_adjustment"] = self._factor
        return {**super().run_identity(), "method_settings": own}

    @property
    def group_weights(self) -> torch.Tensor:
        """The weights q by group id, of shape `(K * A,)`, float32, which sum to one.

        Raises:
            ValueError: if a checkpoint was resumed that has weights of another number of groups.
        """
        keeper, counts = self._keeper(), self.known_groups.counts
        if keeper.weights is None:
            filled = torch.from_numpy(counts.ravel() > 0).float()
            keeper.weights = filled / filled.sum()
        if len(keeper.weights) != counts.size:
            raise ValueError(
                f"the checkpoint has weights of {len(keeper.weights)} groups, and the training set has "
                f"{counts.size}. Resume with the data it was trained on, or start anew"
            )
        weights = torch.as_tensor(keeper.weights, dtype=torch.float32).to(self.args.device)
        keeper.weights = weights
        return weights

    def _keeper(self) -> "GroupWeights":
        """Return the callback that holds the weights; on resume `Trainer` may have put another one in its place."""
        return next(c for c in self.callback_handler.callbacks if isinstance(c, GroupWeights))

    def uses_one_forward(self, model: torch.nn.Module) -> bool:
        """Return True, as all rows of a batch form one segment.

        Args:
            model ([`~torch.nn.Module`]): the model as it is trained.

        Returns:
            `bool`
        """
        return True

    def total_loss(self, losses: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
        """Update the weights, and return the part of `sum_g q_g L_g` over the global batch that this process has.

        The mean of the parts over all processes, which DDP takes, is the sum.

        Args:
            losses (`torch.Tensor` of shape `(B,)`): the loss of each row.
            groups (`torch.Tensor` of shape `(B,)`): the group id of each row.

        Returns:
            `torch.Tensor`: a scalar.
        """
        with torch.no_grad():
            both = torch.stack([losses.detach().float(), torch.ones_like(losses, dtype=torch.float32)])
            local = both.new_zeros(2, self.known_groups.counts.size).index_add(1, groups, both)
            sums, counts = self.accelerator.reduce(local, reduction="sum")
            counts = counts.clamp(min=1)
            adjustment = self._adjustment()
            weights = update_group_weights(self.group_weights, sums / counts + adjustment, self._step_size)
            self._keeper().weights = weights
            of_rows = (weights / counts)[groups] * self.accelerator.num_processes
            added = torch.dot(weights, adjustment).to(losses.dtype)  # whole on each process: the mean is taken
        return torch.dot(of_rows.to(losses.dtype), losses) + added

    def _adjustment(self) -> torch.Tensor:
        """Return the adjustment of each group, `(G,)`, on the device, where it is kept."""
        counts = self.known_groups.counts
        if self._adjusted is None or self._adjusted[0] is not counts:
            rows = torch.from_numpy(counts.ravel()).to(self.args.device)
            self._adjusted = counts, generalization_adjustment(rows, self._factor)
        return self._adjusted[1]


class GroupWeights(TrainerCallback, ExportableState):
    """Keep the group weights of Group DRO in `trainer_state.json`, so that checkpoints have them."""

    def __init__(self) -> None:
        self.weights: torch.Tensor | list[float] | None = None  # on the device until a checkpoint is written

    def state(self) -> dict[str, Any]:
        """Return the weights in the form in which `trainer_state.json` holds them."""
        weights = self.weights.tolist() if isinstance(self.weights, torch.Tensor) else self.weights
        return {"args": {}, "attributes": {"weights": weights}}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin with equal weights, or with those of the checkpoint if training is resumed.

        Args:
            args ([`~transformers.TrainingArguments`]), control ([`~transformers.TrainerControl`]), kwargs: not used.
            state ([`~transformers.TrainerState`]): its steps say whether training is resumed; it holds the weights.

        Raises:
            ValueError: for a checkpoint without weights.
        """
        self.weights = None
        if state.global_step:  # training is resumed
            states: Any = state.stateful_callbacks  # annotated as a list of callbacks, and a dict of their states here
            kept = states.get(type(self).__name__)
            if kept is None:
                raise ValueError(
                    "the checkpoint holds no group weights, so it is not one of GroupDROTrainer. Resume from one that "
                    "is, or start anew"
                )
            self.weights = kept["attributes"]["weights"]
