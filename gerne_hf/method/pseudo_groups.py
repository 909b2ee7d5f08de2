"""From scores to pseudo-attributes (Algorithm 2, step 2; pure NumPy): the lowest `floor(t n)` of a class are hard."""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from ..groups.index import GroupIndex

HARD, EASY = 0, 1

PSEUDO_NAMES = ("hard", "easy")
"""The pseudo-attribute's values: the least confident rows of each class, and the others."""


def hard_counts(class_counts: np.ndarray | Sequence[int], threshold: float) -> np.ndarray:
    """`floor(t n)` for each class, exactly: 0.29 of 100 rows are 29, whatever binary fractions make of it.

    Args:
        class_counts (array of shape `(K,)`): rows of each class.
        threshold (`float`): t, in (0, 1).

    Returns:
        `np.ndarray` of shape `(K,)`, int64.
    """
    share = Fraction(repr(float(threshold)))
    return np.array([math.floor(share * int(count)) for count in class_counts], dtype=np.int64)


def check_threshold(class_counts: np.ndarray | Sequence[int], threshold: float, label_names: Sequence[str]) -> None:
    """Refuse a threshold that leaves a part of a class empty.

    Raises:
        ValueError: names the class, and the smallest and the largest threshold that work for all classes.
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
    """The smallest t, in six digits, for which every class has a hard row."""
    exact = Fraction(1, int(min(class_counts)))
    digits = 6 - math.ceil(math.log10(exact))
    return float(Fraction(math.ceil(exact * 10**digits), 10**digits))


def pseudo_attributes(scores: np.ndarray, labels: np.ndarray, threshold: float, num_classes: int) -> np.ndarray:
    """Pseudo-attribute of each row: of every class the `floor(t n)` rows of lowest score are hard, the rest easy.

    Args:
        scores (`np.ndarray` of shape `(N,)`): the biased model's softmax probability of the true class. Of equal
            scores the earlier row is the lower one.
        labels (`np.ndarray` of shape `(N,)`): class ids.
        threshold (`float`): t, in (0, 1).
        num_classes (`int`): K.

    Returns:
        `np.ndarray` of shape `(N,)`, uint8: 0 is hard, 1 is easy.
    """
    labels = np.asarray(labels)
    counts = np.bincount(labels, minlength=num_classes)
    result = np.full(len(labels), EASY, dtype=np.uint8)
    for label, hard in enumerate(hard_counts(counts, threshold)):
        rows = np.flatnonzero(labels == label)
        result[rows[np.argsort(scores[rows], kind="stable")[:hard]]] = HARD
    return result


def provisional_index(classes: GroupIndex, threshold: float) -> GroupIndex:
    """A group index with the pseudo-groups' sizes, which follow from t alone; which rows are hard is still unknown.

    Raises:
        ValueError: if a part of a class would be empty.
    """
    labels = (classes.codes // classes.num_attributes).astype(np.int64)
    check_threshold(classes.counts.sum(axis=1), threshold, classes.label_names)
    return pseudo_index(np.zeros(len(labels), dtype=np.float32), labels, classes.label_names, threshold)


def pseudo_index(scores: np.ndarray, labels: np.ndarray, label_names: Sequence[str], threshold: float) -> GroupIndex:
    attributes = pseudo_attributes(scores, labels, threshold, len(label_names))
    return GroupIndex.from_codes(labels.astype(np.uint32), tuple(label_names), [(attributes, PSEUDO_NAMES)])
