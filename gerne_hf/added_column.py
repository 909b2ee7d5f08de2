"""A data set with one more column of categories, whatever kind of data set it is."""

from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from .column_names import column_names


class ColumnAdded:
    """A map-style data set with one more column; rows that are dictionaries get its value.

    Args:
        dataset: a map-style data set with columns.
        name (`str`): the new column.
        codes (`np.ndarray` of shape `(N,)`): index of each row's value in `names`.
        names (`Sequence[str]`): the values.
    """

    def __init__(self, dataset: Any, name: str, codes: np.ndarray, names: Sequence[str]):
        self.dataset, self.name = dataset, name
        self.codes, self.names = codes, np.array(list(names))

    @property
    def column_names(self) -> list[str]:
        return [*column_names(self.dataset), self.name]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Any) -> Any:
        if key == self.name:
            return self.names[self.codes]
        return self.dataset[key] if isinstance(key, str) else self._with_value(self.dataset[key], key)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        fetch = getattr(self.dataset, "__getitems__", None)
        rows = fetch(indices) if fetch else [self.dataset[i] for i in indices]
        return [self._with_value(row, i) for row, i in zip(rows, indices, strict=True)]

    def _with_value(self, row: Any, index: int) -> Any:
        return {**row, self.name: int(self.codes[index])} if isinstance(row, dict) else row


def add_column(dataset: Any, name: str, codes: np.ndarray, names: Sequence[str]) -> Any:
    """The data set with a column of categories; its format or transform stays.

    Args:
        dataset: a `datasets.Dataset`, or any map-style data set with columns.
        name (`str`): the new column.
        codes (`np.ndarray` of shape `(N,)`): index of each row's value in `names`.
        names (`Sequence[str]`): the values.

    Raises:
        ValueError: if there is a column of this name, or the lengths differ.
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
        columns = None  # all of them, the new one included
    return added.with_format(
        style["type"], columns=columns, output_all_columns=style["output_all_columns"], **style["format_kwargs"]
    )
