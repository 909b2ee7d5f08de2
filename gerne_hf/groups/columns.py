"""Columns of a data set as small integer codes, read without decoding a row."""

from collections.abc import Iterator, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .sharing import Shards
from .sources import ColumnAdded, ParquetColumns, column_names

_CHUNK_ROWS = 1 << 20

MAX_CLASSES = 1 << 20
"""Class ids at or above this are taken for something else, such as hashes."""


def encode_column(
    dataset: Any,
    name: str,
    role: str,
    known: Sequence[str] = (),
    sequential: bool = False,
    shards: Shards | None = None,
) -> tuple[np.ndarray, list[str]]:
    """Read one column as codes into a list of names.

    Args:
        dataset: a `datasets.Dataset`, or any map-style data set with columns.
        name (`str`): the column.
        role (`str`): "label" or "attribute", for messages.
        known (`Sequence[str]`, *optional*): names that get the first codes, in this order.
        sequential (`bool`, defaults to `False`): integers stand for themselves (class ids): code 2 is the value 2,
            whether 0 and 1 occur or not.
        shards ([`Shards`], *optional*): lets each process read a part of a `datasets.Dataset` or of parquet files.

    Returns:
        `tuple[np.ndarray, list[str]]`: `(N,)` codes in the smallest unsigned type, and the names they stand for.

    Raises:
        TypeError, ValueError: for values that are null, floating-point or otherwise no category.
    """
    if isinstance(dataset, np.ndarray):
        return _encode(_chunks(dataset, name, role), len(dataset), name, role, None, known, sequential)
    names = column_names(dataset)
    if name not in names:
        raise ValueError(
            f"the data set has no {role} column {name!r}; its columns are {', '.join(map(repr, names))}. "
            f"Set {role}_column to one of them"
        )
    if isinstance(dataset, datasets.Dataset):
        feature = dataset.features[name]
        class_names = feature.names if isinstance(feature, datasets.ClassLabel) else None
        plain = dataset.select_columns([name]).with_format("arrow")
        if shards is not None:
            plain = plain.select(shards.rows(len(dataset)))
        chunks = (table.column(0) for table in plain.iter(_CHUNK_ROWS))
        return _encode(chunks, len(dataset), name, role, class_names, known, sequential, shards)
    if isinstance(dataset, ParquetColumns):
        class_names = getattr(dataset.features[name], "names", None)
        chunks = dataset.chunks(name, None if shards is None else shards.rows(len(dataset)))
        return _encode(chunks, len(dataset), name, role, class_names, known, sequential, shards)
    if isinstance(dataset, ColumnAdded) and name == dataset.name:
        names = dataset.names.tolist()
        return _encode(_chunks(dataset.codes, name, role), len(dataset), name, role, names, known, sequential)
    values = dataset[name]
    return _encode(_chunks(values, name, role), len(values), name, role, None, known, sequential)


def _chunks(values: Any, name: str, role: str) -> Iterator[pa.Array]:
    if getattr(values, "ndim", 1) != 1:
        raise TypeError(
            f"{role} column {name!r} has the shape {tuple(values.shape)}, and one value a row is needed. Multi-label "
            "and one-hot targets have no groups; choose one label a row"
        )
    for start in range(0, len(values), _CHUNK_ROWS):
        part = values[start : start + _CHUNK_ROWS]
        if hasattr(part, "numpy"):  # a torch tensor
            part = part.numpy()
        # from_pandas: NaN and NA are nulls, and must not become a group of their own.
        try:
            yield pa.array(part if hasattr(part, "dtype") else list(part), from_pandas=True)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise TypeError(
                f"{role} column {name!r} holds values of several kinds, or of none that is a category ({error}); "
                "integers, booleans or strings are needed, one kind in a column"
            ) from error


def _encode(chunks, length, name, role, class_names, known, sequential, shards=None):
    """Dictionary-encode chunk by chunk, then renumber so that the codes follow the sorted values."""
    first_seen, values, failure = {}, [], None
    rows = range(length) if shards is None else shards.rows(length)
    try:
        codes, first_seen = _as_first_seen(chunks, rows, name, role)
        values = list(first_seen)
    except Exception as error:
        if shards is None:
            raise
        failure = error
    if shards is not None:
        values = shards.union(values, length, failure)

    ordered = _ordered_names(values, name, role, class_names, sequential)
    if sequential and all(type(value) is int for value in values):
        names = _merged_class_names(ordered, known, name)
        final = {value: value for value in first_seen}
    else:
        position = {text: i for i, text in enumerate(known)}
        for text, _ in ordered:
            position.setdefault(text, len(position))
        names = list(position)
        final = {value: position[text] for text, value in ordered if value in first_seen}
    lookup = np.zeros(max(len(first_seen), 1), dtype=smallest_unsigned(len(names)))
    for value, seen in first_seen.items():
        lookup[seen] = final[value]
    result = codes.astype(lookup.dtype, copy=False)
    for begin in range(0, len(codes), _CHUNK_ROWS):
        result[begin : begin + _CHUNK_ROWS] = lookup[codes[begin : begin + _CHUNK_ROWS]]
    return result if shards is None else shards.join(result, length), names


def _as_first_seen(chunks, rows: range, name: str, role: str) -> tuple[np.ndarray, dict[Any, int]]:
    """Codes of the rows in the order in which their values occur, and the values with their codes."""
    first_seen: dict[Any, int] = {}
    kinds: set[str] = set()
    codes = np.empty(len(rows), dtype=np.uint8)
    start = 0
    for chunk in chunks:
        check_categories(chunk, name, role, rows.start + start)
        if isinstance(chunk, pa.ChunkedArray):
            chunk = chunk.combine_chunks()  # files have batches of 1,000 rows, too few to look up at a time
        encoded = pc.dictionary_encode(chunk)
        values = encoded.dictionary.to_pylist()
        kinds.update(type(value).__name__ for value in values)
        if len(kinds) > 1:  # True == 1, so these would become one group
            raise TypeError(
                f"{role} column {name!r} holds values of several kinds ({', '.join(sorted(kinds))}); integers, "
                "booleans or strings are needed, one kind in a column"
            )
        lookup = np.array([first_seen.setdefault(value, len(first_seen)) for value in values], dtype=np.int64)
        codes = codes.astype(smallest_unsigned(len(first_seen)), copy=False)
        codes[start : start + len(encoded)] = lookup[encoded.indices.to_numpy()]
        start += len(encoded)
    return codes, first_seen


def check_categories(chunk: Any, name: str, role: str, start: int) -> None:
    """Refuse an arrow array, row `start` and following of a column, whose values are null or no categories."""
    kind = chunk.type.value_type if pa.types.is_dictionary(chunk.type) else chunk.type
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        raise TypeError(
            f"{role} column {name!r} holds {kind} values, and groups need categories. Turn it into integers, "
            f"booleans, strings or a ClassLabel first, for example with "
            f"dataset.map(lambda row: {{{name!r}: row[{name!r}] >= 0.5}})"
        )
    if pa.types.is_null(kind) or chunk.null_count:
        row = start + int(np.flatnonzero(chunk.is_null().to_numpy(zero_copy_only=False))[0])
        raise ValueError(
            f"{role} column {name!r} has null values, the first in row {row}. Fill them with a value of their own, or "
            f"drop these rows: dataset.filter(lambda row: row[{name!r}] is not None)"
        )
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        raise TypeError(
            f"{role} column {name!r} holds lists ({kind}). Multi-label targets have no groups; choose one label a row"
        )
    if not (pa.types.is_integer(kind) or pa.types.is_boolean(kind) or _is_text(kind)):
        raise TypeError(
            f"{role} column {name!r} holds {kind} values; integers, booleans, strings or a ClassLabel are needed"
        )


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _ordered_names(values, name, role, class_names, sequential) -> list[tuple[str, Any]]:
    """Pairs of name and value in the order of their codes."""
    if class_names is not None or (sequential and values and all(type(value) is int for value in values)):
        top = len(class_names) if class_names is not None else max(values) + 1
        if top > MAX_CLASSES:
            raise ValueError(
                f"{role} column {name!r} holds the class id {max(values)}; ids must count the classes from 0 without "
                "large gaps. Use dataset.class_encode_column to number them"
            )
        outside = sorted(value for value in values if not 0 <= value < top)
        if outside:
            raise ValueError(
                f"{role} column {name!r} holds the class ids {outside[:5]}, and they must lie in "
                f"0..{max(top - 1, 0)}. Rows without a label (-1, say) must be filtered out first"
            )
        return [(class_names[i] if class_names is not None else str(i), i) for i in range(top)]
    return [(str(value), value) for value in sorted(values)]


def _merged_class_names(ordered: list[tuple[str, int]], known: Sequence[str], name: str) -> list[str]:
    """Class ids keep their meaning in every data set: names are merged by id, and must not contradict each other."""
    merged = list(known)
    for text, i in ordered:
        if i >= len(merged):
            merged.append(text)
        elif merged[i] == str(i):
            merged[i] = text
        elif text not in (merged[i], str(i)):
            raise ValueError(
                f"label column {name!r} calls class {i} {text!r}, and the training set calls it {merged[i]!r}. Give "
                "both data sets the same ClassLabel: dataset.cast_column(name, train_dataset.features[name])"
            )
    return merged


def smallest_unsigned(count: int) -> np.dtype:
    """The smallest unsigned integer type that holds `0 .. count - 1`."""
    return np.min_scalar_type(max(count - 1, 0))
