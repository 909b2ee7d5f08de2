"""Finding the group of each row of a stream, where labels and attribute values are not known beforehand.

Imports `groups` and `data_files.py`. `manifest.py` stores the groups found, `stream.py` draws from them.
"""

import dataclasses
import itertools
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..groups.columns import check_categories
from ..groups.index import GroupIndex, default_label_column
from .data_files import damaged, file_of

Key = tuple[Hashable, ...]
"""A group as the values that its rows have: that of the label column, then that of each attribute column."""


@dataclasses.dataclass(frozen=True, eq=False)
class StreamGroups(GroupIndex):
    """Hold the groups of a stream: names and counts as in [`GroupIndex`], but no row numbers.

    Args:
        source (`str`, *optional*, defaults to `""`): text that differs between different streams, by which a resumed
            run is checked.
    """

    source: str = ""

    @classmethod
    def of(cls, names: GroupIndex, counts: np.ndarray) -> "StreamGroups":
        """Return groups with the names of an index and other counts.

        Args:
            names ([`GroupIndex`]): the index whose names are taken.
            counts (`np.ndarray` of shape `(K, A)`, int64): rows of each group in the stream.

        Returns:
            [`StreamGroups`]
        """
        none = np.empty(0, dtype=np.uint8)
        return cls(names.label_names, names.attribute_names, names.attribute_values, counts, none, none)

    __repr__ = GroupIndex.__repr__

    def __len__(self) -> int:
        return int(self.counts.sum())

    def rows(self, label: int | str, attribute: int | str) -> np.ndarray:
        """Raise a TypeError, as the rows of a stream have no numbers."""
        raise TypeError("the rows of a stream have no numbers; `counts` says how many a group has")


def read_tables(source: datasets.IterableDataset, rows: int) -> Iterator[pa.Table]:
    """Read a stream as tables of several rows each.

    For a generator, or after `map`, `datasets` makes a table of each row and joins these only if their types are
    equal. They are not where a row has a None, an empty list, or a whole number among fractions. From such a row on
    the tables are joined here, with types that fit all of them.

    Args:
        source (`datasets.IterableDataset`): the stream, in the format "arrow". At the first row of another type it is
            begun again, and its rows up to there are skipped.
        rows (`int`): most rows of a table.

    Yields:
        `pa.Table`: the next rows.

    Raises:
        ValueError: if rows cannot be joined to one table, or a file cannot be read, naming it.
    """
    done = 0
    try:
        for table in source.iter(rows):
            yield table
            done += len(table)
        return
    except pa.ArrowException:
        pass
    try:
        singles = iter(source.skip(done).iter(1))
        while part := list(itertools.islice(singles, rows)):
            yield pa.concat_tables(part, promote_options="permissive")
    except pa.ArrowException as error:
        file = file_of(error)
        if file is not None:
            raise ValueError(damaged(file, error)) from error
        raise ValueError(
            f"rows of the stream make no table ({' '.join(str(error).split())}). Give all rows the same columns, and "
            "the values of a column one type"
        ) from error


class GroupCoder:
    """Number the groups of a stream in the order in which they appear, and count their rows.

    Args:
        features (`datasets.Features`): features of the stream.
        label_column (`str`, *optional*), attribute_column (`str` or `Sequence[str]`, *optional*):
            The columns that make up the groups, as for [`GroupIndex.from_dataset`].

    Raises:
        ValueError: if the stream lacks a column, or a column is named twice.
    """

    def __init__(
        self,
        features: datasets.Features,
        label_column: str | None = None,
        attribute_column: str | Sequence[str] | None = None,
    ):
        self.label_column = label_column or default_label_column(dict(features))
        self.attribute_columns = (
            (attribute_column,) if isinstance(attribute_column, str) else tuple(attribute_column or ())
        )
        self.columns = (self.label_column, *self.attribute_columns)
        if len(set(self.columns)) < len(self.columns):
            raise ValueError(
                f"the columns {', '.join(map(repr, self.columns))} (label first) make up the groups; each may be "
                "named only once"
            )
        for name, role in zip(self.columns, self._roles, strict=True):
            if name not in features:
                raise ValueError(
                    f"the data set has no {role} column {name!r}; its columns are {', '.join(map(repr, features))}. "
                    f"Set {role}_column to one of them"
                )
        self.features = datasets.Features({name: features[name] for name in self.columns})
        self.codes: dict[Key, int] = {}
        self.counts: list[int] = []
        self.rows = 0

    @property
    def _roles(self) -> list[str]:
        """Return for each column whether it is the label or an attribute."""
        return ["label", *["attribute"] * len(self.attribute_columns)]

    def encode(self, table: pa.Table, grow: bool = True) -> np.ndarray:
        """Return the number of each row's group, and count the rows.

        Args:
            table (`pa.Table`): the next rows of the stream.
            grow (`bool`, *optional*, defaults to `True`): whether to number groups that are new, and to count.

        Returns:
            `np.ndarray` of shape `(rows,)`, int64: the numbers; -1 for a new group if `grow` is false.

        Raises:
            TypeError, ValueError: if values are null, floating-point or otherwise no category.
        """
        combined, parts = np.zeros(len(table), dtype=np.int64), []
        for name, role in zip(self.columns, self._roles, strict=True):
            column = table.column(name).combine_chunks()
            check_categories(column, name, role, self.rows)
            encoded = pc.dictionary_encode(column)
            parts.append(encoded.dictionary.to_pylist())
            combined = combined * max(len(parts[-1]), 1) + encoded.indices.to_numpy()
        present, inverse, counts = np.unique(combined, return_inverse=True, return_counts=True)
        digits = np.unravel_index(present, [max(len(values), 1) for values in parts])
        keys = [
            tuple(values[i] for values, i in zip(parts, place, strict=True)) for place in zip(*digits, strict=True)
        ]
        if grow:
            self.add(keys, counts.tolist())
        self.rows += len(table)
        return np.array([self.codes.get(key, -1) for key in keys], dtype=np.int64)[inverse]

    def add(self, keys: Iterable[Key], counts: Iterable[int]) -> None:
        """Add rows to the counts of groups, and number those that are new.

        Args:
            keys (`Iterable[Key]`): the groups.
            counts (`Iterable[int]`): how many rows of each there are.
        """
        for key, count in zip(keys, counts, strict=True):
            code = self.codes.setdefault(key, len(self.codes))
            if code == len(self.counts):
                self.counts.append(0)
            self.counts[code] += count

    def as_stored(self, key: Any) -> Key:
        """Return a group that the user names as the values that its rows have: a ClassLabel's name becomes its id.

        Args:
            key: the value of each column as a tuple or list; without attributes it may be the label alone.

        Returns:
            `tuple`: the values as they are stored.

        Raises:
            ValueError: if there are more or fewer values than columns.
        """
        key = tuple(key) if isinstance(key, (tuple, list)) else (key,)
        if len(key) != len(self.columns):
            raise ValueError(f"the group {key} has {len(key)} values, one of each of {', '.join(self.columns)} is due")
        stored = []
        for kind, value in zip(self.features.values(), key, strict=True):
            by_name = isinstance(kind, datasets.ClassLabel) and isinstance(value, str)
            stored.append(kind.str2int(value) if by_name else value)
        return tuple(stored)

    def groups(self) -> tuple[StreamGroups, np.ndarray]:
        """Return the groups, named and ordered as by [`GroupIndex.from_dataset`], and the group id of each number.

        Returns:
            `tuple[StreamGroups, np.ndarray]`: the groups with their counts; and the group id, int64, of each number
            that [`GroupCoder.encode`] has given.

        Raises:
            ValueError: if class ids do not count from 0.
        """
        values = zip(*self.codes, strict=True) if self.codes else [()] * len(self.columns)
        columns = {name: list(column) for name, column in zip(self.columns, values, strict=True)}
        table = datasets.Dataset.from_dict(columns, features=self.features)
        index = GroupIndex.from_dataset(table, self.label_column, self.attribute_columns)
        ids = index.codes.astype(np.int64)
        counts = np.zeros(index.counts.size, dtype=np.int64)
        counts[ids] = self.counts
        return StreamGroups.of(index, counts.reshape(index.counts.shape)), ids
