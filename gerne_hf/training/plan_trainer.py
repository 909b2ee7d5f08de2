"""The training step of a batch plan: how a Trainer computes the extrapolated gradient of a batch laid out by it."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import TrainerCallback
from transformers.trainer_utils import unwrap_peft_model

from ..groups.batches import GROUP_KEY
from ..method.beta import check_beta, scheduled_beta
from ..method.losses import LossMeter, PlanLoss
from ..method.outputs import check_own_loss, slice_rows, split_loss
from ..method.plans import BatchPlan
from .checks import check_one_backward

_CHECKED_BATCHES = 3
"""Batches that must show that a model's own loss is the cross-entropy of its logits."""

_LABELS_CHANGE_NO_LOGITS = ("transformers.", "gerne_hf.")
"""Libraries whose models need labels for their loss alone. Those of others may return something else without them."""

_PLAN_IGNORED = (
    "{0}.compute_loss does not call GerneTrainer.compute_loss, which weights the batch's rows by the plan. Pass the "
    "loss as compute_loss_func=f(outputs, labels, num_items_in_batch), the mean of the rows it is given, and have no "
    "{0}.compute_loss; or have that call super().compute_loss(...)"
)


class PlanTrainingMixin:
    """The training half of [`GerneTrainer`]; goes before `Trainer` in the bases."""

    _batch_plan: BatchPlan | None
    _loss_func: Callable | None

    def _use_plan(self, plan: BatchPlan) -> BatchPlan:
        """Take the loss, its meter and the checks of the first batch from `plan`."""
        self._batch_plan = plan
        self._plan_loss = PlanLoss(plan, self.args.label_smoothing_factor, self._loss_func)
        self._meter = LossMeter(self._plan_loss)
        self._batch_norms: list[_BatchNorm] | None = None
        self._spares_labels: bool | None = None
        self._to_check = 0 if self._withholds_labels() else _CHECKED_BATCHES
        check_one_backward(self.is_deepspeed_enabled and self._separate(self.model))
        return plan

    def training_step(self, model, inputs, num_items_in_batch=None):
        """One forward and backward over the whole batch, or one for each segment (`forward_mode`)."""
        self._beta_shift = self._scheduled_shift()
        if not self._separate(model):
            return self._planned_step(model, inputs)
        self._plan_loss.check_rows(len(inputs["labels"]))
        losses, means = [], []
        last = len(self._batch_plan.segments) - 1
        try:
            for i, rows in enumerate(self._batch_plan.slices()):
                segment = {key: slice_rows(value, rows, self._batch_plan.rows) for key, value in inputs.items()}
                self._segment = i, means
                # Gradients are synchronized with the last segment only.
                with self.accelerator.no_sync(model) if i < last else contextlib.nullcontext():
                    losses.append(self._planned_step(model, segment))
        finally:
            self._segment = None
        means = torch.stack(means)
        self._meter.add(means, self._plan_loss.total(means, self._beta_shift))
        return sum(losses)

    def _planned_step(self, model, inputs):
        """The parent's training step; refuses a `compute_loss` of a subclass by which the plan would be ignored."""
        self._planned = False
        try:
            loss = super().training_step(model, inputs, None)
        except TypeError as error:  # of a model that was given the group ids
            if not self._planned:
                error.add_note(_PLAN_IGNORED.format(type(self).__name__))
            raise
        if not self._planned:
            raise ValueError(_PLAN_IGNORED.format(type(self).__name__))
        return loss

    _planned = False
    _segment: tuple[int, list] | None = None
    _beta_shift = 0.0
    _warned_of_beta = False

    def get_beta(self, progress: float) -> float:
        """The extrapolation factor at a point of the training; override it for a schedule of your own.

        Args:
            progress (`float`): share of the optimizer steps that are done, in [0, 1).

        Returns:
            `float`: within the bounds of Eq. 9.
        """
        return scheduled_beta(self.args.beta_schedule, self.args.beta, progress, self.args.beta_ramp)

    def _scheduled_shift(self) -> float:
        beta = self.get_beta(self.state.global_step / max(self.state.max_steps, 1))
        if beta == self.args.beta or self.args.plan in ("erm", "resampling"):
            return 0.0
        if not (self.args.beta_out_of_bounds == "warn" and self._warned_of_beta):
            lower, upper = self.beta_bounds
            self._warned_of_beta = not lower - 1e-9 <= beta <= upper + 1e-9
            check_beta(beta, (lower, upper), self.args.c, self.args.beta_out_of_bounds)
        return beta - self.args.beta

    def _total_loss(self, losses: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
        """The training loss from the losses of the batch's rows, or of its segments."""
        return self._plan_loss.total(losses, self._beta_shift)

    def _separate(self, model) -> bool:
        if self._batch_plan.segments[0].group_weights is not None or self.args.forward_mode == "fused":
            return False
        if self.args.forward_mode == "separate":
            return True
        if len(self._batch_plan.segments) == 1:
            return False
        if self._batch_norms is None:
            self._batch_norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        if self._batch_norms:
            model.train()  # a model may keep its BatchNorm frozen
        return any(module.training for module in self._batch_norms)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """In training the plan's loss, else the parent's."""
        if GROUP_KEY not in inputs:
            loss, outputs = self._plain_loss(model, inputs, num_items_in_batch)
            # Also where the parent would take them for something else, or leave them out.
            self._scored = outputs if isinstance(outputs, dict) or self._withholds_labels() else outputs[1:]
            return (loss, outputs) if return_outputs else loss
        self._planned = True
        inputs = dict(inputs)
        groups = inputs.pop(GROUP_KEY)
        if self._segment is not None:
            loss, outputs = self._segment_loss(model, inputs, groups)
        else:
            outputs, labels = self._forward(model, inputs)
            losses = self._plan_loss.losses(outputs, labels, groups)
            loss = self._total_loss(losses, groups)
            self._meter.add(losses, loss)
        return (loss, outputs) if return_outputs else loss

    _scored: Any = None

    def _withholds_labels(self) -> bool:
        """Whether the loss is not the model's own, so that, as in the parent, the model gets no labels."""
        return self._loss_func is not None or self.label_smoother is not None

    def _plain_loss(self, model, inputs, num_items_in_batch):
        """The mean loss of an evaluation batch, as the parent computes it with the user's function, and outputs."""
        if self._loss_func is None or "labels" not in inputs:
            return super().compute_loss(model, inputs, True, num_items_in_batch)
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        return self._loss_func(outputs, labels, num_items_in_batch=len(labels)), outputs

    def _segment_loss(self, model, inputs, groups):
        """One segment's part of the loss; the model's own loss where the user chose no other."""
        index, means = self._segment
        if not self._withholds_labels():
            mean, outputs = super().compute_loss(model, inputs, return_outputs=True)
        else:
            labels = inputs.pop("labels")
            outputs = model(**inputs)
            mean = self._plan_loss.one_segment(index, outputs, labels, groups)
        means.append(mean.detach())
        coefficient = float(self._batch_plan.coefficients[index])
        if self._beta_shift:
            coefficient += self._beta_shift * float(self._plan_loss.slopes[index])
        return coefficient * mean, outputs

    def _forward(self, model, inputs):
        """Outputs and labels. The plan weights rows, so it needs their losses and cannot use the model's mean: the
        first batches make sure that this mean is the cross-entropy that takes its place."""
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
        """The parent's, with the losses of both batches, and without what would flood the terminal."""
        if self.is_in_train and "loss" in logs:
            logs.update(self._meter.drain(self.accelerator))
            overridden = type(self).get_beta is not PlanTrainingMixin.get_beta
            scheduled = self.args.beta_schedule != "constant" or overridden
            if scheduled and self._batch_plan.slopes is not None:
                logs["beta"] = self.args.beta + self._beta_shift
        kept = self._loggable(logs)
        super().log(kept, start_time)
        logs.update(kept)


class EpochOfSampler(TrainerCallback):
    """Tells the sampler the epoch. After a resume in mid-epoch on several processes neither the Trainer nor accelerate
    reaches it, and the epoch would replay the order of the first."""

    def __init__(self, trainer: Any):
        self._trainer = trainer

    def on_epoch_begin(self, args, state, control, **kwargs):
        self._trainer._sampler.set_epoch(int(state.epoch or 0))
