"""What was found among the rows of a training set: columns that explain the hard rows, label noise, rows to look at.

Pure functions: arrays in, plain values out; scikit-learn is imported where it is needed. The data's own columns are
read by [`own_columns`](gerne_hf.pseudo_attributes.own_columns), and what is found is written by
[`exports`](gerne_hf.pseudo_attributes.exports).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .rules import ScoredRows
from .shift import standardized

NEIGHBOURS = 10
"""Nearest rows that are asked whether a label looks wrong."""

MOST_ROWS = 20_000
"""Rows of a fold that are searched for neighbours, and confident mistakes of a fold that are looked at, at most."""

_FEWEST_NEIGHBOURS = 3

_RANDOM_SPLITS = 1000
"""Random splits of the same sizes that a column must surpass to tell hard rows from others beyond chance."""


@dataclass(frozen=True)
class CodedColumn:
    """A column of the data in which each row has one of a few values.

    Args:
        name (`str`): the column, and what of it the values are, such as "text (length in characters)".
        codes (int array of shape `(N,)`): the value of each row, as its place in `values`.
        values (`tuple[str, ...]`): the V values, as texts.
    """

    name: str
    codes: np.ndarray
    values: tuple[str, ...]


@dataclass(frozen=True)
class FrequentValue:
    """The value of a column that is most over-represented among the hard rows of a class.

    Args:
        label (`int`): the class id.
        value (`str`): the value.
        of_hard (`float`), of_others (`float`): its share of the hard rows, and of the other rows of the class.
    """

    label: int
    value: str
    of_hard: float
    of_others: float


@dataclass(frozen=True)
class ExplainingColumn:
    """How much a column says about which rows of a class are hard.

    Args:
        name (`str`): the column.
        bits (`float`): mutual information of the column and "hard" within the classes that have both kinds of rows, in
            bits a row.
        explained (`float`): share of the uncertainty about "hard" that knowing the column takes away, corrected for
            what a column of as many values explains by chance: 0 for none, 1 for all of it.
        beyond_chance (`bool`): whether it is more than with any of 1,000 random splits of the same sizes.
        values (`tuple[FrequentValue, ...]`): the most over-represented value of each class that has hard rows.
    """

    name: str
    bits: float
    explained: float
    beyond_chance: bool
    values: tuple[FrequentValue, ...]


def explaining_columns(
    columns: Sequence[CodedColumn], labels: np.ndarray, hard: np.ndarray, num_classes: int, seed: int = 0
) -> list[ExplainingColumn]:
    """Return how much each column says about which rows are hard, within class, the most telling column first.

    Classes without hard rows, or without others, say nothing and are left out.

    Args:
        columns (`Sequence[CodedColumn]`): the columns.
        labels (int array of shape `(N,)`): class ids.
        hard (bool array of shape `(N,)`): which rows are hard.
        num_classes (`int`): K.
        seed (`int`, defaults to `0`): seed of the random splits.

    Returns:
        `list[ExplainingColumn]`: empty if no class has hard rows and others.

    Example:

    ```python
    >>> hard = np.tile([True, False, False, False], 25)
    >>> place = CodedColumn("place", np.where(hard, 1, 0), ("land", "sea"))
    >>> (found,) = explaining_columns([place], np.zeros(100, dtype=int), hard, 1)
    >>> found.explained, found.values[0].value, found.beyond_chance
    (1.0, 'sea', True)

    ```
    """
    split = [k for k in range(num_classes) if 0 < hard[labels == k].sum() < (labels == k).sum()]
    if not split:
        return []
    found = [_explain(column, labels, hard, split, np.random.default_rng(seed)) for column in columns]
    return sorted(found, key=lambda column: -column.explained)


def _explain(
    column: CodedColumn, labels: np.ndarray, hard: np.ndarray, split: list[int], rng: np.random.Generator
) -> ExplainingColumn:
    size = len(column.values)
    total, known, uncertain = 0, 0.0, 0.0
    by_chance = np.zeros(_RANDOM_SPLITS)
    values = []
    for label in split:
        own = labels == label
        counts = np.bincount(column.codes[own], minlength=size)
        of_hard = np.bincount(column.codes[own & hard], minlength=size)
        rows, few = int(counts.sum()), int(of_hard.sum())
        total += rows
        known += float(_information(of_hard, counts))
        uncertain += float(_x_log_x(rows) - _x_log_x(few) - _x_log_x(rows - few))
        occurring = counts[counts > 0]
        drawn = rng.multivariate_hypergeometric(occurring, few, size=_RANDOM_SPLITS, method="marginals")
        by_chance += _information(drawn, occurring)
        shares, others = of_hard / few, (counts - of_hard) / (rows - few)
        most = int((shares - others).argmax())
        values.append(FrequentValue(label, column.values[most], float(shares[most]), float(others[most])))
    expected = float(by_chance.mean())
    explained = (known - expected) / max(uncertain - expected, 1e-12)
    beyond = known > float(by_chance.max()) + 1e-9
    bits = max(known, 0.0) / total / float(np.log(2))
    return ExplainingColumn(column.name, bits, float(np.clip(explained, 0.0, 1.0)), beyond, tuple(values))


def _x_log_x(counts: np.ndarray | int) -> np.ndarray:
    counts = np.asarray(counts, dtype=np.float64)
    return counts * np.log(np.maximum(counts, 1.0))


def _information(of_hard: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return rows times mutual information in nats, from counts of each value among hard rows and among all rows."""
    few, rows = of_hard.sum(axis=-1), counts.sum()
    joint = _x_log_x(of_hard).sum(axis=-1) + _x_log_x(counts - of_hard).sum(axis=-1)
    return joint - _x_log_x(counts).sum() - _x_log_x(few) - _x_log_x(rows - few) + _x_log_x(rows)


@dataclass(frozen=True, eq=False)
class LabelNoise:
    """Rows whose labels look wrong.

    Args:
        rows (`np.ndarray`, int64): their numbers, the lowest probability of the row's label first.
        candidates (`int`): confident mistakes, which are the rows that it could be.
        checked (`int`): candidates whose neighbours were looked at.
        neighbours (`int`): how many neighbours a row was compared with, at most.
        sampled (`bool`): whether neighbours were searched in, or mistakes chosen from, a part of a fold's rows.
    """

    rows: np.ndarray
    candidates: int
    checked: int
    neighbours: int
    sampled: bool


def label_noise(
    rows: ScoredRows, neighbours: int = NEIGHBOURS, most_rows: int = MOST_ROWS, seed: int = 0
) -> LabelNoise | None:
    """Find rows that look mislabelled: confident mistakes among rows that carry the predicted label.

    A confident mistake has a probability of its own class below `1 / (2 K)`. It looks mislabelled if more than half of
    the rows of its fold that are nearest to it, in the features of the model that scored them, carry the label that is
    predicted for it. A row of a minority looks the same where the features hold little but what the bias is about.

    Args:
        rows ([`ScoredRows`]): scores and features of the training rows.
        neighbours (`int`, defaults to `10`): nearest rows that are asked.
        most_rows (`int`, defaults to `20000`): of larger folds as many rows, drawn at random, are searched for
            neighbours, and as many mistakes, those with the lowest probability, are looked at.
        seed (`int`, defaults to `0`): seed of that draw.

    Returns:
        [`LabelNoise`]: None without features.
    """
    from sklearn.neighbors import NearestNeighbors

    if rows.features is None:
        return None
    scores, predictions = rows.scores, rows.probabilities.argmax(axis=1)
    mistaken = (scores < 1 / (2 * rows.probabilities.shape[1])) & (predictions != rows.labels)
    rng, found, checked, sampled = np.random.default_rng(seed), [], 0, False
    for number in np.unique(rows.folds):
        own = np.flatnonzero(rows.folds == number)
        suspects = own[mistaken[own]]
        if not len(suspects) or len(own) <= _FEWEST_NEIGHBOURS:
            continue
        sampled |= max(len(own), len(suspects)) > most_rows
        suspects = suspects[np.argsort(scores[suspects], kind="stable")[:most_rows]]
        others = own if len(own) <= most_rows else np.sort(rng.choice(own, most_rows, replace=False))
        known, asked = (
            part.astype(np.float32) for part in standardized(rows.features[others], rows.features[suspects])
        )
        count = min(neighbours, len(others) - 1)
        search = NearestNeighbors(n_neighbors=count + 1, algorithm="brute").fit(known)
        nearest = others[search.kneighbors(asked, return_distance=False)]
        agree = (rows.labels[nearest] == predictions[suspects][:, None]) & (nearest != suspects[:, None])
        agree[(nearest != suspects[:, None]).all(axis=1), -1] = False  # the row is not among them: one is too many
        found.append(suspects[agree.sum(axis=1) > count / 2])
        checked += len(suspects)
    noisy = np.concatenate(found) if found else np.array([], dtype=np.int64)
    order = np.argsort(scores[noisy], kind="stable")
    return LabelNoise(noisy[order], int(mistaken.sum()), checked, neighbours, sampled)


def rows_to_show(
    scores: np.ndarray, labels: np.ndarray, hard: np.ndarray, label: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the hardest and the typical rows of a class.

    The hardest are the hard rows with the lowest scores; in a class without hard rows, all with the lowest scores.
    Typical are the rows nearest to the median score of those that are not hard. No row is both.

    Args:
        scores (`np.ndarray` of shape `(N,)`): probability of each row's own class.
        labels (int array of shape `(N,)`), hard (bool array of shape `(N,)`): class ids, and which rows are hard.
        label (`int`): the class.
        count (`int`): how many rows of each kind, at most.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: numbers of the rows, the hardest and the most typical first.

    Example:

    ```python
    >>> scores = np.array([0.1, 0.9, 0.8, 0.2, 0.7])
    >>> hardest, typical = rows_to_show(scores, np.zeros(5, dtype=int), scores < 0.5, 0, count=1)
    >>> hardest.tolist(), typical.tolist()
    ([0], [2])

    ```
    """
    own = np.flatnonzero(labels == label)
    few = own[hard[own]] if hard[own].any() else own
    hardest = few[np.argsort(scores[few], kind="stable")[:count]]
    others = np.setdiff1d(own[~hard[own]], hardest)
    if not len(others):
        return hardest, others
    distance = np.abs(scores[others] - np.median(scores[others]))
    return hardest, others[np.argsort(distance, kind="stable")[:count]]
