"""A variant of DFR: the last layer is fitted anew by a multinomial logistic regression with an L2 penalty.

It is smoother than [`dfr`](gerne_hf.baselines.dfr), the original, and takes fewer fits: ten subsets, features scaled
by the held-out rows alone, and a penalty that is chosen after fits on three balanced subsets of one half. Needs
scikit-learn.
"""

from typing import Any

import numpy as np
from transformers.utils import logging

from ..evaluation.metrics import group_metrics
from ..groups.index import GroupIndex
from ..trainer import GerneTrainer
from .dfr import balanced_rows, halves_by_group
from .features import Layer, collect_features, held_out_rows, last_layer, put_in_place

logger = logging.get_logger(__name__)

INVERSE_PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""Values of the inverse L2 penalty that are tried, which scikit-learn calls `C`."""


def fit_smooth_layer(
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

    halves = halves_by_group(groups, rng)
    chosen = [balanced_rows(groups, rng, halves[0]) for _ in range(3)]
    scores = {c: np.mean([accuracy(halves[1], fit(rows, c)) for rows in chosen]) for c in INVERSE_PENALTIES}
    penalty = max(scores, key=lambda c: scores[c])
    everything = np.arange(len(labels))
    fits = [fit(balanced_rows(groups, rng, everything), penalty) for _ in range(refits)]
    weight = np.mean([w for w, _ in fits], axis=0) / scale
    bias = np.mean([b for _, b in fits], axis=0) - weight @ mean
    return weight, bias, penalty


def refit_smoothly(trainer: GerneTrainer, dataset: Any = None, seed: int | None = None) -> float:
    """Fit the last layer of a trained model anew on group-balanced held-out data, with an L2 penalty.

    Args:
        trainer ([`GerneTrainer`]), dataset (*optional*), seed (`int`, *optional*): as for
            [`refit_last_layer`](gerne_hf.baselines.refit_last_layer).

    Returns:
        `float`: the inverse penalty that was chosen.

    Raises:
        ValueError: as [`refit_last_layer`](gerne_hf.baselines.refit_last_layer).
    """
    dataset = held_out_rows(trainer, dataset, "DFR")
    if not trainer.args.attribute_columns:
        raise ValueError("DFR balances groups, so it needs attribute_column in the held-out data")
    layer = last_layer(trainer, "DFR")
    groups = trainer.groups_of(dataset)
    assert groups is not None  # as there are attribute columns
    seed = trainer.args.seed if seed is None else seed
    *fitted, penalty = fit_smooth_layer(collect_features(trainer, dataset), groups, seed)
    put_in_place(layer, (fitted[0], fitted[1]))
    logger.info(f"DFR with an L2 penalty fitted the last layer on {len(groups):,} rows, C={penalty:g}")
    return penalty
