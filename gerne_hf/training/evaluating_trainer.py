"""`EvaluatingTrainer`: evaluations that report every group.

Stands on [`GroupTrainer`](gerne_hf.training.group_trainer.GroupTrainer) and imports `evaluation/`. It knows groups but
no plan: that is the next rung, [`SamplingTrainer`](gerne_hf.training.sampling_trainer.SamplingTrainer).
"""

import contextlib
import functools
import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from transformers import EvalPrediction, TrainerCallback
from transformers.trainer_utils import EvalLoopOutput, TrainOutput
from transformers.utils import logging

from ..config import GerneConfig
from ..evaluation.accumulator import GroupAccumulator
from ..evaluation.logs import loggable
from ..evaluation.metrics import flatten_group_metrics
from ..evaluation.names import set_name
from ..evaluation.overlapping import OverlappingAccumulator, combination_memberships
from ..evaluation.score_names import needs_probabilities, with_selected
from ..evaluation.selectable import check_defined, check_known, few_rows_warning
from ..evaluation.selection import AUTOMATIC, automatic_metric, check_selection, selected_on
from ..evaluation.streamed import StreamAccumulator
from ..groups.batches import GROUP_KEY, GroupedDataset
from ..groups.index import GroupIndex
from ..groups.streamed import stream_of
from ..method.outputs import chosen_classes, logits_of, without_loss
from ..utils.attributes import replaced
from ..utils.distributed import tells_the_others
from .group_trainer import GroupTrainer
from .shown_logs import show_summaries_alone

logger = logging.get_logger(__name__)


class EvaluatingTrainer(GroupTrainer):
    """A trainer whose evaluations report every group.

    A row's group id and predicted class travel with its labels through the evaluation loop, so the figures are right
    in any order of the rows, on any number of processes, and whatever the user's hooks make of the logits. The user's
    `compute_metrics` and `preprocess_logits_for_metrics` still see plain labels.

    Hooks for subclasses: [`EvaluatingTrainer.make_accumulator`] and [`EvaluatingTrainer.selection_metric`].

    Args:
        args ([`GerneConfig`]): the settings; names the attribute column.
        eval_dataset (*optional*): map-style data sets with the label and attribute columns, or streams of such rows.
        arguments: the other arguments of [`~transformers.Trainer`].

    Raises:
        TypeError, ValueError: as [`GroupTrainer`], and for a metric to select on that the evaluation set cannot give.
    """

    overlapping_train_counts: np.ndarray | None = None
    """Training rows of each overlapping group, `(K, A)`, for tables; set it where they are known."""

    tells = True
    """Whether training ends with group tables on the terminal; a comparison has a table of its own."""
    leaves_reports = True
    """Whether training leaves `group_metrics.json` and pictures; trials of a comparison's search do not."""

    group_results: dict[str, dict[str, Any]]
    """By prefix ("eval", "test", ...), the latest result of `group_metrics`, with the step of the weights."""
    worst_rows: dict[str, dict[int, list[dict[str, Any]]]]
    """By prefix and position of the group, the rows that the latest evaluation was most wrong about."""
    seconds_a_row: float | None = None
    """Seconds that the latest evaluation took for a row; None before the first one."""
    compute_metrics: Any
    _accumulator: GroupAccumulator | StreamAccumulator | None = None
    _best_step: int | None = None
    _told_undefined: frozenset[str] = frozenset()
    _scored: Any = None
    _user_compute_metrics: Callable | None = None
    _user_preprocess_logits: Callable | None = None

    def __init__(self, *, args: GerneConfig | None = None, eval_dataset: Any = None, **arguments: Any):
        self.group_results, self.worst_rows = {}, {}
        if isinstance(args, GerneConfig):  # the rung below refuses others
            self.args = args
            self._settle_selection(eval_dataset)
        super().__init__(args=args, eval_dataset=eval_dataset, **arguments)
        self._check_selected_rows()

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Forget the results of another model, then train. Arguments and result are those of `Trainer.train`.

        Raises:
            ValueError: for a metric to select on that no evaluation has.
        """
        if trial is None:  # a search asks before its first trial
            self.check_selected_metric()
        self._best_step = None
        for prefix in self.evaluation_prefixes():  # of another model, even if it had as many steps
            self.group_results.pop(prefix, None)
        return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)

    # ---- evaluation -------------------------------------------------------------------------------------------------

    def make_accumulator(self, index: GroupIndex) -> GroupAccumulator:
        """Return what collects the rows of an evaluation over the groups of `index`, for their group metrics."""
        if self.args.overlapping_columns:
            return OverlappingAccumulator(index, self.args.overlapping_columns, self.overlapping_train_counts)
        return GroupAccumulator(index, self.sets.train_counts(index))

    @property
    def weights_step(self) -> int:
        """The step of the weights at hand: the last one, or the best one if that was loaded."""
        return self.state.global_step if self._best_step is None else self._best_step

    @property
    def best_model_is_loaded(self) -> bool:
        """Whether the weights at hand are those of the best checkpoint, loaded when training ended."""
        return self._best_step is not None

    def evaluation_is_of_these_weights(self) -> bool:
        """Return whether each evaluation set has a result, and all of these are of the model at hand."""
        prefixes, results = self.evaluation_prefixes(), self.group_results
        return all(prefix in results and results[prefix]["step"] == self.weights_step for prefix in prefixes)

    def evaluate_if_stale(self, ignore_keys: list[str] | None = None) -> None:
        """Evaluate, unless the last result of each evaluation set belongs to the model at hand.

        [`train`](EvaluatingTrainer.train) does not call this: it evaluates as `eval_strategy` says, and no more.

        Args:
            ignore_keys (`list[str]`, *optional*): outputs of the model that the evaluation leaves out.
        """
        if self.evaluation_is_of_these_weights():
            return
        self.is_in_train = True  # else bf16_full_eval and fp16_full_eval would cast the model for good
        try:
            self.evaluate(ignore_keys=ignore_keys)
        finally:
            self.is_in_train = False

    def checkpoint_facts(self) -> dict[str, Any]:
        """Return what a checkpoint records: `evaluations`, the results of the evaluation sets for its weights."""
        step, known = self.state.global_step, self.evaluation_prefixes()
        of_step = {name: r for name, r in self.group_results.items() if name in known and r["step"] == step}
        return {**super().checkpoint_facts(), "evaluations": of_step}

    def best_model_loaded(self, record: dict[str, Any]) -> None:
        """Take note of the step of the weights, and take the results of their evaluation from their checkpoint.

        Args:
            record (`dict[str, Any]`): what the checkpoint's seal holds.
        """
        super().best_model_loaded(record)
        self._best_step = int(record["step"])
        for prefix in self.evaluation_prefixes():
            self.group_results.pop(prefix, None)
            self.worst_rows.pop(prefix, None)
        self.group_results.update(record.get("evaluations", {}))

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
        # The class scores are found in the outputs themselves: of a tuple Trainer leaves out the first for a loss.
        with replaced(self, "compute_loss", functools.partial(self._keep_outputs, self.compute_loss)):
            loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        outputs, self._scored = self._scored, None
        if groups is None or logits is None or labels is None:
            return loss, logits, labels
        if outputs is None:  # prediction_step of another trainer
            outputs = logits if isinstance(logits, (tuple, list)) else (logits,)
        elif not isinstance(outputs, dict):
            outputs = without_loss(outputs)
            outputs = outputs if isinstance(outputs, torch.Tensor) else tuple(outputs)
            logits = outputs[0] if isinstance(outputs, tuple) and len(outputs) == 1 else outputs
        scores = logits_of(without_loss(outputs))
        packed: tuple[Any, ...] = (labels, groups.to(scores.device), chosen_classes(scores))
        if self.args.worst_examples:
            packed += (F.cross_entropy(scores.float(), labels.long(), reduction="none"),)
        if needs_probabilities(self.extra_metrics):
            packed += (scores.float(),)
        return loss, logits, packed

    def _keep_outputs(self, compute_loss: Callable, *given: Any, **named: Any) -> Any:
        """Call `compute_loss`, a subclass's perhaps, and remember the outputs that it returns beside the loss."""
        result = compute_loss(*given, **named)
        if isinstance(result, tuple):
            self._scored = result[1]
        return result

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
        show_summaries_alone(self.callback_handler.callbacks)
        dataloader, self.feeds_own_loop = self.with_groups(dataloader), False
        dataset = getattr(dataloader, "dataset", None)
        index, stream = dataset.groups if isinstance(dataset, GroupedDataset) else None, stream_of(dataset)
        self._accumulator = None if index is None else self.make_accumulator(index)
        if stream is not None:
            self._accumulator = StreamAccumulator(stream, self.sets.reference, self.overlapping_train_counts)
        packed = self._accumulator is not None
        if self._accumulator is not None:
            self._accumulator.extra_metrics = self.extra_metrics
        self._result: dict[str, Any] | None = None
        with self._hooks_between(self.compute_metrics, self.preprocess_logits_for_metrics) as metrics:
            if metrics is None and prediction_loss_only:
                prediction_loss_only = None  # so evaluate() has it where there are no metrics, and here there are
            begun = time.perf_counter()
            output = super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )
            self.seconds_a_row = (time.perf_counter() - begun) / max(output.num_samples or 0, 1)
        if self._result is not None and self._accumulator is not None:
            self.group_results[metric_key_prefix] = {**self._result, "step": self.weights_step}
            known = self.sets.is_known(index, None if stream is None else stream.dataset)
            if metric_key_prefix in self.evaluation_prefixes() and not known:  # evaluate(test_set), without a prefix
                self.group_results[metric_key_prefix]["of_eval_dataset"] = False
            worst = self._accumulator.worst_rows(self._result, self.args.worst_examples)
            self.worst_rows[metric_key_prefix] = worst
            self._tell_of_undefined(metric_key_prefix, self._result)
        labels = output.label_ids
        if packed:
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
        more = ["losses"] * bool(self.args.worst_examples) + ["scores"] * needs_probabilities(self.extra_metrics)
        for part in parts:
            labels, groups, predicted, *rest = map(_numpy, part)
            self._accumulator.add(labels, groups, predicted, **dict(zip(more, rest, strict=True)))
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

    @property
    def extra_metrics(self) -> tuple[str, ...]:
        """The metrics beyond accuracy that evaluations compute: those asked for, and the one that is selected on."""
        return with_selected(self.args.extra_metrics or (), self.args.metric_for_best_model)

    def check_selected_metric(self) -> None:
        """Refuse a metric to select on that no evaluation has; called before a training, and before a search.

        Raises:
            ValueError: names the metrics that there are. Where the user's own code may add some, nothing is refused.
        """
        metric = self.args.metric_for_best_model
        if metric is not None and self.eval_dataset is not None and not self._has_figures_of_users():
            check_known(selected_on(metric.removeprefix("eval_"), self._set_names())[1])

    def _set_names(self) -> list[str]:
        """Return the names of the evaluation sets, none for a single one."""
        return [str(name) for name in self.eval_dataset] if isinstance(self.eval_dataset, dict) else []

    def _has_figures_of_users(self) -> bool:
        """Return whether evaluations may have metrics that this package does not know."""
        if self.compute_metrics is not None:
            return True
        ours = ("gerne_hf.", "transformers.")
        others = [one for one in type(self).__mro__ if not f"{one.__module__}.".startswith(ours)]
        callbacks = [type(one) for one in self.callback_handler.callbacks]
        theirs = [one for one in callbacks if not f"{one.__module__}.".startswith(ours)]
        if any(one.on_evaluate is not TrainerCallback.on_evaluate for one in theirs):
            return True  # it may add figures to those of an evaluation
        return any(name in vars(one) for one in others for name in ("evaluate", "evaluation_loop", "log"))

    def _check_selected_rows(self) -> None:
        """Refuse a metric that the evaluation set's rows cannot give, and warn of groups with few rows."""
        metric, sets = self.args.metric_for_best_model, self.eval_dataset
        if metric is None or sets is None:
            return
        prefix, _ = selected_on(metric.removeprefix("eval_"), self._set_names())
        data = sets.get(prefix.removeprefix("eval_")) if isinstance(sets, dict) else sets
        index = next((index for known, index in self.sets.known if known is data), None)
        if data is None or index is None:
            return  # a stream, whose rows are counted when they are evaluated
        counts, attributes = index.counts, list(index.attribute_names)
        if self.args.overlapping_columns:
            counts, attributes = counts @ combination_memberships(index), list(self.args.overlapping_columns)
        self._judge_selected_rows(counts, index.label_names, attributes)

    def _judge_selected_rows(self, counts: np.ndarray, labels: Sequence[str], attributes: Sequence[str]) -> None:
        """Do what [`_check_selected_rows`] says, by the rows of each group, `(K, A)`."""
        given = str(self.args.metric_for_best_model).removeprefix("eval_")
        metric = selected_on(given, self._set_names())[1]
        check_defined(metric, counts, attributes)
        warning = few_rows_warning(metric, counts, labels, attributes)
        if warning is not None and self.is_world_process_zero():
            logger.warning_once(warning)

    def _tell_of_undefined(self, prefix: str, result: dict[str, Any]) -> None:
        """Say once which figures of an evaluation are not defined, and judge a stream that models are selected on."""
        new = [sentence for sentence in result.get("not_defined", ()) if sentence not in self._told_undefined]
        self._told_undefined |= frozenset(new)
        if new and self.is_world_process_zero():
            more = f" And {len(new) - 5} more, which group_metrics.json names." if len(new) > 5 else ""
            logger.warning(f"In the {set_name(prefix)}: {' '.join(new[:5])}{more}")
        metric = self.args.metric_for_best_model
        if metric is None or not self.is_in_train:
            return
        if prefix == selected_on(metric.removeprefix("eval_"), self._set_names())[0]:
            labels = list(dict.fromkeys(group["label"] for group in result["groups"]))
            counts = np.array([group["count"] for group in result["groups"]]).reshape(len(labels), -1)
            names = [group["attribute"] for group in result["groups"][: counts.shape[1]]]
            self._judge_selected_rows(counts, labels, names)

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

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as `Trainer` does, without counts and intervals, and of many groups the worst alone.

        Groups have names in logs that no tracker changes; see
        [`loggable`](gerne_hf.evaluation.logs.loggable).
        """
        kept = loggable(logs)
        given = set(kept)
        super().log(kept, start_time)
        for name in given - set(kept):  # that a callback has taken out
            logs.pop(name, None)
        # what has another name in logs stays out
        logs.update({name: value for name, value in kept.items() if name in logs or name not in given})


def _plain(labels: Any) -> Any:
    return labels[0] if isinstance(labels, tuple) else labels


def _numpy(array: Any) -> np.ndarray:
    return array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)
