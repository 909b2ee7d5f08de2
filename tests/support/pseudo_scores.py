"""Scores for pseudo-attributes without a fit, and the hard rows by their definition."""

import numpy as np

from gerne_hf import GroupIndex, PseudoAttributes
from gerne_hf.groups.fingerprints import fingerprint


def scored(dataset, levels=10, seed=0):
    """Scores with ties for a data set, as a fit would give them."""
    index = GroupIndex.from_dataset(dataset)
    scores = np.random.default_rng(seed).integers(levels, size=len(index)).astype(np.float32) / levels
    columns = sorted(dataset.column_names)
    record = {"label_column": None, "columns": columns}
    labels = index.codes.astype(np.int64)
    mark = fingerprint(dataset, None, columns)
    return PseudoAttributes(scores, labels.copy(), labels, index.label_names, mark, record=record)


def by_sorting(scores, labels, exact):
    """The hard rows by their definition: of each class the floor(t n) first in the order of (score, row)."""
    hard = set()
    for label in set(labels.tolist()):
        rows = sorted((scores[row], row) for row in np.flatnonzero(labels == label).tolist())
        hard |= {row for _, row in rows[: exact.numerator * len(rows) // exact.denominator]}
    return hard
