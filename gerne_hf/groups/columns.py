"""Columns of a data set as small integer codes, read without decoding a row.

Imports [`sources`](gerne_hf.groups.sources) and [`sharing`](gerne_hf.groups.sharing) of this room. Columns of labels
and attributes become groups in [`index`](gerne_hf.groups.index).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .sharing import Shards
from .sources import ColumnAdded, ParquetColumns, column_names

_CHUNK_ROWS = 1 << 20
"""Rows that are read at a time, so that no wide array of all rows is made."""

MAX_CLASSES = 1 << 20
"""Class ids must be smaller than this. Larger ones are refused, as they are hashes or the like, not classes."""


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
        dataset: a `datasets.Dataset`, any map-style data set with columns, or an array that is the column itself.
        name (`str`): the column.
        role (`str`): "label" or "attribute", for messages.
        known (`Sequence[str]`, *optional*): names that get the first codes, in this order, whether they occur or not.
        sequential (`bool`, *optional*, defaults to `False`): whether integers stand for themselves, as class ids do:
            the value 2 gets code 2, whether 0 and 1 occur or not.
        shards ([`Shards`], *optional*): if given, each process of the run reads a part of a `datasets.Dataset` or of
            parquet files. All processes must make the call, and all get the codes of all rows.

    Returns:
        `tuple[np.ndarray, list[str]]`: codes of shape `(N,)` in the smallest unsigned type, and the names they stand
        for. Values that are not in `known` are sorted, those of a `ClassLabel` stay in its order.

    Raises:
        TypeError: for values that are no categories: floating-point numbers, lists, or values of several kinds.
        ValueError: for a column that is not there or has not one value a row, null values, and class ids that are
            negative or too large.

    Example:

    ```python
    >>> codes, names = encode_column({"place": ["sea", "land", "sea"]}, "place", "attribute")
    >>> codes.tolist(), names
    ([1, 0, 1], ['land', 'sea'])

    ```
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
        chunks: Iterable[Any] = (table.column(0) for table in plain.iter(_CHUNK_ROWS))
        return _encode(chunks, len(dataset), name, role, class_names, known, sequential, shards)
    if isinstance(dataset, ParquetColumns):
        class_names = getattr(dataset.features[name], "names", None)
        chunks = dataset.chunks(name, None if shards is None else shards.rows(len(dataset)))
        return _encode(chunks, len(dataset), name, role, class_names, known, sequential, shards)
    if isinstance(dataset, ColumnAdded) and name == dataset.name:
        names = dataset.names.tolist()
        return _encode(_chunks(dataset.codes, name, role), len(dataset), name, role, names, known, sequential)
    values = dataset[name]
    rows = len(values) if isinstance(dataset, dict) or not hasattr(dataset, "__len__") else len(dataset)
    if len(values) != rows:
        raise ValueError(
            f"{role} column {name!r} of {type(dataset).__name__} has {len(values)} values for {rows} rows. Let "
            f"dataset[{name!r}] return one value for each row, in the order of the rows"
        )
    return _encode(_chunks(values, name, role), rows, name, role, None, known, sequential)


def _chunks(values: Any, name: str, role: str) -> Iterator[pa.Array]:
    """Yield the values of a column that is held in memory as arrow arrays, at most about a million rows at a time."""
    if getattr(values, "ndim", 1) != 1:
        raise TypeError(
            f"{role} column {name!r} has the shape {tuple(values.shape)}, and one value a row is needed. Multi-label "
            "and one-hot targets have no groups; choose one label a row"
        )
    for start in range(0, len(values), _CHUNK_ROWS):
        part = values[start : start + _CHUNK_ROWS]
        if hasattr(part, "numpy"):  # a torch tensor
            part = part.numpy()
        # With from_pandas NaN and NA become nulls, which are refused; they must not become a group of their own.
        try:
            yield pa.array(part if hasattr(part, "dtype") else list(part), from_pandas=True)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise TypeError(
                f"{role} column {name!r} holds values of several kinds, or of none that is a category ({error}); "
                "integers, booleans or strings are needed, one kind in a column"
            ) from error


def _encode(
    chunks: Iterable[Any],
    length: int,
    name: str,
    role: str,
    class_names: Sequence[str] | None,
    known: Sequence[str],
    sequential: bool,
    shards: Shards | None = None,
) -> tuple[np.ndarray, list[str]]:
    """Encode a column chunk by chunk by its values as they occur, then renumber the codes by the order of the names.

    `chunks` are the arrow arrays of the rows that this process reads, `length` is the number of rows of the whole
    column, `class_names` those of a `ClassLabel`. Arguments and result are otherwise those of [`encode_column`].
    """
    first_seen: dict[Any, int] = {}
    values: list[Any] = []
    failure: Exception | None = None
    rows = range(length) if shards is None else shards.rows(length)
    try:
        codes, first_seen = _as_first_seen(chunks, rows, name, role)
        values = list(first_seen)
    except Exception as error:
        if shards is None:
            raise
        failure = error  # union hands it to the other processes, and all raise it
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


def _as_first_seen(chunks: Iterable[Any], rows: range, name: str, role: str) -> tuple[np.ndarray, dict[Any, int]]:
    """Return the codes of `rows`, numbered as their values first occur, and the code of each value."""
    first_seen: dict[Any, int] = {}
    kinds: set[str] = set()
    codes = np.empty(len(rows), dtype=np.uint8)
    start = 0
    for chunk in chunks:
        check_categories(chunk, name, role, rows.start + start)
        if isinstance(chunk, pa.ChunkedArray):
            chunk = chunk.combine_chunks()  # its chunks may have 1,000 rows, too few to look up at a time
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
    """Refuse a part of a column whose values are null or are no categories.

    Args:
        chunk (`pyarrow.Array` or `pyarrow.ChunkedArray`): the values.
        name (`str`): the column.
        role (`str`): "label" or "attribute", for messages.
        start (`int`): the row number of the first value.

    Raises:
        TypeError: for floating-point and decimal numbers, lists, and other types that are no categories.
        ValueError: for null values; names the first row that has one.
    """
    kind = chunk.type.value_type if pa.types.is_dictionary(chunk.type) else chunk.type
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        way_out = (
            f"They are whole numbers: dataset.cast_column({name!r}, datasets.Value('int64')) makes classes of them"
            if _all_whole(chunk)
            else f"Make classes of them in a column of another name, by dataset.map(lambda row: "
            f"{{'{name}_class': row[{name!r}] >= 0.5}}) say, and set {role}_column={f'{name}_class'!r}"
        )
        raise TypeError(f"{role} column {name!r} holds {kind} values, and groups need categories. {way_out}")
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


def _all_whole(chunk: Any) -> bool:
    """Return whether all values of an arrow array of numbers are whole; nulls are left out."""
    values = np.array([value for value in chunk.to_pylist() if value is not None], dtype=np.float64)
    return bool(np.isfinite(values).all() and (values == np.floor(values)).all())


def _is_text(kind: pa.DataType) -> bool:
    """Return whether an arrow type is one of texts."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _ordered_names(
    values: list[Any], name: str, role: str, class_names: Sequence[str] | None, sequential: bool
) -> list[tuple[str, Any]]:
    """Return the pairs of name and value in the order of their codes; class ids are checked and get no gaps."""
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
    """Return the names of the classes by id, as known from another data set and as found in this one.

    A class id has the same meaning in every data set, so a name may stand in for a mere number ("2"), and two
    different names for one id are refused.
    """
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
    """Return the smallest unsigned integer type that holds the numbers `0 .. count - 1`.

    Args:
        count (`int`): how many numbers there are; 0 is taken as 1.

    Returns:
        `np.dtype`

    Example:

    ```python
    >>> smallest_unsigned(256), smallest_unsigned(257)
    (dtype('uint8'), dtype('uint16'))

    ```
    """
    return np.min_scalar_type(max(count - 1, 0))
