"""The training loss of a batch plan: `sum over segments of coefficient * mean(per-row loss)` (Eq. 5 for GERNE)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers.utils import logging

from .outputs import logits_of, slice_rows
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
        self._weighted_rows = any(segment.group_weights is not None for segment in plan.segments)
        self._constants: dict[tuple, torch.Tensor] = {}

    def losses(self, outputs: Any, labels: torch.Tensor, groups: torch.Tensor | None = None) -> torch.Tensor:
        """The losses that a batch's training loss is a linear function of.

        Args:
            outputs: the model's outputs for `plan.rows` rows (a mapping with `logits`, or a tuple starting with them).
            labels (`torch.Tensor` of shape `(plan.rows,)`): class ids.
            groups (`torch.Tensor` of shape `(plan.rows,)`, *optional*): group ids; needed by plans with group weights.

        Returns:
            `torch.Tensor` of shape `(plan.rows,)`: each row's loss, times its group's weight where the plan has any;
            with a `loss_func`, which returns means, of shape `(S,)`: each segment's mean loss.

        Raises:
            ValueError: if the batch has another number of rows than the plan.
        """
        self.check_rows(len(labels))
        if self.loss_func is not None:
            means = [
                self.one_segment(i, slice_rows(outputs, rows, len(labels)), labels[rows], _at(groups, rows))
                for i, rows in enumerate(self.plan.slices())
            ]
            return torch.stack(means)
        per_row = self._per_row(outputs, labels)
        if not self._weighted_rows:
            return per_row
        parts = [self._weighted(i, per_row[rows], _at(groups, rows)) for i, rows in enumerate(self.plan.slices())]
        return torch.cat(parts)

    def one_segment(
        self, index: int, outputs: Any, labels: torch.Tensor, groups: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Mean loss (a scalar) of segment `index`, from outputs over its rows only."""
        weights = self.plan.segments[index].group_weights
        if self.loss_func is None:
            return self._weighted(index, self._per_row(outputs, labels), groups).mean()
        if weights is None:
            return self.loss_func(outputs, labels, num_items_in_batch=len(labels))
        # The function returns a mean, so rows of different weight need a call each group.
        total = labels.new_zeros((), dtype=logits_of(outputs).dtype)
        for group in groups.unique().tolist():
            rows = (groups == group).nonzero().squeeze(1)
            mean = self.loss_func(slice_rows(outputs, rows, len(labels)), labels[rows], num_items_in_batch=len(rows))
            total = total + float(weights.ravel()[group]) * len(rows) / len(labels) * mean
        return total

    def total(self, losses: torch.Tensor, beta_shift: float = 0.0) -> torch.Tensor:
        """The training loss, from what [`losses`] returned or from the `(S,)` segment means.

        Args:
            losses (`torch.Tensor`): losses of rows or segments.
            beta_shift (`float`, defaults to `0.0`): how far beta is from the plan's own at this step.

        Raises:
            ValueError: for a shift of a plan that has no beta in its coefficients.
        """
        factors = self._factors("total", self.plan.coefficients, losses)
        if beta_shift:
            factors = factors.add(self._factors("slopes", self.slopes, losses), alpha=beta_shift)
        return torch.dot(factors, losses)

    @property
    def slopes(self) -> np.ndarray:
        """`(S,)`: the plan's slopes in beta."""
        if self.plan.slopes is None:
            raise ValueError(
                f"beta cannot change over training with the plan {self.plan.name!r}, which has no beta in its "
                "coefficients. Choose the plan 'independent' or 'shared'"
            )
        return self.plan.slopes

    def segment_means(self, losses: torch.Tensor) -> torch.Tensor:
        """`(S,)`: each segment's mean loss, from what [`losses`] returned."""
        return self._factors("means", np.eye(len(self.plan.segments)), losses) @ losses

    def components(self, losses: torch.Tensor) -> torch.Tensor:
        """`(len(plan.components),)`: the plan's named losses."""
        matrix = np.stack([*self.plan.components.values()])
        return self._factors("components", matrix, losses) @ losses

    def check_rows(self, rows: int) -> None:
        """Raise a `ValueError` unless a batch has the number of rows that the plan lays out."""
        if rows != self.plan.rows:
            raise ValueError(
                f"the batch has {rows} rows, and the plan {self.plan.name!r} lays out {self.plan.rows}. Batches must "
                "come from get_train_dataloader()"
            )

    def _factors(self, name: str, by_segment: np.ndarray, losses: torch.Tensor) -> torch.Tensor:
        """`(..., S)` factors of segment means as factors of `losses`: the same, or `(..., plan.rows)` for single rows.

        Copied to the device once.
        """
        key = (name, len(losses), losses.device, losses.dtype)
        if key not in self._constants:
            rows = [segment.rows for segment in self.plan.segments]
            if len(losses) != len(rows):
                by_segment = np.repeat(by_segment / np.array(rows), rows, axis=-1)
            self._constants[key] = torch.as_tensor(by_segment, dtype=losses.dtype).to(losses.device)
        return self._constants[key]

    def _per_row(self, outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        logits = logits_of(outputs)
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        return F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.label_smoothing)

    def _weighted(self, index: int, per_row: torch.Tensor, groups: torch.Tensor | None) -> torch.Tensor:
        weights = self.plan.segments[index].group_weights
        if weights is None:
            return per_row
        key = ("weights", index, per_row.device, per_row.dtype)
        if key not in self._constants:
            self._constants[key] = torch.as_tensor(weights.ravel(), dtype=per_row.dtype).to(per_row.device)
        return per_row * self._constants[key][groups]


class LossMeter:
    """Means of a plan's named losses and of L_ext, added up on the device and copied from it only at log time.

    Args:
        plan_loss ([`PlanLoss`]): the loss whose segment means are added.
    """

    _DECAY = 0.98  # of the running mean of L_ext: about the last 50 steps

    def __init__(self, plan_loss: PlanLoss):
        self._plan_loss = plan_loss
        self._names = list(plan_loss.plan.components)
        self._sums: torch.Tensor | None = None
        self._steps = self._all_steps = 0

    def add(self, losses: torch.Tensor, total: torch.Tensor) -> None:
        """Add one step's losses, as [`PlanLoss.losses`] returns them, and its training loss (a scalar); no value
        leaves the device."""
        if not self._names:
            return
        losses, total = losses.detach(), total.detach()
        if self._sums is None:
            self._sums, self._total, self._running = (torch.zeros_like(part) for part in (losses, total, total))
        self._sums += losses
        self._total += total
        # A step that overflowed must not silence the alarm for good.
        self._running.lerp_(total.where(total.isfinite(), self._running), 1.0 - self._DECAY)
        self._steps += 1
        self._all_steps += 1

    def drain(self, accelerator: Any) -> dict[str, float]:
        """Means since the last call, over all processes; warns about a negative running mean of L_ext."""
        if not self._steps:
            return {}
        running = self._running / (1.0 - self._DECAY**self._all_steps)
        sums = [*self._plan_loss.components(self._sums).unbind(), self._total]
        local = torch.stack([*(value / self._steps for value in sums), running]).float()
        *means, extrapolated, running = accelerator.reduce(local, reduction="mean").tolist()
        self._sums.zero_()
        self._total.zero_()
        self._steps = 0
        if running < 0:
            logger.warning_once(
                f"The running mean of L_ext is negative ({running:.3g}). Inside the bounds of beta it cannot be, in "
                "expectation: either the same rows repeat in every epoch, or the model diverges. Lower beta or the "
                "learning rate."
            )
        return {**dict(zip(self._names, means, strict=True)), "loss_extrapolated": extrapolated}


def _at(groups: torch.Tensor | None, rows: slice) -> torch.Tensor | None:
    return None if groups is None else groups[rows]
