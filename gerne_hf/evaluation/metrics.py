"""Group metrics (pure NumPy): accuracies of each group, each class, and what follows from them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

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


def group_metrics(
    predictions: np.ndarray | Sequence[int],
    references: np.ndarray | Sequence[int],
    attributes: np.ndarray | Sequence[int],
    train_group_counts: np.ndarray | None = None,
    label_names: Sequence[str] | None = None,
    attribute_names: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Accuracy of each group (label, attribute), and the summaries that the literature on group robustness reports.

    Args:
        predictions (array of shape `(N,)`, or `(N, K)`): class ids, or scores, of which the largest counts.
        references (array of shape `(N,)`): true class ids.
        attributes (array of shape `(N,)`, or bool array of shape `(N, A)`): attribute ids; or, for groups that
            overlap, which of the A attributes each row has: several, one, or none. A row counts in each of its groups.
        train_group_counts (`np.ndarray` of shape `(K, A)`, *optional*): rows of each group in training, as
            [`group_counts`] gives them.
        label_names (`Sequence[str]`, *optional*): names of the K classes.
        attribute_names (`Sequence[str]`, *optional*): names of the A attribute values.

    Returns:
        `dict`: accuracies are fractions in [0, 1].

        - `accuracy`: share of correct rows; of all rows, those in no group included.
        - `worst_group_accuracy`, `worst_group`: the lowest group accuracy, and that group's name.
        - `group_balanced_accuracy`: unweighted mean of the group accuracies.
        - `adjusted_accuracy`: group accuracies weighted by training frequency; only with `train_group_counts`, and not
          for groups that overlap, whose shares don't add up. Groups without rows here cannot be judged: their weight
          is left out.
        - `worst_class_accuracy`, `class_balanced_accuracy`: the same two over classes, of all rows.
        - `groups`: a list with `label`, `attribute`, `count`, `accuracy`, `ci_low`, `ci_high` (95 % Wilson score
          interval) and, where known, `train_count` of each group. A group without rows has accuracy `None` and is in
          no summary.

    Raises:
        ValueError: for arrays of different length, no rows, negative ids, counts that are no numbers of rows, or
            counts or names of another shape; for groups that overlap, if no row is in any.

    Example:

    ```python
    >>> from gerne_hf import group_metrics
    >>> result = group_metrics(predictions=[0, 0, 1, 0], references=[0, 0, 1, 1], attributes=[0, 1, 0, 1])
    >>> result["accuracy"], result["worst_group_accuracy"], result["group_balanced_accuracy"]
    (0.75, 0.0, 0.75)

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
    predictions, references, attributes = _checked(predictions, references, attributes)
    overlap = attributes.ndim == 2
    if overlap and not attributes.any():
        raise ValueError(
            f"no row has any of the {attributes.shape[1]} attributes, so there are no groups to compute metrics of"
        )
    counts_shape = np.shape(train_group_counts) if train_group_counts is not None else (0, 0)
    num_classes = max(int(references.max()) + 1, len(label_names or ()), counts_shape[0] if counts_shape else 0)
    num_attributes = attributes.shape[1] if overlap else int(attributes.max()) + 1
    if not overlap:  # ids need not all occur
        num_attributes = max(num_attributes, len(attribute_names or ()), counts_shape[-1] if counts_shape else 0)
    elif attribute_names is not None and len(attribute_names) != num_attributes:
        raise ValueError(
            f"attribute_names has {len(attribute_names)} names, and attributes, of shape {attributes.shape}, has "
            f"{num_attributes} columns; give a name to each"
        )
    if len(counts_shape) != 2 or (overlap and train_group_counts is not None and counts_shape[1] != num_attributes):
        shape = f"({num_classes}, {num_attributes})" if overlap else "(K, A)"
        raise ValueError(f"train_group_counts must have the shape {shape}; found {counts_shape}")
    label_names = _names(label_names, num_classes, "label_names")
    attribute_names = _names(attribute_names, num_attributes, "attribute_names")

    hits = predictions == references
    size = num_classes * num_attributes
    count = group_counts(references, attributes, num_classes, num_attributes).ravel()
    correct = group_counts(references[hits], attributes[hits], num_classes, num_attributes).ravel()
    seen = count > 0
    accuracy = np.divide(correct, count, out=np.full(size, np.nan), where=seen)

    train = None
    if train_group_counts is not None:
        given = np.asarray(train_group_counts)
        wrong = given[(given < 0) | (given != np.floor(given))]
        if wrong.size:
            raise ValueError(
                f"train_group_counts must be numbers of rows, whole and not negative; found {wrong.flat[0]}"
            )
        train = np.zeros((num_classes, num_attributes), dtype=np.int64)
        train[: counts_shape[0], : counts_shape[1]] = given
        train = train.ravel()

    class_count = np.bincount(references, minlength=num_classes)
    class_correct = np.bincount(references[hits], minlength=num_classes)
    class_accuracy = class_correct[class_count > 0] / class_count[class_count > 0]
    worst = int(np.nanargmin(accuracy))
    result: dict[str, Any] = {
        "accuracy": float(hits.mean()),
        "group_balanced_accuracy": float(accuracy[seen].mean()),
        "worst_group_accuracy": float(accuracy[worst]),
        "worst_group": f"({label_names[worst // num_attributes]}, {attribute_names[worst % num_attributes]})",
        "class_balanced_accuracy": float(class_accuracy.mean()),
        "worst_class_accuracy": float(class_accuracy.min()),
    }
    if train is not None and not overlap and train[seen].sum() > 0:
        result["adjusted_accuracy"] = float((accuracy[seen] * train[seen]).sum() / train[seen].sum())
    result["groups"] = []
    for g in range(size):
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


def group_counts(labels: np.ndarray, attributes: np.ndarray, num_classes: int, num_attributes: int) -> np.ndarray:
    """Rows of each group, as `train_group_counts` of [`group_metrics`] takes them.

    Args:
        labels (int array of shape `(N,)`): class ids, below `num_classes`.
        attributes (int array of shape `(N,)`, or bool array of shape `(N, A)`): as in [`group_metrics`].
        num_classes, num_attributes (`int`): K and A.

    Returns:
        `np.ndarray` of shape `(K, A)`, int64: of groups that overlap, a row counts in each that it belongs to.
    """
    rows = slice(None)
    if attributes.ndim == 2:
        rows, attributes = np.nonzero(attributes)
    groups = labels[rows].astype(np.int64) * num_attributes + attributes
    return np.bincount(groups, minlength=num_classes * num_attributes).reshape(num_classes, num_attributes)


def wilson_interval(correct: int, count: int, z: float = _Z95) -> tuple[float, float] | tuple[None, None]:
    """Wilson score interval of a proportion; 95 % by default.

    Args:
        correct (`int`): successes.
        count (`int`): trials; 0 gives `(None, None)`.
        z (`float`, defaults to 1.96): quantile of the standard normal distribution.

    Returns:
        `tuple[float, float]`: lower and upper end, in [0, 1].
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
    """The figures of [`group_metrics`] as one flat dictionary of numbers, as `Trainer.evaluate` returns them.

    Groups that have rows appear as `group_accuracy/LABEL|ATTRIBUTE`, `group_count/...`, `group_ci_low/...` and
    `group_ci_high/...`.
    """
    flat: dict[str, float] = {name: result[name] for name in SUMMARY_METRICS if name in result}
    for group in result["groups"]:
        if group["count"]:
            name = f"{group['label']}|{group['attribute']}"
            flat[f"group_accuracy/{name}"] = group["accuracy"]
            flat[f"group_count/{name}"] = group["count"]
            flat[f"group_ci_low/{name}"] = group["ci_low"]
            flat[f"group_ci_high/{name}"] = group["ci_high"]
    return flat


def _checked(predictions, references, attributes):
    predictions, references, attributes = map(np.asarray, (predictions, references, attributes))
    if predictions.ndim == 2:
        predictions = predictions.argmax(axis=1)
    lengths = {"predictions": len(predictions), "references": len(references), "attributes": len(attributes)}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"predictions, references and attributes must have one entry a row; found {lengths}")
    if len(references) == 0:
        raise ValueError("there are no rows to compute group metrics from")
    overlap = attributes.ndim == 2
    if overlap and (attributes.dtype != bool or not attributes.shape[1]):
        raise ValueError(
            f"attributes of shape {attributes.shape} must be booleans, a row of data by an attribute; found "
            f"{attributes.dtype}. For groups that don't overlap give one attribute id a row"
        )
    for name, values in (("predictions", predictions), ("references", references), ("attributes", attributes)):
        if name == "attributes" and overlap:
            continue
        if values.ndim != 1 or values.dtype.kind not in "iub":
            raise ValueError(
                f"{name} must be one integer a row; found shape {values.shape} of {values.dtype}. Encode strings as "
                "ids first, for example with GroupIndex"
            )
        if name != "predictions" and values.dtype.kind == "i" and values.min() < 0:
            raise ValueError(f"{name} must not be negative; found {values.min()}")
    attributes = attributes if overlap else attributes.astype(np.int64)
    return predictions.astype(np.int64), references.astype(np.int64), attributes


def _names(names: Sequence[str] | None, count: int, argument: str) -> list[str]:
    if names is None:
        return [str(i) for i in range(count)]
    if len(names) < count:
        raise ValueError(f"{argument} has {len(names)} names, and {count} are needed")
    return [str(name) for name in names]


MAX_TABLE_GROUPS = 24


def worst_groups(groups: list[dict[str, Any]], most: int = MAX_TABLE_GROUPS) -> tuple[list[int], int]:
    """Positions of the groups that a table shows, in their order, and how many it leaves out: the better ones."""
    if len(groups) <= most:
        return list(range(len(groups))), 0
    judged = [i for i, group in enumerate(groups) if group["count"]]
    worst = sorted(judged, key=lambda i: groups[i]["accuracy"])[:most]
    return sorted(worst), len(groups) - len(worst)
