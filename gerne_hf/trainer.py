"""`GerneTrainer`: `transformers.Trainer` that trains on the extrapolated gradient of two batches (Algorithm 1)."""

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback
from transformers.utils import logging

from .config import GerneConfig
from .distributions import beta_bounds, biased_distribution, less_biased_distribution, uniform_target
from .evaluation import GroupEvaluationMixin
from .grouped_data import GROUP_KEY
from .groups import GroupIndex
from .losses import LossMeter, PlanLoss, check_own_loss, slice_rows
from .plans import BatchPlan, check_rows
from .reports import report_training
from .sampling import GroupSampler

logger = logging.get_logger(__name__)


class GerneTrainer(GroupEvaluationMixin, Trainer):
    """A drop-in for [`~transformers.Trainer`] that debiases a classifier by gradient extrapolation.

    Each step computes the gradient of `L_ext = L_lb + beta (L_lb - L_b)` (Eq. 5, 7) over a batch laid out by
    [`BatchPlan`]. `evaluate()` and `predict()` report group metrics; at the end of training the main process prints
    the group table and writes `group_metrics.json` and, where matplotlib is installed, `training.png` to `output_dir`.

    Args:
        model, data_collator, train_dataset, eval_dataset, processing_class, model_init, compute_metrics, callbacks,
        optimizers, optimizer_cls_and_kwargs, preprocess_logits_for_metrics:
            As for [`~transformers.Trainer`]. Data sets are map-style and have the label and attribute columns.
        args ([`GerneConfig`]): the settings; names the attribute column.
        compute_loss_func (`Callable`, *optional*): `f(outputs, labels, num_items_in_batch)` returning the mean loss of
            the rows it is given. In training it is called once a segment of the plan.

    Raises:
        TypeError: for a config that is no [`GerneConfig`], and for data without columns or with unusable ones.
        ValueError: for groups, a beta, a batch size or a model head that the plan cannot be trained with.
    """

    def __init__(
        self,
        model: Any = None,
        args: GerneConfig | None = None,
        data_collator: Callable | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        model_init: Callable | None = None,
        compute_loss_func: Callable | None = None,
        compute_metrics: Callable | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple = (None, None),
        optimizer_cls_and_kwargs: tuple | None = None,
        preprocess_logits_for_metrics: Callable | None = None,
    ):
        if not isinstance(args, GerneConfig):
            raise TypeError(
                f"GerneTrainer needs args=GerneConfig(...), which takes all of TrainingArguments; found "
                f"{type(args).__name__}"
            )
        self.args = args
        self.groups = None
        self._batch_plan: BatchPlan | None = None
        if train_dataset is not None:
            self.groups = self._index_training_set(train_dataset)
        self._index_evaluation_sets(eval_dataset)
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            model_init=model_init,
            compute_metrics=compute_metrics,
            callbacks=callbacks,
            optimizers=optimizers,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
        )
        # Kept from the parent, which would take it for a loss normalized over the accumulated batch. The same goes for
        # models with **kwargs in forward: they still return a mean, whatever the parent believes.
        self._loss_func = compute_loss_func
        self.model_accepts_loss_kwargs = False
        self.loss_is_scaled_for_ga = False
        self._check_head()
        if self.groups is not None:
            self._build_plan()  # reports a bad beta or batch size now
        self._setup_group_evaluation()
        self.add_callback(_EpochOfSampler(self))

    # ---- data -----------------------------------------------------------------------------------------------------

    def _index_training_set(self, dataset: Any) -> GroupIndex:
        needs_attributes = self.args.plan != "erm"
        if needs_attributes and not self.args.attribute_columns:
            raise ValueError(
                f"plan {self.args.plan!r} needs attribute_column, the column (or columns) that holds the attribute. "
                "Without one only the plan 'erm' can be trained"
            )
        groups = GroupIndex.from_dataset(dataset, self.args.label_column, self.args.attribute_columns)
        groups.check_trainable(self.args.empty_groups, needs_attributes)
        if needs_attributes and (groups.counts == 0).any():
            logger.warning_once(
                f"{int((groups.counts == 0).sum())} of {groups.counts.size} groups have no training rows; their mass "
                "goes to the other groups of their class (empty_groups='ignore')."
            )
        return groups

    @property
    def plan(self) -> BatchPlan | None:
        """The make-up of a training batch on each device; None without a training set."""
        return self._batch_plan

    @property
    def beta_bounds(self) -> tuple[float, float]:
        """The interval of beta in which the extrapolated distribution is one (Eq. 9), for this data and this c."""
        if self.groups is None:
            raise ValueError("the bounds of beta follow from the training groups; give the trainer a train_dataset")
        return beta_bounds(self.groups.alpha, self.args.c, uniform_target(self.groups.counts))

    def _class_probabilities(self):
        return None if self.args.class_balanced else self.groups.class_probabilities

    def _build_plan(self) -> BatchPlan:
        """(Re)build the plan for the current settings and batch size; the sampler and the loss read this object."""
        args, groups = self.args, self.groups
        if args.plan in ("independent", "shared", "collapsed", "reweighting"):
            self._check_beta()
        self._batch_plan = BatchPlan.build(
            args.plan,
            self._train_batch_size,
            groups.alpha,
            args.c,
            args.beta,
            self._class_probabilities(),
            uniform_target(groups.counts),
        )
        self._plan_loss = PlanLoss(self._batch_plan, args.label_smoothing_factor, self._loss_func)
        self._meter = LossMeter(self._plan_loss)
        self._batch_norms: list[_BatchNorm] | None = None
        self._loss_checked = args.label_smoothing_factor > 0 or self._loss_func is not None
        return self._batch_plan

    def _check_beta(self) -> None:
        lower, upper = self.beta_bounds
        beta, rule = self.args.beta, self.args.beta_out_of_bounds
        if lower - 1e-9 <= beta <= upper + 1e-9 or rule == "ignore":
            return
        message = (
            f"beta={beta:g} lies outside its bounds [{lower:g}, {upper:.4g}] for this data and c={self.args.c:g} "
            "(Eq. 9): some group would get negative weight, and training may diverge. Choose beta inside them, or a "
            "smaller c, which widens them"
        )
        if rule == "error":
            raise ValueError(message + "; beta_out_of_bounds='warn' trains all the same")
        logger.warning_once(message)

    def _check_head(self) -> None:
        """Refuse heads that do not choose one of the K classes."""
        config = getattr(self.model, "config", None)
        problem = getattr(config, "problem_type", None)
        if problem in ("regression", "multi_label_classification"):
            raise ValueError(
                f"the model's problem_type is {problem!r}. Groups are made of one class a row, so only "
                "single_label_classification can be trained"
            )
        num_labels = getattr(config, "num_labels", None)
        if num_labels == 1:
            raise ValueError("the model has a regression head (num_labels=1); load it with num_labels of 2 or more")
        if self.groups is not None and num_labels is not None and num_labels != self.groups.num_classes:
            raise ValueError(
                f"the model's head has num_labels={num_labels}, and the training set has {self.groups.num_classes} "
                f"classes ({', '.join(self.groups.label_names)}). Load the model with "
                f"num_labels={self.groups.num_classes}"
            )

    def _get_train_sampler(self, train_dataset: Any = None) -> GroupSampler:
        """The index stream of the plan, the same on every process; accelerate deals out its batches."""
        plan = self._build_plan()
        seed = self.args.data_seed if self.args.data_seed is not None else self.args.seed
        self._sampler = GroupSampler(self.groups, plan, seed=seed, batch_multiple=self.args.world_size)
        return self._sampler

    def get_biased_dataloader(self) -> DataLoader:
        """The stream of biased batches, `p_b(a|y) = alpha_ya`, as a loader, half a training batch at a time."""
        return self._stream("biased", self._train_batch_size // 2, biased_distribution(self.groups.alpha))

    def get_less_biased_dataloader(self) -> DataLoader:
        """The stream of less biased batches (Eq. 4) as a loader, half a training batch at a time."""
        distribution = less_biased_distribution(self.groups.alpha, self.args.c, uniform_target(self.groups.counts))
        return self._stream("less_biased", self._train_batch_size - self._train_batch_size // 2, distribution)

    def _stream(self, name: str, rows: int, distribution: np.ndarray) -> DataLoader:
        classes = self._class_probabilities()
        weights = 1.0 / self.groups.num_classes if classes is None else classes[:, None]
        check_rows(name, rows, 1)
        plan = BatchPlan.single(name, rows, weights * distribution)
        sampler = GroupSampler(self.groups, plan, seed=self.args.seed, batch_multiple=self.args.world_size)
        return Trainer._get_dataloader(self, self.train_dataset, name, rows, lambda dataset: sampler, True)

    # ---- the training step ----------------------------------------------------------------------------------------

    def training_step(self, model, inputs, num_items_in_batch=None):
        """One forward and backward over the whole batch, or one for each segment (`forward_mode`)."""
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
        self._meter.add(torch.stack(means))
        return sum(losses)

    _segment: tuple[int, list] | None = None

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
            loss = self._plan_loss.total(losses)
            self._meter.add(losses)
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
        return float(self._batch_plan.coefficients[index]) * mean, outputs

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

    # ---- logs -----------------------------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The parent's, with the losses of both batches, and without what would flood the terminal."""
        if self.is_in_train and "loss" in logs:
            logs.update(self._meter.drain(self.accelerator))
        kept = self._loggable(logs)
        super().log(kept, start_time)
        logs.update(kept)

    def train(self, *args, **kwargs):
        """The parent's; at the end the group table is printed and `group_metrics.json` and a picture are written."""
        if self.args.world_size > 1 and self.model_wrapped is self.model:
            # evaluate() marks a model as prepared without wrapping it, so accelerate would leave it out of DDP here:
            # the processes would train models that drift apart, silently.
            vars(self.model).pop("_is_accelerate_prepared", None)
        output = super().train(*args, **kwargs)
        trial = inspect.signature(Trainer.train).bind(self, *args, **kwargs).arguments.get("trial")
        if trial is None:
            report_training(self)
        return output


class _EpochOfSampler(TrainerCallback):
    """Tells the sampler the epoch. After a resume in mid-epoch on several processes neither the Trainer nor accelerate
    reaches it, and the epoch would replay the order of the first."""

    def __init__(self, trainer: GerneTrainer):
        self._trainer = trainer

    def on_epoch_begin(self, args, state, control, **kwargs):
        self._trainer._sampler.set_epoch(int(state.epoch or 0))
