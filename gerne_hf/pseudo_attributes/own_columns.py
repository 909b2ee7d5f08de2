"""The columns of a data set beside its labels, as few values each, read without decoding an image.

Imports `groups/`. What the columns say about the hard rows: [`findings`](gerne_hf.pseudo_attributes.findings).
"""

from collections.abc import Collection, Mapping
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..groups.sources import FEATURE_ROW, column_names
from .findings import CodedColumn

MAX_TEXTS, MAX_NUMBERS = 100, 20
"""Distinct texts, and distinct numbers, up to which a column is one of categories."""

_ROWS_OF_VALUE = 5
"""Rows that a category of texts has on average, at least."""

_BINS = 10


def own_columns(dataset: Any, left_out: Collection[str] = ()) -> list[CodedColumn]:
    """Return the columns of a data set that can be brought to a few values each.

    Categories and booleans stay as they are. Numbers and dates of many values become ten ranges with about as many
    rows each, and texts of many values become ranges of their lengths. Columns of images, lists and bytes are left
    out, and so are those with a single value.

    Args:
        dataset: the data set; one without columns has none.
        left_out (`Collection[str]`, *optional*): names of columns that are not read.

    Returns:
        `list[CodedColumn]`
    """
    found = []
    for name in own_names(dataset):
        if name in left_out:
            continue
        values = whole_column(dataset, name)
        if values is not None:
            feature = dataset.features[name] if isinstance(dataset, datasets.Dataset) else None
            column = coded_column(name, values, getattr(feature, "names", None))
            if column is not None and len(column.values) > 1:
                found.append(column)
    return found


def own_names(dataset: Any) -> list[str]:
    """Return the names of a data set's columns; none for one without columns, or one that can only be iterated.

    Args:
        dataset: any data set.
    """
    try:
        return [name for name in column_names(dataset) if name != FEATURE_ROW]
    except TypeError:
        return []


def whole_column(dataset: Any, name: str) -> pa.ChunkedArray | None:
    """Return a column of numbers, booleans, texts or dates; None for another one.

    Of a `datasets.Dataset` no other column is read and no transform runs. Of another data set the column is read that
    it gives as a whole; if its rows are dictionaries, the first row tells whether to read it.

    Args:
        dataset: a map-style data set with columns.
        name (`str`): the column.
    """
    if isinstance(dataset, datasets.Dataset):
        feature = dataset.features[name]
        if not isinstance(feature, (datasets.Value, datasets.ClassLabel)):
            return None
        table = dataset.select_columns([name]).with_format("arrow")[:]
        values = table.column(0)
        return values if _is_simple(values.type) else None
    try:
        first = dataset[0] if not isinstance(dataset, dict) else None
        if isinstance(first, Mapping) and np.ndim(first.get(name, 0)) > 0:
            return None
        whole = dataset[name]
        values = pa.chunked_array([pa.array(whole if hasattr(whole, "dtype") else list(whole), from_pandas=True)])
    except (pa.ArrowException, KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError):
        return None  # it is no column that can be had as a whole, or holds what Arrow has no type for
    return values if _is_simple(values.type) and len(values) == len(dataset) else None


def _is_simple(kind: pa.DataType) -> bool:
    return any(
        of_kind(kind)
        for of_kind in (
            *(pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean),
            *(pa.types.is_string, pa.types.is_large_string, pa.types.is_temporal),
        )
    )


def coded_column(name: str, values: pa.ChunkedArray, class_names: list[str] | None = None) -> CodedColumn | None:
    """Bring a column to a few values.

    Args:
        name (`str`): the column.
        values (`pyarrow.ChunkedArray`): numbers, booleans, texts or dates.
        class_names (`list[str]`, *optional*): names of the class ids that the values are.

    Returns:
        [`CodedColumn`]: rows without a value have the value "missing".

    Example:

    ```python
    >>> column = coded_column("place", pa.chunked_array([["sea", "land", None] * 5]))
    >>> column.codes[:3].tolist(), column.values
    ([1, 0, 2], ('land', 'sea', 'missing'))
    >>> coded_column("size", pa.chunked_array([list(range(100))])).values[:2]
    ('0 to 9', '10 to 19')

    ```
    """
    kind = values.type
    if pa.types.is_floating(kind):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, kind), values)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        if len(pc.unique(values)) > min(MAX_TEXTS, max(len(values) // _ROWS_OF_VALUE, 2)):
            return _ranges(f"{name} (length in characters)", pc.utf8_length(values))
    elif class_names is None and len(pc.unique(values)) > MAX_NUMBERS:
        return _ranges(name, values)
    encoded = pc.dictionary_encode(values.combine_chunks())
    distinct = encoded.dictionary.to_pylist()
    order = sorted(range(len(distinct)), key=lambda i: distinct[i])
    place = np.argsort(order) if order else np.array([], dtype=np.int64)
    codes = encoded.indices.fill_null(-1).to_numpy()
    texts = [str(distinct[i]) for i in order]
    if class_names is not None:
        texts = [class_names[distinct[i]] if 0 <= distinct[i] < len(class_names) else "missing" for i in order]
    return _with_missing(name, np.append(place, -1)[codes], texts)


def _ranges(name: str, values: pa.ChunkedArray) -> CodedColumn | None:
    """Return ranges with about equally many rows, each named by the least and the greatest value in it."""
    kind, numbers = values.type, values
    if pa.types.is_temporal(kind):
        numbers = values.cast(pa.int32() if pa.types.is_date32(kind) or pa.types.is_time32(kind) else pa.int64())
    plain = numbers.cast(pa.float64(), safe=False).combine_chunks().fill_null(np.nan).to_numpy(zero_copy_only=False)
    there = np.isfinite(plain)
    if not there.any():
        return None
    edges = np.unique(np.quantile(plain[there], np.linspace(0, 1, _BINS + 1)[1:-1], method="higher"))
    bins = np.searchsorted(edges, plain[there], side="right")
    kept, bins = np.unique(bins, return_inverse=True)
    rows = np.flatnonzero(there)
    texts = []
    for number in range(len(kept)):
        own = rows[bins == number]
        ends = (own[plain[own].argmin()], own[plain[own].argmax()])
        low, high = (_text(values[int(row)].as_py()) for row in ends)
        texts.append(low if low == high else f"{low} to {high}")
    codes = np.full(len(plain), -1, dtype=np.int64)
    codes[there] = bins
    return _with_missing(name, codes, texts)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _with_missing(name: str, codes: np.ndarray, texts: list[str]) -> CodedColumn:
    if (codes < 0).any():
        codes, texts = np.where(codes < 0, len(texts), codes), [*texts, "missing"]
    return CodedColumn(name, codes, tuple(texts))
