"""Group DRO (Sagawa et al., ICLR 2020): the loss of each group, weighted online towards the worst one.

Overrides the hooks `total_loss` and `uses_one_forward` of
[`PlanTrainer`](gerne_hf.training.plan_trainer.PlanTrainer); the weights travel in checkpoints with a callback.
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
        weights (`torch.Tensor` of shape `(G,)`): q; sums to one.
        losses (`torch.Tensor` of shape `(G,)`): mean loss of each group in the batch, 0 for a group without rows.
        step_size (`float`): eta.

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

    plans_without_attributes = ()
    """Weights need the groups, also where the plan that draws the rows does not."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        config = self.args
        if config.plan not in ("resampling", "erm"):
            raise ValueError(f"Group DRO weights rows; plan must be 'resampling' or 'erm', found {config.plan!r}")
        if self.loss_func is not None:
            raise ValueError("Group DRO needs the loss of each row, and compute_loss_func returns a mean")
        self._step_size = getattr(config, "group_dro_step_size", BaselineConfig.group_dro_step_size)
        self.add_callback(GroupWeights())

    def run_identity(self) -> dict[str, Any]:
        """Return what this run depends on: besides what [`GerneTrainer`] says, the step size of the weights."""
        step_size = getattr(self.args, "group_dro_step_size", None)
        return {**super().run_identity(), "method_settings": {"group_dro_step_size": step_size}}

    @property
    def group_weights(self) -> torch.Tensor:
        """q, by group id, `(K * A,)`, float32; sums to one."""
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
        return next(c for c in self.callback_handler.callbacks if isinstance(c, GroupWeights))

    def uses_one_forward(self, model: torch.nn.Module) -> bool:
        """Return True: the batch is one segment.

        Args:
            model ([`~torch.nn.Module`]): the model as it is trained.
        """
        return True

    def total_loss(self, losses: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
        """Return this process's part of `sum_g q_g L_g` over the global batch; DDP takes the mean of the parts.

        Args:
            losses (`torch.Tensor` of shape `(B,)`): the loss of each row.
            groups (`torch.Tensor` of shape `(B,)`): the rows' group ids.
        """
        with torch.no_grad():
            both = torch.stack([losses.detach().float(), torch.ones_like(losses, dtype=torch.float32)])
            local = both.new_zeros(2, self.known_groups.counts.size).index_add(1, groups, both)
            sums, counts = self.accelerator.reduce(local, reduction="sum")
            counts = counts.clamp(min=1)
            weights = update_group_weights(self.group_weights, sums / counts, self._step_size)
            self._keeper().weights = weights
            of_rows = (weights / counts)[groups] * self.accelerator.num_processes
        return torch.dot(of_rows.to(losses.dtype), losses)


class GroupWeights(TrainerCallback, ExportableState):
    """Carries Group DRO's weights through checkpoints, in `trainer_state.json`."""

    def __init__(self) -> None:
        self.weights: torch.Tensor | list[float] | None = None  # on the device until a checkpoint is written

    def state(self) -> dict[str, Any]:
        """Return the weights as `trainer_state.json` holds them."""
        weights = self.weights.tolist() if isinstance(self.weights, torch.Tensor) else self.weights
        return {"args": {}, "attributes": {"weights": weights}}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin with equal weights, or on resume with those of the checkpoint.

        Raises:
            ValueError: for a checkpoint without weights.
        """
        self.weights = None
        if state.global_step:  # resumed
            kept = state.stateful_callbacks.get(type(self).__name__)
            if kept is None:
                raise ValueError(
                    "the checkpoint holds no group weights, so it is not one of GroupDROTrainer. Resume from one that "
                    "is, or start anew"
                )
            self.weights = kept["attributes"]["weights"]
