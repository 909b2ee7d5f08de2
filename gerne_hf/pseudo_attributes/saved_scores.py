"""Scores of biased models in files: a table, arrays and a record with their checksums, and what is damaged of them.

Imports `utils/` and `hub.py`. [`PseudoAttributes`](gerne_hf.pseudo_attributes.PseudoAttributes) saves and loads by
this, and [`folds`](gerne_hf.pseudo_attributes.folds) the scores of each fold.
"""

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..utils.checksums import checksum, checksum_of_json
from ..utils.files import finite, write_json
from .fit_record import RECORD_FILE
from .hub import SCORES_FILE

ROWS_FILE = "rows.npz"
"""File of the probabilities and features of all rows, beside the scores; it is not pushed to the Hub."""

COLUMNS = ("score", "prediction", "label")
"""The columns of the table of scores."""

_UNREADABLE = (
    *(ValueError, KeyError, TypeError, AttributeError, EOFError),
    *(pa.ArrowException, OSError, zipfile.BadZipFile, zlib.error),
)
"""What the readers raise where a file is damaged."""


class DamagedScoresError(ValueError):
    """Raised for saved scores that cannot be read, or are not as they were written."""


def write_arrays(arrays: Mapping[str, np.ndarray | None], path: str) -> None:
    """Write arrays to a file, so that a failure leaves it as it was before; zip keeps a checksum of each.

    Args:
        arrays (`Mapping[str, np.ndarray]`): by name; those that are None are left out.
        path (`str`): the file, `NAME.npz`.
    """
    present: dict[str, Any] = {name: part for name, part in arrays.items() if part is not None}
    with open(path + ".partial", "wb") as file:
        np.savez(file, **present)
    os.replace(path + ".partial", path)


def read_arrays(path: str) -> dict[str, np.ndarray]:
    """Read what [`write_arrays`] wrote.

    Args:
        path (`str`): the file.

    Raises:
        DamagedScoresError: if it cannot be read, or a checksum differs; names it.
    """
    try:
        with np.load(path) as file:
            return dict(file)
    except _UNREADABLE as error:
        raise DamagedScoresError(f"{path} cannot be read ({_said(error)}): it is damaged") from None


def write_scores(
    directory: str,
    columns: Mapping[str, np.ndarray],
    arrays: Mapping[str, np.ndarray | None] | None,
    record: Mapping[str, Any],
) -> None:
    """Write scores to a folder, the record with the checksums last, so that a folder with one is complete.

    Args:
        directory (`str`): the folder, made if there is none.
        columns (`Mapping[str, np.ndarray]`): the table, by the names in [`COLUMNS`].
        arrays (`Mapping[str, np.ndarray]`, *optional*): probabilities and features by name.
        record (`Mapping[str, Any]`): what the fit depends on, and its figures.
    """
    os.makedirs(directory, exist_ok=True)
    scores, rows = os.path.join(directory, SCORES_FILE), os.path.join(directory, ROWS_FILE)
    pq.write_table(pa.table(dict(columns)), scores + ".partial")
    os.replace(scores + ".partial", scores)
    sums = {SCORES_FILE: checksum(scores)}
    if arrays is not None:
        write_arrays(arrays, rows)
        sums[ROWS_FILE] = checksum(rows)
    whole = json.loads(json.dumps(finite({**record, "checksums": sums})))
    write_json({**whole, "checksum": checksum_of_json(whole)}, os.path.join(directory, RECORD_FILE))


def read_scores(directory: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray] | None, dict[str, Any]]:
    """Read scores from a folder, and compare the checksums; earlier versions wrote none.

    Args:
        directory (`str`): the folder.

    Returns:
        `tuple`: the columns, the arrays (None if there are none) and the record that were given to [`write_scores`].

    Raises:
        FileNotFoundError: if the folder holds no record.
        DamagedScoresError: if a file is damaged or missing; names it.
    """
    path = os.path.join(directory, RECORD_FILE)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{directory} holds no complete fit: there is no {RECORD_FILE}")
    name = RECORD_FILE
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        own = record.pop("checksum", None)
        if own is not None and own != checksum_of_json(record):
            raise ValueError("its checksum differs")
        _ = record["label_names"], record["fingerprint"]
        for name, written in record.pop("checksums", {}).items():
            if checksum(os.path.join(directory, name)) != written:
                raise ValueError("its checksum differs")
        name = SCORES_FILE
        table = pq.ParquetFile(os.path.join(directory, name)).read()
        columns = {column: table[column].to_numpy() for column in COLUMNS}
        name, arrays = ROWS_FILE, None
        if os.path.isfile(os.path.join(directory, name)):
            arrays = read_arrays(os.path.join(directory, name))
            if not len(arrays["probabilities"]) == len(arrays["folds"]) == len(table):
                raise ValueError(f"it is of other rows than {SCORES_FILE}")
    except _UNREADABLE as error:
        raise DamagedScoresError(
            f"the scores in {directory} cannot be used: {name} is damaged ({_said(error)}). Delete the folder and fit "
            "again, or put a copy in its place"
        ) from None
    return columns, arrays, record


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if type(error) is ValueError else f"{type(error).__name__}: {text}"
