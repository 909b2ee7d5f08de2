"""`GroupIndex`: the rows of a data set by group, a group being a class label together with an attribute value.

Imports [`columns`](gerne_hf.groups.columns), which reads the labels and attributes, and other modules of this room.
Next: [`sets`](gerne_hf.groups.sets) for the sets of a run, [`batches`](gerne_hf.groups.batches) for groups in a batch.
"""

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .columns import encode_column, smallest_unsigned
from .limits import check_group_count
from .names import combined_name, group_title
from .proportions import filled_counts, group_proportions
from .sharing import Shards
from .sources import ParquetColumns, column_names, with_columns

_SORT_CHUNK = 1 << 20
"""Rows that are counted and sorted at a time."""

LABEL_COLUMNS = ("label", "labels", "label_ids")
"""Names under which the collators of `Trainer` find the labels; the first that exists is used by default."""


@dataclass(frozen=True, eq=False)
class GroupIndex:
    """The rows of a data set by group. The group of class `y` and attribute value `a` has the id `y * A + a`.

    Build it with [`GroupIndex.from_dataset`], [`GroupIndex.from_parquet`] or [`GroupIndex.from_arrays`].

    Args:
        label_names (`tuple[str, ...]`): the names of the K classes, in the order of their ids.
        attribute_names (`tuple[str, ...]`): the A attribute values, in the order of their ids; `("all",)` without an
            attribute.
        attribute_values (`tuple[tuple[str, ...], ...]`): the values of each attribute column. With several columns
            `attribute_names` is their product; without any this is empty.
        counts (`np.ndarray` of shape `(K, A)`, int64): the number of rows of each group.
        codes (`np.ndarray` of shape `(N,)`): the group id of each row, in the smallest unsigned type.
        order (`np.ndarray` of shape `(N,)`): the row numbers sorted by group, in the smallest unsigned type.

    Example:

    ```python
    >>> index = GroupIndex.from_arrays(labels=[0, 0, 0, 1], attributes=["land", "sea", "land", "sea"])
    >>> index.counts.tolist(), index.rows(0, "land").tolist()
    ([[2, 1], [0, 1]], [0, 2])

    ```
    """

    label_names: tuple[str, ...]
    attribute_names: tuple[str, ...]
    attribute_values: tuple[tuple[str, ...], ...]
    counts: np.ndarray
    codes: np.ndarray
    order: np.ndarray

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,
        label_column: str | None = None,
        attribute_column: str | Sequence[str] | None = None,
        reference: "GroupIndex | None" = None,
        in_shards: bool = False,
    ) -> "GroupIndex":
        """Read the group columns of a data set. No row is decoded and no transform runs.

        Args:
            dataset: a `datasets.Dataset`, or any map-style data set with `column_names` (or `columns`, or keys) whose
                `dataset[name]` returns a column; or one whose rows are dictionaries or tuples, which are read once.
            label_column (`str`, *optional*): the column of the class label: integers (class ids), booleans, strings or
                a `ClassLabel`. The first of `label`, `labels`, `label_ids` that exists if not given.
            attribute_column (`str` or `Sequence[str]`, *optional*): the column of the attribute, of any of these
                types; of several columns the product is taken. Without one all rows share a single attribute value.
            reference ([`GroupIndex`], *optional*): the index of another data set, the training set as a rule, with as
                many attribute columns or none. Its names keep their ids here, and values that are new here follow.
            in_shards (`bool`, *optional*, defaults to `False`): whether each process of the run reads only its part of
                a `datasets.Dataset`, and the processes exchange the codes. All of them must call this then, and all
                get the whole index.

        Returns:
            [`GroupIndex`]

        Raises:
            TypeError: for a data set without columns, and for floating-point or list columns.
            ValueError: for a missing column (naming the columns there are), for null values, and for columns of
                different length.

        Example:

        ```python
        >>> data = {"label": [0, 0, 1], "place": ["land", "sea", "sea"]}
        >>> GroupIndex.from_dataset(data, attribute_column="place")
        GroupIndex(3 rows, 2 classes x 2 attributes, smallest group 0)

        ```
        """
        label_column = label_column or default_label_column(dataset)
        columns = [attribute_column] if isinstance(attribute_column, str) else list(attribute_column or ())
        dataset = with_columns(dataset, (label_column, *columns))
        known_labels = reference.label_names if reference is not None else ()
        shards = Shards() if in_shards else None
        labels, label_names = encode_column(dataset, label_column, "label", known_labels, True, shards)
        known = reference.attribute_values if reference is not None else ()
        known = known or ((),) * len(columns)  # a reference may know the classes only
        if len(known) != len(columns):
            raise ValueError(f"the reference index has {len(known)} attribute columns, this one {len(columns)}")
        encoded = [
            encode_column(dataset, name, "attribute", names, shards=shards)
            for name, names in zip(columns, known, strict=True)
        ]
        for name, (codes, _) in zip(columns, encoded, strict=True):
            if len(codes) != len(labels):
                raise ValueError(
                    f"the columns differ in length: {label_column!r} has {len(labels)} values, and {name!r} has "
                    f"{len(codes)}. Each row needs one of both"
                )
        return cls.from_codes(labels, label_names, encoded)

    @classmethod
    def from_parquet(
        cls,
        files: str | os.PathLike | Sequence[str | os.PathLike],
        label_column: str | None = None,
        attribute_column: str | Sequence[str] | None = None,
        reference: "GroupIndex | None" = None,
        in_shards: bool = False,
    ) -> "GroupIndex":
        """Read the group columns of parquet files, and no other column of them.

        Args:
            files (`str` or `Sequence[str]`): the paths of the files, in the order of the rows.
            label_column, attribute_column, reference, in_shards: as for [`GroupIndex.from_dataset`].

        Returns:
            [`GroupIndex`]

        Raises:
            FileNotFoundError: for a file that does not exist.
            TypeError: as for [`GroupIndex.from_dataset`].
            ValueError: for a file that cannot be read, files whose columns differ, and as for
                [`GroupIndex.from_dataset`].
        """
        return cls.from_dataset(ParquetColumns(files), label_column, attribute_column, reference, in_shards)

    @classmethod
    def from_arrays(
        cls, labels: np.ndarray | Sequence, attributes: np.ndarray | Sequence | None = None
    ) -> "GroupIndex":
        """Build the index from the label and the attribute value of each row.

        Args:
            labels (array of shape `(N,)`): class ids, booleans or strings.
            attributes (array of shape `(N,)`, *optional*): integers, booleans or strings. Without them all rows share
                a single attribute value.

        Returns:
            [`GroupIndex`]

        Raises:
            TypeError: for floating-point values, and values of several kinds.
            ValueError: for null values, and arrays of different length.
        """
        labels = _as_array(labels)
        coded_labels, label_names = encode_column(labels, "labels", "label", sequential=True)
        encoded = []
        if attributes is not None:
            attributes = _as_array(attributes)
            if len(attributes) != len(labels):
                raise ValueError(f"labels and attributes differ in length: {len(labels)} and {len(attributes)}")
            encoded.append(encode_column(attributes, "attributes", "attribute"))
        return cls.from_codes(coded_labels, label_names, encoded)

    @classmethod
    def from_codes(
        cls,
        labels: np.ndarray,
        label_names: Sequence[str],
        encoded: Sequence[tuple[np.ndarray, Sequence[str]]] = (),
    ) -> "GroupIndex":
        """Build the index from columns that are codes already. The codes are not checked.

        Args:
            labels (`np.ndarray` of shape `(N,)`, unsigned): the class id of each row.
            label_names (`Sequence[str]`): the names of the classes.
            encoded (`Sequence[tuple[np.ndarray, Sequence[str]]]`, *optional*): of each attribute column the codes of
                shape `(N,)`, unsigned, and the names they stand for. Without any all rows share a single value.

        Returns:
            [`GroupIndex`]

        Raises:
            ValueError: for more than [`MAX_GROUPS`](gerne_hf.groups.limits.MAX_GROUPS) groups.

        Example:

        ```python
        >>> import numpy as np
        >>> labels, places = np.array([0, 0, 1], dtype=np.uint8), np.array([1, 0, 1], dtype=np.uint8)
        >>> GroupIndex.from_codes(labels, ["bird", "fish"], [(places, ["land", "sea"])]).counts.tolist()
        [[1, 1], [0, 1]]

        ```
        """
        attribute_names: tuple[str, ...] = ("all",)
        values: tuple[tuple[str, ...], ...] = ()
        num_attributes = 1
        codes = labels
        num_groups = max(len(label_names), 1)
        for column_codes, names in encoded:
            num_groups *= max(len(names), 1)
            check_group_count(num_groups, [len(values) for _, values in encoded])
            # Computed in place, in the smallest type, so that 10^8 rows don't take several wide copies.
            codes = codes.astype(smallest_unsigned(num_groups), copy=True)
            if num_groups > len(names):  # else every code is 0, and the factor may not fit the type
                codes *= codes.dtype.type(len(names))
            codes += column_codes.astype(codes.dtype, copy=False)
            values = (*values, tuple(names))
            num_attributes *= len(names)
        if len(values) == 1:
            attribute_names = values[0]
        elif values:
            attribute_names = tuple(map(combined_name, itertools.product(*values)))
        counts = np.zeros(len(label_names) * num_attributes, dtype=np.int64)
        for start in range(0, len(codes), _SORT_CHUNK):
            counts += np.bincount(codes[start : start + _SORT_CHUNK], minlength=len(counts))
        order = _counting_sort(codes, counts)
        shape = (len(label_names), num_attributes)
        return cls(tuple(label_names), attribute_names, values, counts.reshape(shape), codes, order)

    def __len__(self) -> int:
        return len(self.codes)

    def __repr__(self) -> str:
        shape = f"{self.num_classes} classes x {self.num_attributes} attributes"
        return f"GroupIndex({len(self):,} rows, {shape}, smallest group {self.counts.min(initial=len(self)):,})"

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return len(self.label_names)

    @property
    def num_attributes(self) -> int:
        """A, the number of attribute values."""
        return len(self.attribute_names)

    @cached_property
    def starts(self) -> np.ndarray:
        """Where the rows of each group begin in `order`: shape `(K * A,)`, int64."""
        return np.concatenate([[0], np.cumsum(self.counts.ravel())[:-1]]).astype(np.int64)

    @cached_property
    def alpha(self) -> np.ndarray:
        """The share of each attribute value within its class (Eq. 2): shape `(K, A)`, float64.

        For a class without rows, which is never drawn, all shares are equal.
        """
        return group_proportions(filled_counts(self.counts))

    @property
    def class_probabilities(self) -> np.ndarray:
        """The share of each class in the data set: shape `(K,)`, float64."""
        return self.counts.sum(axis=1) / max(len(self), 1)

    def rows(self, label: int | str, attribute: int | str) -> np.ndarray:
        """Return the row numbers of one group.

        Args:
            label (`int` or `str`): the class, by id or by name.
            attribute (`int` or `str`): the attribute value, by id or by name.

        Returns:
            `np.ndarray`: ascending, in the type of `order`.

        Raises:
            KeyError: for a name that does not exist.
            IndexError: for an id out of range.
        """
        group = _position(label, self.label_names, "label") * self.num_attributes
        group += _position(attribute, self.attribute_names, "attribute")
        start = self.starts[group]
        return self.order[start : start + self.counts.ravel()[group]]

    def group_name(self, group: int | np.integer) -> str:
        """Return the name of a group as sentences have it: `(label, attribute)`.

        Args:
            group (`int`): the group id.

        Returns:
            `str`
        """
        label, attribute = divmod(int(group), self.num_attributes)
        return group_title(self.label_names[label], self.attribute_names[attribute])

    def check_trainable(
        self, empty_groups: str = "error", needs_attributes: bool = True, absent_classes: str = "error"
    ) -> None:
        """Refuse a training set that batches of the method cannot be drawn from.

        Args:
            empty_groups (`str`, *optional*, defaults to `"error"`): "error" refuses groups without rows, "ignore"
                allows them.
            needs_attributes (`bool`, *optional*, defaults to `True`): whether groups matter, so that a single
                attribute value and empty groups are refused; False for plans that look at classes only.
            absent_classes (`str`, *optional*, defaults to `"error"`): "error" refuses classes without rows, "ignore"
                allows them.

        Raises:
            ValueError: if there are no rows, for classes without rows, a single attribute value, and groups without
                rows; names them.
        """
        if len(self) == 0:
            raise ValueError("the training set has no rows")
        absent = [name for name, count in zip(self.label_names, self.counts.sum(axis=1), strict=True) if count == 0]
        if absent and absent_classes == "error":
            more = f" and {len(absent) - 10} more" if len(absent) > 10 else ""
            raise ValueError(
                f"the classes {', '.join(absent[:10])}{more} have no training rows, so no class-balanced batch can be "
                "drawn. Add rows, or number the labels 0..K-1 without gaps (and drop unused names of the ClassLabel), "
                "or set empty_groups='ignore' to train on the other classes"
            )
        if not needs_attributes:
            return
        if self.num_attributes < 2:
            raise ValueError(
                f"the attribute has the single value {self.attribute_names[0]!r}, so there are no groups to balance. "
                "Choose another attribute_column, or the plan 'erm'"
            )
        empty = np.flatnonzero(self.counts.ravel() == 0)
        if len(empty) and empty_groups == "error":
            names = ", ".join(self.group_name(group) for group in empty[:10])
            more = f" and {len(empty) - 10} more" if len(empty) > 10 else ""
            raise ValueError(
                f"{len(empty)} of {self.counts.size} groups have no training rows: {names}{more}. Collect rows for "
                "them, or set empty_groups='ignore' to give their mass to the other groups of their class"
            )


def _as_array(values: np.ndarray | Sequence) -> np.ndarray:
    """Return an array that keeps missing values as they are: NumPy would make a NaN among strings the text "nan"."""
    if hasattr(values, "dtype"):
        return np.asarray(values)
    return np.array(values, dtype=object)


def default_label_column(dataset: Any) -> str:
    """Return the column that holds a data set's labels if none is named: the first of [`LABEL_COLUMNS`] that it has.

    Args:
        dataset: a map-style data set with columns.

    Returns:
        `str`

    Raises:
        TypeError: for a data set without columns.
        ValueError: if it has none of these columns.

    Example:

    ```python
    >>> default_label_column({"text": ["a", "b"], "labels": [0, 1]})
    'labels'

    ```
    """
    names = column_names(dataset)
    for name in LABEL_COLUMNS:
        if name in names:
            return name
    raise ValueError(
        f"the data set has no label column: none of {', '.join(LABEL_COLUMNS)} is among its columns "
        f"{', '.join(map(repr, names))}. Set label_column to the one that holds the class"
    )


def _position(key: int | str, names: tuple[str, ...], role: str) -> int:
    """Return the id that a name or an id stands for, after a check that it exists."""
    if isinstance(key, str):
        if key not in names:
            raise KeyError(f"no {role} {key!r}; there are {', '.join(names)}")
        return names.index(key)
    if not 0 <= key < len(names):
        raise IndexError(f"{role} {key} is out of range: there are {len(names)}")
    return int(key)


def _counting_sort(codes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the row numbers sorted by code, those of equal codes in ascending order.

    It sorts chunk by chunk, so that no wide array of all rows is made; `counts` holds the rows of each code.
    """
    order = np.empty(len(codes), dtype=smallest_unsigned(len(codes)))
    free = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
    for start in range(0, len(codes), _SORT_CHUNK):
        chunk = codes[start : start + _SORT_CHUNK]
        ranked = np.argsort(chunk, kind="stable")
        in_chunk = np.bincount(chunk, minlength=len(counts))
        first = np.concatenate([[0], np.cumsum(in_chunk)[:-1]])
        target = np.repeat(free - first, in_chunk)
        target += np.arange(len(chunk))
        order[target] = ranked + start
        free += in_chunk
    return order
