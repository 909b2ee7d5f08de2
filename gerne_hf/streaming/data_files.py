"""Data files as they are given: which columns each has, and which one an error came from.

Imports no other module of the package. `writing.py` and `coding.py` use it.
"""

import csv
import os
from collections.abc import Sequence

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq


def check_columns(builder: str, paths: Sequence[str]) -> None:
    """Refuse files that have not all the same columns; `datasets` would fill those that are missing with None.

    Of a parquet file the footer is read, of a CSV file the first line. Rows of JSON lines may leave columns out.

    Args:
        builder (`str`): "parquet", "csv" or "json".
        paths (`Sequence[str]`): the files, in order.

    Raises:
        ValueError: for a file with other columns than the first one, and for one that cannot be read; names it.
    """
    first: list[str] | None = None
    for path in map(str, paths) if builder != "json" else ():
        names = _parquet_columns(path) if builder == "parquet" else _csv_columns(path)
        first = names if first is None else first
        if set(names) != set(first):
            raise ValueError(
                f"{path} has the columns {', '.join(names)}, and {paths[0]} has {', '.join(first)}. Write all files "
                "with the same columns; or, if None may stand for what is missing, give the files as "
                f"load_dataset({builder!r}, data_files=..., split=..., streaming=True)"
            )


def _parquet_columns(path: str) -> list[str]:
    with fsspec.open(path, "rb") as file:
        try:
            return list(pq.ParquetFile(file).schema_arrow.names)
        except pa.ArrowException as error:
            raise ValueError(damaged(path, error)) from None


def _csv_columns(path: str) -> list[str]:
    with fsspec.open(path, "rt", encoding="utf-8-sig", errors="replace", newline="") as file:
        return next(csv.reader(file), [])


def damaged(path: str, error: BaseException) -> str:
    """Return the sentence that says that a file cannot be read.

    Args:
        path (`str`): the file.
        error (`BaseException`): what was raised while it was read.
    """
    said = " ".join(str(error).split()).rstrip(".")
    return (
        f"{path} cannot be read ({said}). It is damaged, or its columns have other types than those of the other "
        "files: replace it, or leave it out"
    )


def file_of(error: BaseException) -> str | None:
    """Return the file that `datasets` was reading when an error was raised, which the error does not say.

    Args:
        error (`BaseException`): the error, with its traceback.

    Returns:
        `str`: the file's path; None where `datasets` was not reading a file.
    """
    found, step = None, error.__traceback__
    while step is not None:
        values = step.tb_frame.f_locals
        if str(step.tb_frame.f_globals.get("__name__")).startswith("datasets.packaged_modules."):
            file = values.get("file")
            if isinstance(file, (str, os.PathLike)):
                found = os.fspath(file)
        step = step.tb_next
    return found
