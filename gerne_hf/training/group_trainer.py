"""`GroupTrainer`: loaders whose rows carry their group, and evaluations that report every group.

Stands on [`ResumableTrainer`](gerne_hf.training.resumable_trainer.ResumableTrainer) and imports `groups/`,
`evaluation/` and `streaming/`. It knows groups but no plan: that is the next rung,
[`PlanTrainer`](gerne_hf.training.plan_trainer.PlanTrainer).
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import datasets
import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from transformers import EvalPrediction
from transformers.trainer_utils import EvalLoopOutput, RemoveColumnsCollator, TrainOutput
from transformers.utils import logging

from ..config import GerneConfig
from ..evaluation.accumulator import GroupAccumulator, loggable
from ..evaluation.metrics import flatten_group_metrics
from ..evaluation.overlapping import OverlappingAccumulator, combination_memberships
from ..evaluation.selection import AUTOMATIC, automatic_metric, check_selection
from ..groups.batches import GROUP_KEY, GroupCollator, GroupedDataset, UniformRowsCollator, all_rows_in_order
from ..groups.index import GroupIndex
from ..groups.sets import GroupSets
from ..method.outputs import logits_of
from ..method.plans import PLANS_WITHOUT_ATTRIBUTES
from ..streaming.stream import GroupedStream, GroupStream
from ..utils.distributed import tells_the_others
from .checks import check_classes, index_training_set
from .resumable_trainer import ResumableTrainer

logger = logging.get_logger(__name__)


class GroupTrainer(ResumableTrainer):
    """A trainer that knows the group of every row: its evaluations report every group.

    A row's group id and predicted class travel with its labels through the evaluation loop, so the figures are right
    in any order of the rows, on any number of processes, and whatever the user's hooks make of the logits. The user's
    `compute_metrics` and `preprocess_logits_for_metrics` still see plain labels.

    Hooks for subclasses: [`GroupTrainer.training_groups`], [`GroupTrainer.expected_groups`] and
    [`GroupTrainer.make_accumulator`].

    Args:
        args ([`GerneConfig`]): the settings; names the attribute column.
        train_dataset, eval_dataset (*optional*): map-style data sets with the label and attribute columns. Training
            rows may also be a stream ([`GroupStream`](gerne_hf.streaming.stream.GroupStream)).
        arguments: the other arguments of [`~transformers.Trainer`].

    Raises:
        TypeError: for a config that is no [`GerneConfig`], and for data without columns or with unusable ones.
        ValueError: for groups that cannot be trained on, and for `label_names` other than "labels".
    """

    plans_without_attributes: ClassVar[tuple[str, ...]] = PLANS_WITHOUT_ATTRIBUTES
    """Plans that this trainer can train without an attribute column."""
    hidden_columns: tuple[str, ...] = ()
    """Columns that are taken out of every batch, besides the attribute columns."""
    overlapping_train_counts: np.ndarray | None = None
    """Training rows of each overlapping group, `(K, A)`, for tables; set it where they are known."""

    args: GerneConfig
    groups: GroupIndex | None
    """The groups that are trained on; None without a training set."""
    reference_groups: GroupIndex | None
    """Training groups by the attribute that is evaluated; where that is unknown in training, by class alone."""

    compute_metrics: Any
    data_collator: Any
    _accumulator: GroupAccumulator | None = None
    _scored: Any = None
    _user_compute_metrics: Callable | None = None
    _user_preprocess_logits: Callable | None = None

    def __init__(
        self, *, args: GerneConfig | None = None, train_dataset: Any = None, eval_dataset: Any = None, **arguments: Any
    ):
        if not isinstance(args, GerneConfig):
            raise TypeError(
                f"{type(self).__name__} needs args=GerneConfig(...), which takes all of TrainingArguments; found "
                f"{type(args).__name__}"
            )
        self.args = args
        self.groups = self.reference_groups = None
        self.group_results: dict[str, dict[str, Any]] = {}
        """By prefix ("eval", "test", ...), the latest result of `group_metrics`, with the step of the weights."""
        self.worst_rows: dict[str, dict[int, list[dict[str, Any]]]] = {}
        """By prefix and position of the group, the rows that the latest evaluation was most wrong about."""
        self._settle_selection(eval_dataset)
        self._index_sets(train_dataset, eval_dataset)
        super().__init__(args=args, train_dataset=train_dataset, eval_dataset=eval_dataset, **arguments)
        if args.label_names not in (None, ["labels"]):
            raise ValueError(
                f"label_names={args.label_names!r}: a batch's labels are found under 'labels' here, in training "
                "and in evaluation. Leave label_names unset, and let the data_collator return the labels as 'labels'"
            )
        self.label_names = ["labels"]  # Trainer guesses them from the forward's arguments

    # ---- groups of the data -----------------------------------------------------------------------------------------

    def training_groups(self) -> GroupIndex | None:
        """Return the groups to train on; called before each training and before a training loader is made.

        A subclass may find them out here at some cost, such as by training another model first. On this rung they are
        the groups of the data.
        """
        return self.groups

    def expected_groups(self, reference: GroupIndex) -> GroupIndex:
        """Return the groups to train on as far as they are known at construction, for early checks.

        Args:
            reference ([`GroupIndex`]): the training rows by the attribute that is evaluated, or by class alone.
        """
        return reference

    def class_names(self) -> tuple[str, ...] | None:
        """Return the names of the training set's classes; None without a training set."""
        return None if self.groups is None else self.groups.label_names

    def settle_training_groups(self) -> GroupIndex | None:
        """Bring `groups` up to date by [`GroupTrainer.training_groups`], and return it."""
        self.groups = self.training_groups()
        return self.groups

    def index_anew_if_replaced(self) -> bool:
        """Index the training set again if the user has put another one in its place.

        Returns:
            `bool`: whether there is another training set.
        """
        if self.train_dataset is None or self.train_dataset is self._indexed:
            return False
        self._index_sets(self.train_dataset, self.eval_dataset)
        return True

    def groups_of(self, dataset: Any, description: str = "evaluation") -> GroupIndex | None:
        """Return the group index of an evaluation set, with the names of the training set's groups.

        Args:
            dataset: a data set with the label and attribute columns.
            description (`str`, defaults to `"evaluation"`): what the set is called in messages.
        """
        return self._sets.index_of(dataset, description)

    @property
    def known_indices(self) -> list[GroupIndex]:
        """The indices of the training set and of the evaluation sets that were given at construction."""
        return [index for index in (self.groups, *(index for _, index in self._sets.known)) if index is not None]

    def _index_sets(self, train_dataset: Any, eval_dataset: Any) -> None:
        args = self.args
        self._sets = GroupSets(args.label_column, args.attribute_columns, args.overlapping_columns or ())
        self._indexed = train_dataset
        if train_dataset is not None:
            self.reference_groups = index_training_set(
                train_dataset, args, self.plans_without_attributes, type(self).__name__
            )
            self.groups = self.expected_groups(self.reference_groups)
        self._sets.reference = self.reference_groups
        self.index_evaluation_sets(eval_dataset)

    def index_evaluation_sets(self, eval_dataset: Any) -> None:
        """Index the evaluation sets (one, several by name, or None): again where the user has put others there."""
        self._persistent_loaders: list[tuple[Any, DataLoader]] = []
        vars(self).pop("_eval_dataloaders", None)
        self._sets.use_evaluation_sets(eval_dataset)
        for _, index in self._sets.known:
            if index is not None and self.args.overlapping_columns:
                combination_memberships(index)  # refuses other columns than booleans now, and not after an epoch

    # ---- training ---------------------------------------------------------------------------------------------------

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Settle the groups to train on, then train. Arguments and result are those of `Trainer.train`."""
        if self.args.world_size > 1 and self.model is not None and self.model_wrapped is self.model:
            # evaluate() marks a model as prepared without wrapping it, so accelerate would leave it out of DDP here:
            # the processes would train models that drift apart, silently.
            vars(self.model).pop("_is_accelerate_prepared", None)
        self.index_anew_if_replaced()
        self.settle_training_groups()
        for prefix in self.evaluation_prefixes():  # of another model, even if it had as many steps
            self.group_results.pop(prefix, None)
        return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)

    # ---- loaders ----------------------------------------------------------------------------------------------------

    def _get_dataloader(
        self,
        dataset: Any,
        description: str,
        batch_size: int,
        sampler_fn: Callable | None = None,
        is_training: bool = False,
        dataloader_key: str | None = None,
    ) -> DataLoader:
        """Make a loader as `Trainer` does, over rows that carry their group ids."""
        groups = self.settle_training_groups() if is_training else self.groups_of(dataset, description)
        order = contextlib.nullcontext() if is_training else all_rows_in_order(self.args)
        rest = description, batch_size, sampler_fn, is_training, dataloader_key
        if groups is None:
            with order:
                return super()._get_dataloader(dataset, *rest)
        check_classes(self.model, groups)
        collator: Any
        collator, removes = self.data_collator, self.args.remove_unused_columns
        # Trainer removes columns from a datasets.Dataset, or else from the rows before they are collated. The view
        # below hides the data set, and its rows are no dictionaries, so both are done here.
        if isinstance(dataset, datasets.Dataset):
            dataset, inner = self._remove_unused_columns(dataset, description), collator
        else:
            inner = self._get_collator_with_removed_columns(collator, description)
            if type(inner) is RemoveColumnsCollator:
                inner = UniformRowsCollator(inner)
        view: GroupedDataset
        if isinstance(dataset, GroupStream):
            view = GroupedStream(dataset.reader(self.args.process_index, self.args.world_size), groups, self.args.seed)
        else:
            view = GroupedDataset(dataset, groups, self.args.seed if is_training else None)
        hidden = (*self.args.attribute_columns, *self.hidden_columns)
        self.data_collator = GroupCollator(inner, groups.num_attributes, hidden)
        self.args.remove_unused_columns = False
        try:
            with order:
                return super()._get_dataloader(view, *rest)
        finally:
            self.data_collator, self.args.remove_unused_columns = collator, removes

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """Return the loader of an evaluation set.

        With persistent workers `Trainer` takes the first set's loader for all sets that have no name; here each set
        has its own.

        Args:
            eval_dataset (*optional*): the set, or its name among several; the trainer's own if not given.
        """
        if not self.args.dataloader_persistent_workers or isinstance(eval_dataset, str):
            return super().get_eval_dataloader(eval_dataset)
        wanted = self.eval_dataset if eval_dataset is None else eval_dataset
        for data, loader in self._persistent_loaders:
            if data is wanted:
                return loader
        vars(self).get("_eval_dataloaders", {}).pop("eval", None)
        self._persistent_loaders.append((wanted, super().get_eval_dataloader(eval_dataset)))
        return self._persistent_loaders[-1][1]

    # ---- evaluation -------------------------------------------------------------------------------------------------

    def make_accumulator(self, index: GroupIndex) -> GroupAccumulator:
        """Return what collects the rows of an evaluation over the groups of `index`, for their group metrics."""
        if self.args.overlapping_columns:
            return OverlappingAccumulator(index, self.args.overlapping_columns, self.overlapping_train_counts)
        return GroupAccumulator(index, self._sets.train_counts(index))

    def evaluation_prefixes(self) -> list[str]:
        """Return the prefixes under which `evaluate()` leaves its results, one for each evaluation set."""
        named = self.eval_dataset
        return [f"eval_{name}" for name in named] if isinstance(named, dict) else ["eval"]

    def evaluate_if_stale(self, ignore_keys: list[str] | None = None) -> None:
        """Evaluate after training, unless the last result belongs to the model at hand.

        That model is the last one, or the best one if it was loaded.

        Args:
            ignore_keys (`list[str]`, *optional*): outputs of the model that the evaluation leaves out.
        """
        step: int | None = self.state.global_step
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint is not None:
            step = self.state.best_global_step
        prefixes, results = self.evaluation_prefixes(), self.group_results
        if all(prefix in results and results[prefix]["step"] == step for prefix in prefixes):
            return
        self.is_in_train = True  # else bf16_full_eval and fp16_full_eval would cast the model for good
        try:
            self.evaluate(ignore_keys=ignore_keys)
        finally:
            self.is_in_train = False
        for prefix in prefixes:
            if prefix in results:
                results[prefix]["step"] = step

    def prediction_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Any, Any, Any]:
        """Evaluate a batch as `Trainer` does; the labels come back with the group ids and the predicted classes."""
        inputs = dict(inputs)
        groups, self._scored = inputs.pop(GROUP_KEY, None), None
        loss: Any
        logits: Any
        loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        outputs, self._scored = self._scored, None
        if groups is None or logits is None or labels is None:
            return loss, logits, labels
        if outputs is None:  # compute_loss of a subclass
            outputs = logits if isinstance(logits, (tuple, list)) else (logits,)
        elif not isinstance(outputs, dict):  # of which Trainer has left out the first, always for a loss
            outputs = outputs if isinstance(outputs, torch.Tensor) else tuple(outputs)
            logits = outputs[0] if isinstance(outputs, tuple) and len(outputs) == 1 else outputs
        scores = logits_of(outputs)
        packed: tuple[Any, ...] = (labels, groups.to(scores.device), scores.argmax(dim=-1))
        if self.args.worst_examples:
            packed += (F.cross_entropy(scores.float(), labels.long(), reduction="none"),)
        return loss, logits, packed

    def keep_scored_outputs(self, outputs: Any) -> None:
        """Remember the outputs of an evaluation batch, in which the class scores are found.

        `Trainer` may take the first of several outputs for something else, or leave it out.

        Args:
            outputs: the model's outputs, without a loss in the first place.
        """
        self._scored = outputs

    @tells_the_others
    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Evaluate as `Trainer` does, with group metrics among the metrics and plain labels among the outputs."""
        index = getattr(getattr(dataloader, "dataset", None), "groups", None)
        self._accumulator = None if index is None else self.make_accumulator(index)
        self._result: dict[str, Any] | None = None
        with self._hooks_between(self.compute_metrics, self.preprocess_logits_for_metrics) as metrics:
            if metrics is None and prediction_loss_only:
                prediction_loss_only = None  # so evaluate() has it where there are no metrics, and here there are
            output = super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )
        if self._result is not None and self._accumulator is not None:
            self.group_results[metric_key_prefix] = {**self._result, "step": self.state.global_step}
            known = self._sets.is_known(index)
            if metric_key_prefix in self.evaluation_prefixes() and not known:  # evaluate(test_set), without a prefix
                self.group_results[metric_key_prefix]["of_eval_dataset"] = False
            worst = self._accumulator.worst_rows(self._result, self.args.worst_examples)
            self.worst_rows[metric_key_prefix] = worst
        labels = output.label_ids
        if index is not None:
            labels = [part[0] for part in labels] if isinstance(labels, list) else _plain(labels)
        return EvalLoopOutput(output.predictions, labels, output.metrics, output.num_samples)

    @contextlib.contextmanager
    def _hooks_between(
        self, compute_metrics: Callable | None, preprocess: Callable | None
    ) -> Iterator[Callable | None]:
        """Put hooks between `Trainer`'s loop and the user's functions, which may be set at any time.

        Gives the user's `compute_metrics`.
        """
        if compute_metrics != self._grouped_metrics:  # it is in an evaluation within another one
            self._user_compute_metrics, self._user_preprocess_logits = compute_metrics, preprocess
        self.compute_metrics = self._grouped_metrics
        if self._user_preprocess_logits is not None:
            self.preprocess_logits_for_metrics = self._preprocess_logits
        try:
            yield self._user_compute_metrics
        finally:
            self.compute_metrics, self.preprocess_logits_for_metrics = compute_metrics, preprocess

    def _grouped_metrics(self, prediction: EvalPrediction, compute_result: bool = True) -> dict[str, float] | None:
        """Compute the user's metrics and the group metrics, from labels that carry group ids and predictions."""
        if self._accumulator is None:
            return self._call_user_metrics(prediction, compute_result)
        packed = prediction.label_ids
        parts = packed if isinstance(packed, list) else [packed]
        if not all(isinstance(part, tuple) for part in parts):
            raise ValueError(
                f"{type(self).__name__}.prediction_step returned labels alone; the groups travel with them. Let it "
                "call super().prediction_step(...) and return the labels that this gives"
            )
        for part in parts:
            self._accumulator.add(*map(_numpy, part))
        plain = [part[0] for part in parts] if isinstance(packed, list) else packed[0]
        given = EvalPrediction(prediction.predictions, plain, inputs=prediction.inputs, losses=prediction.losses)
        metrics = dict(self._call_user_metrics(given, compute_result) or {})
        if not compute_result:
            return metrics
        self._result = self._accumulator.result()
        return {**flatten_group_metrics(self._result), **metrics}

    def _call_user_metrics(self, prediction: EvalPrediction, compute_result: bool) -> dict[str, float] | None:
        user = self._user_compute_metrics
        if user is None:
            return {}
        if self.args.batch_eval_metrics or "compute_result" in inspect.signature(user).parameters:
            return user(prediction, compute_result=compute_result)
        return user(prediction)

    def _preprocess_logits(self, logits: Any, labels: Any) -> Any:
        assert self._user_preprocess_logits is not None
        return self._user_preprocess_logits(logits, _plain(labels))

    # ---- selection and logs -----------------------------------------------------------------------------------------

    def selection_metric(self) -> str:
        """Return the metric that models are selected on, without the prefix; see `metric_for_best_model`."""
        chosen = self.args.metric_for_best_model
        if chosen in (None, AUTOMATIC):
            return automatic_metric(self.judged_columns())
        return chosen.removeprefix("eval_")

    def _settle_selection(self, eval_dataset: Any) -> None:
        """Turn `metric_for_best_model="auto"` into a metric, and refuse one that the evaluation set cannot give."""
        args = self.args
        if args.metric_for_best_model == AUTOMATIC:
            first = f"{next(iter(eval_dataset))}_" if isinstance(eval_dataset, dict) and eval_dataset else ""
            args.metric_for_best_model = first + self.selection_metric()
            logger.info(f"Models are selected on {args.metric_for_best_model} of the evaluation set.")
        if eval_dataset is not None:
            check_selection(args.metric_for_best_model, self.judged_columns())

    def judged_columns(self) -> tuple[str, ...]:
        """Return the columns whose groups evaluations are over."""
        return self.args.attribute_columns or tuple(self.args.overlapping_columns or ())

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as `Trainer` does, without counts and intervals, and without single groups where these are many."""
        kept = loggable(logs)
        super().log(kept, start_time)
        logs.update(kept)


def _plain(labels: Any) -> Any:
    return labels[0] if isinstance(labels, tuple) else labels


def _numpy(array: Any) -> np.ndarray:
    return array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)
