"""Fields of the rows of data sets that have no columns: torch data sets, lists of dictionaries, subsets of such.

Imports [`random`](gerne_hf.utils.random). Data sets with columns, and where all columns come from:
[`sources`](gerne_hf.groups.sources).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from accelerate import PartialState
from transformers.utils import logging

from ..utils.random import seeded


def has_columns(dataset: Any) -> bool:
    """Return whether a data set gives whole columns by their names.

    Args:
        dataset: any data set.

    Example:

    ```python
    >>> has_columns({"label": [0, 1]}), has_columns([{"label": 0}, {"label": 1}])
    (True, False)

    ```
    """
    named = any(getattr(dataset, attribute, None) is not None for attribute in ("column_names", "columns"))
    return named or isinstance(dataset, dict)


def fields_of(dataset: Any) -> list[str] | None:
    """Return the names of the fields of a data set's rows, by its first row: keys, or places in a tuple as texts.

    Args:
        dataset: any data set.

    Returns:
        `list[str]`: None for a data set without rows by number, and for rows that have no fields.

    Example:

    ```python
    >>> fields_of([{"text": "a", "label": 0}]), fields_of([("a", 0)])
    (['text', 'label'], ['0', '1'])

    ```
    """
    if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")) or not len(dataset):
        return None
    with seeded(0):  # a transform may draw random numbers, which are nobody's
        row = dataset[0]
    if isinstance(row, Mapping):
        return [str(name) for name in row]
    return [str(place) for place in range(len(row))] if isinstance(row, (tuple, list)) else None


def read_fields(dataset: Any, names: Sequence[str]) -> dict[str, list[Any]]:
    """Return fields of all rows, read in one pass, of which the main process shows the progress.

    Args:
        dataset: a map-style data set whose rows are dictionaries or tuples.
        names (`Sequence[str]`): the fields, as [`fields_of`] has them.

    Returns:
        `dict[str, list]`: the values of each field, in the order of the rows.

    Raises:
        ValueError: for a row without one of the fields.

    Example:

    ```python
    >>> read_fields([{"text": "a", "label": 0}, {"text": "b", "label": 1}], ["label"])
    {'label': [0, 1]}

    ```
    """
    values: dict[str, list[Any]] = {name: [] for name in names}
    quiet = not PartialState().is_main_process
    progress = logging.tqdm(range(len(dataset)), desc=f"Reading {', '.join(names)}", disable=quiet, unit=" rows")
    with seeded(0):
        for number in progress:
            row = dataset[number]
            for name, column in values.items():
                try:
                    value = row[name] if isinstance(row, Mapping) else row[int(name)]
                except (KeyError, IndexError, ValueError, TypeError):
                    raise ValueError(
                        f"row {number} of the {type(dataset).__name__} has no field {name!r}, which other rows have. "
                        "Let every row have the same fields"
                    ) from None
                single = getattr(value, "ndim", None) == 0  # of torch or NumPy
                column.append(value.item() if single else value)
    return values


class FieldColumns:
    """Fields of the rows of a data set as columns.

    Args:
        dataset: a map-style data set whose rows are dictionaries or tuples.
        names (`Sequence[str]`): the fields that are read; others are named, but not to be had.

    Raises:
        ValueError: if the rows lack one of them.
    """

    def __init__(self, dataset: Any, names: Sequence[str]):
        self.column_names = fields_of(dataset) or []
        missing = [name for name in names if name not in self.column_names]
        if missing:
            raise ValueError(
                f"the data set has no label or attribute column {missing[0]!r}; the fields of its rows are "
                f"{', '.join(map(repr, self.column_names))}. Set label_column and attribute_column to those meant"
            )
        self._rows = len(dataset)
        self._values = read_fields(dataset, list(dict.fromkeys(names)))

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, name: str) -> list[Any]:
        return self._values[name]
