"""Deep feature reweighting, DFR (Kirichenko et al., ICLR 2023): the last layer is fitted anew on balanced groups.

Imports `groups/`, `models/`, `evaluation/` and `trainer.py`, and needs scikit-learn. Works on any [`GerneTrainer`]
that has trained, through its public methods; `comparison/methods.py` calls it.
"""

from typing import Any

import numpy as np
import torch
from transformers.utils import logging

from ..evaluation.metrics import group_metrics
from ..groups.index import GroupIndex
from ..models.heads import classification_head
from ..trainer import GerneTrainer

logger = logging.get_logger(__name__)

INVERSE_PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""Values of the inverse L2 penalty that are tried, which scikit-learn calls `C`."""

Layer = tuple[np.ndarray, np.ndarray]
"""Weight, of shape `(K, D)`, and bias, of shape `(K,)`, of a linear layer."""


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


def fit_last_layer(
    features: np.ndarray, groups: GroupIndex, seed: int = 0, refits: int = 10
) -> tuple[np.ndarray, np.ndarray, float]:
    """Fit a linear layer by logistic regression on group-balanced subsets of the rows.

    The penalty is the one with the best worst-group accuracy on one half of the rows, after fits on the other half.
    The layer that is returned is the mean of `refits` fits, each on a group-balanced subset of all rows.

    Args:
        features (`np.ndarray` of shape `(N, D)`): inputs of the last layer.
        groups ([`GroupIndex`]): the groups of these rows.
        seed (`int`, *optional*, defaults to `0`): seed for the halves and the subsets.
        refits (`int`, *optional*, defaults to `10`): number of subsets.

    Returns:
        `tuple[np.ndarray, np.ndarray, float]`: the weight, of shape `(K, D)`; the bias, of shape `(K,)`; and the
        inverse penalty that was chosen.

    Raises:
        ValueError: if a class has no rows.
    """
    from sklearn.linear_model import LogisticRegression

    labels = (groups.codes // groups.num_attributes).astype(np.int64)
    if (groups.counts.sum(axis=1) == 0).any():
        raise ValueError("every class needs rows in the data that the last layer is fitted on")
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-8
    scaled = (features - mean) / scale
    rng = np.random.default_rng(seed)

    def fit(rows: np.ndarray, penalty: float) -> Layer:
        """Fit a layer on some rows."""
        model = LogisticRegression(C=penalty, max_iter=1000).fit(scaled[rows], labels[rows])
        weight, bias = model.coef_, model.intercept_
        if len(weight) == 1:  # of two classes scikit-learn gives the log-odds, which are divided between both here
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        return weight, bias

    def accuracy(rows: np.ndarray, layer: Layer) -> float:
        """Return the worst-group accuracy of a layer on some rows."""
        predicted = (scaled[rows] @ layer[0].T + layer[1]).argmax(axis=1)
        attributes = groups.codes[rows] % groups.num_attributes
        return group_metrics(predicted, labels[rows], attributes)["worst_group_accuracy"]

    halves = _halves(groups, rng)
    chosen = [balanced_rows(groups, rng, halves[0]) for _ in range(3)]
    scores = {c: np.mean([accuracy(halves[1], fit(rows, c)) for rows in chosen]) for c in INVERSE_PENALTIES}
    penalty = max(scores, key=lambda c: scores[c])
    everything = np.arange(len(labels))
    fits = [fit(balanced_rows(groups, rng, everything), penalty) for _ in range(refits)]
    weight = np.mean([w for w, _ in fits], axis=0) / scale
    bias = np.mean([b for _, b in fits], axis=0) - weight @ mean
    return weight, bias, penalty


def _halves(groups: GroupIndex, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the row numbers of two halves with equal shares of each group; a group of one row is in both."""
    first, second = [], []
    for group in np.flatnonzero(groups.counts.ravel()):
        rows = rng.permutation(np.flatnonzero(groups.codes == group))
        half = (len(rows) + 1) // 2
        first.append(rows[:half])
        second.append(rows[half:] if len(rows) > 1 else rows)
    return np.concatenate(first), np.concatenate(second)


def collect_features(trainer: GerneTrainer, dataset: Any) -> np.ndarray:
    """Collect the inputs of the model's last layer for each row, over all processes.

    The rows go through `trainer.predict`, with the inputs of the layer in place of the class scores.

    Args:
        trainer ([`GerneTrainer`]): a trainer that has trained its model.
        dataset: the rows, with labels and attributes.

    Returns:
        `np.ndarray` of shape `(N, D)`, float32: D features for each of the N rows, in the order of the data set.

    Raises:
        ValueError: with `prediction_loss_only`, and for a last layer whose input is not one vector for each row.
    """
    if trainer.args.prediction_loss_only:
        raise ValueError("prediction_loss_only=True leaves no outputs to collect; DFR needs it to be False")
    layer = classification_head(trainer.accelerator.unwrap_model(trainer.model))
    seen: list[torch.Tensor] = []
    handle = layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().float()))
    preprocess, metrics = trainer.preprocess_logits_for_metrics, trainer.compute_metrics
    trainer.preprocess_logits_for_metrics, trainer.compute_metrics = lambda *_: seen.pop(), None
    try:
        predicted: Any = trainer.predict(dataset, metric_key_prefix="features").predictions
    finally:
        handle.remove()
        trainer.preprocess_logits_for_metrics, trainer.compute_metrics = preprocess, metrics
        trainer.group_results.pop("features", None)
    features: np.ndarray = np.concatenate(predicted) if isinstance(predicted, list) else predicted
    if features.ndim != 2:
        raise ValueError(f"the last layer sees inputs of shape {features.shape}; DFR needs one vector a row")
    return features


def refit_last_layer(trainer: GerneTrainer, dataset: Any = None, seed: int | None = None) -> float:
    """Fit the last layer of a trained model anew on group-balanced held-out data (needs scikit-learn).

    Args:
        trainer ([`GerneTrainer`]): a trainer that has trained its model, in the paper by ERM. The layer of its model
            is changed in place.
        dataset (*optional*): held-out rows with attributes; the trainer's evaluation set if not given.
        seed (`int`, *optional*): seed for the subsets; that of the trainer's config if not given.

    Returns:
        `float`: the inverse penalty that was chosen.

    Raises:
        ValueError: without held-out data or without attributes in it; for a model whose last layer is not linear or
            has no bias; and what [`collect_features`] and [`fit_last_layer`] raise.
    """
    dataset = trainer.eval_dataset if dataset is None else dataset
    if dataset is None or isinstance(dataset, dict):
        raise ValueError("DFR needs one held-out data set with attributes; pass dataset=")
    if not trainer.args.attribute_columns:
        raise ValueError("DFR balances groups, so it needs attribute_column in the held-out data")
    layer = classification_head(trainer.accelerator.unwrap_model(trainer.model))
    if layer.bias is None:
        raise ValueError("the model's last layer has no bias, which DFR fits")
    groups = trainer.groups_of(dataset)
    assert groups is not None  # as there are attribute columns
    features = collect_features(trainer, dataset)
    seed = trainer.args.seed if seed is None else seed
    weight, bias, penalty = fit_last_layer(features, groups, seed)
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(weight))
        layer.bias.copy_(torch.as_tensor(bias))
    logger.info(f"DFR fitted the last layer on {len(groups):,} rows, C={penalty:g}")
    return penalty
