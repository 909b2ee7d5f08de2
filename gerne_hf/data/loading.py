"""Loading a data set from the Hub, from files, or from a folder of `save_to_disk`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import datasets
import numpy as np
import pyarrow as pa

from ..hub.repositories import found_by


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Errors of `datasets` about what is in files say which files they are, and why."""
    try:
        yield
    except datasets.exceptions.DatasetGenerationError as error:
        raise ValueError(f"{name} cannot be read: {error.__cause__ or error}") from error
    except ValueError as error:
        if "corresponds to no data" not in str(error):
            raise
        raise ValueError(f"{name} has no rows: {error}") from error


def load_splits(name: str, config: str | None = None) -> datasets.DatasetDict:
    """All splits of a data set.

    Args:
        name (`str`): a Hub id, a folder of data files (parquet, CSV, images, ...), or a folder of `save_to_disk`.
        config (`str`, *optional*): the configuration on the Hub.

    Returns:
        `datasets.DatasetDict`
    """
    if os.path.isfile(os.path.join(name, "dataset_dict.json")):
        try:
            return datasets.DatasetDict.load_from_disk(name)
        except IndexError as error:  # all that datasets says about a split without rows
            raise ValueError(f"{name}: one of its splits has no rows; fill it, or leave it out") from error
    with found_by("dataset_name", name), readable(name):
        return datasets.load_dataset(name, config)


def require_columns(
    dataset: datasets.Dataset,
    needed: list[str],
    name: str,
    way_out: str = "Pass another --dataset_name, or rename its columns",
) -> None:
    """Raise a `ValueError` that names the columns found and needed, unless all of `needed` are there."""
    missing = [column for column in needed if column not in dataset.column_names]
    if missing:
        raise ValueError(
            f"{name} lacks the columns {', '.join(missing)}: it has {', '.join(dataset.column_names)}, and "
            f"{', '.join(needed)} are needed. {way_out}"
        )


def require_splits(splits: datasets.DatasetDict, needed: list[str], name: str) -> None:
    """Raise a `ValueError` that names the splits found and needed, unless all of `needed` are there and have rows."""
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
    """One column of integers or booleans, no row decoded.

    Args:
        dataset (`datasets.Dataset`): has the column.
        column (`str`): integers, booleans or a ClassLabel.
        name (`str`): the data set's, for messages.

    Returns:
        `np.ndarray` of shape `(N,)`, int64.

    Raises:
        ValueError: for values of another type, and for a missing one, naming its row.
    """
    values = dataset.select_columns([column]).with_format("arrow")[:].column(0)
    if not (pa.types.is_integer(values.type) or pa.types.is_boolean(values.type)):
        raise ValueError(f"{name}: the column {column!r} must hold integers or booleans; it holds {values.type}")
    if values.null_count:
        row = values.is_null().to_pylist().index(True)
        raise ValueError(f"{name}: the column {column!r} has no value in row {row}; fill it, or drop the row")
    return values.to_numpy().astype(np.int64)
