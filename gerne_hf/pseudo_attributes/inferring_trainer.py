"""`InferringTrainer`: the rung that trains where attributes are unknown, on groups that are inferred first.

Stands on [`SearchingTrainer`](gerne_hf.tuning.searching_trainer.SearchingTrainer) and the modules of this room. The
top rung, [`GerneTrainer`](gerne_hf.trainer.GerneTrainer), adds what a run tells people.
"""

import contextlib
import copy
from dataclasses import asdict
from typing import Any

import numpy as np
from accelerate.utils import broadcast_object_list
from transformers import set_seed
from transformers.trainer_utils import TrainOutput
from transformers.utils import logging

from ..checkpoints.seals import newest_whole, read_seal
from ..evaluation.accumulator import GroupAccumulator
from ..evaluation.gate import GatedAccumulator
from ..evaluation.selection import AUTOMATIC, automatic_metric
from ..groups.index import GroupIndex
from ..method.plans import PLANS_WITH_BETA, BatchPlan
from ..method.pseudo_groups import EASY, PSEUDO_NAMES, provisional_index, smallest_threshold
from ..reports.terminal import show
from ..streaming.stream import GroupStream
from ..training.plan_trainer import PlanTrainer
from ..tuning.searching_trainer import SearchingTrainer
from .biased_model import check_same_labels, load_biased_model
from .exports import save_findings
from .folds import fold_numbers
from .guard import guard_table, guard_warnings, shares_of_class
from .rules import InferredGroups, known_attributes
from .scores import RECOVERY_THRESHOLDS, PseudoAttributes

logger = logging.get_logger(__name__)


class InferringTrainer(SearchingTrainer):
    """A trainer that infers groups from the scores of biased models where `pseudo_attributes` says so.

    Args:
        optimizers (`tuple`, *optional*): as for [`~transformers.Trainer`]; biased models need one of their own.
        arguments: the other arguments of [`~transformers.Trainer`], by keyword.

    Raises:
        ValueError: for a streamed training set, a rule that needs an evaluation set and has none, attributes of the
            evaluation set with too few rows of a value, a class with too few rows for the folds, a threshold that
            leaves a part of a class empty, and selection on the gated accuracy where it is not computed.
    """

    def __init__(self, *, optimizers: tuple = (None, None), **arguments: Any):
        self.pseudo: PseudoAttributes | None = None
        self.inferred: InferredGroups | None = None
        """The groups that are trained on and why; None before the first training, and with known attributes."""
        self.guard_warnings: list[str] = []
        self._inferred_by: tuple[str, float | None] | None = None
        self._told: InferredGroups | None = None
        self._scored_evaluation: Any = None
        self._weights_of_run: str | None = None
        self._optimizer_given = optimizers[0] is not None
        super().__init__(optimizers=optimizers, **arguments)
        self._check_selection()
        if self.args.pseudo_attributes and self.train_dataset is not None:
            self.check_optimizer_of_biased_model()
            self._check_evaluation()

    def check_optimizer_of_biased_model(self) -> None:
        """Refuse an optimizer of the main model where a biased model is to be trained, too.

        Raises:
            ValueError: says which argument to pass instead.
        """
        if self._optimizer_given and self.train_dataset is not None:
            raise ValueError(
                "the biased model needs an optimizer of its own, and optimizers=(...) holds one for the main model. "
                "Pass optimizer_cls_and_kwargs, or choose it by the config"
            )

    def _check_selection(self) -> None:
        """Refuse, at construction, to select on the gated accuracy where there are no inferred groups to gate."""
        args, chosen = self.args, self.selection_metric()
        if chosen.endswith("gated_accuracy") and (not args.pseudo_attributes or self.judged_columns()):
            lacks = "the evaluation set has attributes" if self.judged_columns() else "pseudo_attributes is not set"
            raise ValueError(
                f"metric_for_best_model={chosen!r} is for inferred groups of an evaluation set without attributes, "
                f"and {lacks}. Select on 'auto'"
            )

    def _check_evaluation(self) -> None:
        """Refuse, at construction, a rule that the evaluation set cannot serve."""
        rule = self.args.settled_rule
        if not rule.startswith("validation_"):
            return
        data = self._evaluation_rows()
        if data is None:
            raise ValueError(
                f"pseudo_attributes=True with the rule {rule!r} needs an eval_dataset: what it has more of than the "
                "training set shows which rows are a minority. Give one, as little biased as you can get it; or "
                "choose pseudo_rule='confident_mistakes', for which nothing shows whether there is a minority at all"
            )
        if rule == "validation_attributes":
            _, known = self._known_attributes(data)
            if self.args.pseudo_rule == "auto" and self.is_world_process_zero():
                names = ", ".join(known)
                print(
                    f"Groups of the training set are inferred by the rule 'validation_attributes': the evaluation set "
                    f"has the attribute ({names}).",
                    flush=True,
                )

    def _known_attributes(self, data: Any) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return the attribute ids of evaluation rows and their names, those that have rows."""
        index = self.groups_of(data)
        assert index is not None
        present = np.flatnonzero(index.counts.sum(axis=0))
        attributes = np.searchsorted(present, (index.codes % index.num_attributes).astype(np.int64))
        names = tuple(index.attribute_names[value] for value in present)
        return known_attributes(attributes, names), names

    def _evaluation_rows(self) -> Any:
        """Return the evaluation set that groups are inferred with: the first of several."""
        data = self.eval_dataset
        return next(iter(data.values()), None) if isinstance(data, dict) else data

    # ---- groups -----------------------------------------------------------------------------------------------------

    def expected_groups(self, reference: GroupIndex) -> GroupIndex:
        """Return the groups to train on as far as they are known at construction.

        Which rows are hard is not known before the biased models are. With the rule "threshold" it is known how many;
        with the others all rows count as easy for now.

        Args:
            reference ([`GroupIndex`]): the training rows by the attribute that is evaluated, or by class alone.
        """
        args = self.args
        if not args.pseudo_attributes:
            return reference
        labels = (reference.codes // reference.num_attributes).astype(np.int64)
        fold_numbers(labels, reference.label_names, args.folds_of_biased_model, args.seed)  # refuses small classes
        if args.settled_rule == "threshold" and args.threshold is not None:
            return provisional_index(reference, args.threshold)
        easy = np.full(len(labels), EASY, dtype=np.uint8)
        return GroupIndex.from_codes(labels.astype(np.uint32), reference.label_names, [(easy, PSEUDO_NAMES)])

    def training_groups(self) -> GroupIndex | None:
        """Return the groups to train on; the first call with pseudo-attributes trains the biased models."""
        if self.args.pseudo_attributes and self.train_dataset is not None:
            return self.infer_groups().index
        return self.groups

    def infer_groups(self) -> InferredGroups:
        """Return the groups by the rule of the config, which are inferred once for each rule and threshold.

        Raises:
            ValueError: as [`fit_biased_model`] and [`PseudoAttributes.infer`].
        """
        args, data = self.args, self._evaluation_rows()
        if self.pseudo is not None and data is not self._scored_evaluation:
            self.pseudo = self.inferred = None  # the rows of another evaluation set have no scores
            self.index_evaluation_sets(self.eval_dataset)
        wanted = args.settled_rule, args.threshold
        if self.inferred is not None and self._inferred_by == wanted:
            return self.inferred
        pseudo = self.fit_biased_model()
        attributes, names = None, tuple[str, ...]()
        if args.settled_rule == "validation_attributes":
            attributes, names = self._known_attributes(data)
        inferred = pseudo.infer(
            args.settled_rule, threshold=args.threshold, attributes=attributes, attribute_names=names
        )
        # One process decides: a row at the border must not fall on either side by how each processor rounds.
        (self.inferred,) = broadcast_object_list([inferred])
        self._inferred_by = wanted
        return self.inferred

    def make_plan(self) -> BatchPlan:
        """Return the plan of the config; where no class was split, that of class-balanced ERM, which draws less noise.

        Two batches of the same distribution, subtracted, have the same gradient in expectation and several times its
        variance. With a schedule of beta the plan stays as it is.
        """
        inferred, args = self.inferred, self.args
        whole = inferred is not None and self.groups is inferred.index and inferred.whole
        if not whole or args.beta_schedule != "constant" or args.plan not in PLANS_WITH_BETA:
            return super().make_plan()
        alpha = self.known_groups.alpha
        return BatchPlan.build("erm", self._train_batch_size, alpha, class_probabilities=self.class_probabilities())

    def target_distribution(self) -> np.ndarray:
        """Return the distribution that training balances towards: that of the inferred groups, or a uniform one."""
        if self.inferred is not None and self.groups is self.inferred.index:
            return self.inferred.target
        return super().target_distribution()

    @property
    def rule_for_beta(self) -> str:
        """What is done about a beta outside its bounds, which App. C proves for known attributes: else a warning."""
        rule = super().rule_for_beta
        return "warn" if self.args.pseudo_attributes and rule == "error" else rule

    def fit_biased_model(self) -> PseudoAttributes:
        """Train the biased models and score the training rows (Algorithm 2, step 1), unless that is done.

        They start from this trainer's model before training and have its data and its settings; see
        [`PseudoAttributes.fit`].

        Raises:
            ValueError: if the trainer was given an optimizer, which is of the main model, for a streamed training set,
                and for a `biased_model` of another class or with other labels.
        """
        if self.pseudo is not None:
            return self.pseudo
        args = self.args
        if isinstance(self.train_dataset, GroupStream):
            raise ValueError(
                "no rule scores the rows of a stream, which have no numbers. Fit on a map-style sample by "
                "PseudoAttributes.fit, and stream rows that have the column 'pseudo_attribute' as attribute_column"
            )
        self.check_optimizer_of_biased_model()
        main = self.accelerator.unwrap_model(self.model)
        if type(self).compute_loss is not PlanTrainer.compute_loss and self.is_world_process_zero():
            logger.warning_once(
                f"{type(self).__name__}.compute_loss trains the main model alone; biased models are trained by the "
                "model's own loss. Pass the loss as compute_loss_func to have it train both."
            )
        if args.biased_model is not None:
            model = load_biased_model(main, args.biased_model)
            check_same_labels(main, model)
        else:
            set_seed(args.seed)
            model = self.call_model_init() if self.model_init is not None else copy.deepcopy(main)
        self.pseudo = PseudoAttributes.fit(
            **self.biased_fit(),
            train_dataset=self.train_dataset,
            model=model,
            data_collator=self.data_collator,
            processing_class=self.processing_class,
            compute_loss_func=self.loss_func,
            optimizer_cls_and_kwargs=self.optimizer_cls_and_kwargs,
            weights_of_run=self._weights_of_run,
        )
        self._scored_evaluation = self._evaluation_rows()
        set_seed(args.seed)  # the run that follows is that of a trainer which found the scores ready
        return self.pseudo

    def biased_fit(self) -> dict[str, Any]:
        """Return the settings of the fit of the biased models, as arguments of [`PseudoAttributes.fit`].

        Called when they are fitted. Override it for a first model of your own: "args", "eval_dataset" (the rows to
        select on, or None) and "class_balanced".
        """
        return {"args": self.args, "eval_dataset": self.eval_dataset, "class_balanced": True}

    def index_anew_if_replaced(self) -> bool:
        """Index and check anew if the user has put another training set in place of the one at construction.

        Returns:
            `bool`: whether there is another training set.
        """
        replaced = super().index_anew_if_replaced()
        if replaced:
            self.pseudo = self.inferred = None
        return replaced

    def run_identity(self) -> dict[str, Any]:
        """Return what this run depends on: besides what the rungs below say, rule and threshold of the groups."""
        identity, args = super().run_identity(), self.args
        if args.pseudo_attributes:
            identity["threshold"] = None if args.threshold is None else float(args.threshold)
            identity["pseudo_rule"] = args.settled_rule
        if self.pseudo is not None:
            identity["biased_weights"] = self.pseudo.record.get("hashes", {}).get("weights")
        return identity

    def recovery(self) -> list[dict[str, Any]]:
        """Return how well the rows of lowest scores recover the minority, by threshold (Figure 3).

        Returns:
            `list[dict]`: as [`PseudoAttributes.recovery`]; empty unless the biased model is fitted and the training
            set has the true attributes, which are used for nothing else.
        """
        reference = self.reference_groups
        if self.pseudo is None or not self.args.pseudo_attributes or reference is None:
            return []
        if reference.num_attributes < 2:
            return []
        counts = reference.counts.sum(axis=1)
        thresholds = {t for t in RECOVERY_THRESHOLDS if t >= smallest_threshold(counts)}
        if self.args.threshold is not None:
            thresholds.add(self.args.threshold)
        attributes = (reference.codes % reference.num_attributes).astype(np.int64)
        return self.pseudo.recovery(attributes, sorted(thresholds))

    def found_minority(self) -> dict[str, Any] | None:
        """Return precision and recall of the minority among the hard rows that are trained on.

        Returns:
            `dict`: as a row of [`PseudoAttributes.recovery`], without the threshold; None where the training set lacks
            the true attributes, which are used for nothing else.
        """
        reference, inferred = self.reference_groups, self.inferred
        if inferred is None or self.pseudo is None or reference is None or reference.num_attributes < 2:
            return None
        attributes = (reference.codes % reference.num_attributes).astype(np.int64)
        return self.pseudo.found_among(attributes, inferred.hard)

    def inferred_record(self) -> dict[str, Any] | None:
        """Return what a run's record says of unknown attributes: the biased models, the groups and the warnings.

        Returns:
            `dict`: the entry `pseudo_attributes` of `group_metrics.json`; None with known attributes.
        """
        if self.pseudo is None:
            return None
        facts = self.pseudo.record
        record: dict[str, Any] = {
            "recovery": self.recovery(),
            "threshold": self.args.threshold,
            "biased_model_class_balanced_accuracy": facts.get("class_balanced_accuracy"),
            "fingerprint": self.pseudo.fingerprint,
            "in_sample_accuracy": facts.get("in_sample_accuracy"),
            "out_of_fold_accuracy": facts.get("out_of_fold_accuracy"),
            "folds": self.args.folds_of_biased_model,
        }
        if self.inferred is not None:
            shares = shares_of_class(self.training_mass())
            record["rule"] = self.inferred.rule
            record["classes"] = [asdict(split) for split in self.inferred.classes]
            record["shares_of_training_mass"] = shares.tolist()
            record["warnings"] = list(self.guard_warnings)
            record["found"] = self.found_minority()
        return record

    # ---- the guard and the gate -------------------------------------------------------------------------------------

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Show which groups were inferred, then train. Arguments and result are those of `Trainer.train`."""
        if resume_from_checkpoint:
            self._weights_of_run = self._biased_weights_in(resume_from_checkpoint)
        if self.args.pseudo_attributes and trial is None and self.train_dataset is not None:
            self.index_anew_if_replaced()
            self.settle_training_groups()
            self.settle_plan()
            self.show_inferred()
        return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)

    def _biased_weights_in(self, wanted: str | bool) -> str | None:
        """Return the hash of the weights that a checkpoint's biased models started with; None where it has none.

        A run that goes on has the groups of its own biased models, even if the head of its model, which the
        checkpoint's replaces, was made with other random numbers.
        """
        found = None
        if self.is_world_process_zero():
            folder = newest_whole(self.run_folder)[0] if wanted is True else str(wanted)
            with contextlib.suppress(ValueError):  # one that is not whole is refused further on
                found = read_seal(folder or "").get("biased_weights")
        return broadcast_object_list([found])[0]

    def training_mass(self) -> np.ndarray:
        """Return the expected weight of each group that is trained on, `(K, A)`, summing to one."""
        assert self.plan is not None
        return self.plan.expected_weights()

    def find_groups(self, rows: Any = None) -> InferredGroups:
        """Infer the groups, show them, and write what was found to `output_dir`, without training the main model.

        Args:
            rows (*optional*): the training rows with columns that the model is not given, which may explain the hard
                rows; the training set if not given.

        Returns:
            [`InferredGroups`]

        Raises:
            ValueError: without `pseudo_attributes=True`, and as [`infer_groups`](InferringTrainer.infer_groups).
        """
        if not self.args.pseudo_attributes or self.train_dataset is None:
            raise ValueError("groups are inferred with GerneConfig(pseudo_attributes=True) and a train_dataset alone")
        inferred = self.infer_groups()
        self.settle_training_groups()
        self.settle_plan()
        self.show_inferred()
        self.save_inferred(rows)
        return inferred

    def save_inferred(self, rows: Any = None) -> None:
        """Write `inferred_groups.json`, the CSV of all rows and the examples, on the main process.

        Args:
            rows (*optional*): as for [`find_groups`](InferringTrainer.find_groups).
        """
        args = self.args
        if self.pseudo is None or self.inferred is None or not args.should_save:
            return
        save_findings(
            *(self.pseudo, self.inferred, self.train_dataset if rows is None else rows, self.run_folder),
            *(args.worst_examples, self.processing_class, self.guard_warnings, self.training_mass()),
            model=self.accelerator.unwrap_model(self.model),
            no_texts=args.attribute_columns,
        )

    def show_inferred(self) -> None:
        """Print the table of the inferred groups, and warn of what may go wrong."""
        inferred, pseudo = self.inferred, self.pseudo
        if inferred is None or pseudo is None or self._told is inferred:
            return
        self._told = inferred
        folds = self.args.folds_of_biased_model
        evaluated = self._evaluation_rows() is not None
        self.guard_warnings = guard_warnings(inferred, self.training_mass(), pseudo.record, folds, evaluated)
        if not self.is_world_process_zero():
            return
        show(f"\nGroups inferred by the rule {inferred.rule!r}\n{guard_table(inferred, self.training_mass())}")
        if inferred.whole:
            print("\nNothing to fix was found: no class was split, so training is class-balanced ERM.", flush=True)
        for warning in self.guard_warnings:
            logger.warning(warning)

    def selection_metric(self) -> str:
        """Return the metric that models are selected on, without the prefix; see `metric_for_best_model`."""
        args = self.args
        if args.metric_for_best_model in (None, AUTOMATIC) and args.pseudo_attributes and not self.judged_columns():
            return automatic_metric((), infers_groups=True)
        return super().selection_metric()

    def make_accumulator(self, index: GroupIndex) -> GroupAccumulator:
        """Return what collects the rows of an evaluation; without attributes it adds the gated accuracy.

        Args:
            index ([`GroupIndex`]): the groups of the evaluated set.
        """
        accumulator = super().make_accumulator(index)
        inferred = self.inferred
        if inferred is None or inferred.evaluation is None or index.num_attributes > 1 or self.pseudo is None:
            return accumulator
        data = self._evaluation_rows()
        if data is None or data is not self._scored_evaluation or self.groups_of(data) is not index:
            return accumulator
        reference = self.pseudo.record.get("class_balanced_accuracy")
        return GatedAccumulator(index, inferred.evaluation, reference, accumulator.train_counts)
