"""What [`group_metrics`](gerne_hf.evaluation.metrics.group_metrics) is given, checked and turned into ids.

Pure NumPy; a pandas column is taken for the array that it holds, so that pandas is not imported. Imports `groups/` for
the limit on ids.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..groups.limits import MAX_GROUPS


@dataclass(frozen=True)
class Rows:
    """The rows of an evaluation as ids.

    Args:
        predicted, labels (int64 arrays of shape `(N,)`): predicted and true class ids; -1 for no prediction.
        attributes (int64 array of shape `(N,)`, or bool array of shape `(N, A)`): ids of the attribute values, or
            flags of attributes that overlap.
        scores (array of shape `(N, K)`, *optional*): scores of the classes, where predictions were given so.
        label_names, attribute_names (`Sequence[str]`, *optional*): the names by id, as given or as found.
    """

    predicted: np.ndarray
    labels: np.ndarray
    attributes: np.ndarray
    scores: np.ndarray | None
    label_names: Sequence[str] | None
    attribute_names: Sequence[str] | None


def rows_of(
    predictions: ArrayLike,
    references: ArrayLike,
    attributes: ArrayLike,
    label_names: Sequence[str] | None = None,
    attribute_names: Sequence[str] | None = None,
    counted: bool = False,
) -> Rows:
    """Return the rows that [`group_metrics`](gerne_hf.evaluation.metrics.group_metrics) is given, as ids.

    Args:
        predictions, references, attributes, label_names, attribute_names: as for `group_metrics`.
        counted (`bool`, defaults to `False`): whether there are training counts, whose order the names must give.

    Raises:
        ValueError: for arrays of different lengths or of other shapes, no rows, missing values, negative ids, names
            that are not among the labels, and ids beside names without `label_names`.

    Example:

    ```python
    >>> rows = rows_of(["cat", "dog"], ["dog", "dog"], ["sea", "land"], label_names=["cat", "dog"])
    >>> rows.predicted.tolist(), rows.labels.tolist(), rows.attributes.tolist(), rows.attribute_names
    ([0, 1], [1, 1], [1, 0], ['land', 'sea'])

    ```
    """
    predicted, labels, groups = map(_array, (predictions, references, attributes))
    scores = None
    if predicted.ndim == 2:
        if predicted.shape[1] < 2:
            raise ValueError(
                f"predictions of shape {predicted.shape} are no scores of two classes or more. Give ids, one integer "
                "a row: predictions.ravel(), or the scores of all K classes, of shape (N, K)"
            )
        scores = predicted
        label_names = _names_of_columns(predictions, label_names)
        predicted = chosen_classes(predicted)
    lengths = {"predictions": len(predicted), "references": len(labels), "attributes": len(groups)}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"predictions, references and attributes must have one entry a row; found {lengths}")
    if len(labels) == 0:
        raise ValueError("there are no rows to compute group metrics from")
    overlap = groups.ndim == 2
    if overlap and (groups.dtype != bool or not groups.shape[1]):
        raise ValueError(
            f"attributes of shape {groups.shape} must be booleans, a row of data by an attribute; found "
            f"{groups.dtype}. For groups that don't overlap give one attribute id a row"
        )
    predicted, labels = _one_kind("predictions", predicted), _one_kind("references", labels)
    groups = groups if overlap else _one_kind("attributes", groups)
    if counted and (
        (_is_text(labels) and label_names is None) or (_is_text(groups) and attribute_names is None)
    ):  # else the order of the counts would be guessed
        raise ValueError(
            "train_group_counts has a row for each class and a column for each attribute value, and with names in "
            "place of ids their order is not known. Give label_names and attribute_names in that order"
        )
    kinds = {
        "predictions": "scores" if scores is not None else "names" if _is_text(predicted) else "ids",
        "references": "names" if _is_text(labels) else "ids",
    }
    if label_names is None and "names" in kinds.values() and len(set(kinds.values())) > 1:
        raise ValueError(
            f"predictions are {kinds['predictions']} and references are {kinds['references']}, and nothing says which "
            "id a name has. Give label_names, the names of all classes in the order of their ids, or names in both"
        )
    if _is_text(labels):
        label_names = sorted(set(labels.tolist())) if label_names is None else [str(name) for name in label_names]
        labels = _ids("references", labels, label_names, "label_names")
    if _is_text(predicted):
        predicted = _ids("predictions", predicted, [str(name) for name in label_names or ()], "label_names")
    if overlap and attribute_names is None:
        attribute_names = _column_names(attributes)
    elif _is_text(groups):
        attribute_names = sorted(set(groups.tolist())) if attribute_names is None else list(map(str, attribute_names))
        groups = _ids("attributes", groups, attribute_names, "attribute_names")
    for name, values in (("predictions", predicted), ("references", labels), ("attributes", groups)):
        if name == "attributes" and overlap:
            continue
        if values.ndim != 1 or values.dtype.kind not in "iub":
            raise ValueError(
                f"{name} must be one integer a row; found shape {values.shape} of {values.dtype}. Names may stand in "
                "their place, as texts; GroupIndex encodes other columns as ids"
            )
        if name != "predictions" and values.dtype.kind == "i" and values.min() < 0:
            raise ValueError(f"{name} must not be negative; found {values.min()}")
        if name != "predictions" and int(values.max()) >= MAX_GROUPS:
            raise ValueError(
                f"{name} hold the id {int(values.max()):,}, and ids must be below {MAX_GROUPS:,}: they number classes "
                "and attribute values from 0. Columns of identifiers make no groups; encode categories with GroupIndex"
            )
    groups = groups if overlap else groups.astype(np.int64)
    return Rows(predicted.astype(np.int64), labels.astype(np.int64), groups, scores, label_names, attribute_names)


def chosen_classes(scores: np.ndarray) -> np.ndarray:
    """Return the class of the largest score of each row, -1 where there is none because a score is NaN.

    Args:
        scores (array of shape `(N, K)`): scores of the classes.

    Returns:
        `np.ndarray` of shape `(N,)`, int64

    Example:

    ```python
    >>> chosen_classes(np.array([[0.1, 0.9], [np.nan, 0.5]])).tolist()
    [1, -1]

    ```
    """
    # NumPy takes NaN for the largest of all numbers
    return np.where(np.isnan(scores).any(axis=1), -1, scores.argmax(axis=1))


def _array(values: Any) -> np.ndarray:
    """Return the values as an array; texts beside other values stay what they are."""
    array = np.asarray(values)
    if array.dtype.kind in "US" and array.ndim == 1 and not isinstance(values, np.ndarray):
        return np.array(list(values), dtype=object)  # NumPy writes None and numbers beside texts as texts
    return array


def _is_text(values: np.ndarray) -> bool:
    """Return whether an array that [`_one_kind`] returned holds names."""
    return values.dtype == object


def _one_kind(name: str, values: np.ndarray) -> np.ndarray:
    """Return a column as an array of names, in objects, or of numbers; refuse missing values and a mixture."""
    if values.ndim != 1 or values.dtype.kind in "iub":
        return values
    if values.dtype.kind == "f":
        missing = np.isnan(values)
    else:
        missing = np.fromiter((_is_missing(value) for value in values.tolist()), bool, len(values))
    if missing.any() and (values.dtype.kind != "f" or (values[~missing] % 1 == 0).all()):
        count = int(missing.sum())
        raise ValueError(
            f"{name} have no value in {count:,} row{'s' if count > 1 else ''}, the first of them row "
            f"{int(missing.argmax()):,}, counted from 0. Leave these rows out of all columns, or give the missing "
            "value a name of its own"
        )
    if values.dtype.kind not in "OU":
        return values
    listed = values.tolist()
    texts = sum(isinstance(value, str) for value in listed)
    if texts == len(listed):
        return np.array(listed, dtype=object)
    if texts:
        other = next(value for value in listed if not isinstance(value, str))
        raise ValueError(
            f"{name} mix names and other values: {texts:,} of {len(listed):,} rows hold texts, another one {other!r}. "
            "Give names in all rows, or ids in all"
        )
    numbers = np.array(listed)  # pandas stores integers and booleans as objects at times
    if numbers.dtype == object:
        raise ValueError(
            f"{name} must be one integer a row; found {type(listed[0]).__name__} objects. Names may stand in their "
            "place, as texts; GroupIndex encodes other columns as ids"
        )
    return numbers


def _is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, or the missing value of pandas."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and math.isnan(value)


def _ids(argument: str, values: np.ndarray, names: Sequence[str], by: str) -> np.ndarray:
    """Return the id of each name, and refuse names that have none."""
    place = {name: i for i, name in enumerate(names)}
    ids = [place.get(value, -1) for value in values.tolist()]
    unknown = Counter(value for value, i in zip(values.tolist(), ids, strict=True) if i < 0)
    if unknown:
        found = ", ".join(f"{value!r} in {n:,} row{'s' if n > 1 else ''}" for value, n in unknown.most_common(5))
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        known = ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "")
        raise ValueError(
            f"{argument} hold {found}{more}, not among the names {known}. Correct the spelling, or give {by} with all "
            "names in the order of their ids"
        )
    return np.array(ids, dtype=np.int64)


def _column_names(frame: Any) -> list[str] | None:
    """Return the names of a data frame's columns; None for what is none, or has numbers for names."""
    columns = list(getattr(frame, "columns", ()))
    return columns if columns and all(isinstance(column, str) for column in columns) else None


def _names_of_columns(scores: Any, label_names: Sequence[str] | None) -> Sequence[str] | None:
    """Return the names of the classes by the columns of a data frame of scores, which must be those that are given."""
    found = _column_names(scores)
    if found is None:
        return label_names
    if label_names is not None and [str(name) for name in label_names] != found:
        raise ValueError(
            f"the columns of predictions are {', '.join(map(repr, found))}, and label_names are "
            f"{', '.join(map(repr, label_names))}. Bring both into one order, or give predictions.to_numpy()"
        )
    return found
