"""Group metrics: the accuracies of each group and each class, and the summaries that follow from them.

Pure NumPy, without torch or Transformers; imports `groups/` for the names of groups. Next:
[`accumulator`](gerne_hf.evaluation.accumulator) collects the rows of an evaluation, and
[`names`](gerne_hf.evaluation.names) has the words that people read for the metrics.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..groups.limits import check_group_count
from ..groups.names import group_key, group_title
from .group_scores import group_scores
from .inputs import rows_of
from .score_names import EXTRA_METRICS, summary_keys

_Z95 = 1.959963984540054  # 97.5 % quantile of the standard normal distribution

SUMMARY_METRICS = (
    "accuracy",
    "group_balanced_accuracy",
    "worst_group_accuracy",
    "adjusted_accuracy",
    "class_balanced_accuracy",
    "worst_class_accuracy",
)
"""The figures of [`group_metrics`] that summarize all groups, in the order in which tables show them."""

GATE_METRICS = ("worst_inferred_group_accuracy", "gated_accuracy")
"""Summaries over inferred groups, which [`GatedAccumulator`](gerne_hf.evaluation.gate.GatedAccumulator) adds."""


def group_metrics(
    predictions: ArrayLike,
    references: ArrayLike,
    attributes: ArrayLike,
    train_group_counts: ArrayLike | None = None,
    label_names: Sequence[str] | None = None,
    attribute_names: Sequence[str] | None = None,
    extra_metrics: Sequence[str] = (),
    probabilities: ArrayLike | None = None,
) -> dict[str, Any]:
    """Compute the accuracy of each group, and the summaries that the literature on group robustness reports.

    A group is a class label together with an attribute value.

    Args:
        predictions (array or column of shape `(N,)`, or float array of shape `(N, K)`): predicted classes, as ids or
            as names; or scores of the classes, of which the largest counts. A row with a NaN among its scores, or
            with a negative id, has no prediction and counts as wrong.
        references (array or column of shape `(N,)`): true classes, as ids or as names.
        attributes (array or column of shape `(N,)`, or bool array of shape `(N, A)`): the attribute values, as ids or
            as names; or, for groups that overlap, which of the A attributes each row has: several, one, or none. A
            row counts in each of its groups.
        train_group_counts (int array of shape `(K, A)`, *optional*): rows of each group in the training set, as
            [`group_counts`] returns them.
        label_names (`Sequence[str]`, *optional*): names of the K classes in the order of their ids. If not given, the
            names in `references` in alphabetic order, or the columns of a data frame of scores, or the ids.
        attribute_names (`Sequence[str]`, *optional*): names of the A attribute values, likewise.
        extra_metrics (`Sequence[str]`, *optional*): metrics beyond accuracy to compute of each attribute value, some
            of "f1", "tpr", "fpr", "auroc", "ece" and "equalized_odds_gap"; see
            [`group_scores`](gerne_hf.evaluation.group_scores.group_scores).
        probabilities (float array of shape `(N, K)`, *optional*): probabilities of the classes, which "auroc" and
            "ece" need; `predictions`, if they are scores.

    Returns:
        `dict`: accuracies are fractions in [0, 1].

        - `accuracy`: share of correct rows among all rows, those in no group included.
        - `worst_group_accuracy`, `worst_group`: the lowest group accuracy, and that group's name.
        - `group_balanced_accuracy`: unweighted mean of the group accuracies.
        - `adjusted_accuracy`: mean of the group accuracies, weighted by the share of each group in the training set.
          It is there only with `train_group_counts`, and not for groups that overlap, whose shares do not add up.
          Groups without rows here cannot be judged, and their weight is left out.
        - `worst_class_accuracy`, `class_balanced_accuracy`: lowest and mean accuracy of the classes, over all rows.
        - `rows_without_prediction`: rows with a NaN among their scores, or a negative id; only where there are any.
        - `groups`: for each group a dictionary with `label`, `attribute`, `count`, `accuracy`, `ci_low`, `ci_high`
          (95 % Wilson score interval) and, if it is known, `train_count`. A group without rows has the accuracy `None`
          and is part of no summary.
        - With `extra_metrics` what [`group_scores`](gerne_hf.evaluation.group_scores.group_scores) returns: `worst_f1`
          and so on, and `attributes`, a dictionary for each attribute value. Figures that are not defined are None,
          and a warning says why.

    Raises:
        ValueError: for arrays of different lengths or of other shapes, no rows, missing values, names that are not
            among the labels, negative ids, ids that make more than
            [`MAX_GROUPS`](gerne_hf.groups.limits.MAX_GROUPS) groups, counts that are no numbers of rows, counts or
            names of another shape, and two equal names; for groups that overlap, if no row is in any; for
            `extra_metrics` that do not exist, and probabilities that are none.

    Example:

    ```python
    >>> from gerne_hf import group_metrics
    >>> result = group_metrics(predictions=[0, 0, 1, 0], references=[0, 0, 1, 1], attributes=[0, 1, 0, 1])
    >>> result["accuracy"], result["worst_group_accuracy"], result["group_balanced_accuracy"]
    (0.75, 0.0, 0.75)

    ```

    Names, as in the columns of a table:

    ```python
    >>> table = {"found": ["cat", "cat", "dog"], "animal": ["cat", "dog", "dog"], "place": ["in", "out", "in"]}
    >>> group_metrics(table["found"], table["animal"], table["place"])["worst_group"]
    '(dog, out)'

    ```

    Groups that overlap: the first row mentions two identities, the last one none.

    ```python
    >>> import numpy as np
    >>> mentions = np.array([[True, True], [True, False], [False, True], [False, False]])
    >>> result = group_metrics([0, 1, 0, 1], [0, 0, 0, 1], mentions, attribute_names=["female", "muslim"])
    >>> result["worst_group"], result["worst_group_accuracy"], result["accuracy"]
    ('(0, female)', 0.5, 0.75)

    ```
    """
    rows = rows_of(
        predictions, references, attributes, label_names, attribute_names, counted=train_group_counts is not None
    )
    predicted, labels, groups = rows.predicted, rows.labels, rows.attributes
    label_names, attribute_names = rows.label_names, rows.attribute_names
    overlap = groups.ndim == 2
    if overlap and not groups.any():
        raise ValueError(
            f"no row has any of the {groups.shape[1]} attributes, so there are no groups to compute metrics of"
        )
    counts_shape = np.shape(train_group_counts) if train_group_counts is not None else (0, 0)
    num_classes = max(int(labels.max()) + 1, len(label_names or ()), counts_shape[0] if counts_shape else 0)
    num_attributes = groups.shape[1] if overlap else int(groups.max()) + 1
    if not overlap:  # ids need not all occur
        num_attributes = max(num_attributes, len(attribute_names or ()), counts_shape[-1] if counts_shape else 0)
    elif attribute_names is not None and len(attribute_names) != num_attributes:
        raise ValueError(
            f"attribute_names has {len(attribute_names)} names, and attributes, of shape {groups.shape}, has "
            f"{num_attributes} columns; give a name to each"
        )
    if len(counts_shape) != 2 or (overlap and train_group_counts is not None and counts_shape[1] != num_attributes):
        shape = f"({num_classes}, {num_attributes})" if overlap else "(K, A)"
        raise ValueError(f"train_group_counts must have the shape {shape}; found {counts_shape}")
    check_group_count(num_classes * num_attributes, [num_attributes])
    label_names = _names(label_names, num_classes, "label_names")
    attribute_names = _names(attribute_names, num_attributes, "attribute_names")

    hits = predicted == labels
    counts = group_counts(labels, groups, num_classes, num_attributes)
    correct = group_counts(labels[hits], groups[hits], num_classes, num_attributes)
    class_count = np.bincount(labels, minlength=num_classes)
    class_correct = np.bincount(labels[hits], minlength=num_classes)
    train = _train_counts(train_group_counts, num_classes, num_attributes)
    classes = class_correct, class_count
    result = _figures(correct, counts, classes, train, label_names, attribute_names, overlap)
    if (predicted < 0).any():
        result["rows_without_prediction"] = int((predicted < 0).sum())
    if extra_metrics:
        if probabilities is None and rows.scores is not None:
            probabilities = rows.scores
        given = None if probabilities is None else np.asarray(probabilities)
        scores = group_scores(extra_metrics, predicted, labels, groups, given, label_names, attribute_names)
        for sentence in scores["not_defined"]:
            warnings.warn(sentence, stacklevel=2)
        result |= scores
    return result


def metrics_from_counts(
    correct: ArrayLike,
    counts: ArrayLike,
    label_names: Sequence[str] | None = None,
    attribute_names: Sequence[str] | None = None,
    train_group_counts: ArrayLike | None = None,
) -> dict[str, Any]:
    """Compute what [`group_metrics`] returns from the numbers of rows alone, for rows that are too many to keep.

    Args:
        correct (int array of shape `(K, A)`): rows of each group that are predicted right.
        counts (int array of shape `(K, A)`): rows of each group.
        label_names, attribute_names (`Sequence[str]`, *optional*): names of the K classes and the A attribute values.
        train_group_counts (int array of shape `(K, A)`, *optional*): as for [`group_metrics`].

    Returns:
        `dict`: as [`group_metrics`], without metrics beyond accuracy.

    Raises:
        ValueError: for arrays of different shapes, no rows, and more correct rows than there are.

    Example:

    ```python
    >>> metrics_from_counts(correct=[[9, 1], [4, 8]], counts=[[10, 4], [5, 10]])["worst_group_accuracy"]
    0.25

    ```
    """
    correct, counts = np.asarray(correct), np.asarray(counts)
    if counts.ndim != 2 or correct.shape != counts.shape:
        raise ValueError(f"correct and counts must have one shape (K, A); found {correct.shape} and {counts.shape}")
    if not counts.sum():
        raise ValueError("there are no rows to compute group metrics from")
    if (correct > counts).any() or (correct < 0).any():
        raise ValueError("correct must be numbers from 0 to those of counts, group by group")
    label_names = _names(label_names, counts.shape[0], "label_names")
    attribute_names = _names(attribute_names, counts.shape[1], "attribute_names")
    train = _train_counts(train_group_counts, *counts.shape)
    classes = correct.sum(axis=1), counts.sum(axis=1)
    return _figures(correct, counts, classes, train, label_names, attribute_names, overlap=False)


def _figures(
    correct: np.ndarray,
    counts: np.ndarray,
    classes: tuple[np.ndarray, np.ndarray],
    train: np.ndarray | None,
    label_names: Sequence[str],
    attribute_names: Sequence[str],
    overlap: bool,
) -> dict[str, Any]:
    """Return summaries and groups of [`group_metrics`] from the rows of groups and classes; see there."""
    class_correct, class_count = classes
    num_attributes = counts.shape[1]
    correct, count = correct.ravel(), counts.ravel()
    seen = count > 0
    accuracy = np.divide(correct, count, out=np.full(len(count), np.nan), where=seen)
    class_accuracy = class_correct[class_count > 0] / class_count[class_count > 0]
    worst = int(np.nanargmin(accuracy))
    worst_label, worst_attribute = label_names[worst // num_attributes], attribute_names[worst % num_attributes]
    result: dict[str, Any] = {
        "accuracy": float(class_correct.sum() / class_count.sum()),
        "group_balanced_accuracy": float(accuracy[seen].mean()),
        "worst_group_accuracy": float(accuracy[worst]),
        "worst_group": group_title(worst_label, worst_attribute),
        "class_balanced_accuracy": float(class_accuracy.mean()),
        "worst_class_accuracy": float(class_accuracy.min()),
    }
    if train is not None and not overlap and train[seen].sum() > 0:
        result["adjusted_accuracy"] = float((accuracy[seen] * train[seen]).sum() / train[seen].sum())
    result["groups"] = []
    for g in range(len(count)):
        low, high = wilson_interval(int(correct[g]), int(count[g]))
        entry = {
            "label": label_names[g // num_attributes],
            "attribute": attribute_names[g % num_attributes],
            "count": int(count[g]),
            "accuracy": float(accuracy[g]) if seen[g] else None,
            "ci_low": low,
            "ci_high": high,
        }
        if train is not None:
            entry["train_count"] = int(train[g])
        result["groups"].append(entry)
    return result


def _train_counts(given: ArrayLike | None, num_classes: int, num_attributes: int) -> np.ndarray | None:
    """Return the training rows of each group in shape `(K A,)`; groups beyond those that are counted have zero."""
    if given is None:
        return None
    given = np.asarray(given)
    wrong = given[(given < 0) | (given != np.floor(given))]
    if wrong.size:
        raise ValueError(f"train_group_counts must be numbers of rows, whole and not negative; found {wrong.flat[0]}")
    counts = np.zeros((num_classes, num_attributes), dtype=np.int64)
    counts[: given.shape[0], : given.shape[1]] = given
    return counts.ravel()


def group_counts(labels: np.ndarray, attributes: np.ndarray, num_classes: int, num_attributes: int) -> np.ndarray:
    """Count the rows of each group, in the form in which [`group_metrics`] takes `train_group_counts`.

    Args:
        labels (int array of shape `(N,)`): class ids, below `num_classes`.
        attributes (int array of shape `(N,)`, or bool array of shape `(N, A)`): as in [`group_metrics`].
        num_classes (`int`): number of classes, K.
        num_attributes (`int`): number of attribute values, A.

    Returns:
        `np.ndarray` of shape `(K, A)`, int64. If groups overlap, a row counts in each group that it belongs to.

    Example:

    ```python
    >>> group_counts(np.array([0, 0, 1]), np.array([1, 1, 0]), num_classes=2, num_attributes=2).tolist()
    [[0, 2], [1, 0]]

    ```
    """
    if attributes.ndim == 2:
        rows, attributes = np.nonzero(attributes)
        labels = labels[rows]
    groups = labels.astype(np.int64) * num_attributes + attributes
    return np.bincount(groups, minlength=num_classes * num_attributes).reshape(num_classes, num_attributes)


def wilson_interval(correct: int, count: int, z: float = _Z95) -> tuple[float, float] | tuple[None, None]:
    """Return the Wilson score interval of a proportion; by default the one of 95 % confidence.

    Args:
        correct (`int`): number of successes.
        count (`int`): number of trials.
        z (`float`, defaults to `1.959964`): quantile of the standard normal distribution; the default leaves out
            2.5 % on each side.

    Returns:
        `tuple[float, float]`: lower and upper end, in [0, 1]; `(None, None)` without a trial.

    Example:

    ```python
    >>> low, high = wilson_interval(8, 10)
    >>> round(low, 3), round(high, 3)
    (0.49, 0.943)

    ```
    """
    if count == 0:
        return None, None
    share = correct / count
    scale = 1.0 + z * z / count
    centre = (share + z * z / (2 * count)) / scale
    half = z * math.sqrt(share * (1.0 - share) / count + z * z / (4 * count * count)) / scale
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == count else min(1.0, centre + half)
    return low, high


def flatten_group_metrics(result: dict[str, Any]) -> dict[str, float]:
    """Return the figures of [`group_metrics`] as one flat dictionary of numbers, as `Trainer.evaluate` returns them.

    Args:
        result (`dict`): what [`group_metrics`] returned.

    Returns:
        `dict[str, float]`: the summaries under their names, and for each group that has rows
        `group_accuracy/LABEL|ATTRIBUTE`, `group_count/...`, `group_ci_low/...` and `group_ci_high/...`; of metrics
        beyond accuracy those that are defined, for each attribute value `attribute_f1/ATTRIBUTE` and so on.

    Example:

    ```python
    >>> flat = flatten_group_metrics(group_metrics([0, 1], references=[0, 0], attributes=[0, 1]))
    >>> flat["worst_group_accuracy"], flat["group_accuracy/0|0"]
    (0.0, 1.0)

    ```
    """
    summaries = (*SUMMARY_METRICS, *GATE_METRICS, "rows_without_prediction")
    flat: dict[str, float] = {name: result[name] for name in summaries if name in result}
    for group in result["groups"]:
        if group["count"]:
            name = group_key(group["label"], group["attribute"])
            flat[f"group_accuracy/{name}"] = group["accuracy"]
            flat[f"group_count/{name}"] = group["count"]
            flat[f"group_ci_low/{name}"] = group["ci_low"]
            flat[f"group_ci_high/{name}"] = group["ci_high"]
    for name in (key for metric in EXTRA_METRICS for key in summary_keys(metric)):
        if result.get(name) is not None:
            flat[name] = result[name]
    for entry in result.get("attributes", ()):
        for name in EXTRA_METRICS:
            if entry.get(name) is not None:
                flat[f"attribute_{name}/{entry['attribute']}"] = entry[name]
    return flat


def _names(names: Sequence[str] | None, count: int, argument: str) -> list[str]:
    """Return the names of `count` ids, or the ids themselves if no names are given."""
    if names is None:
        return [str(i) for i in range(count)]
    if len(names) < count:
        raise ValueError(f"{argument} has {len(names)} names, and {count} are needed")
    texts = [str(name) for name in names]
    if len(set(texts)) < len(texts):
        twice = next(text for text in texts if texts.count(text) > 1)
        raise ValueError(f"{argument} has the name {twice!r} more than once; give each id a name of its own")
    return texts


MAX_TABLE_GROUPS = 24
"""Tables and pictures show so many groups at most, the worst ones."""


def worst_groups(groups: list[dict[str, Any]], most: int = MAX_TABLE_GROUPS) -> tuple[list[int], int]:
    """Choose the groups that a table shows: all of them, or the worst where there are too many.

    Args:
        groups (`list[dict]`): the `groups` of a result of [`group_metrics`].
        most (`int`, defaults to `MAX_TABLE_GROUPS`): number of groups that are shown at most.

    Returns:
        `tuple[list[int], int]`: places in `groups` of those that are shown, in ascending order, and the number of
        groups that are left out.

    Example:

    ```python
    >>> result = group_metrics([0, 1, 1], references=[0, 0, 1], attributes=[0, 1, 1])
    >>> worst_groups(result["groups"], most=2)
    ([0, 1], 2)

    ```
    """
    if len(groups) <= most:
        return list(range(len(groups))), 0
    judged = [i for i, group in enumerate(groups) if group["count"]]
    worst = sorted(judged, key=lambda i: groups[i]["accuracy"])[:most]
    return sorted(worst), len(groups) - len(worst)
