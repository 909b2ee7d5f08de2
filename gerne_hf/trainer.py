"""`GerneTrainer`: `transformers.Trainer` that trains on the extrapolated gradient of two batches (Algorithm 1)."""

import inspect
import os
from collections.abc import Callable
from typing import Any

from transformers import Trainer, TrainerCallback, set_seed
from transformers.trainer_utils import has_length
from transformers.utils import logging

from .config import GerneConfig
from .groups.index import GroupIndex
from .groups.proportions import uniform_target
from .groups.sharing import SHARED_ROWS
from .groups.sources import column_names
from .method.beta import check_beta
from .method.distributions import beta_bounds
from .method.plans import PLANS_WITH_BETA, BatchPlan
from .method.pseudo_groups import provisional_index
from .method.sampling import GroupSampler
from .pseudo_attributes.scores import PseudoAttributes
from .reports.model_card import build_card
from .reports.record import evaluation_prefixes, report_training
from .streaming.stream import GroupStream, TicketSampler, check_stream
from .training.checks import check_classes, check_head, check_one_device, warn_of_added_batches
from .training.group_trainer import GroupEvaluationMixin, GroupLoadersMixin
from .training.plan_trainer import EpochOfSampler, PlanTrainingMixin
from .training.publishing_trainer import PublishingMixin
from .training.resumable_trainer import CheckpointMixin, SaveAfterEvaluation
from .tuning.search import TuningMixin
from .utils.distributed import tells_the_others

logger = logging.get_logger(__name__)


class GerneTrainer(
    PublishingMixin,
    PlanTrainingMixin,
    GroupEvaluationMixin,
    GroupLoadersMixin,
    TuningMixin,
    CheckpointMixin,
    Trainer,
):
    """A drop-in for [`~transformers.Trainer`] that debiases a classifier by gradient extrapolation.

    Each step computes the gradient of `L_ext = L_lb + beta (L_lb - L_b)` (Eq. 5, 7) over a batch laid out by
    [`BatchPlan`]. `evaluate()` and `predict()` report group metrics; at the end of training the main process prints
    the group table and writes `group_metrics.json` and, where matplotlib is installed, `training.png` to `output_dir`.

    Args:
        model, data_collator, train_dataset, eval_dataset, processing_class, model_init, compute_metrics, callbacks,
        optimizers, optimizer_cls_and_kwargs, preprocess_logits_for_metrics:
            As for [`~transformers.Trainer`]. Data sets are map-style and have the label and attribute columns;
            training rows may also be streamed ([`GroupPartitions`], [`ReservoirStream`]).
        args ([`GerneConfig`]): the settings; names the attribute column.
        compute_loss_func (`Callable`, *optional*): `f(outputs, labels, num_items_in_batch)` returning the mean loss of
            the rows it is given. In training it is called once a segment of the plan.

    Raises:
        TypeError: for a config that is no [`GerneConfig`], and for data without columns or with unusable ones.
        ValueError: for groups, a beta, a batch size or a model head that the plan cannot be trained with, and for
            training by one process on several GPUs.
    """

    _plans_without_attributes: tuple[str, ...] = ("erm",)

    @tells_the_others
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
        self.groups = self.reference_groups = None
        self.pseudo: PseudoAttributes | None = None
        self._batch_plan: BatchPlan | None = None
        self._optimizer_given = optimizers[0] is not None
        self._settle_selection(eval_dataset)
        self._index_sets(train_dataset, eval_dataset)
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
        self._check_model()
        self._setup_group_evaluation()
        self.add_callback(EpochOfSampler(self))
        self.add_callback(SaveAfterEvaluation())

    # ---- data -----------------------------------------------------------------------------------------------------

    def _index_sets(self, train_dataset: Any, eval_dataset: Any) -> None:
        self._indexed = train_dataset
        if train_dataset is not None:
            self.reference_groups, self.groups = self._index_training_set(train_dataset)
        self._index_evaluation_sets(eval_dataset)

    def _check_model(self) -> None:
        check_one_device(self.args.n_gpu, self.train_dataset is not None)
        check_head(self.model, self.groups)
        for index in (self.groups, *(index for _, index in self._known_sets)):
            if index is not None:
                check_classes(self.model, index)
        if self.groups is not None:
            self._build_plan()  # reports a bad beta or batch size now

    def _index_anew_if_replaced(self) -> None:
        """Users may put another training set in place of the one that the groups were made of."""
        if self.train_dataset is not None and self.train_dataset is not self._indexed:
            self.pseudo = None
            self._index_sets(self.train_dataset, self.eval_dataset)
            self._check_model()

    def _index_training_set(self, dataset: Any) -> tuple[GroupIndex, GroupIndex]:
        """The training rows by evaluated attribute, for reports, and by the groups that are trained on."""
        args = self.args
        needed = args.plan not in self._plans_without_attributes and not args.pseudo_attributes
        if needed and not args.attribute_columns:
            others = " or ".join(map(repr, self._plans_without_attributes))
            way_out = f"Without one only the plan {others} can be trained" if others else "Without one nothing can"
            raise ValueError(
                f"{type(self).__name__} with plan {args.plan!r} needs attribute_column, the column (or columns) that "
                f"holds the attribute. {way_out}, or any plan with pseudo_attributes=True"
            )
        known = needed or all(name in column_names(dataset) for name in args.attribute_columns)
        if isinstance(dataset, GroupStream):
            check_stream(dataset, args)
            reference = dataset.groups
        else:
            columns = args.attribute_columns if known else None
            in_shards = args.world_size > 1 and len(dataset) >= SHARED_ROWS
            reference = GroupIndex.from_dataset(dataset, args.label_column, columns, in_shards=in_shards)
        if args.pseudo_attributes:
            reference.check_trainable(needs_attributes=False)
            # Which rows are hard is not known before the biased model is; how many are is.
            return reference, provisional_index(reference, args.threshold)
        reference.check_trainable(args.empty_groups, needed)
        if needed and (reference.counts == 0).any():
            logger.warning_once(
                f"{int((reference.counts == 0).sum())} of {reference.counts.size} groups have no training rows; their "
                "mass goes to the other groups of their class (empty_groups='ignore')."
            )
        return reference, reference

    def _training_groups(self) -> GroupIndex | None:
        """The groups to train on; the first call with pseudo-attributes fits the biased model."""
        if self.args.pseudo_attributes and self.train_dataset is not None:
            self._fit_biased_model()
            self.groups = self.pseudo.index(self.args.threshold)
        return self.groups

    def _fit_biased_model(self) -> None:
        """Train f~ and score the training rows (Algorithm 2, step 1), unless that is done."""
        if self.pseudo is None:
            self.pseudo = PseudoAttributes.fit_for(self)
            set_seed(self.args.seed)  # the run that follows is that of a trainer which found the scores ready

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
        if args.plan in PLANS_WITH_BETA:
            check_beta(args.beta, self.beta_bounds, args.c, args.beta_out_of_bounds)
        plan = BatchPlan.build(
            args.plan,
            self._train_batch_size,
            groups.alpha,
            args.c,
            args.beta,
            self._class_probabilities(),
            uniform_target(groups.counts),
            args.biased_share,
        )
        return self._use_plan(plan)

    def _get_train_sampler(self, train_dataset: Any = None) -> GroupSampler:
        """The index stream of the plan, the same on every process; accelerate deals out its batches."""
        plan = self._build_plan()
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
        return cls(self.groups, plan, rows, seed, batch_multiple=args.world_size)

    @tells_the_others
    def train(self, *args, **kwargs):
        """The parent's; at the end the group table is printed and `group_metrics.json` and a picture are written."""
        if self.args.world_size > 1 and self.model is not None and self.model_wrapped is self.model:
            # evaluate() marks a model as prepared without wrapping it, so accelerate would leave it out of DDP here:
            # the processes would train models that drift apart, silently.
            vars(self.model).pop("_is_accelerate_prepared", None)
        given = inspect.signature(Trainer.train).bind(self, *args, **kwargs).arguments
        self._index_anew_if_replaced()
        self._training_groups()
        for prefix in evaluation_prefixes(self):  # of another model, even if it had as many steps
            self.group_results.pop(prefix, None)
        output = super().train(*args, **kwargs)
        if given.get("trial") is None:
            report_training(self, given.get("ignore_keys_for_eval"))
            self.check_pushes()  # last, when everything local is saved
        return output

    def create_model_card(
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        tasks: str | list[str] | None = None,
        dataset_tags: str | list[str] | None = None,
        dataset: str | list[str] | None = None,
        dataset_args: str | list[str] | None = None,
        dataset_revision: str | None = None,
        dataset_license: str | None = None,
        attribute_source: str | None = None,
        other_settings: dict[str, Any] | None = None,
    ) -> None:
        """Write a card that tells who the model works for to `output_dir/README.md`.

        Args:
            language, license, tags, model_name, finetuned_from, tasks, dataset_tags, dataset, dataset_args: as in the
                parent.
            dataset_revision (`str`, *optional*): commit of the data set on the Hub; found where `datasets` knows it.
            dataset_license (`str`, *optional*): the data's licence in words.
            attribute_source (`str`, *optional*): who or what says which attribute a row has.
            other_settings (`dict`, *optional*): by name, settings of the training that are no fields of the config.
        """
        if not self.is_world_process_zero():
            return
        card = build_card(
            self,
            language=language,
            license=license,
            tags=tags,
            model_name=model_name,
            finetuned_from=finetuned_from,
            tasks=tasks,
            dataset_tags=dataset_tags,
            dataset=dataset,
            dataset_args=dataset_args,
            dataset_revision=dataset_revision,
            dataset_license=dataset_license,
            attribute_source=attribute_source,
            other_settings=other_settings,
        )
        card.save(os.path.join(self.args.output_dir, "README.md"))
