"""The training step of a batch plan: how a Trainer computes the extrapolated gradient of a batch laid out by it."""

import contextlib
from collections.abc import Callable

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from .checks import check_beta, check_one_backward
from .grouped_data import GROUP_KEY
from .losses import LossMeter, PlanLoss, check_own_loss, slice_rows
from .plans import BatchPlan
from .schedules import scheduled_beta


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
        self._loss_checked = self.args.label_smoothing_factor > 0 or self._loss_func is not None
        check_one_backward(self.is_deepspeed_enabled and self._separate(self.model))
        return plan

    def training_step(self, model, inputs, num_items_in_batch=None):
        """One forward and backward over the whole batch, or one for each segment (`forward_mode`)."""
        self._beta_shift = self._scheduled_shift()
        if not self._separate(model):
            return super().training_step(model, inputs, None)
        self._plan_loss.check_rows(len(inputs["labels"]))
        losses, means = [], []
        last = len(self._batch_plan.segments) - 1
        try:
            for i, rows in enumerate(self._batch_plan.slices()):
                segment = {key: slice_rows(value, rows, self._batch_plan.rows) for key, value in inputs.items()}
                self._segment = i, means
                # Gradients are synchronized with the last segment only.
                with self.accelerator.no_sync(model) if i < last else contextlib.nullcontext():
                    losses.append(super().training_step(model, segment, None))
        finally:
            self._segment = None
        means = torch.stack(means)
        self._meter.add(means, self._plan_loss.total(means, self._beta_shift))
        return sum(losses)

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
            return self._plain_loss(model, inputs, return_outputs, num_items_in_batch)
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

    def _plain_loss(self, model, inputs, return_outputs, num_items_in_batch):
        """The mean loss of an evaluation batch, as the parent computes it with the user's loss function."""
        if self._loss_func is None or "labels" not in inputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = self._loss_func(outputs, labels, num_items_in_batch=len(labels))
        return (loss, outputs) if return_outputs else loss

    def _segment_loss(self, model, inputs, groups):
        """One segment's part of the loss; the model's own loss where the user chose no other."""
        index, means = self._segment
        if self._loss_func is None and self.label_smoother is None:
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
        first batch makes sure that this mean is the cross-entropy that takes its place."""
        labels = inputs["labels"]
        if self._loss_checked:
            return model(**{key: value for key, value in inputs.items() if key != "labels"}), labels
        outputs = model(**inputs)
        own = outputs["loss"] if isinstance(outputs, dict) else outputs[0]
        if isinstance(outputs, dict):
            outputs = type(outputs)(**{key: value for key, value in outputs.items() if key != "loss"})
        else:
            outputs = outputs[1:]
        name = type(self.accelerator.unwrap_model(model)).__name__
        check_own_loss(own, outputs, labels, self.accelerator.mixed_precision != "no", name)
        self._loss_checked = True
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
