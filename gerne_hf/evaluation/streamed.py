"""`StreamAccumulator`: the group metrics of an evaluation whose rows came from a stream.

Imports `groups/`. Which groups there are is known at the end; the rows carry the names of their attributes, see
[`StreamedRows`](gerne_hf.groups.streamed.StreamedRows).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers.utils import logging

from ..groups.index import GroupIndex
from ..groups.names import group_title, shared_name_with_two_ids
from ..groups.streamed import StreamedRows, decoded_names
from .accumulator import warn_of_rows_without_prediction, with_group_scores
from .metrics import group_metrics

logger = logging.get_logger(__name__)


class StreamAccumulator:
    """Collects labels, names of attributes and predictions of the rows of one evaluation.

    Args:
        rows ([`StreamedRows`]): the stream.
        reference ([`GroupIndex`], *optional*): the training rows; their names keep their places, and new ones follow.
        train_counts (`np.ndarray` of shape `(K, A)`, *optional*): training rows of each overlapping group.

    Raises:
        ValueError: for a stream that has a class of the training set under another id.
    """

    extra_metrics: tuple[str, ...] = ()
    """Metrics beyond accuracy to compute; set it before rows are added."""

    def __init__(
        self,
        rows: StreamedRows,
        reference: GroupIndex | None = None,
        train_counts: np.ndarray | None = None,
    ):
        self.rows, self.reference, self.train_counts = rows, reference, train_counts
        names, trained = rows.label_names(), () if reference is None else reference.label_names
        moved = None if names is None else shared_name_with_two_ids(names, trained)
        if moved is not None:
            raise ValueError(
                f"the class {moved!r} has another id in the {rows.description} set, a stream, than in the training "
                f"set, whose classes are {', '.join(trained)}. Give both the same ids"
            )
        self._batches: list[tuple[np.ndarray, list[str], np.ndarray]] = []
        self._scores: list[np.ndarray] = []

    def add(
        self,
        labels: np.ndarray,
        names: np.ndarray,
        predicted: np.ndarray,
        losses: np.ndarray | None = None,
        scores: np.ndarray | None = None,
    ) -> None:
        """Add some rows.

        Args:
            labels, predicted (int arrays of shape `(n,)`): class ids and predicted class ids.
            names (int array of shape `(n, L)`): the names of the attributes, as numbers.
            losses (*optional*): not used, as rows of a stream cannot be read again to show them.
            scores (float array of shape `(n, K)`, *optional*): logits of the classes, for metrics that need
                probabilities.
        """
        places, found = decoded_names(names)
        self._batches.append((labels, [found[place] for place in places], predicted))
        if scores is not None:
            self._scores.append(scores)

    def result(self) -> dict[str, Any]:
        """Return the [`group_metrics`] of all rows so far."""
        labels = np.concatenate([batch[0] for batch in self._batches])
        predicted = np.concatenate([batch[2] for batch in self._batches])
        words = [name for batch in self._batches for name in batch[1]]
        warn_of_rows_without_prediction(predicted)
        reference, columns = self.reference, self.rows.overlapping_columns
        label_names = self._label_names(labels)
        if columns:
            flags = np.array([[letter == "1" for letter in word] for word in words]).reshape(len(words), len(columns))
            result = group_metrics(predicted, labels, flags, self.train_counts, label_names, columns)
            return with_group_scores(result, self.extra_metrics, predicted, labels, flags, self._scores)
        trained = reference is not None and len(reference.attribute_values) == len(self.rows.attribute_columns)
        names = list(reference.attribute_names) if reference is not None and trained else []
        names += sorted(set(words) - set(names))
        place = {name: i for i, name in enumerate(names)}
        counts = reference.counts if reference is not None and trained else None
        ids = np.array([place[word] for word in words], dtype=np.int64)
        result = group_metrics(predicted, labels, ids, counts, label_names, names)
        unseen = [g for g in result["groups"] if g["count"] and not g.get("train_count", 1)]
        if unseen:
            found = ", ".join(f"{group_title(g['label'], g['attribute'])} with {g['count']} rows" for g in unseen)
            logger.warning(
                f"The {self.rows.description} set has groups that training lacks: {found}. They are part of the group "
                "metrics, with 0 training rows."
            )
        return with_group_scores(result, self.extra_metrics, predicted, labels, ids, self._scores)

    def _label_names(self, labels: np.ndarray) -> Sequence[str] | None:
        """Return the names of the classes: those of the training set, or of the stream, or none."""
        names = self.rows.label_names() if self.reference is None else self.reference.label_names
        if self.reference is not None and labels.max() >= len(self.reference.label_names):
            raise ValueError(
                f"the {self.rows.description} set has the class id {labels.max()}, and the training set has the "
                f"classes {', '.join(self.reference.label_names)} alone. Filter these rows out"
            )
        return names

    def worst_rows(self, result: dict[str, Any], k: int) -> dict[int, list[dict[str, Any]]]:
        """Return no rows: those of a stream cannot be read again by their numbers."""
        return {}
