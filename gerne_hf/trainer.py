"""`GerneTrainer`: a drop-in for `transformers.Trainer` that trains on the extrapolated gradient of two batches.

The top of the ladder. [`PlanTrainer`](gerne_hf.training.plan_trainer.PlanTrainer) knows how to train on a plan,
[`InferringTrainer`](gerne_hf.pseudo_attributes.inferring_trainer.InferringTrainer) how to do without attributes; here
comes what a run tells people. Baselines and comparisons stand on it.
"""

import json
import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, cast

import torch
from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback
from transformers.trainer_utils import IntervalStrategy, TrainOutput
from transformers.utils import logging

from .config import GerneConfig
from .evaluation.affordable import why_left_out
from .evaluation.selection import faults_of_training
from .groups.sources import column_names
from .hub.repositories import hub_origin
from .models.heads import name_labels
from .pseudo_attributes.guard import not_judged, warning_after_training
from .pseudo_attributes.inferring_trainer import InferringTrainer
from .reports.ended import end_of_training, fault_sentences
from .reports.examples import save_worst_examples
from .reports.facts import answer, model_facts
from .reports.group_report import GroupReport
from .reports.model_card import write_card
from .reports.naming import method_name
from .reports.record import (
    GROUP_METRICS_FILE,
    RECOVERY_PICTURE_FILE,
    SEARCH_FILE,
    SEARCH_FOLDER,
    TRAINING_PICTURE_FILE,
    RunFacts,
    RunRecord,
)
from .reports.reproduction import chosen_settings
from .reports.terminal import show
from .streaming.reservoir import ReservoirStream
from .utils.distributed import tells_the_others

logger = logging.get_logger(__name__)


class GerneTrainer(InferringTrainer):
    """A drop-in for [`~transformers.Trainer`] that debiases a classifier by gradient extrapolation.

    Each step computes the gradient of `L_ext = L_lb + beta (L_lb - L_b)` (Eq. 5, 7) over a batch laid out by
    [`BatchPlan`]. `evaluate()` and `predict()` report group metrics; at the end of training the main process prints
    the group table of the evaluations that `eval_strategy` asked for, and writes `group_metrics.json` and, where
    matplotlib is installed, `training.png` to `output_dir`.

    Args:
        model, data_collator, train_dataset, eval_dataset, processing_class, model_init, compute_metrics, callbacks,
        optimizers, optimizer_cls_and_kwargs, preprocess_logits_for_metrics: as for [`~transformers.Trainer`]. Data
            sets have the label and attribute columns; training rows may also be a stream.
        args ([`GerneConfig`]): the settings; names the attribute column.
        compute_loss_func (`Callable`, *optional*): `f(outputs, labels, num_items_in_batch)` returning the mean loss of
            the rows it is given. In training it is called once a segment of the plan.
        others: arguments of another trainer, passed on to it: `class Mine(GerneTrainer, TheirTrainer)` is GERNE with
            what `TheirTrainer` adds to `Trainer`, its `compute_loss` among it.

    Raises:
        TypeError: for a config that is no [`GerneConfig`], and for data without columns or with unusable ones.
        ValueError: for groups, a beta, a batch size or a model head that the plan cannot be trained with, and for
            training by one process on several GPUs.
    """

    card_facts: Mapping[str, Any] = MappingProxyType({})
    """What cards say that no run knows, as arguments of [`GerneTrainer.create_model_card`] by name."""
    training_rows_left_out: str | None = None
    """Why the training rows are not evaluated for the card."""

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
        **others: Any,
    ):
        optional = {
            "data_collator": data_collator,
            "processing_class": processing_class,
            "model_init": model_init,
            "compute_loss_func": compute_loss_func,
            "compute_metrics": compute_metrics,
            "callbacks": callbacks,
            "optimizer_cls_and_kwargs": optimizer_cls_and_kwargs,
            "preprocess_logits_for_metrics": preprocess_logits_for_metrics,
        }
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            optimizers=optimizers,
            # Another trainer below may lack some of Trainer's arguments.
            **{name: value for name, value in optional.items() if value is not None},
            **others,
        )

    # ---- training and what it tells ---------------------------------------------------------------------------------

    @tells_the_others
    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train, then print the group table and write `group_metrics.json` and a picture to `output_dir`.

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*): the checkpoint to go on from; True takes the newest
                whole one in `output_dir`.
            trial, ignore_keys_for_eval (*optional*): as for `Trainer.train`.

        Raises:
            ValueError: for a checkpoint that is not whole, belongs to another run, or holds the model only.
            PublishingError: after everything local is saved, if the Hub lacks something that was to be pushed.
        """
        output = super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        if trial is None:
            self._show_training()
            self.check_pushes()  # last, when everything local is saved
        return output

    def before_train_end(self) -> None:
        """Write `group_metrics.json`, what was inferred, and the pictures, before callbacks hear that training ended.

        Figures are those of the evaluations that `eval_strategy` asked for; nothing is evaluated here.
        """
        super().before_train_end()
        if self.state.is_hyper_param_search or not self.leaves_reports:
            return
        self._warn_if_worse()
        if not self.is_world_process_zero():
            return
        args = self.args
        if self.groups is not None:
            logger.info(f"Group metrics saved to {self.save_group_metrics()}")
        self.save_inferred()
        try:
            from .reports.plots import plot_pseudo_attributes, plot_training
        except ImportError:
            logger.warning_once(
                "No picture of the training was drawn: matplotlib is not installed. `pip install gerne_hf[plots]` "
                "adds it."
            )
            return
        if args.should_save:
            recovery = self.recovery()
            path, said = os.path.join(self.run_folder, TRAINING_PICTURE_FILE), fault_sentences(self._faults())
            plot_training(self.state.log_history, path, said)
            if recovery:
                plot_pseudo_attributes(recovery, os.path.join(self.run_folder, RECOVERY_PICTURE_FILE))

    def _show_training(self) -> None:
        """Print the group table of each evaluation set, and say so where the model at hand was not evaluated."""
        if not self.is_world_process_zero() or not self.tells:
            return
        args, state, selected, stale = self.args, self.state, None, None
        if args.load_best_model_at_end and state.best_metric is not None:
            selected = str(args.metric_for_best_model), state.best_metric, state.best_global_step
        if self.eval_dataset is not None and not self.evaluation_is_of_these_weights():
            stale = IntervalStrategy(args.eval_strategy).value
        said = fault_sentences(self._faults())
        if text := end_of_training(self.group_results, self.weights_step, selected, stale, self.recovery(), said):
            show(text)

    def _faults(self) -> dict[str, Any]:
        """Return how this training went wrong, as the entry `selection` of the record has it; empty if it did not."""
        step = self.state.best_global_step if self.best_model_is_loaded else None
        classes = self.groups.num_classes if self.groups is not None else 0
        return faults_of_training(self.state.log_history, self.selection_metric(), step, classes)

    def _warn_if_worse(self) -> None:
        """Warn if the model is worse on the validation set than the biased models, which are class-balanced ERM."""
        if self.inferred is None or self.pseudo is None:
            return
        result = self.group_results.get(self.evaluation_prefixes()[0], {})
        reference = self.pseudo.record.get("class_balanced_accuracy")
        warning = warning_after_training(result.get("class_balanced_accuracy"), reference)
        if not result and self.inferred.hard.any():  # where no class is split, it is class-balanced ERM itself
            warning = not_judged(reference)
        if warning is not None and warning not in self.guard_warnings:
            self.guard_warnings.append(warning)
            if self.is_world_process_zero():
                logger.warning(warning)

    def evaluate_training_rows(self) -> None:
        """Evaluate the model on the rows it was trained on, as the evaluation "train", if their attributes are known.

        The figures are for comparison on the model card.
        """
        needed = self.args.overlapping_columns or self.args.attribute_columns
        if needed and set(needed) <= set(column_names(self.train_dataset)):
            # evaluate() would log train_runtime, training's own figure
            self.predict(cast(Any, self.train_dataset), metric_key_prefix="train")

    def evaluate_training_rows_if_cheap(self) -> None:
        """Call [`evaluate_training_rows`] as `training_accuracies` says, and keep for the card why it is not done."""
        rows = 0 if self.groups is None else len(self.groups)
        seconds = self._run_facts().seconds
        reason = why_left_out(self.args.training_accuracies, rows, self.seconds_a_row, seconds)
        (self.training_rows_left_out,) = broadcast_object_list([reason])  # clocks of processes differ
        if self.training_rows_left_out is None:
            self.evaluate_training_rows()

    def save_worst_examples(self, dataset: Any, prefix: str = "test") -> str | None:
        """Write the rows that the last evaluation of a data set was most wrong about to `output_dir/_examples`.

        The examples are data: mind who may see them. The Trainer does not push them, as the folder's name begins with
        an underscore.

        Args:
            dataset: the data set that was evaluated.
            prefix (`str`, defaults to `"test"`): the `metric_key_prefix` of that evaluation.

        Returns:
            `str`: the path of `examples.json`; None on the other processes, and where `worst_examples` is 0.

        Raises:
            ValueError: if there was no such evaluation.
        """
        if not self.args.worst_examples or not self.args.should_save:
            return None
        if prefix not in self.group_results or prefix not in self.worst_rows:
            raise ValueError(
                f"there is no evaluation {prefix!r}, only {sorted(self.worst_rows) or 'none at all'}; call "
                f"trainer.evaluate(dataset, metric_key_prefix={prefix!r}) first"
            )
        return save_worst_examples(
            self.run_folder,
            self.group_results[prefix],
            self.worst_rows[prefix],
            dataset,
            prefix,
            self.processing_class,
            self.accelerator.unwrap_model(self.model),
            {*self.args.attribute_columns, *([self.args.label_column] if self.args.label_column else [])},
        )

    def run_record(self) -> RunRecord:
        """Return all that reports know of this run as it stands now: what `group_metrics.json` holds."""
        args, groups, plan = self.args, self.groups, self.plan
        name_labels(self.model, self.class_names())  # as when it is saved, for what the card says of its answers
        method = train_groups = None
        selection: dict[str, Any] | None = None
        if groups is not None and plan is not None:
            method = {
                "plan": args.plan,
                "c": args.c,
                "beta": args.beta,
                "beta_schedule": args.beta_schedule,
                "beta_bounds": list(self.beta_bounds),
                "biased_share": args.biased_share if args.plan == "independent" else None,
                "class_balanced": args.class_balanced,
                "empty_groups": args.empty_groups,
                "rows_per_device": plan.rows,
                "segments": [{"name": s.name, "rows": s.rows, "coefficient": s.coefficient} for s in plan.segments],
            }
            train_groups = {
                "label_names": list(groups.label_names),
                "attribute_names": list(groups.attribute_names),
                "attribute_columns": list(args.attribute_columns) if groups is self.reference_groups else [],
                "counts": groups.counts.tolist(),
            }
            selection = {
                "metric": self.selection_metric(),
                "best_model_loaded": self.best_model_is_loaded,
                "step": self.weights_step,
                **self._faults(),
            }
            search = self._search_of_these_settings()
            if search is not None:
                selection["search"] = search
        return RunRecord(
            model=model_facts(
                self.accelerator.unwrap_model(self.model), self.processing_class, online=self.hub_model_id is not None
            ),
            run=self._run_facts(),
            evaluations=dict(self.group_results),
            settings={"seed": args.seed, **chosen_settings(args)},
            method=method,
            train_groups=train_groups,
            selection=selection,
            pseudo_attributes=self.inferred_record(),
            example=self._example(self.card_facts.get("example")),
        )

    def _example(self, text: str | None) -> dict[str, Any] | None:
        """Return the model's answer to an example; None during training, and where no process has the whole model."""
        if self.is_in_train or self.args.world_size > 1:
            return None
        return answer(self.accelerator.unwrap_model(self.model), self.processing_class, text)

    def _run_facts(self) -> RunFacts:
        args, named = self.args, self.eval_dataset
        held_out = list(named.values()) if isinstance(named, dict) else [named]
        origins = {hub_origin(data) for data in (*held_out, self.train_dataset)} - {None}
        [origin] = origins if len(origins) == 1 else [None]
        history = reversed(self.state.log_history)
        kind = torch.cuda.get_device_name() if args.device.type == "cuda" else args.device.type
        sets = None if named is None else [str(name) for name in named] if isinstance(named, dict) else []
        return RunFacts(
            trainer=type(self).__name__,
            plan=args.plan,
            steps=self.state.global_step,
            seconds=next((entry["train_runtime"] for entry in history if "train_runtime" in entry), None),
            devices=f"{args.world_size} x {kind}",
            processes=args.world_size,
            evaluation_sets=sets,
            train_rows=None if self.groups is None else len(self.groups),
            streamed=isinstance(self.train_dataset, ReservoirStream),
            attribute_columns=list(args.attribute_columns),
            overlapping_columns=list(args.overlapping_columns or ()),
            data_origin=None if origin is None else list(origin),
            hub_id=self.hub_model_id,
            hub_revision=self.args.hub_revision if self.hub_model_id is not None else None,
            attribute_source=args.attribute_source,
            training_accuracies_left_out=self.training_rows_left_out,
        )

    def _search_of_these_settings(self) -> dict[str, Any] | None:
        """Return which settings a search in `output_dir` has chosen; None unless they are those of this run."""
        path = os.path.join(self.run_folder, SEARCH_FOLDER, SEARCH_FILE)
        if not os.path.isfile(path):
            return None
        with open(path, encoding="utf-8") as file:
            search = json.load(file)
        found = (search["best"] or {}).get("params", {})
        if not found or any(getattr(self.args, name, None) != value for name, value in found.items()):
            return None  # that search was for an earlier run in this folder
        return {"names": list(found), "trials": len(search["trials"])}

    def save_group_metrics(self, directory: str | None = None) -> str | None:
        """Write `group_metrics.json` with the latest result of each evaluation; on the main process only.

        Args:
            directory (`str`, *optional*): the file's folder; `output_dir` if not given.

        Returns:
            `str`: the file's path, or None on the other processes.
        """
        if not self.args.should_save:
            return None
        return self.run_record().save(directory or self.run_folder)

    def group_report(self, prefix: str = "eval") -> GroupReport:
        """Return the groups of the latest evaluation under a prefix, to be shown, drawn and saved.

        Args:
            prefix (`str`, *optional*, defaults to `"eval"`): the `metric_key_prefix` of that evaluation.

        Raises:
            ValueError: if nothing was evaluated under that prefix.
        """
        if prefix not in self.group_results:
            known = ", ".join(map(repr, self.group_results)) or "none"
            raise ValueError(f"nothing was evaluated under the prefix {prefix!r}; there are: {known}. Evaluate first")
        args = self.args
        name = method_name(type(self).__name__, args.plan, args.class_balanced, args.pseudo_attributes)
        return GroupReport(self.group_results[prefix], name, prefix)

    def write_reports(self, directory: str | None = None) -> None:
        """Bring group metrics, picture and card in `output_dir` up to date, or write the metrics into a checkpoint.

        Args:
            directory (`str`, *optional*): a checkpoint's folder.
        """
        if directory is not None:
            self.save_group_metrics(directory)
            return
        directory, news = self.run_folder, self.group_results or self.state.log_history
        if news or not os.path.exists(os.path.join(directory, GROUP_METRICS_FILE)):
            self.save_group_metrics()
        try:
            from .reports.plots import plot_training

            if self.args.should_save and self.state.log_history:
                plot_training(self.state.log_history, os.path.join(directory, TRAINING_PICTURE_FILE))
        except ImportError:
            pass  # told after training
        if self.hub_model_id is not None:
            self.create_model_card(model_name=str(self.hub_model_id).split("/")[-1])

    def method_names(self) -> tuple[str, ...]:
        """Return the name of the method that the settings describe."""
        args = self.args
        balanced, inferred = args.class_balanced, args.pseudo_attributes
        return (method_name(type(self).__name__, args.plan, balanced, inferred),)

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
        license_name: str | None = None,
        license_link: str | None = None,
        example: str | None = None,
    ) -> None:
        """Write a card that tells who the model works for to `output_dir/README.md`.

        What is given here is also on the cards of later pushes, and so is what `trainer.card_facts` holds by name.

        Args:
            language, license, tags, model_name, finetuned_from, tasks, dataset_tags, dataset, dataset_args: as for
                `Trainer.create_model_card`.
            dataset_revision (`str`, *optional*): commit of the data set on the Hub; found where `datasets` knows it.
            dataset_license (`str`, *optional*): the data's licence in words.
            attribute_source (`str`, *optional*): who or what says which attribute a row has; that of the config if not
                given.
            other_settings (`dict`, *optional*): by name, settings of the training that are no fields of the config.
            license_name, license_link (`str`, *optional*): name and address of the licence, where `license` is
                "other".
            example (`str`, *optional*): a text that the card's code classifies, and that the Hub offers to try. It is
                published.
        """
        given = {name: value for name, value in locals().items() if name != "self" and value is not None}
        self.card_facts = {**self.card_facts, **given}
        if self.is_world_process_zero():
            write_card(self.run_record(), self.run_folder, **self.card_facts)
