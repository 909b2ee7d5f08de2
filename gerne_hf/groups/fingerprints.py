"""Hashes that tell one data set, or the groups of one data set, from another.

Imports [`index`](gerne_hf.groups.index) of this room. They are used to recognize a run's data on resume, and the data
that scores belong to.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np

from .index import GroupIndex

_HASHED_ROWS = 1 << 24
"""Rows whose codes are hashed at a time, so that no copy of all of them is made."""

_CONTENT_ROWS = 64
"""Rows whose content is part of a data set's hash."""


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
    """Return a hash of the labels of a data set in their order and, where rows can be read, of some rows' content.

    The content is that of 64 rows, spread evenly, of a `datasets.Dataset`; of other data sets labels alone count.
    No transform runs.

    Args:
        dataset: a `datasets.Dataset`, or any map-style data set with columns.
        label_column (`str`, *optional*): as for [`GroupIndex.from_dataset`].
        columns (`Sequence[str]`, *optional*): the columns whose content counts; all if not given.

    Returns:
        `str`: 64 hexadecimal digits.

    Example:

    ```python
    >>> fingerprint({"label": [0, 1, 1]}) == fingerprint({"label": [0, 1, 1]})
    True

    ```
    """
    index = GroupIndex.from_dataset(dataset, label_column)
    digest = hashlib.sha256(json.dumps([len(index), *index.label_names]).encode())
    digest.update(np.ascontiguousarray(index.codes.astype(np.uint32)).tobytes())
    if isinstance(dataset, datasets.Dataset) and len(dataset):
        missing = [name for name in columns or () if name not in dataset.column_names]
        if missing:
            digest.update(f"without {missing}".encode())
        kept = [name for name in dataset.column_names if columns is None or name in columns]
        some = np.unique(np.linspace(0, len(dataset) - 1, _CONTENT_ROWS).astype(int))
        plain = dataset.select_columns(sorted(kept)).with_format("arrow")
        for row in plain[some.tolist()].to_pylist():
            digest.update(repr(sorted(row.items())).encode())
    return digest.hexdigest()
