"""Group metrics in `evaluate()` and `predict()` of a Trainer, with no code from the user."""

import inspect
from typing import Any

import datasets
import numpy as np
import torch
import torch.nn.functional as F
from transformers import EvalPrediction
from transformers.trainer_utils import EvalLoopOutput, RemoveColumnsCollator
from transformers.utils import logging

from .checks import AUTOMATIC, automatic_metric, check_selection
from .columns import column_names
from .examples import worst_rows
from .failures import tells_the_others
from .grouped_data import GROUP_KEY, GroupCollator, GroupedDataset, UniformRowsCollator
from .groups import LABEL_COLUMNS, GroupIndex
from .losses import logits_of
from .metrics import flatten_group_metrics, group_metrics
from .reports import worst_groups
from .streaming.stream import GroupedStream, GroupStream

logger = logging.get_logger(__name__)

MAX_LOGGED_GROUPS = 32
"""Above this number of groups the logs carry the summaries only; `evaluate()` still returns every group."""


class GroupEvaluationMixin:
    """The evaluating half of [`GerneTrainer`]; goes before `Trainer` in the bases.

    A row's group id and predicted class travel with its labels through the evaluation loop, so the figures are right
    in any row order, on any number of processes, and whatever the user's hooks make of the logits. The user's
    `compute_metrics` and `preprocess_logits_for_metrics` still see plain labels.
    """

    _hidden_columns: tuple = ()
    groups: GroupIndex | None
    reference_groups: GroupIndex | None
    """Training groups by the attribute that is evaluated; where that is unknown in training, by class alone."""

    def _setup_group_evaluation(self) -> None:
        """Put the hooks between the evaluation loop and the user's functions."""
        self._user_compute_metrics = self.compute_metrics
        self._user_preprocess_logits = self.preprocess_logits_for_metrics
        self.compute_metrics = self._compute_metrics
        if self._user_preprocess_logits is not None:
            self.preprocess_logits_for_metrics = self._preprocess_logits
        self._batched: list[tuple[np.ndarray, ...]] = []
        self._row_losses: list[np.ndarray] = []
        self.group_results: dict[str, dict[str, Any]] = {}
        self.worst_rows: dict[str, dict[int, list[dict[str, Any]]]] = {}

    def _index_evaluation_sets(self, eval_dataset: Any) -> None:
        """Index the data sets given at construction, so that a missing column is found now and not after an epoch."""
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
        trained = _aligned_counts(self.reference_groups, index)
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

    def _get_dataloader(
        self, dataset, description, batch_size, sampler_fn=None, is_training=False, dataloader_key=None
    ):
        """The parent's loader over rows that carry their group ids."""
        groups = self._training_groups() if is_training else self._groups_of(dataset, description)
        if groups is None:
            return super()._get_dataloader(dataset, description, batch_size, sampler_fn, is_training, dataloader_key)
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
            return super()._get_dataloader(view, description, batch_size, sampler_fn, is_training, dataloader_key)
        finally:
            self.data_collator = collator

    def _get_collator_with_removed_columns(self, data_collator, description=None):
        """The parent's, but faster; not for rows that carry group ids, where it would find no columns to remove."""
        if isinstance(data_collator, GroupCollator):
            return data_collator
        collator = super()._get_collator_with_removed_columns(data_collator, description)
        return UniformRowsCollator(collator) if type(collator) is RemoveColumnsCollator else collator

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """The parent's step; the labels come back with the group ids and the predicted classes."""
        inputs = dict(inputs)
        groups = inputs.pop(GROUP_KEY, None)
        loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        if groups is None or logits is None or labels is None:
            return loss, logits, labels
        scores = logits_of(logits if isinstance(logits, (tuple, list)) else (logits,))
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
        output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        if self._result is not None:
            self.group_results[metric_key_prefix] = {**self._result, "step": self.state.global_step}
            self.worst_rows[metric_key_prefix] = self._find_worst_rows()
        labels = output.label_ids
        if self._evaluated_groups is not None:
            labels = [part[0] for part in labels] if isinstance(labels, list) else _plain(labels)
        return EvalLoopOutput(output.predictions, labels, output.metrics, output.num_samples)

    def _compute_metrics(self, prediction: EvalPrediction, compute_result: bool = True) -> dict[str, float]:
        """The user's metrics and the group metrics, from labels that carry group ids and predictions."""
        if self._evaluated_groups is None:
            return self._call_user_metrics(prediction, compute_result)
        packed = prediction.label_ids
        parts = packed if isinstance(packed, list) else [packed]
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
        trained = None if self.reference_groups is None else _aligned_counts(self.reference_groups, index)
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


def _aligned_counts(trained: GroupIndex, index: GroupIndex) -> np.ndarray | None:
    """Training counts in the shape of an evaluation set's groups, whose names continue those of training; None where
    the attribute is unknown in training."""
    if len(trained.attribute_values) != len(index.attribute_values):
        return None
    if len(trained.attribute_values) <= 1:
        columns = np.arange(trained.num_attributes)
    else:  # a new value in one of several columns renumbers their product
        columns = np.array([index.attribute_names.index(name) for name in trained.attribute_names])
    counts = np.zeros(index.counts.shape, dtype=np.int64)
    counts[np.ix_(np.arange(trained.num_classes), columns)] = trained.counts
    return counts


def _plain(labels: Any) -> Any:
    return labels[0] if isinstance(labels, tuple) else labels


def _numpy(array: Any) -> np.ndarray:
    return array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)
