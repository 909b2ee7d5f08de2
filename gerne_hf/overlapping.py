"""Groups that overlap: a row may belong to several attributes at once, or to none, as in CivilComments."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .columns import column_names
from .groups import GroupIndex
from .metrics import flatten_group_metrics, group_metrics, wilson_interval
from .trainer import GerneTrainer

_TRUE = ("True", "1")


def overlapping_group_metrics(
    predictions: np.ndarray | Sequence[int],
    references: np.ndarray | Sequence[int],
    memberships: np.ndarray,
    attribute_names: Sequence[str],
    train_group_counts: np.ndarray | None = None,
    label_names: Sequence[str] | None = None,
) -> dict[str, Any]:
    """[`group_metrics`] over groups (label, attribute) that overlap: a row counts in each group that it belongs to.

    Args:
        predictions (array of shape `(N,)`, or `(N, K)`): class ids, or scores, of which the largest counts.
        references (array of shape `(N,)`): true class ids.
        memberships (bool array of shape `(N, A)`): the attributes of each row; several, one, or none.
        attribute_names (`Sequence[str]`): names of the A attributes.
        train_group_counts (`np.ndarray` of shape `(K, A)`, *optional*): rows of each group in training.
        label_names (`Sequence[str]`, *optional*): names of the K classes.

    Returns:
        `dict`: as [`group_metrics`]: worst-group and group-balanced accuracy are over the groups that have rows, and
        `accuracy` and those of classes over all rows, whether they are in a group or not. There is no
        `adjusted_accuracy`, since shares of overlapping groups don't add up.

    Raises:
        ValueError: for arrays of another shape, and if no row is in any group.
    """
    memberships = np.asarray(memberships)
    references = np.asarray(references)
    if memberships.shape != (len(references), len(attribute_names)) or memberships.dtype != bool:
        raise ValueError(
            f"memberships must be a boolean array of shape {(len(references), len(attribute_names))}, a row of data "
            f"by an attribute; found {memberships.dtype} of shape {memberships.shape}"
        )
    predictions = np.asarray(predictions)
    if predictions.ndim == 2:
        predictions = predictions.argmax(axis=1)
    result = group_metrics(predictions, references, np.zeros(len(references), dtype=np.int64), label_names=label_names)
    classes = [group["label"] for group in result["groups"]]
    shape = (len(classes), len(attribute_names))
    if train_group_counts is not None and np.shape(train_group_counts) != shape:
        raise ValueError(f"train_group_counts must have the shape {shape}; found {np.shape(train_group_counts)}")
    groups = []
    for label, label_name in enumerate(classes):
        for attribute, attribute_name in enumerate(attribute_names):
            rows = memberships[:, attribute] & (references == label)
            count, correct = int(rows.sum()), int((predictions[rows] == label).sum())
            low, high = wilson_interval(correct, count)
            group = {"label": label_name, "attribute": str(attribute_name), "count": count}
            group |= {"accuracy": correct / count if count else None, "ci_low": low, "ci_high": high}
            if train_group_counts is not None:
                group["train_count"] = int(train_group_counts[label][attribute])
            groups.append(group)
    judged = [group for group in groups if group["count"]]
    if not judged:
        raise ValueError(f"no row belongs to any of {', '.join(map(str, attribute_names))}")
    worst = min(judged, key=lambda group: group["accuracy"])
    result["worst_group_accuracy"] = worst["accuracy"]
    result["worst_group"] = f"({worst['label']}, {worst['attribute']})"
    result["group_balanced_accuracy"] = float(np.mean([group["accuracy"] for group in judged]))
    return {**result, "groups": groups}


def overlapping_counts(labels: np.ndarray, memberships: np.ndarray, num_classes: int) -> np.ndarray:
    """`(K, A)`, int64: rows of each overlapping group."""
    return np.stack([memberships[labels == label].sum(axis=0) for label in range(num_classes)]).astype(np.int64)


def with_overlapping_groups(
    trainer_class: type[GerneTrainer], attribute_columns: Sequence[str], train_group_counts: np.ndarray | None = None
) -> type[GerneTrainer]:
    """A trainer class whose evaluations are over overlapping groups; training is as it was.

    `attribute_column` then says what the groups of training are, and the evaluation sets need not have it.

    Args:
        trainer_class (`type`): [`GerneTrainer`] or a subclass.
        attribute_columns (`Sequence[str]`): boolean columns of the evaluation sets, an attribute each.
        train_group_counts (`np.ndarray` of shape `(K, A)`, *optional*): for tables.
    """
    settings = {"overlapping_columns": tuple(attribute_columns), "overlapping_train_counts": train_group_counts}
    # The name stays: trainers keep state in checkpoints under it.
    return type(trainer_class.__name__, (OverlappingEvaluationMixin, trainer_class), settings)


class OverlappingEvaluationMixin:
    """Evaluation over overlapping groups; goes before [`GerneTrainer`] in the bases. A row's group id stands for its
    label and the whole combination of its attributes, so it is right in any row order and on any number of processes.
    """

    overlapping_columns: tuple[str, ...]
    overlapping_train_counts: np.ndarray | None = None

    def _index(self, dataset: Any, description: str) -> GroupIndex | None:
        """Rows by label and combination of attributes."""
        names = column_names(dataset)
        missing = [name for name in self.overlapping_columns if name not in names]
        if missing:
            raise ValueError(
                f"the {description} set has no attribute column {', '.join(map(repr, missing))}; its columns are "
                f"{', '.join(map(repr, names))}"
            )
        return GroupIndex.from_dataset(dataset, self.args.label_column, self.overlapping_columns)

    def _compute_metrics(self, prediction: Any, compute_result: bool = True) -> dict[str, float]:
        """The parent's, with the figures of overlapping groups in place of those of combinations."""
        metrics = super()._compute_metrics(prediction, compute_result)
        index = self._evaluated_groups
        if index is None or not compute_result:
            return metrics
        labels, groups, predicted = (np.concatenate(column) for column in zip(*self._batched, strict=True))
        memberships = combination_memberships(index)[groups % index.num_attributes]
        combined = flatten_group_metrics(self._result)
        self._result = overlapping_group_metrics(
            predicted, labels, memberships, self.overlapping_columns, self.overlapping_train_counts, index.label_names
        )
        own = {key: value for key, value in metrics.items() if key not in combined}
        return {**flatten_group_metrics(self._result), **own}


def combination_memberships(index: GroupIndex) -> np.ndarray:
    """`(A, I)`, bool: which of its I boolean columns are true in each of an index's A combinations of them.

    Raises:
        ValueError: for columns that hold something else than booleans, or 0 and 1.
    """
    for values in index.attribute_values:
        if not set(values) <= {"True", "False", "0", "1"}:
            raise ValueError(f"columns of overlapping attributes must hold booleans; found {', '.join(values[:5])}")
    sizes = [len(values) for values in index.attribute_values]
    places = np.unravel_index(np.arange(index.num_attributes), sizes)
    true = [np.array([value in _TRUE for value in values]) for values in index.attribute_values]
    return np.stack([flags[place] for flags, place in zip(true, places, strict=True)], axis=1)
