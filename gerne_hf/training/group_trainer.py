"""Group metrics in `evaluate()` and `predict()` of a Trainer, with no code from the user."""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import datasets
import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from transformers import EvalPrediction, Trainer
from transformers.trainer_utils import EvalLoopOutput, RemoveColumnsCollator
from transformers.utils import logging

from ..evaluation.accumulator import worst_rows
from ..evaluation.metrics import flatten_group_metrics, group_metrics, worst_groups
from ..evaluation.selection import AUTOMATIC, automatic_metric, check_selection
from ..groups.batches import GROUP_KEY, GroupCollator, GroupedDataset, UniformRowsCollator
from ..groups.index import LABEL_COLUMNS, GroupIndex
from ..groups.proportions import uniform_target
from ..groups.sets import aligned_counts
from ..groups.sources import column_names
from ..method.distributions import biased_distribution, less_biased_distribution
from ..method.outputs import logits_of
from ..method.plans import BatchPlan, biased_rows, check_rows
from ..reports.record import evaluation_prefixes
from ..streaming.stream import GroupedStream, GroupStream
from ..utils.distributed import tells_the_others
from .checks import check_classes

logger = logging.get_logger(__name__)

MAX_LOGGED_GROUPS = 32
"""Above this number of groups the logs carry the summaries only; `evaluate()` still returns every group."""


class GroupEvaluationMixin:
    """The evaluating half of [`GerneTrainer`]; goes before `Trainer` in the bases.

    A row's group id and predicted class travel with its labels through the evaluation loop, so the figures are right
    in any row order, on any number of processes, and whatever the user's hooks make of the logits. The user's
    `compute_metrics` and `preprocess_logits_for_metrics` still see plain labels.
    """

    groups: GroupIndex | None
    reference_groups: GroupIndex | None
    """Training groups by the attribute that is evaluated; where that is unknown in training, by class alone."""

    def _setup_group_evaluation(self) -> None:
        """Settle under which name batches hold the labels, and what is kept of each evaluation.

        Raises:
            ValueError: for `label_names` other than "labels".
        """
        if self.args.label_names not in (None, ["labels"]):
            raise ValueError(
                f"label_names={self.args.label_names!r}: a batch's labels are found under 'labels' here, in training "
                "and in evaluation. Leave label_names unset, and let the data_collator return the labels as 'labels'"
            )
        self.label_names = ["labels"]  # the parent guesses them from the forward's arguments
        self._batched: list[tuple[np.ndarray, ...]] = []
        self._row_losses: list[np.ndarray] = []
        self.group_results: dict[str, dict[str, Any]] = {}
        self.worst_rows: dict[str, dict[int, list[dict[str, Any]]]] = {}

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """The parent's step; the labels come back with the group ids and the predicted classes."""
        inputs = dict(inputs)
        groups, self._scored = inputs.pop(GROUP_KEY, None), None
        loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        outputs, self._scored = self._scored, None
        if groups is None or logits is None or labels is None:
            return loss, logits, labels
        if outputs is None:  # compute_loss of a subclass
            outputs = logits if isinstance(logits, (tuple, list)) else (logits,)
        elif not isinstance(outputs, dict):  # of which the parent has left out the first, always for a loss
            outputs = outputs if isinstance(outputs, torch.Tensor) else tuple(outputs)
            logits = outputs[0] if isinstance(outputs, tuple) and len(outputs) == 1 else outputs
        scores = logits_of(outputs)
        packed = (labels, groups.to(scores.device), scores.argmax(dim=-1))
        if self.args.worst_examples:
            packed += (F.cross_entropy(scores.float(), labels.long(), reduction="none"),)
        return loss, logits, packed

    @tells_the_others
    def evaluation_loop(
        self, dataloader, description, prediction_loss_only=None, ignore_keys=None, metric_key_prefix="eval"
    ):
        """The parent's loop, with group metrics among the metrics, and plain labels among the outputs."""
        self._evaluated_groups = getattr(getattr(dataloader, "dataset", None), "groups", None)
        self._batched, self._row_losses, self._result = [], [], None
        with self._hooks_between(self.compute_metrics, self.preprocess_logits_for_metrics) as metrics:
            if metrics is None and prediction_loss_only:
                prediction_loss_only = None  # so evaluate() has it where there are no metrics, and here there are
            output = super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )
        if self._result is not None:
            self.group_results[metric_key_prefix] = {**self._result, "step": self.state.global_step}
            known = any(index is self._evaluated_groups for _, index in self._known_sets)
            if metric_key_prefix in evaluation_prefixes(self) and not known:  # evaluate(test_set), without a prefix
                self.group_results[metric_key_prefix]["of_eval_dataset"] = False
            self.worst_rows[metric_key_prefix] = self._find_worst_rows()
        labels = output.label_ids
        if self._evaluated_groups is not None:
            labels = [part[0] for part in labels] if isinstance(labels, list) else _plain(labels)
        return EvalLoopOutput(output.predictions, labels, output.metrics, output.num_samples)

    @contextlib.contextmanager
    def _hooks_between(
        self, compute_metrics: Callable | None, preprocess: Callable | None
    ) -> Iterator[Callable | None]:
        """Hooks between the parent's loop and the user's functions, which may be set at any time; gives the user's
        `compute_metrics`."""
        if compute_metrics != self._compute_metrics:  # it is in an evaluation within another one
            self._user_compute_metrics, self._user_preprocess_logits = compute_metrics, preprocess
        self.compute_metrics = self._compute_metrics
        if self._user_preprocess_logits is not None:
            self.preprocess_logits_for_metrics = self._preprocess_logits
        try:
            yield self._user_compute_metrics
        finally:
            self.compute_metrics, self.preprocess_logits_for_metrics = compute_metrics, preprocess

    def _compute_metrics(self, prediction: EvalPrediction, compute_result: bool = True) -> dict[str, float]:
        """The user's metrics and the group metrics, from labels that carry group ids and predictions."""
        if self._evaluated_groups is None:
            return self._call_user_metrics(prediction, compute_result)
        packed = prediction.label_ids
        parts = packed if isinstance(packed, list) else [packed]
        if not all(isinstance(part, tuple) for part in parts):
            raise ValueError(
                f"{type(self).__name__}.prediction_step returned labels alone; the groups travel with them. Let it "
                "call super().prediction_step(...) and return the labels that this gives"
            )
        self._batched += [tuple(_numpy(array) for array in part[:3]) for part in parts]
        self._row_losses += [_numpy(losses) for part in parts for losses in part[3:]]
        plain = [part[0] for part in parts] if isinstance(packed, list) else packed[0]
        metrics = dict(
            self._call_user_metrics(
                EvalPrediction(prediction.predictions, plain, inputs=prediction.inputs, losses=prediction.losses),
                compute_result,
            )
            or {}
        )
        if not compute_result:
            return metrics
        labels, groups, predicted = (np.concatenate(column) for column in zip(*self._batched, strict=True))
        index = self._evaluated_groups
        trained = None if self.reference_groups is None else aligned_counts(self.reference_groups, index)
        self._result = group_metrics(
            predicted, labels, groups % index.num_attributes, trained, index.label_names, index.attribute_names
        )
        return {**flatten_group_metrics(self._result), **metrics}

    def _find_worst_rows(self) -> dict[int, list[dict[str, Any]]]:
        """Number, prediction and probability of the true label of the worst rows, for each group that tables show."""
        if not self._row_losses:
            return {}
        index = self._evaluated_groups
        losses = np.concatenate(self._row_losses)
        _, groups, predicted = (np.concatenate(column) for column in zip(*self._batched, strict=True))
        if not np.array_equal(groups, index.codes):
            logger.warning_once("The evaluation's rows are not in the data set's order: no worst examples are kept.")
            return {}
        names, memberships = dict(enumerate(index.label_names)), self._memberships(index)
        found = {}
        for group in worst_groups(self._result["groups"])[0]:
            label, attribute = divmod(group, memberships.shape[1])
            parts = [index.rows(label, int(cell)) for cell in np.flatnonzero(memberships[:, attribute])]
            own = np.concatenate([index.order[:0], *parts])
            found[group] = [
                {
                    "row": int(row),
                    "prediction": names.get(int(predicted[row]), str(predicted[row])),
                    "probability": float(np.exp(-losses[row])),
                }
                for row in worst_rows(losses, own, self.args.worst_examples)
            ]
        return found

    def _memberships(self, index: GroupIndex) -> np.ndarray:
        """Which attributes of the result each attribute of an index stands for, `(C, A)`: itself alone."""
        return np.eye(index.num_attributes, dtype=bool)

    def selection_metric(self) -> str:
        """What models are selected on, without the prefix: `metric_for_best_model`, or where none is chosen
        worst-group accuracy if the evaluation set has attributes, else worst-class accuracy."""
        chosen = self.args.metric_for_best_model
        if chosen in (None, AUTOMATIC):
            return automatic_metric(self.args.attribute_columns)
        return chosen.removeprefix("eval_")

    def _settle_selection(self, eval_dataset: Any) -> None:
        """Turn `metric_for_best_model="auto"` into a metric, and refuse one that the evaluation set cannot give."""
        args = self.args
        if args.metric_for_best_model == AUTOMATIC:
            first = f"{next(iter(eval_dataset))}_" if isinstance(eval_dataset, dict) and eval_dataset else ""
            args.metric_for_best_model = first + self.selection_metric()
            logger.info(f"Models are selected on {args.metric_for_best_model} of the evaluation set.")
        if eval_dataset is not None:
            check_selection(args.metric_for_best_model, args.attribute_columns)

    def _call_user_metrics(self, prediction: EvalPrediction, compute_result: bool) -> dict[str, float] | None:
        user = self._user_compute_metrics
        if user is None:
            return {}
        if self.args.batch_eval_metrics or "compute_result" in inspect.signature(user).parameters:
            return user(prediction, compute_result=compute_result)
        return user(prediction)

    def _preprocess_logits(self, logits: Any, labels: Any) -> Any:
        return self._user_preprocess_logits(logits, _plain(labels))

    def _loggable(self, logs: dict[str, float]) -> dict[str, float]:
        """`logs` without counts and intervals, and without single groups where these are many."""
        dropped = ["group_count/", "group_ci_low/", "group_ci_high/"]
        if sum("group_accuracy/" in key for key in logs) > MAX_LOGGED_GROUPS:
            dropped.append("group_accuracy/")
        return {key: value for key, value in logs.items() if not any(part in key for part in dropped)}


def _plain(labels: Any) -> Any:
    return labels[0] if isinstance(labels, tuple) else labels


def _numpy(array: Any) -> np.ndarray:
    return array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)


logger = logging.get_logger(__name__)


class GroupLoadersMixin:
    """The part of [`GerneTrainer`] that reads the data; goes before `Trainer` in the bases."""

    _hidden_columns: tuple = ()
    groups: GroupIndex | None
    reference_groups: GroupIndex | None
    """Training groups by the attribute that is evaluated; where that is unknown in training, by class alone."""

    # ---- evaluation sets ------------------------------------------------------------------------------------------

    def _index_evaluation_sets(self, eval_dataset: Any) -> None:
        """Index the data sets given at construction, so that a missing column is found now and not after an epoch."""
        self._persistent_loaders: list[tuple[Any, DataLoader]] = []
        vars(self).pop("_eval_dataloaders", None)
        named = eval_dataset if isinstance(eval_dataset, dict) else {"evaluation": eval_dataset}
        self._known_sets = [(data, self._index(data, name)) for name, data in named.items() if data is not None]

    def _index(self, dataset: Any, description: str) -> GroupIndex | None:
        """The group index of an evaluation set, with the training set's names; None for a set without labels."""
        names = column_names(dataset)
        label_column = self.args.label_column
        if not any(name in names for name in ((label_column,) if label_column else LABEL_COLUMNS)):
            if description == "test":  # predict() on unlabelled rows
                return None
            raise ValueError(
                f"the {description} set has no label column: {label_column or ', '.join(LABEL_COLUMNS)} is not among "
                f"its columns {', '.join(map(repr, names))}"
            )
        missing = [name for name in self.args.attribute_columns if name not in names]
        if missing:
            raise ValueError(
                f"the {description} set has no attribute column {', '.join(map(repr, missing))}; its columns are "
                f"{', '.join(map(repr, names))}. Group metrics need the attribute in every set that is evaluated"
            )
        index = GroupIndex.from_dataset(dataset, label_column, self.args.attribute_columns, self.reference_groups)
        if self.reference_groups is not None:
            self._report_unseen_groups(index, description)
        return index

    def _report_unseen_groups(self, index: GroupIndex, description: str) -> None:
        if index.num_classes > self.reference_groups.num_classes:
            extra = ", ".join(index.label_names[self.reference_groups.num_classes :])
            raise ValueError(
                f"the {description} set has classes that training lacks: {extra}. The model cannot predict them; "
                "filter these rows out"
            )
        trained = aligned_counts(self.reference_groups, index)
        if trained is None:
            return
        unseen = np.flatnonzero((trained.ravel() == 0) & (index.counts.ravel() > 0))
        if len(unseen):
            names = ", ".join(f"{index.group_name(g)} with {index.counts.ravel()[g]} rows" for g in unseen)
            logger.warning(
                f"The {description} set has groups that training lacks: {names}. They are part of the group metrics, "
                "with 0 training rows."
            )

    def _groups_of(self, dataset: Any, description: str) -> GroupIndex | None:
        for data, index in self._known_sets:
            if data is dataset:
                return index
        return self._index(dataset, description.lower())

    # ---- loaders --------------------------------------------------------------------------------------------------

    def _get_dataloader(
        self, dataset, description, batch_size, sampler_fn=None, is_training=False, dataloader_key=None
    ):
        """The parent's loader over rows that carry their group ids."""
        groups = self._training_groups() if is_training else self._groups_of(dataset, description)
        order = contextlib.nullcontext() if is_training else _all_rows_in_order(self.args)
        rest = description, batch_size, sampler_fn, is_training, dataloader_key
        if groups is None:
            with order:
                return super()._get_dataloader(dataset, *rest)
        check_classes(self.model, groups)
        collator = self.data_collator
        # The parent removes columns from a datasets.Dataset, or else from the rows before they are collated. The view
        # hides the first and its rows, being tuples, pass the second untouched, so both are done here.
        if isinstance(dataset, datasets.Dataset):
            dataset, inner = self._remove_unused_columns(dataset, description), collator
        else:
            inner = self._get_collator_with_removed_columns(collator, description)
        if isinstance(dataset, GroupStream):
            view = GroupedStream(dataset.reader(self.args.process_index, self.args.world_size), groups, self.args.seed)
        else:
            view = GroupedDataset(dataset, groups, self.args.seed if is_training else None)
        self.data_collator = GroupCollator(
            inner, groups.num_attributes, (*self.args.attribute_columns, *self._hidden_columns)
        )
        try:
            with order:
                return super()._get_dataloader(view, *rest)
        finally:
            self.data_collator = collator

    def get_eval_dataloader(self, eval_dataset=None):
        """The parent's, which with persistent workers takes the first set's loader for all sets that have no name."""
        if not self.args.dataloader_persistent_workers or isinstance(eval_dataset, str):
            return super().get_eval_dataloader(eval_dataset)
        wanted = self.eval_dataset if eval_dataset is None else eval_dataset
        for data, loader in self._persistent_loaders:
            if data is wanted:
                return loader
        vars(self).get("_eval_dataloaders", {}).pop("eval", None)
        self._persistent_loaders.append((wanted, super().get_eval_dataloader(eval_dataset)))
        return self._persistent_loaders[-1][1]

    def _get_collator_with_removed_columns(self, data_collator, description=None):
        """The parent's, but faster; not for rows that carry group ids, where it would find no columns to remove."""
        if isinstance(data_collator, GroupCollator):
            return data_collator
        collator = super()._get_collator_with_removed_columns(data_collator, description)
        return UniformRowsCollator(collator) if type(collator) is RemoveColumnsCollator else collator

    def get_biased_dataloader(self) -> DataLoader:
        """The stream of biased batches, `p_b(a|y) = alpha_ya`, as a loader, its part of a training batch at a time."""
        self._index_anew_if_replaced()
        self._training_groups()
        return self._stream("biased", self._biased_rows(), biased_distribution(self.groups.alpha))

    def get_less_biased_dataloader(self) -> DataLoader:
        """The stream of less biased batches (Eq. 4) as a loader, its part of a training batch at a time."""
        self._index_anew_if_replaced()
        self._training_groups()
        distribution = less_biased_distribution(self.groups.alpha, self.args.c, uniform_target(self.groups.counts))
        return self._stream("less_biased", self._train_batch_size - self._biased_rows(), distribution)

    def _biased_rows(self) -> int:
        check_rows("independent", self._train_batch_size, 2)
        return biased_rows(self._train_batch_size, self.args.biased_share)

    def _stream(self, name: str, rows: int, distribution: np.ndarray) -> DataLoader:
        classes = self._class_probabilities()
        weights = 1.0 / self.groups.num_classes if classes is None else classes[:, None]
        plan = BatchPlan.single(name, rows, weights * distribution)
        dataset, sampler = self.train_dataset, self._sampler_of(plan, self.args.seed)
        if isinstance(dataset, GroupStream):
            dataset = dataset.reader(self.args.process_index, self.args.world_size)
        return Trainer._get_dataloader(self, dataset, name, rows, lambda dataset: sampler, True)


@contextlib.contextmanager
def _all_rows_in_order(args: Any) -> Iterator[None]:
    """Group figures are of every row, and scores belong to rows by their order, whatever training batches are."""
    before = args.dataloader_drop_last, args.dataloader_in_order
    args.dataloader_drop_last, args.dataloader_in_order = False, True
    try:
        yield
    finally:
        args.dataloader_drop_last, args.dataloader_in_order = before
