"""`GroupAccumulator`: collects what an evaluation says of each row, and turns it into group metrics and worst rows.

Plain NumPy over a group index; the trainer feeds it batch by batch. Groups that overlap have an accumulator of their
own in [`overlapping`](gerne_hf.evaluation.overlapping).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers.utils import logging

from ..groups.index import GroupIndex
from .group_scores import group_scores, probabilities_of
from .metrics import group_metrics, worst_groups

logger = logging.get_logger(__name__)


class GroupAccumulator:
    """Collects labels, groups and predictions of the rows of one evaluation.

    Args:
        index ([`GroupIndex`]): the groups of the evaluated set.
        train_counts (`np.ndarray` of shape `(K, A)`, *optional*): training rows of each group, for tables and for the
            adjusted accuracy.
    """

    extra_metrics: tuple[str, ...] = ()
    """Metrics beyond accuracy to compute; set it before rows are added."""

    def __init__(self, index: GroupIndex, train_counts: np.ndarray | None = None):
        self.index = index
        self.train_counts = train_counts
        self._batches: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._losses: list[np.ndarray] = []
        self._scores: list[np.ndarray] = []

    def add(
        self,
        labels: np.ndarray,
        groups: np.ndarray,
        predicted: np.ndarray,
        losses: np.ndarray | None = None,
        scores: np.ndarray | None = None,
    ) -> None:
        """Add some rows.

        Args:
            labels, groups, predicted (int arrays of shape `(n,)`): class ids, group ids and predicted class ids.
            losses (float array of shape `(n,)`, *optional*): the cross-entropy of each row, from which the worst rows
                follow.
            scores (float array of shape `(n, K)`, *optional*): logits of the classes, for metrics that need
                probabilities.
        """
        self._batches.append((labels, groups, predicted))
        if losses is not None:
            self._losses.append(losses)
        if scores is not None:
            self._scores.append(scores)

    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return labels, group ids and predictions of all rows so far, each of shape `(N,)`."""
        labels, groups, predicted = (np.concatenate(column) for column in zip(*self._batches, strict=True))
        return labels, groups, predicted

    def result(self) -> dict[str, Any]:
        """Return the [`group_metrics`] of all rows so far."""
        labels, groups, predicted = self.columns()
        warn_of_rows_without_prediction(predicted)
        index = self.index
        attributes = groups % index.num_attributes
        result = group_metrics(
            predicted, labels, attributes, self.train_counts, index.label_names, index.attribute_names
        )
        return self.with_scores(result, predicted, labels, attributes)

    def with_scores(
        self, result: dict[str, Any], predicted: np.ndarray, labels: np.ndarray, attributes: np.ndarray
    ) -> dict[str, Any]:
        """Return a result of [`group_metrics`] with the `extra_metrics`, as [`with_group_scores`] does."""
        return with_group_scores(result, self.extra_metrics, predicted, labels, attributes, self._scores)

    def memberships(self) -> np.ndarray:
        """Return which attributes of the result each attribute of the index stands for, bool, `(A, A)`: itself."""
        return np.eye(self.index.num_attributes, dtype=bool)

    def worst_rows(self, result: dict[str, Any], k: int) -> dict[int, list[dict[str, Any]]]:
        """Find the rows of each group that the model is most wrong about.

        Args:
            result (`dict`): what [`GroupAccumulator.result`] returned.
            k (`int`): rows of each group.

        Returns:
            `dict[int, list[dict]]`: for each group that tables show, by its position in the result, `row` (number in
            the data set), `prediction` (a class name) and `probability` (of the true label) of its worst rows. Empty
            without losses, and with a warning if the rows did not come in the order of the data set.
        """
        if not self._losses:
            return {}
        losses = np.concatenate(self._losses)
        _, groups, predicted = self.columns()
        if not np.array_equal(groups, self.index.codes):
            logger.warning_once("The evaluation's rows are not in the data set's order: no worst examples are kept.")
            return {}
        names, memberships = {-1: "none", **dict(enumerate(self.index.label_names))}, self.memberships()
        found = {}
        for group in worst_groups(result["groups"])[0]:
            label, attribute = divmod(group, memberships.shape[1])
            parts = [self.index.rows(label, int(cell)) for cell in np.flatnonzero(memberships[:, attribute])]
            own = np.concatenate([self.index.order[:0], *parts])
            found[group] = [
                {
                    "row": int(row),
                    "prediction": names.get(int(predicted[row]), str(predicted[row])),
                    "probability": float(np.nan_to_num(np.exp(-losses[row]))),
                }
                for row in worst_rows(losses, own, k)
            ]
        return found


def with_group_scores(
    result: dict[str, Any],
    extra_metrics: Sequence[str],
    predicted: np.ndarray,
    labels: np.ndarray,
    attributes: np.ndarray,
    scores: Sequence[np.ndarray] = (),
) -> dict[str, Any]:
    """Return a result of [`group_metrics`] with metrics beyond accuracy of the same rows, if any were asked for.

    Args:
        result (`dict`): what [`group_metrics`] returned.
        extra_metrics (`Sequence[str]`): names of the metrics; without one the result comes back as it is.
        predicted, labels, attributes: as [`group_metrics`] was given them, as ids.
        scores (`Sequence` of arrays of shape `(n, K)`): logits of the rows, by batch, where metrics need them.
    """
    if not extra_metrics:
        return result
    probabilities = probabilities_of(np.concatenate(scores)) if len(scores) else None
    label_names = list(dict.fromkeys(group["label"] for group in result["groups"]))
    attribute_names = list(dict.fromkeys(group["attribute"] for group in result["groups"]))
    found = group_scores(extra_metrics, predicted, labels, attributes, probabilities, label_names, attribute_names)
    return {**result, **found}


def warn_of_rows_without_prediction(predicted: np.ndarray) -> None:
    """Say how many rows have no prediction, as their scores were NaN, and count as wrong.

    Args:
        predicted (int array of shape `(N,)`): predicted class ids; -1 stands for none.
    """
    missing = int((predicted < 0).sum())
    if missing:
        logger.warning(
            f"The model gave NaN among the scores of {missing:,} of {len(predicted):,} rows. They have no "
            "prediction and count as wrong."
        )


def worst_rows(losses: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    """Return the k rows of a group with the highest losses, that is the lowest probabilities of their true labels.

    Args:
        losses (float array of shape `(N,)`): cross-entropy of each row; NaN counts as the highest.
        rows (int array of shape `(n,)`): numbers of the group's rows.
        k (`int`): rows to pick; all are, where there are fewer.

    Returns:
        `np.ndarray`: row numbers, the highest loss first; rows of equal loss in their order.

    Example:

    ```python
    >>> import numpy as np
    >>> worst_rows(np.array([0.1, 2.0, 0.7, 3.0]), rows=np.array([0, 1, 2]), k=2).tolist()
    [1, 2]

    ```
    """
    own = np.nan_to_num(losses[rows], nan=np.inf, posinf=np.inf, neginf=-np.inf)
    if 0 < k < len(rows):  # sort no more than needed
        near = own >= np.partition(own, -k)[-k]
        rows, own = rows[near], own[near]
    return rows[np.lexsort((rows, -own))][:k]
