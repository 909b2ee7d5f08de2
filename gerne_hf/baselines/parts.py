"""What baselines share that put the training rows of each class into two parts: the parts as groups, and checks.

Imports `groups/`, `streaming/` and `trainer.py`. Next: [`mixture`](gerne_hf.baselines.mixture).
"""

import numpy as np

from ..groups.index import GroupIndex
from ..streaming.stream import GroupStream
from ..trainer import GerneTrainer


def labels_of(groups: GroupIndex) -> np.ndarray:
    """Return the class id of each row, `(N,)`, int64.

    Args:
        groups ([`GroupIndex`]): the group of each row.
    """
    return (groups.codes // groups.num_attributes).astype(np.int64)


def in_two_parts(groups: GroupIndex, second: np.ndarray, names: tuple[str, str]) -> GroupIndex:
    """Return the rows by class and part, the parts in place of the attribute.

    Args:
        groups ([`GroupIndex`]): the rows by class and whatever attribute.
        second (bool array of shape `(N,)`): whether a row is in the second part.
        names (`tuple[str, str]`): what the parts are called.

    Returns:
        [`GroupIndex`]: with counts of shape `(K, 2)`.

    Example:

    ```python
    >>> rows = GroupIndex.from_arrays([0, 0, 1, 1, 1], [0, 1, 0, 1, 1])
    >>> in_two_parts(rows, np.array([False, True, False, False, True]), ("kept", "left out")).counts.tolist()
    [[1, 1], [2, 1]]

    ```
    """
    return GroupIndex.from_codes(
        labels_of(groups).astype(np.uint32), groups.label_names, [(second.astype(np.uint8), names)]
    )


def check_plain(trainer: GerneTrainer, method: str) -> None:
    """Refuse a plan, unknown attributes or a stream, where a method chooses training rows by their numbers.

    Args:
        trainer ([`GerneTrainer`]): the trainer of the method, when it has been made.
        method (`str`): the method, for the message.

    Raises:
        ValueError: for another plan than "erm", for `pseudo_attributes=True`, and for a stream as training set.
    """
    args = trainer.args
    if args.plan != "erm" or args.pseudo_attributes:
        raise ValueError(
            f"{method} lays out its batches by itself; use plan='erm' and pseudo_attributes=False, found "
            f"plan={args.plan!r} and pseudo_attributes={args.pseudo_attributes}"
        )
    if isinstance(trainer.train_dataset, GroupStream):
        raise ValueError(
            f"{method} chooses training rows by their number, and {type(trainer.train_dataset).__name__} has none; "
            "give a map-style train_dataset"
        )
