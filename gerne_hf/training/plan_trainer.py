"""`PlanTrainer`: trains on batches laid out by a batch plan, by the gradient of the plan's loss.

Stands on [`SamplingTrainer`](gerne_hf.training.sampling_trainer.SamplingTrainer) and imports `method/`. The top rung,
[`GerneTrainer`](gerne_hf.trainer.GerneTrainer), adds unknown attributes, searches and reports.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, cast

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from transformers.trainer_utils import unwrap_peft_model

from ..groups.batches import GROUP_KEY
from ..method.beta import check_beta, scheduled_beta
from ..method.losses import LossMeter, PlanLoss
from ..method.outputs import check_own_loss, slice_rows, split_loss
from ..method.plans import PLANS_WITH_BETA, BatchPlan
from .checks import check_one_backward
from .sampling_trainer import SamplingTrainer

_CHECKED_BATCHES = 3
"""Batches that must show that a model's own loss is the cross-entropy of its logits."""
_LABELS_CHANGE_NO_LOGITS = ("transformers.", "gerne_hf.")
"""Libraries whose models need labels for their loss alone. Those of others may return something else without them."""
_PLAN_IGNORED = (
    "{0}.compute_loss does not call GerneTrainer.compute_loss, which weights the batch's rows by the plan. Pass the "
    "loss as compute_loss_func=f(outputs, labels, num_items_in_batch), the mean of the rows it is given, and have no "
    "{0}.compute_loss; or have that call super().compute_loss(...)"
)


class PlanTrainer(SamplingTrainer):
    """A trainer whose loss is that of the [`BatchPlan`] by which its batches are laid out.

    Hooks for subclasses: [`PlanTrainer.total_loss`], [`PlanTrainer.uses_one_forward`] and [`PlanTrainer.get_beta`].

    Args:
        compute_loss_func (`Callable`, *optional*): `f(outputs, labels, num_items_in_batch)` returning the mean loss of
            the rows it is given. In training it is called once a segment of the plan.
        arguments: the other arguments of [`~transformers.Trainer`], by keyword.

    Raises:
        TypeError, ValueError: as [`SamplingTrainer`], and for settings under which the loss cannot be computed.
    """

    loss_func: Callable | None
    """The `compute_loss_func` that was given."""

    _planned = False
    _segment: tuple[int, list[torch.Tensor]] | None = None
    _beta_shift = 0.0
    _warned_of_beta = False

    def __init__(self, *, compute_loss_func: Callable | None = None, **arguments: Any):
        # Kept from Trainer, which would take it for a loss normalized over the accumulated batch; so would it the loss
        # of models with **kwargs in forward, which still return a mean.
        self.loss_func = compute_loss_func
        super().__init__(**arguments)
        self.model_accepts_loss_kwargs = False
        self.loss_is_scaled_for_ga = False

    def get_beta(self, progress: float) -> float:
        """Return the extrapolation factor at a point of the training; override it for a schedule of your own.

        Args:
            progress (`float`): share of the optimizer steps that are done, in [0, 1).

        Returns:
            `float`: within the bounds of Eq. 9.
        """
        return scheduled_beta(self.args.beta_schedule, self.args.beta, progress, self.args.beta_ramp)

    def settle_plan(self) -> BatchPlan:
        """Make the plan anew, and take from it the loss, its meter and the checks of the first batches."""
        plan = super().settle_plan()
        self._plan_loss = PlanLoss(plan, self.args.label_smoothing_factor, self.loss_func)
        self._coefficients = [float(coefficient) for coefficient in plan.coefficients]
        self._meter = LossMeter(self._plan_loss)
        self._batch_norms: list[_BatchNorm] | None = None
        self._spares_labels: bool | None = None
        self._to_check = 0 if self._withholds_labels() else _CHECKED_BATCHES
        check_one_backward(self.is_deepspeed_enabled and not self.uses_one_forward(cast(torch.nn.Module, self.model)))
        return plan

    # ---- the training step ------------------------------------------------------------------------------------------

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Run one forward and backward over the whole batch, or one for each segment (`forward_mode`).

        Args:
            model ([`~torch.nn.Module`]), inputs (`dict`): as for `Trainer.training_step`.
            num_items_in_batch (*optional*): not used: the loss is that of the plan.
        """
        self._beta_shift = self._scheduled_shift()
        if self.uses_one_forward(model):
            return self._planned_step(model, inputs)
        self._plan_loss.check_rows(len(inputs["labels"]))
        plan = self._plan_loss.plan
        losses: list[torch.Tensor] = []
        means: list[torch.Tensor] = []
        last = len(plan.segments) - 1
        try:
            for i, rows in enumerate(plan.slices()):
                segment = {key: slice_rows(value, rows, plan.rows) for key, value in inputs.items()}
                self._segment = i, means
                # Gradients are synchronized with the last segment only.
                with self.accelerator.no_sync(model) if i < last else contextlib.nullcontext():
                    losses.append(self._planned_step(model, segment))
        finally:
            self._segment = None
        together = torch.stack(means)
        self._meter.add(together, self._plan_loss.total(together, self._beta_shift))
        return functools.reduce(torch.add, losses)

    def _planned_step(self, model: torch.nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        """Take a training step as `Trainer` does; refuse a `compute_loss` of a subclass that ignores the plan."""
        self._planned = False
        scaled = self.loss_is_scaled_for_ga
        # Trainer divides the loss by the number of batches of the step; dividing by 1 would only cost time.
        self.loss_is_scaled_for_ga = scaled or self.current_gradient_accumulation_steps == 1
        try:
            loss = super().training_step(model, inputs, None)
        except TypeError as error:  # of a model that was given the group ids
            if not self._planned:
                error.add_note(_PLAN_IGNORED.format(type(self).__name__))
            raise
        finally:
            self.loss_is_scaled_for_ga = scaled
        if not self._planned:
            raise ValueError(_PLAN_IGNORED.format(type(self).__name__))
        return loss

    def _scheduled_shift(self) -> float:
        """Return how far beta is from the plan's own at this step."""
        beta = self.get_beta(self.state.global_step / max(self.state.max_steps, 1))
        if beta == self.args.beta or self.args.plan not in PLANS_WITH_BETA:
            return 0.0
        if not (self.rule_for_beta == "warn" and self._warned_of_beta):
            lower, upper = self.beta_bounds
            self._warned_of_beta = not lower - 1e-9 <= beta <= upper + 1e-9
            check_beta(beta, (lower, upper), self.args.c, self.rule_for_beta)
        return beta - self.args.beta

    def total_loss(self, losses: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
        """Return the training loss of a batch, a scalar, from the losses of its rows.

        Args:
            losses (`torch.Tensor` of shape `(B,)`, or `(S,)` with a `compute_loss_func`): losses of rows or segments.
            groups (`torch.Tensor` of shape `(B,)`): the rows' group ids.
        """
        return self._plan_loss.total(losses, self._beta_shift)

    def uses_one_forward(self, model: torch.nn.Module) -> bool:
        """Return True if a step is one forward over all rows, False if it is one for each segment.

        Args:
            model ([`~torch.nn.Module`]): the model as it is trained; with `forward_mode="auto"` one with a BatchNorm
                layer in training mode has a forward for each segment.
        """
        segments = self._plan_loss.plan.segments
        if segments[0].group_weights is not None or self.args.forward_mode == "fused":
            return True
        if self.args.forward_mode == "separate":
            return False
        if len(segments) == 1:
            return True
        if self._batch_norms is None:
            self._batch_norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        if self._batch_norms:
            model.train()  # a model may keep its BatchNorm frozen
        return not any(module.training for module in self._batch_norms)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the plan's loss for a training batch, and the loss of `Trainer` for any other batch.

        Args:
            model ([`~torch.nn.Module`]), inputs (`dict`), return_outputs (`bool`), num_items_in_batch: as for
                `Trainer.compute_loss`.

        Returns:
            `torch.Tensor`, or `tuple[torch.Tensor, Any]` with `return_outputs`.
        """
        if GROUP_KEY not in inputs:
            loss, outputs = self._plain_loss(model, inputs, num_items_in_batch)
            self.keep_scored_outputs(outputs if isinstance(outputs, dict) or self._withholds_labels() else outputs[1:])
            return (loss, outputs) if return_outputs else loss
        self._planned = True
        inputs = dict(inputs)
        groups = inputs.pop(GROUP_KEY)
        if self._segment is not None:
            loss, outputs = self._segment_loss(model, inputs, groups, *self._segment)
        else:
            outputs, labels = self._forward(model, inputs)
            losses = self._plan_loss.losses(outputs, labels, groups)
            loss = self.total_loss(losses, groups)
            self._meter.add(losses, loss)
        return (loss, outputs) if return_outputs else loss

    def _withholds_labels(self) -> bool:
        """Return True if the loss is computed outside the model (`compute_loss_func` or label smoothing).

        Labels are then not passed to the model's forward, as in `Trainer`.
        """
        return self.loss_func is not None or self.label_smoother is not None

    def _plain_loss(self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any) -> tuple[Any, Any]:
        """Return the mean loss of an evaluation batch, and the outputs, as `Trainer` does with the user's function."""
        if self.loss_func is None or "labels" not in inputs:
            return cast(tuple[Any, Any], super().compute_loss(model, inputs, True, num_items_in_batch))
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        return self.loss_func(outputs, labels, num_items_in_batch=len(labels)), outputs

    def _segment_loss(
        self, model: torch.nn.Module, inputs: dict[str, Any], groups: torch.Tensor, index: int, means: list
    ) -> tuple[torch.Tensor, Any]:
        """Return one segment's part of the loss; it is the model's own loss where the user chose no other."""
        if not self._withholds_labels():
            mean, outputs = super().compute_loss(model, inputs, return_outputs=True)
        else:
            labels = inputs.pop("labels")
            outputs = model(**inputs)
            mean = self._plan_loss.one_segment(index, outputs, labels, groups)
        means.append(mean.detach())
        coefficient = self._coefficients[index]
        if self._beta_shift:
            coefficient += self._beta_shift * float(self._plan_loss.slopes[index])
        return coefficient * mean, outputs

    def _forward(self, model: torch.nn.Module, inputs: dict[str, Any]) -> tuple[Any, torch.Tensor]:
        """Return outputs and labels of a batch.

        The plan weights rows, so it needs their losses and cannot use the model's mean: the first batches make sure
        that this mean is the cross-entropy that takes its place.
        """
        labels = inputs["labels"]
        if self._spares_labels is None:
            plain = self.accelerator.unwrap_model(model)
            self._model_name = type(plain).__name__
            self._spares_labels = type(unwrap_peft_model(plain)).__module__.startswith(_LABELS_CHANGE_NO_LOGITS)
        if self._withholds_labels() or (self._spares_labels and not self._to_check):
            return model(**{key: value for key, value in inputs.items() if key != "labels"}), labels
        own, outputs = split_loss(model(**inputs), self._model_name)
        if self._to_check:
            mixed = self.accelerator.mixed_precision != "no"
            self._to_check -= check_own_loss(own, outputs, labels, mixed, self._model_name)
        return outputs, labels

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as `Trainer` does, with the losses of both batches and, where it changes, beta."""
        if self.is_in_train and "loss" in logs:
            logs.update(self._meter.drain(self.accelerator))
            overridden = type(self).get_beta is not PlanTrainer.get_beta
            scheduled = self.args.beta_schedule != "constant" or overridden
            if scheduled and self._plan_loss.plan.slopes is not None:
                logs["beta"] = self.args.beta + self._beta_shift
        super().log(logs, start_time)
