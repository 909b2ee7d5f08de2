"""Loading a data set from the Hub, from files or from `save_to_disk`, and checks that columns and splits are there.

Imports `hub` and no module of this room. `splits.py` builds on it: any data set as three splits.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import datasets
import numpy as np
import pyarrow as pa

from ..hub.repositories import found_by


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Turn errors of `datasets` about the contents of files, raised in this context, into errors that name the files.

    Args:
        name (`str`): the file, folder or Hub id that is read.

    Raises:
        ValueError: if the files are damaged or have no rows.
    """
    try:
        yield
    except datasets.exceptions.DatasetGenerationError as error:
        raise ValueError(f"{name} cannot be read: {error.__cause__ or error}") from error
    except ValueError as error:
        if "corresponds to no data" not in str(error):
            raise
        raise ValueError(f"{name} has no rows: {error}") from error


def load_splits(name: str, config: str | None = None, option: str = "dataset_name") -> datasets.DatasetDict:
    """Load all splits of a data set.

    Args:
        name (`str`): a Hub id, a folder of data files (parquet, CSV, images, ...), or a folder that
            `DatasetDict.save_to_disk` has written.
        config (`str`, *optional*): the data set's configuration on the Hub.
        option (`str`, *optional*): the option that gave the name, for messages.

    Returns:
        `datasets.DatasetDict`: the splits under the names that they have there.

    Raises:
        ValueError: if files are damaged or have no rows.
        OSError: if there is no such data set, or no network; a note says what to do.
    """
    if os.path.isfile(os.path.join(name, "dataset_dict.json")):
        try:
            return datasets.DatasetDict.load_from_disk(name)
        except IndexError as error:  # what datasets raises for a split without rows
            raise ValueError(f"{name}: one of its splits has no rows; fill it, or leave it out") from error
    with found_by(option, name), readable(name):
        return datasets.load_dataset(name, config)


def require_columns(
    dataset: datasets.Dataset,
    needed: list[str],
    name: str,
    way_out: str = "Pass another --dataset_name, or rename its columns",
) -> None:
    """Raise an error unless a data set has all columns that are needed.

    Args:
        dataset (`datasets.Dataset`): the data set, or one split of it.
        needed (`list[str]`): names of the columns.
        name (`str`): name of the data set, for the message.
        way_out (`str`, *optional*): what the message advises to do.

    Raises:
        ValueError: if a column is missing; names the columns found and needed.
    """
    missing = [column for column in needed if column not in dataset.column_names]
    if missing:
        raise ValueError(
            f"{name} lacks the columns {', '.join(missing)}: it has {', '.join(dataset.column_names)}, and "
            f"{', '.join(needed)} are needed. {way_out}"
        )


def require_splits(splits: datasets.DatasetDict, needed: list[str], name: str) -> None:
    """Raise an error unless a data set has all splits that are needed, each with rows.

    Args:
        splits (`datasets.DatasetDict`): the splits found.
        needed (`list[str]`): names of the splits needed.
        name (`str`): name of the data set, for the message.

    Raises:
        ValueError: if a split is missing (names the splits found and needed) or has no rows.
    """
    missing = [split for split in needed if split not in splits]
    if missing:
        raise ValueError(
            f"{name} lacks the splits {', '.join(missing)}: it has {', '.join(splits)}, and {', '.join(needed)} are "
            "needed"
        )
    for split in needed:
        if not len(splits[split]):
            raise ValueError(f"{name}: the split {split!r} has no rows")


def read_ids(dataset: datasets.Dataset, column: str, name: str) -> np.ndarray:
    """Read one column of integers or booleans, without decoding any row.

    Args:
        dataset (`datasets.Dataset`): the data set, or one split of it.
        column (`str`): a column of integers, booleans or a ClassLabel.
        name (`str`): name of the data set, for messages.

    Returns:
        `np.ndarray` of shape `(N,)`, int64: the values; True is 1.

    Raises:
        ValueError: if the column has values of another type, or a value is missing (naming its row).

    Example:

    ```python
    >>> import datasets
    >>> rows = datasets.Dataset.from_dict({"male": [True, False, True]})
    >>> read_ids(rows, "male", "the data set").tolist()
    [1, 0, 1]

    ```
    """
    values = dataset.select_columns([column]).with_format("arrow")[:].column(0)
    if not (pa.types.is_integer(values.type) or pa.types.is_boolean(values.type)):
        raise ValueError(f"{name}: the column {column!r} must hold integers or booleans; it holds {values.type}")
    if values.null_count:
        row = values.is_null().to_pylist().index(True)
        raise ValueError(f"{name}: the column {column!r} has no value in row {row}; fill it, or drop the row")
    return values.to_numpy().astype(np.int64)
