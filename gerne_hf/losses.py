"""The training loss of a batch plan: `sum over segments of coefficient * mean(per-row loss)` (Eq. 5 for GERNE)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from transformers.utils import logging

from .plans import BatchPlan

logger = logging.get_logger(__name__)


class PlanLoss:
    """Computes a plan's loss from the outputs of one forward over a whole batch, or segment by segment.

    Args:
        plan ([`BatchPlan`]): the same object that the sampler reads.
        label_smoothing (`float`, defaults to `0.0`): as `TrainingArguments.label_smoothing_factor`.
        loss_func (`Callable`, *optional*): `loss_func(outputs, labels, num_items_in_batch)` returning the mean loss of
            the rows it is given; cross-entropy of the logits if not given. It is called once a segment, with
            `num_items_in_batch` set to the number of the segment's rows.
    """

    def __init__(self, plan: BatchPlan, label_smoothing: float = 0.0, loss_func: Callable | None = None):
        self.plan = plan
        self.label_smoothing = label_smoothing
        self.loss_func = loss_func
        self._constants: dict[tuple, torch.Tensor] = {}

    def segment_means(self, outputs: Any, labels: torch.Tensor, groups: torch.Tensor | None = None) -> torch.Tensor:
        """Mean loss of each segment, from outputs over the whole batch.

        Args:
            outputs: the model's outputs for `plan.rows` rows (a mapping with `logits`, or a tuple starting with them).
            labels (`torch.Tensor` of shape `(plan.rows,)`): class ids.
            groups (`torch.Tensor` of shape `(plan.rows,)`, *optional*): group ids; needed by plans with group weights.

        Returns:
            `torch.Tensor` of shape `(S,)`.

        Raises:
            ValueError: if the batch has another number of rows than the plan.
        """
        if len(labels) != self.plan.rows:
            raise ValueError(
                f"the batch has {len(labels)} rows, and the plan {self.plan.name!r} lays out {self.plan.rows}. Batches "
                "must come from get_train_dataloader()"
            )
        if self.loss_func is None and len(self.plan.segments) == 1:
            return self.one_segment(0, outputs, labels, groups).unsqueeze(0)
        if self.loss_func is None:
            per_row = self._per_row(outputs, labels)
            parts = per_row.split([segment.rows for segment in self.plan.segments])
            means = [
                self._weighted(i, part, groups, rows)
                for i, (part, rows) in enumerate(zip(parts, self.plan.slices(), strict=True))
            ]
            return torch.stack(means)
        means = [
            self.one_segment(i, slice_rows(outputs, rows, len(labels)), labels[rows], _at(groups, rows))
            for i, rows in enumerate(self.plan.slices())
        ]
        return torch.stack(means)

    def one_segment(
        self, index: int, outputs: Any, labels: torch.Tensor, groups: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Mean loss (a scalar) of segment `index`, from outputs over its rows only."""
        weights = self.plan.segments[index].group_weights
        if self.loss_func is None:
            return self._weighted(index, self._per_row(outputs, labels), groups, slice(None))
        if weights is None:
            return self.loss_func(outputs, labels, num_items_in_batch=len(labels))
        # The function returns a mean, so rows of different weight need a call each group.
        total = labels.new_zeros((), dtype=logits_of(outputs).dtype)
        for group in groups.unique().tolist():
            rows = (groups == group).nonzero().squeeze(1)
            mean = self.loss_func(slice_rows(outputs, rows, len(labels)), labels[rows], num_items_in_batch=len(rows))
            total = total + float(weights.ravel()[group]) * len(rows) / len(labels) * mean
        return total

    def total(self, means: torch.Tensor) -> torch.Tensor:
        """The training loss from the `(S,)` segment means."""
        return (self.constant("coefficients", self.plan.coefficients, means) * means).sum()

    def components(self, means: torch.Tensor) -> torch.Tensor:
        """`(len(plan.components) + 1,)`: the plan's named losses, and the training loss last."""
        matrix = np.stack([*self.plan.components.values(), self.plan.coefficients])
        return self.constant("components", matrix, means) @ means

    def constant(self, name: str, values: np.ndarray, like: torch.Tensor) -> torch.Tensor:
        """`values` as a tensor on the device and of the type of `like`, copied there once."""
        key = (name, like.device, like.dtype)
        if key not in self._constants:
            self._constants[key] = torch.as_tensor(values, dtype=like.dtype).to(like.device)
        return self._constants[key]

    def _per_row(self, outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        logits = logits_of(outputs)
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        return F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.label_smoothing)

    def _weighted(self, index: int, per_row: torch.Tensor, groups: torch.Tensor | None, rows: slice) -> torch.Tensor:
        weights = self.plan.segments[index].group_weights
        if weights is None:
            return per_row.mean()
        table = self.constant(f"weights {index}", weights.ravel(), per_row)
        return (per_row * table[groups[rows]]).mean()


class LossMeter:
    """Means of a plan's named losses and of L_ext, added up on the device and copied from it only at log time.

    Args:
        plan_loss ([`PlanLoss`]): the loss whose segment means are added.
    """

    _DECAY = 0.98  # of the running mean of L_ext: about the last 50 steps

    def __init__(self, plan_loss: PlanLoss):
        self._plan_loss = plan_loss
        self._sums: torch.Tensor | None = None
        self._steps = self._all_steps = 0

    def add(self, means: torch.Tensor) -> None:
        """Add one step's `(S,)` segment means; no value leaves the device."""
        values = self._plan_loss.components(means).float()
        if self._sums is None:
            self._sums, self._running = torch.zeros_like(values), torch.zeros_like(values[-1])
        self._sums += values
        self._running.lerp_(values[-1], 1.0 - self._DECAY)
        self._steps += 1
        self._all_steps += 1

    def drain(self, accelerator: Any) -> dict[str, float]:
        """Means since the last call, over all processes; warns about a negative running mean of L_ext."""
        names = list(self._plan_loss.plan.components)
        if not self._steps or not names:
            return {}
        running = self._running / (1.0 - self._DECAY**self._all_steps)
        local = torch.cat([self._sums / self._steps, running.unsqueeze(0)])
        *means, extrapolated, running = accelerator.reduce(local, reduction="mean").tolist()
        self._sums.zero_()
        self._steps = 0
        if running < 0:
            logger.warning_once(
                f"The running mean of L_ext is negative ({running:.3g}). Inside the bounds of beta it cannot be, in "
                "expectation: either the same rows repeat in every epoch, or the model diverges. Lower beta or the "
                "learning rate."
            )
        return {**dict(zip(names, means, strict=True)), "loss_extrapolated": extrapolated}


def logits_of(outputs: Any) -> torch.Tensor:
    """The logits in a model's outputs, which hold no loss."""
    return outputs["logits"] if isinstance(outputs, dict) else outputs[0]


def slice_rows(outputs: Any, rows: slice | torch.Tensor, total: int) -> Any:
    """The given rows of every tensor in `outputs` whose first dimension is the batch."""
    if isinstance(outputs, torch.Tensor):
        return outputs[rows] if outputs.ndim and len(outputs) == total else outputs
    if isinstance(outputs, dict):
        return type(outputs)(**{key: slice_rows(value, rows, total) for key, value in outputs.items()})
    if isinstance(outputs, (tuple, list)):
        return type(outputs)(slice_rows(value, rows, total) for value in outputs)
    return outputs


def _at(groups: torch.Tensor | None, rows: slice) -> torch.Tensor | None:
    return None if groups is None else groups[rows]
