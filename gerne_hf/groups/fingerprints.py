"""Hashes that tell one data set, or the groups of one data set, from another.

Imports [`index`](gerne_hf.groups.index) and [`contents`](gerne_hf.groups.contents) of this room. They are used to
recognize a run's data on resume, and the data that scores belong to.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import datasets

from ..utils.hashing import mix
from .contents import content_of
from .index import GroupIndex

_HASHED_ROWS = 1 << 24
"""Rows whose codes are hashed at a time, so that no copy of all of them is made."""


def group_fingerprint(groups: GroupIndex) -> str:
    """Return a hash of the group of each row, in the order of the rows, and of the names of classes and attributes.

    Args:
        groups ([`GroupIndex`]): an index; for that of a stream, whose rows have no numbers, its `source` is hashed.

    Returns:
        `str`: 32 hexadecimal digits.

    Example:

    ```python
    >>> one, other = GroupIndex.from_arrays([0, 1], [0, 1]), GroupIndex.from_arrays([1, 0], [1, 0])
    >>> group_fingerprint(one) == group_fingerprint(one), group_fingerprint(one) == group_fingerprint(other)
    (True, False)

    ```
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([len(groups), groups.label_names, groups.attribute_names]).encode())
    digest.update(getattr(groups, "source", "").encode())
    for start in range(0, len(groups), _HASHED_ROWS):
        digest.update(groups.codes[start : start + _HASHED_ROWS].tobytes())
    return digest.hexdigest()


def fingerprint(dataset: Any, label_column: str | None = None, columns: Sequence[str] | None = None) -> str:
    """Return a hash of a data set: of the classes of its rows in their order, and of all that the rows hold.

    Of a data set in files of more than 4 GiB, rows spread evenly are read; see
    [`content_of`](gerne_hf.groups.contents.content_of). No transform runs, and nothing is decoded.

    Args:
        dataset: a `datasets.Dataset`, or any map-style data set with columns.
        label_column (`str`, *optional*): as for [`GroupIndex.from_dataset`].
        columns (`Sequence[str]`, *optional*): the columns whose content counts; all if not given.

    Returns:
        `str`: 32 hexadecimal digits.

    Example:

    ```python
    >>> fingerprint({"label": [0, 1, 1]}) == fingerprint({"label": [0, 1, 1]})
    True

    ```
    """
    rows = content_of(dataset, columns).rows
    if not isinstance(dataset, datasets.Dataset):  # its columns may be made as they are asked for
        return mix(rows, group_fingerprint(GroupIndex.from_dataset(dataset, label_column))).hex()
    names = {name: getattr(kind, "names", None) for name, kind in dataset.features.items()}
    kept = {name: classes for name, classes in names.items() if classes and (columns is None or name in columns)}
    return mix(rows, json.dumps(kept, sort_keys=True)).hex()


def check_fingerprint(
    known: str, dataset: Any, label_column: str | None = None, columns: Sequence[str] | None = None
) -> None:
    """Refuse a data set that is not the one whose rows were scored.

    Args:
        known (`str`): the [`fingerprint`] of the rows that were scored.
        dataset, label_column, columns: as for [`fingerprint`].

    Raises:
        ValueError: for another data set, and for a fingerprint of an earlier release, which cannot be compared.
    """
    found = fingerprint(dataset, label_column, columns)
    if len(known) != len(found):
        raise ValueError(
            "these scores were saved by an earlier release of gerne_hf, whose fingerprint looked at 64 rows, so "
            f"nothing shows whether they belong to this data set ({known[:12]} against {found[:12]}). Fit again"
        )
    if known != found:
        raise ValueError(
            f"these scores belong to another data set: its fingerprint is {known[:12]}, that of the data set given is "
            f"{found[:12]} (other rows, labels or order). Fit again, or pass the set scored"
        )
