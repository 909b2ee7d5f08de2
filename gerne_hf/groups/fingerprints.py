"""Hashes that tell one data set, or one set of groups, from another."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np

from .index import GroupIndex


def group_fingerprint(groups: GroupIndex) -> str:
    """A hash of the labels and attributes of all rows, in their order, and of the names of both."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([len(groups), groups.label_names, groups.attribute_names]).encode())
    digest.update(getattr(groups, "source", "").encode())  # a stream's rows have no codes here
    for start in range(0, len(groups), 1 << 24):
        digest.update(groups.codes[start : start + (1 << 24)].tobytes())
    return digest.hexdigest()


_CONTENT_ROWS = 64  # rows whose content is part of a fingerprint


def fingerprint(dataset: Any, label_column: str | None = None, columns: Sequence[str] | None = None) -> str:
    """A hash of the labels in their order and, of a `datasets.Dataset`, of the content of some rows, spread evenly.

    Args:
        dataset: the data set; no transform runs.
        label_column (`str`, *optional*): as in [`GroupIndex.from_dataset`].
        columns (`Sequence[str]`, *optional*): columns whose content counts; all if not given.
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
