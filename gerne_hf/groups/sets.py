"""The group indices of a training set and of its evaluation sets, which share their names."""

import numpy as np

from .index import GroupIndex


def aligned_counts(trained: GroupIndex, index: GroupIndex) -> np.ndarray | None:
    """Training counts in the shape of an evaluation set's groups, whose names continue those of training; None where
    the attribute is unknown in training."""
    if len(trained.attribute_values) != len(index.attribute_values):
        return None
    if len(trained.attribute_values) <= 1:
        columns = np.arange(trained.num_attributes)
    else:  # a new value in one of several columns renumbers their product
        columns = np.array([index.attribute_names.index(name) for name in trained.attribute_names])
    counts = np.zeros(index.counts.shape, dtype=np.int64)
    counts[np.ix_(np.arange(trained.num_classes), columns)] = trained.counts
    return counts
