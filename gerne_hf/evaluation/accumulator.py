"""Collects what an evaluation says of each row, and turns it into group metrics and worst rows."""

import numpy as np


def worst_rows(losses: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    """The k rows of a group with the highest losses, that is the lowest probabilities of their true labels.

    Args:
        losses (float array of shape `(N,)`): cross-entropy of each row; NaN counts as the highest.
        rows (int array of shape `(n,)`): numbers of the group's rows.
        k (`int`): rows to pick; all are, where there are fewer.

    Returns:
        `np.ndarray`: row numbers, the highest loss first; rows of equal loss in their order.
    """
    own = np.nan_to_num(losses[rows], nan=np.inf, posinf=np.inf, neginf=-np.inf)
    if 0 < k < len(rows):  # sort no more than needed
        near = own >= np.partition(own, -k)[-k]
        rows, own = rows[near], own[near]
    return rows[np.lexsort((rows, -own))][:k]
