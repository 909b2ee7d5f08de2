"""Pseudo-groups: of n rows of a class, the `floor(t n)` with the lowest scores are "hard" (Algorithm 2, step 2).

Pure NumPy; imports [`GroupIndex`](gerne_hf.groups.index.GroupIndex). The scores come from a biased model, which
`pseudo_attributes/` trains.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from ..groups.index import GroupIndex

HARD, EASY = 0, 1
"""The pseudo-attribute of the rows of each class that the biased model is least sure of, and of the others."""

PSEUDO_NAMES = ("hard", "easy")
"""Names of the two values of the pseudo-attribute, in the order of their ids."""

RULES = ("validation_shift", "validation_attributes", "confident_mistakes", "mistakes", "threshold")
"""Names of the rules by which groups are inferred, as `GerneConfig.pseudo_rule` takes them;
[`infer_groups`](gerne_hf.pseudo_attributes.infer_groups) says what each does."""


def hard_counts(class_counts: np.ndarray | Sequence[int], threshold: float) -> np.ndarray:
    """Return how many rows of each class are hard: `floor(t n)` of n rows.

    The threshold counts as the decimal fraction that it is written as. In binary fractions, 0.29 times 100 would be a
    little less than 29, and rounded down 28.

    Args:
        class_counts (int array of shape `(K,)`): rows of each class.
        threshold (`float`): t, the share of each class that is hard, in (0, 1).

    Returns:
        `np.ndarray` of shape `(K,)`, int64.

    Example:

    ```python
    >>> hard_counts([100, 7], 0.29).tolist()
    [29, 2]

    ```
    """
    share = Fraction(repr(float(threshold)))
    return np.array([math.floor(share * int(count)) for count in class_counts], dtype=np.int64)


def check_threshold(class_counts: np.ndarray | Sequence[int], threshold: float, label_names: Sequence[str]) -> None:
    """Refuse a threshold that leaves the hard or the easy part of a class empty.

    Args:
        class_counts (int array of shape `(K,)`): rows of each class.
        threshold (`float`): t, the share of each class that is hard, in (0, 1).
        label_names (`Sequence[str]`): names of the K classes, for the message.

    Raises:
        ValueError: names the class, and the smallest threshold that works for all classes if there is one.
    """
    if not 0.0 < threshold < 1.0:
        raise ValueError(f"the threshold t must lie in (0, 1); found {threshold}")
    hard = hard_counts(class_counts, threshold)
    for name, count in zip(label_names, class_counts, strict=True):
        if count < 2:
            raise ValueError(f"class {name} has {count} rows and cannot be split into hard and easy ones")
    for name, count, part in zip(label_names, class_counts, hard, strict=True):
        if 0 < part < count:
            continue
        raise ValueError(
            f"threshold {threshold:g} makes {part} of the {count:,} rows of class {name} hard, and neither part may "
            f"be empty. The smallest threshold that works for all classes is {smallest_threshold(class_counts):g}"
        )


def smallest_threshold(class_counts: np.ndarray | Sequence[int]) -> float:
    """Return the smallest threshold for which every class has a hard row, rounded up to six digits.

    Args:
        class_counts (int array of shape `(K,)`): rows of each class, at least 1.

    Returns:
        `float`

    Example:

    ```python
    >>> smallest_threshold([3000, 4000])
    0.000333334

    ```
    """
    exact = Fraction(1, int(min(class_counts)))
    digits = 6 - math.ceil(math.log10(exact))
    return float(Fraction(math.ceil(exact * 10**digits), 10**digits))


def pseudo_attributes(scores: np.ndarray, labels: np.ndarray, threshold: float, num_classes: int) -> np.ndarray:
    """Return the pseudo-attribute of each row: in each class, the `floor(t n)` rows of lowest score are hard.

    Args:
        scores (`np.ndarray` of shape `(N,)`): the softmax probability that the biased model gives the true class of
            each row. Among equal scores the earlier row counts as the lower one.
        labels (`np.ndarray` of shape `(N,)`): class ids.
        threshold (`float`): t, the share of each class that is hard, in (0, 1).
        num_classes (`int`): K.

    Returns:
        `np.ndarray` of shape `(N,)`, uint8: `HARD` (0) or `EASY` (1).

    Example:

    ```python
    >>> pseudo_attributes(np.array([0.9, 0.1, 0.8, 0.3]), np.array([0, 0, 1, 1]), 0.5, num_classes=2).tolist()
    [1, 0, 1, 0]

    ```
    """
    labels = np.asarray(labels)
    counts = np.bincount(labels, minlength=num_classes)
    result = np.full(len(labels), EASY, dtype=np.uint8)
    for label, hard in enumerate(hard_counts(counts, threshold)):
        rows = np.flatnonzero(labels == label)
        result[rows[np.argsort(scores[rows], kind="stable")[:hard]]] = HARD
    return result


def provisional_index(classes: GroupIndex, threshold: float) -> GroupIndex:
    """Return a group index with the sizes of the pseudo-groups, before any row has a score.

    The sizes follow from the threshold alone, and so do the plan and the bounds of beta, which can thus be checked
    before the biased model is trained. Which rows the index calls hard means nothing.

    Args:
        classes ([`GroupIndex`]): the rows of each class; its attributes are not looked at.
        threshold (`float`): t, the share of each class that is hard, in (0, 1).

    Returns:
        [`GroupIndex`]: with the attribute values of `PSEUDO_NAMES`.

    Raises:
        ValueError: if the hard or the easy part of a class would be empty.

    Example:

    ```python
    >>> provisional_index(GroupIndex.from_arrays(["cat", "cat", "dog", "dog", "dog"]), 0.5).counts.tolist()
    [[1, 1], [1, 2]]

    ```
    """
    labels = (classes.codes // classes.num_attributes).astype(np.int64)
    check_threshold(classes.counts.sum(axis=1), threshold, classes.label_names)
    return pseudo_index(np.zeros(len(labels), dtype=np.float32), labels, classes.label_names, threshold)


def pseudo_index(scores: np.ndarray, labels: np.ndarray, label_names: Sequence[str], threshold: float) -> GroupIndex:
    """Return the index of the pseudo-groups of scored rows.

    Args:
        scores (`np.ndarray` of shape `(N,)`): as for [`pseudo_attributes`].
        labels (int array of shape `(N,)`): class ids.
        label_names (`Sequence[str]`): names of the K classes.
        threshold (`float`): t, the share of each class that is hard, in (0, 1).

    Returns:
        [`GroupIndex`]: with the attribute values of `PSEUDO_NAMES`.

    Example:

    ```python
    >>> index = pseudo_index(np.array([0.9, 0.1, 0.8, 0.3]), np.array([0, 0, 1, 1]), ["cat", "dog"], 0.5)
    >>> index.rows("dog", "hard").tolist()
    [3]

    ```
    """
    attributes = pseudo_attributes(scores, labels, threshold, len(label_names))
    return GroupIndex.from_codes(labels.astype(np.uint32), tuple(label_names), [(attributes, PSEUDO_NAMES)])
