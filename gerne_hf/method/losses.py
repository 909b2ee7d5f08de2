"""The training loss of a batch plan: `sum over segments of coefficient * mean(per-row loss)` (Eq. 5 for GERNE).

Imports [`plans`](gerne_hf.method.plans) and [`outputs`](gerne_hf.method.outputs), torch and Transformers. The trainer
that minimizes the loss is in `training/plan_trainer.py`.
"""

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
    """Computes the loss of a plan from the outputs of one forward over a whole batch, or segment by segment.

    Args:
        plan ([`BatchPlan`]): the same object that the sampler reads.
        label_smoothing (`float`, defaults to `0.0`): as `TrainingArguments.label_smoothing_factor`.
        loss_func (`Callable`, *optional*): called as `loss_func(outputs, labels, num_items_in_batch=rows)`, and
            returns the mean loss of the rows that it is given; cross-entropy of the logits if not given. It is called
            for each segment, with the number of the segment's rows as `num_items_in_batch`.
    """

    def __init__(
        self, plan: BatchPlan, label_smoothing: float = 0.0, loss_func: Callable[..., torch.Tensor] | None = None
    ):
        self.plan = plan
        self.label_smoothing = label_smoothing
        self.loss_func = loss_func
        self._coefficients = plan.coefficients
        self._rows = plan.rows
        self._weighted_rows = any(segment.group_weights is not None for segment in plan.segments)
        self._constants: dict[tuple, torch.Tensor] = {}

    def losses(self, outputs: Any, labels: torch.Tensor, groups: torch.Tensor | None = None) -> torch.Tensor:
        """Return the losses of a batch, of which the training loss is a linear function.

        Args:
            outputs: what the model returned for `plan.rows` rows: a mapping with `logits`, or a tuple that starts
                with them.
            labels (`torch.Tensor` of shape `(plan.rows,)`): class ids.
            groups (`torch.Tensor` of shape `(plan.rows,)`, *optional*): group ids; needed by plans with group weights.

        Returns:
            `torch.Tensor` of shape `(plan.rows,)`: the loss of each row, times the weight of its group if the plan has
            group weights. With a `loss_func`, which returns means, the shape is `(S,)`: the mean loss of each segment.

        Raises:
            ValueError: if the batch has another number of rows than the plan, or if the plan has group weights and
                `groups` is missing.
        """
        self.check_rows(len(labels))
        if self.loss_func is not None:
            means = [
                self.one_segment(i, slice_rows(outputs, rows, len(labels)), labels[rows], _at(groups, rows))
                for i, rows in enumerate(self.plan.slices())
            ]
            return torch.stack(means)
        return self.weighted(self._per_row(outputs, labels), groups)

    def weighted(self, losses: torch.Tensor, groups: torch.Tensor | None = None) -> torch.Tensor:
        """Return the losses of a batch's rows, each times the weight of its group if the plan has group weights.

        Args:
            losses (`torch.Tensor` of shape `(plan.rows,)`): the loss of each row.
            groups (`torch.Tensor` of shape `(plan.rows,)`, *optional*): group ids; needed by plans with group weights.

        Returns:
            `torch.Tensor` of shape `(plan.rows,)`

        Raises:
            ValueError: if the plan has group weights and `groups` is missing.
        """
        if not self._weighted_rows:
            return losses
        parts = [self._weighted(i, losses[rows], _at(groups, rows)) for i, rows in enumerate(self.plan.slices())]
        return torch.cat(parts)

    def one_segment(
        self, index: int, outputs: Any, labels: torch.Tensor, groups: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the mean loss of one segment, from outputs over its rows alone.

        Args:
            index (`int`): place of the segment in the plan.
            outputs: what the model returned for the `n` rows of the segment.
            labels (`torch.Tensor` of shape `(n,)`): class ids.
            groups (`torch.Tensor` of shape `(n,)`, *optional*): group ids; needed by plans with group weights.

        Returns:
            `torch.Tensor` of shape `()`

        Raises:
            ValueError: if the plan has group weights and `groups` is missing.
        """
        weights = self.plan.segments[index].group_weights
        if self.loss_func is None:
            return self._weighted(index, self._per_row(outputs, labels), groups).mean()
        if weights is None:
            return self.loss_func(outputs, labels, num_items_in_batch=len(labels))
        # The function returns a mean, so rows of different weights need a call for each group.
        groups = self._needed(groups)
        total = labels.new_zeros((), dtype=logits_of(outputs).dtype)
        for group in groups.unique().tolist():
            rows = (groups == group).nonzero().squeeze(1)
            mean = self.loss_func(slice_rows(outputs, rows, len(labels)), labels[rows], num_items_in_batch=len(rows))
            total = total + float(weights.ravel()[group]) * len(rows) / len(labels) * mean
        return total

    def total(self, losses: torch.Tensor, beta_shift: float = 0.0) -> torch.Tensor:
        """Return the training loss: the sum over the segments of coefficient times mean loss.

        Args:
            losses (`torch.Tensor` of shape `(plan.rows,)` or `(S,)`): what [`losses`](PlanLoss.losses) returned, or
                the mean loss of each segment.
            beta_shift (`float`, defaults to `0.0`): beta of this step minus the beta that the plan was built with.

        Returns:
            `torch.Tensor` of shape `()`

        Raises:
            ValueError: for a shift, if the plan has no beta in its coefficients.
        """
        factors = self._factors("total", self._coefficients, losses)
        if beta_shift:
            factors = factors.add(self._factors("slopes", self.slopes, losses), alpha=beta_shift)
        return torch.dot(factors, losses)

    @property
    def slopes(self) -> np.ndarray:
        """`np.ndarray` of shape `(S,)`: by how much each segment's coefficient grows when beta grows by 1.

        Raises:
            ValueError: if the plan has no beta in its coefficients.
        """
        if self.plan.slopes is None:
            raise ValueError(
                f"beta cannot change over training with the plan {self.plan.name!r}, which has no beta in its "
                "coefficients. Choose the plan 'independent' or 'shared'"
            )
        return self.plan.slopes

    def segment_means(self, losses: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of each segment.

        Args:
            losses (`torch.Tensor`): what [`losses`](PlanLoss.losses) returned.

        Returns:
            `torch.Tensor` of shape `(S,)`
        """
        return self._factors("means", np.eye(len(self.plan.segments)), losses) @ losses

    def components(self, losses: torch.Tensor) -> torch.Tensor:
        """Return the losses of a plan that have names, such as those of the biased and the less biased batch.

        Args:
            losses (`torch.Tensor`): what [`losses`](PlanLoss.losses) returned, or a sum of such.

        Returns:
            `torch.Tensor` of shape `(len(plan.components),)`, in the order of `plan.components`.
        """
        matrix = np.stack([*self.plan.components.values()])
        return self._factors("components", matrix, losses) @ losses

    def check_rows(self, rows: int) -> None:
        """Refuse a batch with another number of rows than the plan has, or with more where an epoch is every row.

        Args:
            rows (`int`): rows of the batch.

        Raises:
            ValueError: names both numbers.
        """
        if rows != self._rows and not (self.plan.every_row and 0 < rows < self._rows):
            raise ValueError(
                f"the batch has {rows} rows, and the plan {self.plan.name!r} lays out {self._rows}. Batches must "
                "come from get_train_dataloader()"
            )

    def _factors(self, name: str, by_segment: np.ndarray, losses: torch.Tensor) -> torch.Tensor:
        """Return factors of segment means, of shape `(..., S)`, as factors of `losses`.

        For the losses of single rows each factor is spread over the rows of its segment: `(..., plan.rows)`. The
        result is kept by `name`, so that it is copied to the device once and not at every step.
        """
        key = (name, losses.shape, losses.device, losses.dtype)
        if key not in self._constants:
            rows = [len(losses)] if self.plan.every_row else [segment.rows for segment in self.plan.segments]
            if len(losses) != len(rows):
                by_segment = np.repeat(by_segment / np.array(rows), rows, axis=-1)
            self._constants[key] = torch.as_tensor(by_segment, dtype=losses.dtype).to(losses.device)
        return self._constants[key]

    def _per_row(self, outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropy of each row, in float32 at least."""
        logits = logits_of(outputs)
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        return F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.label_smoothing)

    def _weighted(self, index: int, per_row: torch.Tensor, groups: torch.Tensor | None) -> torch.Tensor:
        """Return the losses of a segment's rows, each times the weight of its group in that segment."""
        weights = self.plan.segments[index].group_weights
        if weights is None:
            return per_row
        groups = self._needed(groups)
        key = ("weights", index, per_row.device, per_row.dtype)
        if key not in self._constants:
            self._constants[key] = torch.as_tensor(weights.ravel(), dtype=per_row.dtype).to(per_row.device)
        return per_row * self._constants[key][groups]

    def _needed(self, groups: torch.Tensor | None) -> torch.Tensor:
        """Return the group ids, which a plan with group weights cannot do without."""
        if groups is None:
            raise ValueError(f"the plan {self.plan.name!r} weights rows by their group; pass the group ids as groups")
        return groups


class LossMeter:
    """Means over steps of a plan's named losses and of the extrapolated loss L_ext, for the logs.

    They are added up on the device, and copied from it when they are logged and not before, so that no step waits.

    Args:
        plan_loss ([`PlanLoss`]): the loss whose values are added.
    """

    _TOGETHER = 128  # steps that are added up at a time
    _DECAY = 0.98  # of the running mean of L_ext, which is thus over about the last 50 steps

    def __init__(self, plan_loss: PlanLoss):
        self._plan_loss = plan_loss
        self._names = list(plan_loss.plan.components)
        self._sums: torch.Tensor | None = None
        self._total: torch.Tensor
        self._running: torch.Tensor
        self._waiting: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._steps = self._all_steps = 0

    def add(self, losses: torch.Tensor, total: torch.Tensor) -> None:
        """Add the losses of one step. No value leaves the device.

        Args:
            losses (`torch.Tensor`): what [`PlanLoss.losses`] returned, or the mean loss of each segment; of the same
                shape at every step.
            total (`torch.Tensor` of shape `()`): the training loss of the step.
        """
        if not self._names:
            return
        self._waiting.append((losses.detach(), total.detach()))
        self._steps += 1
        self._all_steps += 1
        if len(self._waiting) == self._TOGETHER:
            self._add_up()

    def _add_up(self) -> None:
        """Add up the steps that wait: small operations cost a short step more than the numbers in them."""
        if not self._waiting:
            return
        losses, totals = (torch.stack(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting.clear()
        if self._sums is None:
            self._sums = torch.zeros_like(losses[0])
            self._total, self._running = torch.zeros_like(totals[0]), torch.zeros_like(totals[0])
        self._sums += losses.sum(dim=0)
        self._total += totals.sum()
        # A loss that is not finite would stay in the running mean, and no later warning would come: it is left out.
        finite = totals.isfinite()
        later = finite.flip(0).cumsum(0).flip(0) - finite.to(torch.int64)
        weights = (1.0 - self._DECAY) * self._DECAY**later * finite
        kept = (weights * totals.where(finite, torch.zeros_like(totals))).sum()
        self._running = self._running * self._DECAY ** finite.sum() + kept

    def drain(self, accelerator: Any) -> dict[str, float]:
        """Return the means over the steps since the last call and over all processes, and begin anew.

        Warns once if the running mean of L_ext is negative.

        Args:
            accelerator ([`~accelerate.Accelerator`]): takes the mean over the processes; all of them must call this.

        Returns:
            `dict[str, float]`: each loss of `plan.components` and `loss_extrapolated`; empty after no step, and for
            plans without components.
        """
        self._add_up()
        if not self._steps or self._sums is None:
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
    """Return the group ids of some rows, where there are group ids."""
    return None if groups is None else groups[rows]
