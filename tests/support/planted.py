"""Scores and features of rows with a planted attribute, as biased models would give them, without any model."""

import numpy as np
from helpers import group_columns

from gerne_hf.pseudo_attributes import ScoredEvaluation, ScoredRows

NAMES = ("cat", "dog")
BIASED = [[380, 20], [20, 380]]
BALANCED = [[60, 60], [60, 60]]


def features_of(labels, attributes, rng, gap=6.0, width=6):
    """Noise, with the attribute along one direction and the class along another."""
    found = rng.normal(size=(len(labels), width))
    found[:, 0] += gap * attributes
    found[:, 1] += 2.0 * labels
    return found.astype(np.float16)


def chances(labels, attributes, rng, classes=2, wrong=0.85):
    """Probabilities of a model that goes by the attribute: of a row whose attribute is not its class it is wrong."""
    sure = np.clip(rng.normal(0.9, 0.04, size=len(labels)), 0.55, 0.999)
    own = np.where((attributes == labels) | (rng.random(len(labels)) > wrong), sure, 1 - sure)
    found = np.repeat(((1 - own) / (classes - 1))[:, None], classes, axis=1)
    found[np.arange(len(labels)), labels] = own
    return found.astype(np.float32)


def planted(train=BIASED, evaluation=BALANCED, seed=0, folds=2, **settings):
    """Scored training and validation rows of groups `counts[y][a]`, and the planted attributes of both."""
    rng = np.random.default_rng(seed)
    labels, attributes = group_columns(train, seed)
    gap = settings.pop("gap", 6.0)
    numbers = rng.integers(folds, size=len(labels))
    k = len(train)
    rows = ScoredRows(
        chances(labels, attributes, rng, k, **settings), labels, numbers, features_of(labels, attributes, rng, gap)
    )
    if evaluation is None:
        return rows, None, attributes, None
    known, held_out = group_columns(evaluation, seed + 1)
    probabilities = np.stack([chances(known, held_out, rng, k, **settings) for _ in range(folds)])
    features = np.stack([features_of(known, held_out, rng, gap)] * folds)
    return rows, ScoredEvaluation(probabilities, known, features), attributes, held_out
