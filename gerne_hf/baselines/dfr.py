"""Deep feature reweighting, DFR (Kirichenko et al., ICLR 2023): the last layer is fitted anew on balanced groups.

As in `dfr_evaluate_spurious.py` of the authors' repository, with its grid and its number of subsets. Imports
`groups/`, `evaluation/` and `trainer.py`, and needs scikit-learn. A smoother variant is in
[`dfr_l2`](gerne_hf.baselines.dfr_l2).
"""

import inspect
import warnings
from typing import Any

import numpy as np
from transformers.utils import logging

from ..evaluation.metrics import group_metrics
from ..groups.index import GroupIndex
from ..streaming.stream import GroupStream
from ..trainer import GerneTrainer
from .features import Layer, collect_features, held_out_rows, last_layer, put_in_place

logger = logging.get_logger(__name__)

INVERSE_PENALTIES = (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01)
"""Values of the inverse L1 penalty that are tried, which scikit-learn calls `C`: the original's grid."""

SUBSETS = 20
"""Group-balanced subsets of the held-out rows that the layer is the mean of."""


def balanced_rows(groups: GroupIndex, rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    """Draw as many rows from each group as the smallest group has.

    Args:
        groups ([`GroupIndex`]): the group of every row.
        rng (`np.random.Generator`): draws the rows, without replacement.
        rows (int array of shape `(n,)`): row numbers to draw from. Groups without any of them are left out.

    Returns:
        `np.ndarray`, int: row numbers, group by group.

    Example:

    ```python
    >>> from gerne_hf.groups import GroupIndex
    >>> groups = GroupIndex.from_arrays([0, 0, 0, 1], [0, 0, 1, 1])
    >>> groups.codes[balanced_rows(groups, np.random.default_rng(0), np.arange(4))].tolist()
    [0, 1, 3]

    ```
    """
    codes = groups.codes[rows]
    counts = np.bincount(codes, minlength=groups.counts.size)
    size = counts[counts > 0].min()
    return np.concatenate([rng.permutation(rows[codes == g])[:size] for g in np.flatnonzero(counts)])


def halves(groups: GroupIndex, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the row numbers of two halves: one to fit on, and one to judge the fits on.

    As in the original the rows are halved at random. Where a half would then lack one of the groups, which the
    original cannot go on with, each group is halved by itself.

    Args:
        groups ([`GroupIndex`]): the group of every row.
        rng (`np.random.Generator`): draws the halves.

    Returns:
        `tuple[np.ndarray, np.ndarray]`, int: the rows to fit on, and the rows to judge on.

    Example:

    ```python
    >>> from gerne_hf.groups import GroupIndex
    >>> fitted, judged = halves(GroupIndex.from_arrays([0, 0, 0, 1, 1, 1], [0] * 6), np.random.default_rng(0))
    >>> sorted(int(row) for row in (*fitted, *judged)), len(fitted)
    ([0, 1, 2, 3, 4, 5], 3)

    ```
    """
    order = rng.permutation(len(groups))
    judged, fitted = order[: len(order) // 2], order[len(order) // 2 :]
    there = set(np.flatnonzero(groups.counts.ravel()).tolist())
    if all(set(groups.codes[half].tolist()) == there for half in (fitted, judged)):
        return fitted, judged
    return halves_by_group(groups, rng)


def halves_by_group(groups: GroupIndex, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the row numbers of two halves with equal shares of each group; a group of one row is in both.

    Args:
        groups ([`GroupIndex`]): the group of every row.
        rng (`np.random.Generator`): draws the halves.

    Returns:
        `tuple[np.ndarray, np.ndarray]`, int: the rows of the halves, group by group.
    """
    first, second = [], []
    for group in np.flatnonzero(groups.counts.ravel()):
        rows = rng.permutation(np.flatnonzero(groups.codes == group))
        half = (len(rows) + 1) // 2
        first.append(rows[:half])
        second.append(rows[half:] if len(rows) > 1 else rows)
    return np.concatenate(first), np.concatenate(second)


def sparse_layer(features: np.ndarray, labels: np.ndarray, penalty: float, seed: int) -> Layer:
    """Fit a linear layer by logistic regression with an L1 penalty, which liblinear solves, and equal class weights.

    Several classes are fitted one against the rest, as liblinear has it. The bias is penalized, too.

    Args:
        features (`np.ndarray` of shape `(n, D)`): inputs of the layer.
        labels (int array of shape `(n,)`): class ids, each of 0 to K - 1 at least once.
        penalty (`float`): the inverse penalty C: what is minimized is `||w||_1 + C * sum of losses`.
        seed (`int`): seed of the order in which liblinear visits the weights.

    Returns:
        `Layer`: the weight, of shape `(K, D)`, and the bias, of shape `(K,)`. Of two classes the log-odds are divided
        between both.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    named = inspect.signature(LogisticRegression).parameters["penalty"].default == "l2"  # before scikit-learn 1.8
    kind: dict[str, Any] = {"penalty": "l1"} if named else {"l1_ratio": 1.0}
    classes = int(labels.max()) + 1
    weights, biases = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 100 steps, as in the original, whether enough or not
        for label in range(classes) if classes > 2 else (1,):
            model = LogisticRegression(C=penalty, solver="liblinear", random_state=seed, **kind)
            model.fit(features, labels == label)
            weights.append(model.coef_[0])
            biases.append(model.intercept_[0])
    weight, bias = np.array(weights), np.array(biases)
    if classes == 2:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias


def fit_last_layer(
    features: np.ndarray,
    groups: GroupIndex,
    train_features: np.ndarray | None = None,
    seed: int = 0,
    subsets: int = SUBSETS,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Fit a linear layer by logistic regression on group-balanced subsets of held-out rows.

    The penalty is the one of [`INVERSE_PENALTIES`] with the best worst-group accuracy on one half of the rows, after
    a fit on a group-balanced subset of the other half, by which these features are scaled, too. Then each of `subsets`
    group-balanced subsets of all rows is fitted, with features scaled by those of the training rows, and the mean of
    weights and biases is the layer.

    Args:
        features (`np.ndarray` of shape `(N, D)`): inputs of the last layer, of held-out rows.
        groups ([`GroupIndex`]): the groups of these rows.
        train_features (`np.ndarray` of shape `(M, D)`, *optional*): inputs of the last layer, of the training rows, by
            whose mean and deviation features are scaled; those of the held-out rows if not given.
        seed (`int`, *optional*, defaults to `0`): seed for the halves and the subsets.
        subsets (`int`, *optional*, defaults to `20`): number of subsets.

    Returns:
        `tuple[np.ndarray, np.ndarray, float]`: the weight, of shape `(K, D)`, and the bias, of shape `(K,)`, for
        features that are not scaled; and the inverse penalty that was chosen.

    Raises:
        ValueError: if a class has no rows.
    """
    from sklearn.preprocessing import StandardScaler

    labels = (groups.codes // groups.num_attributes).astype(np.int64)
    if (groups.counts.sum(axis=1) == 0).any():
        raise ValueError("every class needs rows in the data that the last layer is fitted on")
    rng = np.random.default_rng(seed)

    fitted, judged = halves(groups, rng)
    chosen = balanced_rows(groups, rng, fitted)
    scaler = StandardScaler().fit(features[chosen])
    scaled, seen = scaler.transform(features[chosen]), scaler.transform(features[judged])
    attributes = groups.codes[judged] % groups.num_attributes
    scores = {}
    for inverse in INVERSE_PENALTIES:
        weight, bias = sparse_layer(scaled, labels[chosen], inverse, seed)
        predicted = (seen @ weight.T + bias).argmax(axis=1)
        scores[inverse] = group_metrics(predicted, labels[judged], attributes)["worst_group_accuracy"]
    penalty = max(scores, key=lambda inverse: scores[inverse])  # of equal ones the first, as in the original

    scaler = StandardScaler().fit(features if train_features is None else train_features)
    everything = np.arange(len(labels))
    layers = []
    for _ in range(subsets):
        rows = balanced_rows(groups, rng, everything)
        layers.append(sparse_layer(scaler.transform(features[rows]), labels[rows], penalty, seed))
    weight = np.mean([w for w, _ in layers], axis=0) / scaler.scale_
    bias = np.mean([b for _, b in layers], axis=0) - weight @ scaler.mean_
    return weight, bias, penalty


def refit_last_layer(trainer: GerneTrainer, dataset: Any = None, seed: int | None = None) -> float:
    """Fit the last layer of a trained model anew on group-balanced held-out data (needs scikit-learn).

    Reads the held-out rows and the training rows once each, without their attributes, as features are scaled by those
    of the training rows. A training set that is streamed is not read again: the held-out rows take its place, and a
    warning says so.

    Args:
        trainer ([`GerneTrainer`]): a trainer that has trained its model, in the paper by ERM. The layer of its model
            is changed in place.
        dataset (*optional*): held-out rows with attributes; the trainer's evaluation set if not given.
        seed (`int`, *optional*): seed for the subsets; that of the trainer's config if not given.

    Returns:
        `float`: the inverse penalty that was chosen.

    Raises:
        ValueError: without held-out data or without attributes in it; for a model whose last layer is not linear or
            has no bias; and what [`collect_features`](gerne_hf.baselines.features.collect_features) and
            [`fit_last_layer`] raise.
    """
    dataset = held_out_rows(trainer, dataset, "DFR")
    if not trainer.args.attribute_columns:
        raise ValueError("DFR balances groups, so it needs attribute_column in the held-out data")
    layer = last_layer(trainer, "DFR")
    groups = trainer.groups_of(dataset)
    assert groups is not None  # as there are attribute columns
    features, train_features = collect_features(trainer, dataset), None
    if trainer.train_dataset is not None and not isinstance(trainer.train_dataset, GroupStream):
        train_features = collect_features(trainer, trainer.train_dataset)
    else:
        logger.warning("DFR scales features by the held-out rows, as there are no training rows to read again.")
    seed = trainer.args.seed if seed is None else seed
    weight, bias, penalty = fit_last_layer(features, groups, train_features, seed)
    put_in_place(layer, (weight, bias))
    logger.info(f"DFR fitted the last layer on {len(groups):,} rows, C={penalty:g}")
    return penalty
