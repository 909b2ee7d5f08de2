"""`PlanTrainer`: trains on batches laid out by a batch plan, by the gradient of the plan's loss.

Stands on [`SamplingTrainer`](gerne_hf.training.sampling_trainer.SamplingTrainer) and imports `method/`. The top rung,
[`GerneTrainer`](gerne_hf.trainer.GerneTrainer), adds unknown attributes, searches and reports.
"""

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import Trainer
from transformers.trainer_utils import unwrap_peft_model
from transformers.utils import logging

from ..groups.batches import GROUP_KEY
from ..method.beta import check_beta, scheduled_beta
from ..method.losses import LossMeter, PlanLoss
from ..method.outputs import check_own_loss, slice_rows, split_loss
from ..method.plans import PLANS_WITH_BETA, BatchPlan
from ..models.training_mode import training_mode_kept
from ..utils.attributes import replaced
from .checks import check_one_backward
from .overrides import override_below, override_without_super
from .sampling_trainer import SamplingTrainer

logger = logging.get_logger(__name__)

_CHECKED_BATCHES = 3
"""Batches that must show that a model's own loss is the cross-entropy of its logits."""
_LABELS_CHANGE_NO_LOGITS = ("transformers.", "gerne_hf.")
"""Libraries whose models need labels for their loss alone. Those of others may return something else without them."""


@dataclass
class _Part:
    """The rows of a training batch over which one forward runs: all, or those of a segment."""

    groups: torch.Tensor | None = None
    """The rows' group ids; None for rows that come as they are, without a plan."""
    segment: int | None = None
    scaled: bool = False
    """Whether a subclass says that its loss is normalized over the accumulated batch."""
    means: list[torch.Tensor] = field(default_factory=list)
    weighted: bool = False
    """Whether the rows were weighted, in one forward over all of them."""


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

    _part: _Part | None = None
    _loss_of_its_own: str | None = None
    _loss_below: str | None = None
    _beta_shift = 0.0
    _warned_of_beta = False

    def __init__(self, *, compute_loss_func: Callable | None = None, **arguments: Any):
        # Kept from Trainer, which would take it for a loss normalized over the accumulated batch; so would it the loss
        # of models with **kwargs in forward, which still return a mean.
        self.loss_func = compute_loss_func
        cls = type(self)
        self._loss_below = override_below(cls, "compute_loss", PlanTrainer, Trainer)
        self._loss_of_its_own = override_without_super(cls, "compute_loss", PlanTrainer) or self._loss_below
        if self._loss_below and compute_loss_func is not None:
            raise ValueError(
                f"there are two losses, compute_loss_func and {self._loss_below}, and only one can be trained. Leave "
                "compute_loss_func out, or stand on another trainer"
            )
        super().__init__(**arguments)
        self.model_accepts_loss_kwargs = False
        if self.loss_is_scaled_for_ga is None:
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
        if self.is_deepspeed_enabled or self._loss_of_its_own is not None:
            one = self.uses_one_forward(cast(torch.nn.Module, self.model))
            check_one_backward(self.is_deepspeed_enabled and not one)
            self._look_at_own_loss(one)
        return plan

    def _look_at_own_loss(self, one_forward: bool) -> None:
        """Refuse a loss of the subclass's own whose rows cannot be weighted; say how others are."""
        own = self._loss_of_its_own
        if own is None:
            return
        if one_forward and not self._is_plain():
            raise ValueError(self._plan_ignored(own))
        if not one_forward and self.args.forward_mode == "auto" and self.is_world_process_zero():
            logger.warning_once(
                f"{own} computes a loss of its own, which cannot be taken apart by rows: it is called once for each "
                "segment of a batch, with a forward of its own, and the plan weights what it returns "
                "(forward_mode='separate')."
            )

    def _plan_ignored(self, own: str) -> str:
        """Return the sentence that refuses a loss whose rows cannot be weighted, and names the ways out.

        Args:
            own (`str`): the method that computes it.
        """
        cls, weights = type(self), self._plan_loss.plan.segments[0].group_weights
        who, ways = f"the plan {self.args.plan!r} weights", ["set forward_mode='separate', in which it is called for "]
        ways[0] += "the rows of one segment at a time"
        if cls.total_loss is not PlanTrainer.total_loss:
            who, ways = f"{cls.__name__}.total_loss weights", []
        elif weights is not None:
            ways = ["choose a plan that weights no rows, such as 'resampling'"]
        ways += [
            "pass the loss as compute_loss_func=f(outputs, labels, num_items_in_batch), the mean of the rows it is "
            "given, and have no compute_loss of your own",
            "have it call super().compute_loss(...)",
        ]
        return (
            f"{own} computes one mean over the rows of a batch, without super().compute_loss, and {who} these rows, "
            f"so the weights would be lost. Ways out: {'; or '.join(ways)}"
        )

    def _is_plain(self) -> bool:
        """Return whether the loss of a batch is the plain mean over its rows: one segment, and no weights."""
        segments = self._plan_loss.plan.segments
        plain = len(segments) == 1 and segments[0].group_weights is None and segments[0].coefficient == 1
        return plain and type(self).total_loss is PlanTrainer.total_loss

    # ---- the training step ------------------------------------------------------------------------------------------

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Run one forward and backward over the whole batch, or one for each segment (`forward_mode`).

        Args:
            model ([`~torch.nn.Module`]), inputs (`dict`): as for `Trainer.training_step`.
            num_items_in_batch (*optional*): not used: the loss is that of the plan.
        """
        inputs = dict(inputs)
        groups = inputs.pop(GROUP_KEY, None)
        plan = self._plan_loss.plan
        as_laid_out = groups is not None and (len(groups) == plan.rows or (plan.every_row and len(groups) < plan.rows))
        if not as_laid_out and self.takes_any_rows() and self._is_plain():
            groups = None
        if groups is None:  # of a loader of the user's, or by hand
            if self.is_in_train and not (self.takes_any_rows() and self._is_plain()):
                raise ValueError(self.rows_pass_the_plan_by())
            return self._step_over(_Part(), model, inputs)
        groups = groups.to(self.args.device)
        self._beta_shift = self._scheduled_shift()
        if self.uses_one_forward(model):
            return self._step_over(_Part(groups), model, inputs)
        self._plan_loss.check_rows(len(inputs["labels"]))
        losses: list[torch.Tensor] = []
        means: list[torch.Tensor] = []
        last = len(plan.segments) - 1
        for i, rows in enumerate(plan.slices()):
            segment = {key: slice_rows(value, rows, plan.rows) for key, value in inputs.items()}
            # Gradients are synchronized with the last segment only.
            with self.accelerator.no_sync(model) if i < last else contextlib.nullcontext():
                losses.append(self._step_over(_Part(groups[rows], i, means=means), model, segment))
        together = torch.stack(means)
        self._meter.add(together, self._plan_loss.total(together, self._beta_shift))
        return functools.reduce(torch.add, losses)

    def _step_over(self, part: _Part, model: torch.nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        """Take the step of `Trainer` over a part of a batch: forward, loss weighted by the plan, backward."""
        given = part.scaled = bool(self.loss_is_scaled_for_ga)
        # Trainer divides the loss by the number of batches of the step; dividing by 1 would only cost time. It keeps
        # that number in training alone, and divides by none where a compute_loss_func is called out of training.
        batches = getattr(self, "current_gradient_accumulation_steps", 1)
        called_by_hand = not self.is_in_train and self.loss_func is not None
        self._part = part
        self.loss_is_scaled_for_ga = given or batches == 1 or called_by_hand
        try:
            with training_mode_kept(model):
                if part.groups is not None and part.segment is None and self._weights_rows_itself():
                    return super().training_step(model, inputs, None)
                with replaced(self, "compute_loss", functools.partial(self._weighted_loss, self.compute_loss)):
                    return super().training_step(model, inputs, None)
        finally:
            self._part, self.loss_is_scaled_for_ga = None, given

    def _weights_rows_itself(self) -> bool:
        """Return whether `compute_loss` is this class's own, which weights rows and asks for no number of them."""
        own = type(self).compute_loss is PlanTrainer.compute_loss and self._loss_below is None
        return own and "compute_loss" not in vars(self)

    def _weighted_loss(
        self, compute_loss: Callable, model: torch.nn.Module, inputs: dict[str, Any], *given: Any, **named: Any
    ) -> Any:
        """Call `compute_loss`, the subclass's own perhaps, which never sees group ids; weight a segment's mean by the
        plan, and refuse a mean over rows that are to be weighted one by one."""
        part = cast(_Part, self._part)
        if "num_items_in_batch" in named:
            named["num_items_in_batch"] = self._rows_of_mean(inputs, part)
        result = compute_loss(model, inputs, *given, **named)
        if part.groups is None:
            return result
        if part.segment is None:
            if not part.weighted and not self._is_plain():
                raise ValueError(self._plan_ignored(self._loss_of_its_own or f"{type(self).__name__}.compute_loss"))
            return result
        loss, *outputs = result if isinstance(result, tuple) else (result,)
        part.means.append(loss.detach().reshape(()))
        coefficient = self._coefficients[part.segment]
        if self._beta_shift:
            coefficient += self._beta_shift * float(self._plan_loss.slopes[part.segment])
        loss = coefficient * loss
        return (loss, *outputs) if isinstance(result, tuple) else loss

    def _rows_of_mean(self, inputs: dict[str, Any], part: _Part) -> int | None:
        """Return the number by which a sum of losses is to be divided: the rows at hand, so that it is their mean.

        If the subclass says that its losses are normalized over the accumulated batch, it is that batch's rows.
        """
        if inputs.get("labels") is None:
            return None
        rows = len(inputs["labels"])
        if part.scaled:
            everywhere = self.args.world_size if self.args.average_tokens_across_devices else 1
            rows *= getattr(self, "current_gradient_accumulation_steps", 1) * everywhere
        return rows

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
                layer in training mode has a forward for each segment, and so has any with a `compute_loss` of its own.
        """
        segments = self._plan_loss.plan.segments
        if segments[0].group_weights is not None or self.args.forward_mode == "fused":
            return True
        if self.args.forward_mode == "separate":
            return False
        if len(segments) == 1:
            return True
        if self._loss_of_its_own is not None:
            return False
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
        part, inputs = self._part, dict(inputs)
        groups = inputs.pop(GROUP_KEY, None)
        if part is None:
            part = _Part(groups)  # of a batch that is given by hand
        if part.groups is None:
            loss, outputs = self._plain_loss(model, inputs, num_items_in_batch)
        elif part.segment is not None:
            loss, outputs = self._segment_loss(model, inputs, part.groups, part.segment, num_items_in_batch)
        elif self._loss_below is not None:
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        else:
            outputs, labels = self._forward(model, inputs)
            losses = self._plan_loss.losses(outputs, labels, part.groups)
            loss, part.weighted = self.total_loss(losses, part.groups), True
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
        self, model: torch.nn.Module, inputs: dict[str, Any], groups: torch.Tensor, index: int, rows: int | None
    ) -> tuple[torch.Tensor, Any]:
        """Return the mean loss of a segment's rows; it is the model's own loss where the user chose no other."""
        if self._loss_below is not None:
            return cast(tuple[Any, Any], super().compute_loss(model, inputs, True, rows))
        if not self._withholds_labels():
            return cast(tuple[Any, Any], super().compute_loss(model, inputs, return_outputs=True))
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        return self._plan_loss.one_segment(index, outputs, labels, groups), outputs

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
