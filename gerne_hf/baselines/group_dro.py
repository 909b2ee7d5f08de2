"""Group DRO (Sagawa et al., ICLR 2020): the loss of each group, weighted online towards the worst one."""

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from ..trainer import GerneTrainer
from .config import BaselineConfig


def update_group_weights(weights: torch.Tensor, losses: torch.Tensor, step_size: float) -> torch.Tensor:
    """`q_g <- q_g exp(eta L_g)`, normalized (Algorithm 1 of the paper).

    Args:
        weights (`torch.Tensor` of shape `(G,)`): q; sums to one.
        losses (`torch.Tensor` of shape `(G,)`): mean loss of each group in the batch, 0 for a group without rows.
        step_size (`float`): eta.

    Returns:
        `torch.Tensor` of shape `(G,)`: the new q.
    """
    return torch.softmax(weights.log() + step_size * losses, dim=0)


class GroupDROTrainer(GerneTrainer):
    """Minimizes `sum over groups of q_g L_g` with online weights q, on the rows that `args.plan` draws.

    As in the original implementation rows are best drawn with all groups equally often (`plan="resampling"`). The
    groups' losses and counts are summed over all processes, so q is that of the global batch, the same on each; it
    travels with `trainer_state.json` and is restored on resume.

    Args:
        args ([`BaselineConfig`]): its `group_dro_step_size` is eta. Other arguments as for [`GerneTrainer`].

    Raises:
        ValueError: for a plan of several segments, or a `compute_loss_func`, whose means cannot be weighted by group.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        config = self.args
        if config.plan not in ("resampling", "erm"):
            raise ValueError(f"Group DRO weights rows; plan must be 'resampling' or 'erm', found {config.plan!r}")
        if self._loss_func is not None:
            raise ValueError("Group DRO needs the loss of each row, and compute_loss_func returns a mean")
        self._step_size = getattr(config, "group_dro_step_size", BaselineConfig.group_dro_step_size)
        self.add_callback(GroupWeights())

    _fields_of_method = ("group_dro_step_size",)
    # Weights need the groups, also where the plan that draws the rows does not.
    _plans_without_attributes = ()

    @property
    def group_weights(self) -> torch.Tensor:
        """`(K * A,)`, float32: q, by group id; sums to one."""
        keeper = self._keeper()
        if keeper.weights is None:
            filled = torch.from_numpy(self.groups.counts.ravel() > 0).float()
            keeper.weights = filled / filled.sum()
        if len(keeper.weights) != self.groups.counts.size:
            raise ValueError(
                f"the checkpoint has weights of {len(keeper.weights)} groups, and the training set has "
                f"{self.groups.counts.size}. Resume with the data it was trained on, or start anew"
            )
        keeper.weights = torch.as_tensor(keeper.weights, dtype=torch.float32).to(self.args.device)
        return keeper.weights

    def _keeper(self) -> "GroupWeights":
        return next(c for c in self.callback_handler.callbacks if isinstance(c, GroupWeights))

    def _separate(self, model) -> bool:
        return False  # the batch is one segment

    def _total_loss(self, losses: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
        """`sum_g q_g L_g` of the global batch: this process's part, of which DDP takes the mean."""
        with torch.no_grad():
            both = torch.stack([losses.detach().float(), torch.ones_like(losses, dtype=torch.float32)])
            local = both.new_zeros(2, self.groups.counts.size).index_add(1, groups, both)
            sums, counts = self.accelerator.reduce(local, reduction="sum")
            counts = counts.clamp(min=1)
            weights = update_group_weights(self.group_weights, sums / counts, self._step_size)
            self._keeper().weights = weights
            of_rows = (weights / counts)[groups] * self.accelerator.num_processes
        return torch.dot(of_rows.to(losses.dtype), losses)


class GroupWeights(TrainerCallback, ExportableState):
    """Carries Group DRO's weights through checkpoints, in `trainer_state.json`."""

    def __init__(self):
        self.weights: torch.Tensor | list[float] | None = None  # on the device until a checkpoint is written

    def state(self) -> dict:
        weights = self.weights.tolist() if isinstance(self.weights, torch.Tensor) else self.weights
        return {"args": {}, "attributes": {"weights": weights}}

    def on_train_begin(self, args, state, control, **kwargs):
        self.weights = None
        if state.global_step:  # resumed
            kept = state.stateful_callbacks.get(type(self).__name__)
            if kept is None:
                raise ValueError(
                    "the checkpoint holds no group weights, so it is not one of GroupDROTrainer. Resume from one that "
                    "is, or start anew"
                )
            self.weights = kept["attributes"]["weights"]
