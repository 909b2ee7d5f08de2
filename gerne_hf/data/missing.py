"""Rows that lack a value: all of a data set are named in one error, or they are left out and counted.

Imports no other module of this room. [`splits`](gerne_hf.data.splits) calls it for data of the user's own.
"""

from collections.abc import Sequence

import datasets
import numpy as np
from accelerate import PartialState

MOST_NAMED = 12
"""Columns with missing values that a message names."""


def usable_rows(
    splits: datasets.DatasetDict, columns: Sequence[str], name: str, skip: bool = False
) -> datasets.DatasetDict:
    """Refuse rows without a value in a column that is needed, or leave them out.

    Args:
        splits (`datasets.DatasetDict`): the splits.
        columns (`Sequence[str]`): columns that must have a value in every row, as far as a split has them.
        name (`str`): name of the data set, for messages.
        skip (`bool`, *optional*, defaults to `False`): whether such rows are left out; how many, is printed.

    Returns:
        `datasets.DatasetDict`: the splits, whose rows all have values.

    Raises:
        ValueError: without `skip`, if a value is missing: names for each split and column how many rows lack it, and
            the first of them. With `skip`, if no row of a split is left.

    Example:

    ```python
    >>> import datasets
    >>> rows = datasets.Dataset.from_dict({"text": ["a", None, "c"], "label": [0, 1, 1]})
    >>> usable_rows(datasets.DatasetDict(train=rows), ["text", "label"], "the data set", skip=True)["train"]["text"][:]
    Rows left out, as they lack a value: 1 of 3 in 'train'.
    ['a', 'c']

    ```
    """
    faults, left_out, result = [], [], datasets.DatasetDict()
    for key, split in splits.items():
        usable = np.ones(len(split), dtype=bool)
        for column in (column for column in columns if column in split.column_names):
            missing = rows_without_value(split, column)
            if missing.size:
                usable[missing] = False
                rows = "1 row" if missing.size == 1 else f"{missing.size:,} rows"
                faults.append(
                    f"split {key!r} has no value of {column!r} in {rows}, the first of them row {missing[0]}"
                )
        if skip and not usable.any() and len(split):
            raise ValueError(f"{name}: no row of the split {key!r} has all values: {'; '.join(faults)}")
        if not usable.all():
            left_out.append(f"{int((~usable).sum()):,} of {len(split):,} in {key!r}")
        result[key] = split if usable.all() or not skip else split.select(np.flatnonzero(usable))
    if faults and not skip:
        more = f"; and {len(faults) - MOST_NAMED} columns more" if len(faults) > MOST_NAMED else ""
        raise ValueError(
            f"{name}: {'; '.join(faults[:MOST_NAMED])}{more}. Rows are counted from 0. Fill them, or leave these rows "
            "out with --skip_unusable_rows, which counts them"
        )
    if left_out:
        PartialState().print(f"Rows left out, as they lack a value: {', '.join(left_out)}.")
    return result


def rows_without_value(split: datasets.Dataset, column: str) -> np.ndarray:
    """Return the numbers of the rows in which a column has no value, without decoding anything.

    Args:
        split (`datasets.Dataset`): the rows.
        column (`str`): name of the column.

    Returns:
        `np.ndarray` of shape `(M,)`, int64: in ascending order.
    """
    found, start = [], 0
    for table in split.select_columns([column]).with_format("arrow").iter(1 << 16):
        values = table.column(0)
        if values.null_count:
            found.append(start + np.flatnonzero(values.is_null().to_numpy()))
        start += len(table)
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
