"""`SamplingTrainer`: batches whose rows are drawn as a batch plan says.

Stands on [`EvaluatingTrainer`](gerne_hf.training.evaluating_trainer.EvaluatingTrainer) and imports `method/`. The loss
of such batches is the next rung, [`PlanTrainer`](gerne_hf.training.plan_trainer.PlanTrainer).
"""

from typing import Any

import numpy as np
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_utils import has_length
from transformers.utils import logging

from ..groups.contents import LARGEST
from ..groups.fingerprints import group_fingerprint
from ..groups.index import GroupIndex
from ..groups.proportions import filled_counts, uniform_target
from ..method.distributions import beta_bounds, biased_distribution, less_biased_distribution
from ..method.making import plan_for, shares_of_classes
from ..method.plans import PLANS_WITH_BETA, BatchPlan, biased_rows, check_rows
from ..method.sampling import EpochSampler, GroupSampler
from ..streaming.stream import EpochTicketSampler, GroupStream, TicketSampler
from .checks import (
    check_classes,
    check_head,
    check_one_device,
    check_trainable,
    may_lack_classes,
    warn_of_added_batches,
)
from .evaluating_trainer import EvaluatingTrainer
from .overrides import override_without_super

logger = logging.get_logger(__name__)


class SamplingTrainer(EvaluatingTrainer):
    """A trainer whose batches are laid out by a [`BatchPlan`], which its sampler reads.

    Hooks for subclasses: [`SamplingTrainer.make_plan`], [`SamplingTrainer.class_probabilities`],
    [`SamplingTrainer.target_distribution`] and [`SamplingTrainer.rule_for_beta`].

    Args:
        arguments: the arguments of [`~transformers.Trainer`], by keyword.

    Raises:
        TypeError, ValueError: as [`EvaluatingTrainer`], for a beta, a batch size or a model head that the plan cannot
            be trained with, and for training by one process on several GPUs.
    """

    _batch_plan: BatchPlan | None = None
    _known_fingerprint: tuple[GroupIndex | None, str] = (None, "")
    _sampler: GroupSampler | None = None

    def __init__(self, **arguments: Any):
        super().__init__(**arguments)
        self.check_model()

    # ---- the plan ---------------------------------------------------------------------------------------------------

    def make_plan(self) -> BatchPlan:
        """Return the plan for the present groups, settings and batch size. Override it for a plan of your own.

        Called at construction, before each training, and whenever the batch size changes.

        Raises:
            ValueError: for a beta outside its bounds, or a batch that is too small for the plan.
        """
        args = self.args
        return plan_for(
            self.known_groups,
            self._train_batch_size,
            args.plan,
            args.c,
            args.beta,
            shares_of_classes(self.known_groups, self.class_probabilities()),
            self.target_distribution(),
            args.biased_share,
            self.rule_for_beta,
        )

    def class_probabilities(self) -> np.ndarray | None:
        """Return p(y), with which the classes are drawn, `(K,)`; None draws all equally often, as in the paper.

        The plan `group_weighted_loss` has every row once an epoch, whatever `class_balanced` says.
        """
        balanced = self.args.class_balanced and self.args.plan != "group_weighted_loss"
        return None if balanced else self.known_groups.class_probabilities

    def target_distribution(self) -> np.ndarray:
        """Return the distribution within each class that training balances towards, `(K, A)`; uniform (Eq. 4)."""
        return uniform_target(filled_counts(self.known_groups.counts))

    @property
    def rule_for_beta(self) -> str:
        """What is done about a beta outside its bounds: "error", "warn" or "ignore"."""
        return self.args.beta_out_of_bounds

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
        """Make the plan anew, and return it."""
        self._batch_plan = self.make_plan()
        return self._batch_plan

    def check_model(self) -> None:
        """Refuse a model, a beta or a batch size that does not fit the data, and make the plan."""
        check_one_device(self.args.n_gpu, self.train_dataset is not None)
        check_trainable(self.model, self.train_dataset is not None)
        check_head(self.model, self.groups, may_lack_classes(self.args))
        for index in self.known_indices:
            check_classes(self.model, index)
        if self.groups is not None:
            self.settle_plan()  # reports a bad beta or batch size now
            self._check_loaders()

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
            **self._contents_of_rows(),
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

    def _contents_of_rows(self) -> dict[str, Any]:
        """Return what is known of the training rows besides their groups; "unknown" says in words what is not."""
        if self.train_dataset is None:
            return {}
        content = self.known_rows.content(self.train_dataset)
        unknown = list(content.unknown)
        if content.read is not None:
            unknown.append(f"all but {content.read:,} of the training rows (more than {LARGEST >> 30} GiB)")
        code = None if content.unknown else content.code
        return {"rows": content.rows, "transform": code, **({"unknown": unknown} if unknown else {})}

    def _fingerprint_of_groups(self) -> str | None:
        """Return the fingerprint of the groups that are trained on; it is computed once."""
        if self.groups is None:
            return None
        if self._known_fingerprint[0] is not self.groups:
            self._known_fingerprint = self.groups, group_fingerprint(self.groups)
        return self._known_fingerprint[1]

    # ---- rows -------------------------------------------------------------------------------------------------------

    def takes_any_rows(self) -> bool:
        """Return whether rows may come from a sampler or a loader of the user's: under plain ERM, which lays out none.

        Other plans say how often each group is drawn, and so do baselines that draw classes or rows in their own way.
        """
        as_they_occur = type(self).class_probabilities is SamplingTrainer.class_probabilities
        return as_they_occur and self.args.plan == "erm" and self.plan is not None and self.plan.name == "erm"

    def _check_loaders(self) -> None:
        """Refuse, at construction, a sampler or a loader of a subclass that passes the plan by; under ERM say so."""
        cls = type(self)
        own = override_without_super(cls, "_get_train_sampler", SamplingTrainer)
        own = own or override_without_super(cls, "get_train_dataloader", Trainer, "_get_train_sampler")
        if own is None:
            return
        if not self.takes_any_rows():
            raise ValueError(self.rows_pass_the_plan_by(own))
        if self.args.class_balanced and self.is_world_process_zero():
            logger.warning_once(f"{own} draws the training rows: class_balanced=True has no effect.")

    def rows_pass_the_plan_by(self, method: str | None = None) -> str:
        """Return the sentence that refuses training rows which are not drawn by the plan.

        Args:
            method (`str`, *optional*): the method that draws them, if it is known.
        """
        name = type(self).__name__
        who = f"{method} does" if method else f"{name}.get_train_dataloader or {name}._get_train_sampler does"
        return (
            f"{who} not call the method of GerneTrainer that it overrides, so the rows of a batch are not those that "
            f"the plan {self.args.plan!r} draws. Only plain ERM, plan='erm', takes rows as they come. Have the method "
            "call super() and change what that returns; choose plan='erm'; or override make_plan or "
            "class_probabilities, which say how often rows are drawn"
        )

    def _get_train_sampler(self, train_dataset: Any = None) -> GroupSampler:
        """Return the index stream of the plan, the same on every process; Accelerate deals out its batches."""
        seed = self.args.data_seed if self.args.data_seed is not None else self.args.seed
        if self.is_in_train and not self.feeds_own_loop and self.plan is not None:
            return self._sampler_of(self.plan, seed)  # of a callback's loader, which is another than the loop's
        plan = self.settle_plan()
        self._sampler = self._sampler_of(plan, seed)
        if self.is_world_process_zero():
            warn_of_added_batches(self._sampler.asked_batches, self._sampler.num_batches, self.args.world_size)
        return self._sampler

    def _sampler_of(self, plan: BatchPlan, seed: int) -> GroupSampler:
        args, rows = self.args, None
        streamed, endless = isinstance(self.train_dataset, GroupStream), not has_length(self.train_dataset)
        if streamed and endless:
            rows = args.max_steps * args.gradient_accumulation_steps * args.world_size * plan.rows
        cls: type[GroupSampler]
        if plan.every_row and not (streamed and endless):
            cls = EpochTicketSampler if streamed else EpochSampler
        else:
            cls = TicketSampler if streamed else GroupSampler
        return cls(self.known_groups, plan, rows, seed, args.world_size, args.dataloader_drop_last)

    def begin_epoch(self) -> None:
        """Tell the sampler the epoch.

        After a resume in mid-epoch on several processes neither `Trainer` nor Accelerate reaches it, and the epoch
        would replay the order of the first.
        """
        super().begin_epoch()
        if self._sampler is not None:
            self._sampler.set_epoch(int(self.state.epoch or 0))
        elif not self.takes_any_rows():
            raise ValueError(self.rows_pass_the_plan_by())

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
        classes = shares_of_classes(self.known_groups, self.class_probabilities())
        weights = 1.0 / self.known_groups.num_classes if classes is None else classes[:, None]
        plan = BatchPlan.single(name, rows, weights * distribution)
        sampler = self._sampler_of(plan, self.args.seed)
        return self.plain_loader(self.train_dataset, name, rows, lambda dataset: sampler, True)
