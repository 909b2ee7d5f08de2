"""Where group columns come from: the columns of any data set, of parquet files, or added to a data set.

Imports [`fields`](gerne_hf.groups.fields). How a column is read:
[`encode_column`](gerne_hf.groups.columns.encode_column).
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch.utils.data import ConcatDataset, IterableDataset, Subset

from .fields import FieldColumns, fields_of, has_columns, read_fields

FEATURE_ROW = "_feature_row"
"""Column of a `datasets.Dataset` that says which features of a frozen backbone stand for a row's image."""

_CHUNK_ROWS = 1 << 20
"""Rows of a parquet file that are read at a time."""


def only_iterated(dataset: Any) -> bool:
    """Return whether a data set can only be iterated, so that no row can be asked for by its number.

    Args:
        dataset: any data set.
    """
    return isinstance(dataset, (IterableDataset, datasets.IterableDataset))


def column_names(dataset: Any) -> list[str]:
    """Return the names of a data set's columns.

    Args:
        dataset: a map-style data set with an attribute `column_names` or `columns`, or a dictionary of columns; or
            one whose rows are dictionaries or tuples, of which the fields are named.

    Returns:
        `list[str]`

    Raises:
        TypeError: if the data set has neither columns nor rows with fields, or can only be iterated.

    Example:

    ```python
    >>> column_names({"label": [0, 1], "place": ["land", "sea"]})
    ['label', 'place']

    ```
    """
    if only_iterated(dataset):
        raise TypeError(
            f"{type(dataset).__name__} can only be iterated, and group sampling needs rows by index. Load the data "
            "set without streaming=True; or, to train on a stream, write it by group once with "
            "gerne_hf.streaming.partition_by_group and train on the GroupPartitions that it returns, or train on "
            "gerne_hf.streaming.ReservoirStream, which writes nothing"
        )
    for attribute in ("column_names", "columns"):
        names = getattr(dataset, attribute, None)
        if names is not None:
            return [str(name) for name in names]
    if isinstance(dataset, dict):
        return [str(name) for name in dataset]
    fields = fields_of(dataset)
    if fields is not None:
        return fields
    raise TypeError(
        f"{type(dataset).__name__} has no columns to read labels and attributes from, and no rows that are "
        "dictionaries or tuples. Use a datasets.Dataset; or let dataset[i] return a dictionary; or give the data set "
        "an attribute `column_names` and let dataset[name] return that column's values"
    )


def with_columns(dataset: Any, names: Sequence[str]) -> Any:
    """Return a data set that has columns: the data set itself, or the fields of its rows.

    Of subsets and concatenations of a `datasets.Dataset` no row is read. The rows of any other data set without
    columns are read in one pass, which shows its progress.

    Args:
        dataset: a map-style data set.
        names (`Sequence[str]`): the columns that are needed.

    Example:

    ```python
    >>> with_columns([{"text": "a", "label": 0}, {"text": "b", "label": 1}], ["label"])["label"]
    [0, 1]

    ```
    """
    if has_columns(dataset) or isinstance(dataset, (np.ndarray, IterableDataset, datasets.IterableDataset)):
        return dataset
    table = _table_below(dataset)
    if table is not None and set(names) <= set(table.column_names):
        return table
    column_names(dataset)  # refuses what has neither columns nor fields
    return FieldColumns(dataset, names)


def _table_below(dataset: Any) -> datasets.Dataset | None:
    """Return the rows of a torch `Subset` or `ConcatDataset` as a table, if they are those of a `datasets.Dataset`."""
    if isinstance(dataset, datasets.Dataset):
        return dataset
    if type(dataset) is Subset:
        below = _table_below(dataset.dataset)
        return None if below is None else below.select(dataset.indices)
    if type(dataset) is ConcatDataset:
        parts = [_table_below(part) for part in dataset.datasets]
        tables = [part.with_format(None) for part in parts if part is not None]
        if len(tables) == len(parts) and all(table.features == tables[0].features for table in tables):
            return datasets.concatenate_datasets(tables)
    return None


def _column(dataset: Any, name: str) -> Any:
    """Return a column of a data set, or a field of its rows."""
    return dataset[name] if has_columns(dataset) else read_fields(dataset, [name])[name]


class ParquetColumns:
    """The columns of parquet files as if the files were one table. Only the files' footers are held in memory.

    Args:
        files (`str` or `Sequence[str]`): the paths of the files, in the order of the rows.

    Raises:
        FileNotFoundError: for a file that does not exist.
        ValueError: if no file is given, for a file that is no parquet file, and for files whose columns differ.
    """

    def __init__(self, files: str | os.PathLike | Sequence[str | os.PathLike]):
        self.files = [os.fspath(f) for f in ([files] if isinstance(files, (str, os.PathLike)) else files)]
        if not self.files:
            raise ValueError("no parquet files are given; name at least one")
        self._length = 0
        for path in self.files:
            with _open(path) as file:
                schema = file.schema_arrow
                self._length += file.metadata.num_rows
            if path == self.files[0]:
                self.schema = schema
                self.features = datasets.Features.from_arrow_schema(schema)
            elif datasets.Features.from_arrow_schema(schema) != self.features:
                raise ValueError(
                    f"{path} has the columns {_describe(schema)}, and {self.files[0]} has {_describe(self.schema)}. "
                    "Write both with the same features"
                )

    @property
    def column_names(self) -> list[str]:
        """The names of the top-level columns."""
        return list(self.schema.names)

    def __len__(self) -> int:
        return self._length

    def chunks(self, name: str, rows: range | None = None) -> Iterator[pa.Array]:
        """Yield the values of one column, at most about a million rows at a time, and read no other column.

        Args:
            name (`str`): the column.
            rows (`range`, *optional*): the row numbers that are wanted, without gaps; all if not given. Row groups of
                the files without any of them are not read.

        Returns:
            `Iterator[pyarrow.Array]`: the values in the order of the rows.
        """
        rows, position = range(len(self)) if rows is None else rows, 0
        kind = self.schema.field(name).type
        # As a dictionary, so that a text that occurs often is decoded once a row group and not once a row.
        texts = [name] if pa.types.is_string(kind) or pa.types.is_large_string(kind) else None
        for path in self.files:
            with _open(path, texts) as file:
                for group in range(file.num_row_groups):
                    size = file.metadata.row_group(group).num_rows
                    if not (position < rows.stop and position + size > rows.start):
                        position += size
                        continue
                    for batch in file.iter_batches(_CHUNK_ROWS, [group], [name], use_threads=False):
                        first, end = max(rows.start - position, 0), min(rows.stop - position, len(batch))
                        if first < end:
                            yield batch.column(0).slice(first, end - first)
                        position += len(batch)


def _open(path: str, read_dictionary: list[str] | None = None) -> pq.ParquetFile:
    """Open a parquet file, and name it in errors; the columns in `read_dictionary` are read as dictionaries."""
    try:
        return pq.ParquetFile(path, read_dictionary=read_dictionary)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no parquet file {path}") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} cannot be read as a parquet file: {error}") from error


def _describe(schema: pa.Schema) -> str:
    """Return the names and types of a file's columns, for messages."""
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


class RowsOf:
    """Some rows of a map-style data set, with the same columns.

    Args:
        dataset: a map-style data set with columns.
        rows (int array of shape `(n,)`): numbers of the rows, in the order that they shall have.
    """

    def __init__(self, dataset: Any, rows: np.ndarray):
        self.dataset, self.rows = dataset, np.asarray(rows)
        self.column_names = column_names(dataset)
        if hasattr(dataset, "features"):
            self.features = dataset.features

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int | str) -> Any:
        if not isinstance(key, str):
            return self.dataset[int(self.rows[key])]
        column = _column(self.dataset, key)
        if isinstance(column, np.ndarray):
            return column[self.rows]
        return [column[int(row)] for row in self.rows]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return several rows, all at once where the data set can do that."""
        rows = [int(row) for row in self.rows[np.asarray(indices)]]
        several = getattr(self.dataset, "__getitems__", None)
        return [self.dataset[row] for row in rows] if several is None else several(rows)


def rows_of(dataset: Any, rows: np.ndarray) -> Any:
    """Return some rows of a map-style data set, as a data set of the same columns.

    Args:
        dataset: a `datasets.Dataset`, or another map-style data set with columns.
        rows (int array of shape `(n,)`): numbers of the rows, in the order that they shall have.

    Example:

    ```python
    >>> rows_of(datasets.Dataset.from_dict({"label": [0, 1, 1]}), np.array([2, 0]))["label"][:]
    [1, 0]

    ```
    """
    if isinstance(dataset, datasets.Dataset):
        return dataset.select(rows)
    return RowsOf(dataset, rows)


class ColumnAdded:
    """A map-style data set with one more column of categories.

    The column as a whole holds the names of the categories. Rows that are dictionaries get the category's number, as
    they would from a `datasets.ClassLabel`; other rows stay as they are.

    Args:
        dataset: a map-style data set with columns.
        name (`str`): the new column.
        codes (`np.ndarray` of shape `(N,)`): the index of each row's category in `names`.
        names (`Sequence[str]`): the names of the categories.
    """

    def __init__(self, dataset: Any, name: str, codes: np.ndarray, names: Sequence[str]):
        self.dataset, self.name = dataset, name
        self.codes, self.names = codes, np.array(list(names))

    @property
    def column_names(self) -> list[str]:
        """The names of the columns, the new one last."""
        return [*column_names(self.dataset), self.name]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Any) -> Any:
        if key == self.name:
            return self.names[self.codes]
        return _column(self.dataset, key) if isinstance(key, str) else self._with_value(self.dataset[key], key)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        fetch = getattr(self.dataset, "__getitems__", None)
        rows = fetch(indices) if fetch else [self.dataset[i] for i in indices]
        return [self._with_value(row, i) for row, i in zip(rows, indices, strict=True)]

    def _with_value(self, row: Any, index: int) -> Any:
        """Return a row together with its value of the new column, if the row is a dictionary."""
        return {**row, self.name: int(self.codes[index])} if isinstance(row, dict) else row


def add_column(dataset: Any, name: str, codes: np.ndarray, names: Sequence[str]) -> Any:
    """Return a data set with one more column of categories; its format or transform stays as it is.

    Args:
        dataset: a `datasets.Dataset`, or any map-style data set with columns. It is not changed.
        name (`str`): the new column.
        codes (`np.ndarray` of shape `(N,)`): the index of each row's category in `names`.
        names (`Sequence[str]`): the names of the categories.

    Returns:
        A `datasets.Dataset` whose new column is a `ClassLabel`, or a [`ColumnAdded`] for other data sets.

    Raises:
        ValueError: if there is a column of this name already, or the number of codes is not that of the rows.

    Example:

    ```python
    >>> import datasets
    >>> import numpy as np
    >>> data = datasets.Dataset.from_dict({"label": [0, 1]})
    >>> add_column(data, "place", np.array([1, 0]), ["land", "sea"])[0]
    {'label': 0, 'place': 1}

    ```
    """
    if name in column_names(dataset):
        raise ValueError(f"the data set has a column {name!r} already; choose another name, or remove it")
    if len(codes) != len(dataset):
        raise ValueError(f"the column {name!r} has {len(codes)} values for {len(dataset)} rows")
    if not isinstance(dataset, datasets.Dataset):
        return ColumnAdded(dataset, name, codes, names)
    style = dataset.format
    added = dataset.with_format(None).add_column(
        name, pa.array(codes.astype(np.int64)), feature=datasets.ClassLabel(names=list(names))
    )
    columns = style["columns"]
    if columns == dataset.column_names:
        columns = None  # the format holds for all columns, the new one included
    return added.with_format(
        style["type"], columns=columns, output_all_columns=style["output_all_columns"], **style["format_kwargs"]
    )
