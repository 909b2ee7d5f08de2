"""`PlanTrainer`: trains on batches laid out by a batch plan, by the gradient of the plan's loss.

Stands on [`GroupTrainer`](gerne_hf.training.group_trainer.GroupTrainer) and imports `method/`. The top rung,
[`GerneTrainer`](gerne_hf.trainer.GerneTrainer), adds unknown attributes, searches and reports.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_utils import has_length, unwrap_peft_model

from ..groups.batches import GROUP_KEY
from ..groups.fingerprints import group_fingerprint
from ..groups.index import GroupIndex
from ..groups.proportions import uniform_target
from ..method.beta import check_beta, scheduled_beta
from ..method.distributions import beta_bounds, biased_distribution, less_biased_distribution
from ..method.losses import LossMeter, PlanLoss
from ..method.outputs import check_own_loss, slice_rows, split_loss
from ..method.plans import PLANS_WITH_BETA, BatchPlan, biased_rows, check_rows
from ..method.sampling import GroupSampler
from ..streaming.stream import GroupStream, TicketSampler
from .checks import check_classes, check_head, check_one_backward, check_one_device, warn_of_added_batches
from .group_trainer import GroupTrainer

_CHECKED_BATCHES = 3
"""Batches that must show that a model's own loss is the cross-entropy of its logits."""
_LABELS_CHANGE_NO_LOGITS = ("transformers.", "gerne_hf.")
"""Libraries whose models need labels for their loss alone. Those of others may return something else without them."""
_PLAN_IGNORED = (
    "{0}.compute_loss does not call GerneTrainer.compute_loss, which weights the batch's rows by the plan. Pass the "
    "loss as compute_loss_func=f(outputs, labels, num_items_in_batch), the mean of the rows it is given, and have no "
    "{0}.compute_loss; or have that call super().compute_loss(...)"
)


class PlanTrainer(GroupTrainer):
    """A trainer whose batches are laid out by a [`BatchPlan`], which its sampler and its loss both read.

    Hooks for subclasses: [`PlanTrainer.make_plan`], [`PlanTrainer.class_probabilities`], [`PlanTrainer.total_loss`],
    [`PlanTrainer.uses_one_forward`] and [`PlanTrainer.get_beta`].

    Args:
        compute_loss_func (`Callable`, *optional*): `f(outputs, labels, num_items_in_batch)` returning the mean loss of
            the rows it is given. In training it is called once a segment of the plan.
        arguments: the other arguments of [`~transformers.Trainer`], by keyword.

    Raises:
        TypeError, ValueError: as [`GroupTrainer`], for a beta, a batch size or a model head that the plan cannot be
            trained with, and for training by one process on several GPUs.
    """

    loss_func: Callable | None
    """The `compute_loss_func` that was given."""

    _batch_plan: BatchPlan | None = None
    _planned = False
    _segment: tuple[int, list[torch.Tensor]] | None = None
    _beta_shift = 0.0
    _warned_of_beta = False
    _known_fingerprint: tuple[GroupIndex | None, str] = (None, "")

    def __init__(self, *, compute_loss_func: Callable | None = None, **arguments: Any):
        # Kept from Trainer, which would take it for a loss normalized over the accumulated batch; so would it the loss
        # of models with **kwargs in forward, which still return a mean.
        self.loss_func = compute_loss_func
        super().__init__(**arguments)
        self.model_accepts_loss_kwargs = False
        self.loss_is_scaled_for_ga = False
        self.check_model()

    # ---- the plan ---------------------------------------------------------------------------------------------------

    def make_plan(self) -> BatchPlan:
        """Return the plan for the present groups, settings and batch size. Override it for a plan of your own.

        Called at construction, before each training, and whenever the batch size changes.

        Raises:
            ValueError: for a beta outside its bounds, or a batch that is too small for the plan.
        """
        args, groups = self.args, self.known_groups
        if args.plan in PLANS_WITH_BETA:
            check_beta(args.beta, self.beta_bounds, args.c, self.rule_for_beta)
        return BatchPlan.build(
            args.plan,
            self._train_batch_size,
            groups.alpha,
            args.c,
            args.beta,
            self.class_probabilities(),
            self.target_distribution(),
            args.biased_share,
        )

    def class_probabilities(self) -> np.ndarray | None:
        """Return p(y), with which the classes are drawn, `(K,)`; None draws all equally often, as in the paper."""
        return None if self.args.class_balanced else self.known_groups.class_probabilities

    def target_distribution(self) -> np.ndarray:
        """Return the distribution within each class that training balances towards, `(K, A)`; uniform (Eq. 4)."""
        return uniform_target(self.known_groups.counts)

    @property
    def rule_for_beta(self) -> str:
        """What is done about a beta outside its bounds: "error", "warn" or "ignore"."""
        return self.args.beta_out_of_bounds

    def get_beta(self, progress: float) -> float:
        """Return the extrapolation factor at a point of the training; override it for a schedule of your own.

        Args:
            progress (`float`): share of the optimizer steps that are done, in [0, 1).

        Returns:
            `float`: within the bounds of Eq. 9.
        """
        return scheduled_beta(self.args.beta_schedule, self.args.beta, progress, self.args.beta_ramp)

    @property
    def plan(self) -> BatchPlan | None:
        """The make-up of a training batch on each device; None without a training set."""
        return self._batch_plan

    @property
    def known_groups(self) -> GroupIndex:
        """The groups that are trained on.

        Raises:
            ValueError: without a training set.
        """
        if self.groups is None:
            raise ValueError("there are no training groups: give the trainer a train_dataset")
        return self.groups

    @property
    def beta_bounds(self) -> tuple[float, float]:
        """The interval of beta in which the extrapolated distribution is one (Eq. 9)."""
        if self.groups is None:
            raise ValueError("the bounds of beta follow from the groups; give the trainer a train_dataset")
        return beta_bounds(self.groups.alpha, self.args.c, self.target_distribution())

    def settle_plan(self) -> BatchPlan:
        """Make the plan anew, and take from it the loss, its meter and the checks of the first batches."""
        plan = self._batch_plan = self.make_plan()
        self._plan_loss = PlanLoss(plan, self.args.label_smoothing_factor, self.loss_func)
        self._coefficients = [float(coefficient) for coefficient in plan.coefficients]
        self._meter = LossMeter(self._plan_loss)
        self._batch_norms: list[_BatchNorm] | None = None
        self._spares_labels: bool | None = None
        self._to_check = 0 if self._withholds_labels() else _CHECKED_BATCHES
        check_one_backward(self.is_deepspeed_enabled and not self.uses_one_forward(cast(torch.nn.Module, self.model)))
        return plan

    def check_model(self) -> None:
        """Refuse a model, a beta or a batch size that does not fit the data, and make the plan."""
        check_one_device(self.args.n_gpu, self.train_dataset is not None)
        check_head(self.model, self.groups)
        for index in self.known_indices:
            check_classes(self.model, index)
        if self.groups is not None:
            self.settle_plan()  # reports a bad beta or batch size now

    def index_anew_if_replaced(self) -> bool:
        """Index and check anew if the user has put another training set in place of the one at construction.

        Returns:
            `bool`: whether there is another training set.
        """
        replaced = super().index_anew_if_replaced()
        if replaced:
            self.check_model()
        return replaced

    def run_identity(self) -> dict[str, Any]:
        """Return what this run depends on: besides what the rungs below say, data, plan, c, beta and its schedule."""
        args = self.args
        has_beta = args.plan in PLANS_WITH_BETA
        identity = {
            **super().run_identity(),
            "data": self._fingerprint_of_groups(),
            "plan": args.plan,
            "c": float(args.c) if has_beta else None,
            "beta": float(args.beta) if has_beta else None,
            "beta_schedule": args.beta_schedule if has_beta else None,
            "beta_ramp": float(args.beta_ramp) if has_beta and args.beta_schedule != "constant" else None,
            "biased_share": float(args.biased_share) if args.plan == "independent" else None,
            "class_balanced": args.class_balanced,
            "threshold": None,
            "pseudo_rule": None,
            "method_settings": {},
        }
        if has_beta and self.groups is not None:
            identity["beta_bounds"] = list(self.beta_bounds)
        return identity

    def _fingerprint_of_groups(self) -> str | None:
        """Return the fingerprint of the groups that are trained on; it is computed once."""
        if self.groups is None:
            return None
        if self._known_fingerprint[0] is not self.groups:
            self._known_fingerprint = self.groups, group_fingerprint(self.groups)
        return self._known_fingerprint[1]

    # ---- rows -------------------------------------------------------------------------------------------------------

    def _get_train_sampler(self, train_dataset: Any = None) -> GroupSampler:
        """Return the index stream of the plan, the same on every process; Accelerate deals out its batches."""
        plan = self.settle_plan()
        seed = self.args.data_seed if self.args.data_seed is not None else self.args.seed
        self._sampler = self._sampler_of(plan, seed)
        if self.is_world_process_zero():
            warn_of_added_batches(self._sampler.asked_batches, self._sampler.num_batches, self.args.world_size)
        return self._sampler

    def _sampler_of(self, plan: BatchPlan, seed: int) -> GroupSampler:
        args, rows = self.args, None
        if isinstance(self.train_dataset, GroupStream) and not has_length(self.train_dataset):
            rows = args.max_steps * args.gradient_accumulation_steps * args.world_size * plan.rows
        cls = TicketSampler if isinstance(self.train_dataset, GroupStream) else GroupSampler
        return cls(self.known_groups, plan, rows, seed, batch_multiple=args.world_size)

    def begin_epoch(self) -> None:
        """Tell the sampler the epoch.

        After a resume in mid-epoch on several processes neither `Trainer` nor Accelerate reaches it, and the epoch
        would replay the order of the first.
        """
        super().begin_epoch()
        self._sampler.set_epoch(int(self.state.epoch or 0))

    def get_biased_dataloader(self) -> DataLoader:
        """Return the stream of biased batches, `p_b(a|y) = alpha_ya`, as a loader.

        A batch of the loader is the biased part of a training batch.
        """
        self.index_anew_if_replaced()
        self.settle_training_groups()
        return self._stream("biased", self._biased_rows(), biased_distribution(self.known_groups.alpha))

    def get_less_biased_dataloader(self) -> DataLoader:
        """Return the stream of less biased batches (Eq. 4) as a loader; a batch is part of a training batch."""
        self.index_anew_if_replaced()
        self.settle_training_groups()
        distribution = less_biased_distribution(self.known_groups.alpha, self.args.c, self.target_distribution())
        return self._stream("less_biased", self._train_batch_size - self._biased_rows(), distribution)

    def _biased_rows(self) -> int:
        check_rows("independent", self._train_batch_size, 2)
        return biased_rows(self._train_batch_size, self.args.biased_share)

    def _stream(self, name: str, rows: int, distribution: np.ndarray) -> DataLoader:
        """Return a loader of batches whose rows are drawn from p(a|y), `(K, A)`."""
        classes = self.class_probabilities()
        weights = 1.0 / self.known_groups.num_classes if classes is None else classes[:, None]
        plan = BatchPlan.single(name, rows, weights * distribution)
        dataset: Any = self.train_dataset
        sampler = self._sampler_of(plan, self.args.seed)
        if isinstance(dataset, GroupStream):
            dataset = dataset.reader(self.args.process_index, self.args.world_size)
        return Trainer._get_dataloader(self, dataset, name, rows, lambda dataset: sampler, True)

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
