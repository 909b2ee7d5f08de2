"""Group metrics of a file of predictions: CSV, TSV, JSON lines or Parquet, read in parts, whatever its size.

Imports `evaluation/` and `groups/`, NumPy and pyarrow: neither torch nor `datasets`, so that
`gerne-hf evaluate --predictions` starts at once. A file may be far larger than memory: rows are counted, not kept.
"""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..evaluation.group_scores import group_scores
from ..evaluation.metrics import metrics_from_counts
from ..evaluation.score_names import check_extra_metrics, needs_probabilities
from ..groups.limits import check_group_count
from ..groups.names import combined_name

KINDS = {".csv": ",", ".tsv": "\t", ".jsonl": None, ".ndjson": None, ".json": None, ".parquet": None}
"""Files that can be read, by their ending; and what parts the columns of a text file."""

_PART = 1 << 22  # bytes of a text file that are read at a time
_ROWS = 1 << 17  # rows of a Parquet file
_MOST_CELLS = 1 << 24  # combinations of prediction, label and attribute that are counted
_TOLERANCE = 1e-3  # by which the probabilities of a row may miss one: files hold them with few digits


@dataclass
class _Names:
    """The names of a column in the order of their first rows, and their ids."""

    ids: dict[str, int] = field(default_factory=dict)

    def encode(self, values: pa.Array) -> np.ndarray:
        """Return the ids of a column of texts without missing values; new names get the next ones."""
        encoded = pc.dictionary_encode(values)
        places = [self.ids.setdefault(name, len(self.ids)) for name in encoded.dictionary.to_pylist()]
        return np.array(places, dtype=np.int64)[encoded.indices.to_numpy(zero_copy_only=False)]


@dataclass
class _Counts:
    """How many rows have each combination of prediction, label and attribute value, by their ids."""

    table: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0), dtype=np.int64))

    def add(self, *ids: np.ndarray) -> None:
        """Count rows; the table grows where there are new names."""
        needed = [max(size, int(column.max()) + 1) for size, column in zip(self.table.shape, ids, strict=True)]
        if tuple(needed) != self.table.shape:
            check_group_count(needed[1] * needed[2], [needed[2]])
            if math.prod(needed) > _MOST_CELLS:
                raise ValueError(
                    f"the column of predictions holds {needed[0]:,} names or more, too many beside {needed[1]:,} "
                    f"labels and {needed[2]:,} attribute values. Choose a column of classes, not of identifiers"
                )
            wider = np.zeros(needed, dtype=np.int64)
            wider[tuple(slice(0, size) for size in self.table.shape)] = self.table
            self.table = wider
        flat = np.ravel_multi_index(ids, self.table.shape)
        self.table += np.bincount(flat, minlength=self.table.size).reshape(self.table.shape)


def evaluate_prediction_file(
    path: str | os.PathLike,
    prediction_column: str = "prediction",
    label_column: str = "label",
    attribute_columns: Sequence[str] = ("attribute",),
    probability_columns: Sequence[str] = (),
    label_names: Sequence[str] | None = None,
    extra_metrics: Sequence[str] = (),
    skip_unusable_rows: bool = False,
    delimiter: str | None = None,
) -> dict[str, Any]:
    """Compute the group metrics of a file that holds a prediction, a label and an attribute in each row.

    Names are taken as the file writes them; whole numbers of a Parquet or JSON file are written without a point.

    Args:
        path (`str`): the file: `.csv`, `.tsv`, `.jsonl` or `.parquet`.
        prediction_column (`str`, *optional*, defaults to `"prediction"`): column of the predicted class; not needed
            with `probability_columns`, whose largest counts.
        label_column (`str`, *optional*, defaults to `"label"`): column of the true class.
        attribute_columns (`Sequence[str]`, *optional*, defaults to `("attribute",)`): columns of the attribute; of
            several the combinations of values are taken.
        probability_columns (`Sequence[str]`, *optional*): columns of the classes' probabilities, in the order of
            `label_names`; or named as the classes.
        label_names (`Sequence[str]`, *optional*): all classes, where some of them have no row; those of the label
            column if not given, in alphabetic order.
        extra_metrics (`Sequence[str]`, *optional*): metrics beyond accuracy, as for
            [`group_metrics`](gerne_hf.evaluation.metrics.group_metrics). They need every row at once: 24 bytes a row,
            and 4 more for each probability.
        skip_unusable_rows (`bool`, *optional*, defaults to `False`): whether rows that lack a value are left out, and
            counted as `rows_left_out`; without it they are refused.
        delimiter (`str`, *optional*): what parts the columns of a CSV file; a comma if not given.

    Returns:
        `dict`: what [`group_metrics`](gerne_hf.evaluation.metrics.group_metrics) returns.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a file of another kind, an empty or damaged one, columns that are not there (names those that
            are), rows without a value (names all columns and the first row of each), predictions that are not among
            the labels, and probabilities that do not sum to one.
    """
    path = os.fspath(path)
    names = check_extra_metrics(extra_metrics)
    if needs_probabilities(names) and not probability_columns:
        raise ValueError(f"{', '.join(names)} need probabilities, and the file's columns of them were not named")
    if probability_columns and label_names is not None and len(label_names) != len(probability_columns):
        raise ValueError(
            f"there are {len(probability_columns)} columns of probabilities and {len(label_names)} classes "
            f"({', '.join(label_names)}). Name one column for each class, in the order of the classes"
        )
    columns = [label_column, *attribute_columns]
    if not probability_columns:
        columns.insert(0, prediction_column)
    classes = list(label_names) if label_names is not None else list(probability_columns)
    known = _Names({name: i for i, name in enumerate(classes)})
    reader = _Reader(path, columns, list(probability_columns), skip_unusable_rows, delimiter)
    labels, attributes, counts = _Names(), _Names(), _Counts()
    kept: list[tuple[np.ndarray, ...]] = []
    probabilities: list[np.ndarray] = []
    for texts, scores in reader.parts():
        if scores is None:
            predicted = known.encode(texts[prediction_column])
        else:
            predicted = scores.argmax(axis=1)
        truth = labels.encode(texts[label_column])
        where = attributes.encode(_combined([texts[name] for name in attribute_columns]))
        counts.add(predicted, truth, where)
        if names:
            kept.append((predicted, truth, where))
            if scores is not None:
                probabilities.append(scores.astype(np.float32))
    faults = reader.faults()
    if faults and not skip_unusable_rows:
        raise ValueError(faults)
    if not counts.table.size:
        raise ValueError(f"{path} has no rows{' with all values' if reader.left_out else ''}")
    order = _order_of_classes(path, known, labels, counts, label_names, list(probability_columns))
    shown = sorted(attributes.ids, key=_natural)
    by_name = _by_name(counts.table, [known.ids, labels.ids, attributes.ids], [order, order, shown])
    result = metrics_from_counts(np.einsum("kka->ka", by_name), by_name.sum(axis=0), order, shown)
    if names:
        arrays = [np.concatenate(column) for column in zip(*kept, strict=True)]
        places = [_places(ids, to) for ids, to in ((known.ids, order), (labels.ids, order), (attributes.ids, shown))]
        predicted, truth, where = (place[array] for place, array in zip(places, arrays, strict=True))
        matrix = np.concatenate(probabilities) if probabilities else None
        result |= group_scores(names, predicted, truth, where, matrix, order, shown)
    if reader.left_out:
        result["rows_left_out"] = reader.left_out
    return result


def _places(ids: dict[str, int], names: Sequence[str]) -> np.ndarray:
    """Return for each id its name's place among `names`."""
    place = {name: i for i, name in enumerate(names)}
    return np.array([place[name] for name in ids], dtype=np.int64)


def _by_name(table: np.ndarray, ids: Sequence[dict[str, int]], names: Sequence[Sequence[str]]) -> np.ndarray:
    """Return counts whose axes are in the order of the names, with zeros for names that do not occur."""
    for axis, (known, wanted) in enumerate(zip(ids, names, strict=True)):
        size = table.shape[axis]
        places = np.array([known.get(name, size) for name in wanted])
        padded = np.concatenate([table, np.zeros_like(table.take([0], axis))], axis)
        table = padded.take(np.minimum(places, size), axis)
    return table


def _order_of_classes(
    path: str,
    known: _Names,
    labels: _Names,
    counts: _Counts,
    label_names: Sequence[str] | None,
    probability_columns: Sequence[str],
) -> list[str]:
    """Return the classes in order; refuse predictions that are not among the labels, and labels that are no class."""
    if label_names is not None or probability_columns:
        classes = list(label_names) if label_names is not None else list(probability_columns)
        strange = [name for name in labels.ids if name not in classes]
        if strange:
            given = "label_names" if label_names is not None else "the columns of probabilities"
            raise ValueError(
                f"{path} has the labels {_listed(strange)}, which are not among {given}: {_listed(classes)}. Name the "
                "classes with --label_names, in the order of the probabilities"
            )
    else:
        classes = sorted(labels.ids, key=_natural)
    rows = counts.table.sum(axis=(1, 2))
    strange = [f"{name!r} in {rows[i]:,} rows" for name, i in known.ids.items() if name not in classes and rows[i]]
    if strange:
        raise ValueError(
            f"{path} predicts {', '.join(strange[:10])}{', ...' if len(strange) > 10 else ''}, and no row has such a "
            f"label; the labels are {_listed(classes)}. If names are written in two ways, mend one; if it is a class "
            "that has no row here, name all classes with --label_names"
        )
    return classes


def _natural(name: str) -> tuple[bool, float, str]:
    """Return what names are sorted by: numbers by their size, before texts in alphabetic order."""
    return (False, float(name), name) if name.isdecimal() else (True, 0.0, name)


def _listed(names: Sequence[str], most: int = 20) -> str:
    """Return names in quotation marks, with dots in place of those beyond `most`."""
    return ", ".join(map(repr, names[:most])) + (", ..." if len(names) > most else "")


def _combined(columns: Sequence[pa.Array]) -> pa.Array:
    """Return the attribute of each row: the value of the one column, or the combination of values of several."""
    if len(columns) == 1:
        return columns[0]
    encoded = [pc.dictionary_encode(column) for column in columns]
    sizes = [len(column.dictionary) for column in encoded]
    codes = np.ravel_multi_index([column.indices.to_numpy() for column in encoded], sizes)
    found, inverse = np.unique(codes, return_inverse=True)
    words = [column.dictionary.to_pylist() for column in encoded]
    parts = np.unravel_index(found, sizes)
    combined = [
        combined_name([word[i] for word, i in zip(words, row, strict=True)]) for row in zip(*parts, strict=True)
    ]
    return pa.array(combined, pa.string()).take(pa.array(inverse))


class _Reader:
    """Reads the columns that are needed, part by part, as texts and as probabilities without missing values.

    Args:
        path (`str`): the file.
        columns (`list[str]`): columns of names.
        probabilities (`list[str]`): columns of probabilities.
        skips (`bool`): whether rows without a value are left out.
        delimiter (`str`, *optional*): what parts the columns of a CSV file.
    """

    def __init__(self, path: str, columns: list[str], probabilities: list[str], skips: bool, delimiter: str | None):
        self.path, self.columns, self.probabilities, self.skips = path, columns, probabilities, skips
        self.kind = os.path.splitext(path)[1].lower()
        self.delimiter = delimiter or KINDS.get(self.kind)
        self.left_out = self._rows = 0
        self._missing: dict[str, tuple[int, int]] = {}  # by column: rows without a value, and the first of them
        if not os.path.isfile(path):
            raise FileNotFoundError(f"there is no file {path}")
        if self.kind not in KINDS:
            raise ValueError(f"{path} is no file of predictions that can be read; {', '.join(KINDS)} can")
        if not os.path.getsize(path):
            raise ValueError(f"{path} is empty: it has neither columns nor rows")

    def parts(self) -> Iterator[tuple[dict[str, pa.Array], np.ndarray | None]]:
        """Yield the columns of names by name, and the probabilities of shape `(n, K)` where there are any."""
        try:
            for batch in self._batches():
                yield from self._part(batch)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{self.path} cannot be read: {error}. Mend the file, or write it anew") from error

    def _part(self, batch: pa.RecordBatch) -> Iterator[tuple[dict[str, pa.Array], np.ndarray | None]]:
        self._require(batch.schema.names)
        texts = {name: _as_text(batch.column(name), name, self.path) for name in self.columns}
        numbers = {name: _as_number(batch.column(name), name, self.path) for name in self.probabilities}
        usable = np.ones(len(batch), dtype=bool)
        for name, column in {**texts, **numbers}.items():
            if column.null_count:
                valid = column.is_valid().to_numpy(zero_copy_only=False)
                count, first = self._missing.get(name, (0, self._rows + int(valid.argmin())))
                self._missing[name] = count + int((~valid).sum()), first
                usable &= valid
        begin, self._rows = self._rows, self._rows + len(batch)
        self.left_out += int((~usable).sum())
        if not usable.all():
            mask = pa.array(usable)
            texts = {name: column.filter(mask) for name, column in texts.items()}
            numbers = {name: column.filter(mask) for name, column in numbers.items()}
        if not usable.any():
            return
        scores = None
        if numbers:
            scores = np.stack([column.to_numpy(zero_copy_only=False) for column in numbers.values()], axis=1)
            self._check_sums(scores, begin + np.flatnonzero(usable))
        yield texts, scores

    def _batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows of the file, part by part, with the columns that are needed where others can be left out."""
        if self.kind == ".parquet":
            import pyarrow.parquet as parquet

            file = parquet.ParquetFile(self.path)
            self._require(file.schema_arrow.names)
            yield from file.iter_batches(_ROWS, columns=[*self.columns, *self.probabilities])
        elif self.delimiter is not None:
            from pyarrow import csv

            as_they_are = csv.ConvertOptions(
                column_types={
                    **dict.fromkeys(self.columns, pa.string()),
                    **dict.fromkeys(self.probabilities, pa.float64()),
                },
                null_values=[""],
                strings_can_be_null=True,
            )
            parsed = csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True)
            yield from csv.open_csv(self.path, csv.ReadOptions(block_size=_PART), parsed, as_they_are)
        else:
            from pyarrow import json

            yield from json.open_json(self.path, json.ReadOptions(block_size=_PART))

    def _require(self, found: Sequence[str]) -> None:
        """Refuse a file without the columns that are needed; name those that are there."""
        missing = [name for name in (*self.columns, *self.probabilities) if name not in found]
        if not missing:
            return
        alone = len(found) == 1 and any(mark in found[0] for mark in ";\t|")
        hint = "; a file of one column may be parted by another sign: give --delimiter" if alone else ""
        raise ValueError(
            f"{self.path} has no column {_listed(missing)}: its columns are {_listed(list(found), 40)}{hint}. Name "
            "the columns with --prediction_column, --label_column and --attribute_column"
        )

    def _check_sums(self, scores: np.ndarray, rows: np.ndarray) -> None:
        """Refuse probabilities that do not sum to one, or lie outside [0, 1]."""
        wrong = (
            (np.abs(scores.sum(axis=1) - 1) > _TOLERANCE) | (scores < 0).any(axis=1) | ~np.isfinite(scores).all(axis=1)
        )
        if wrong.any():
            first = int(wrong.argmax())
            values = ", ".join(f"{value:.6g}" for value in scores[first][:10])
            raise ValueError(
                f"{self.path}: the probabilities of a row must be in [0, 1] and sum to 1; those of row "
                f"{rows[first]:,}, counted from 0, are {values}, with the sum {scores[first].sum():.6g}. Logits "
                "become probabilities by a softmax"
            )

    def faults(self) -> str | None:
        """Return what is wrong with the rows of the whole file, all in one message; None if nothing is."""
        if not self._missing:
            return None
        said = "; ".join(
            f"{name!r} in {count:,} row{'s' if count > 1 else ''}, the first of them row {first:,}"
            for name, (count, first) in self._missing.items()
        )
        return (
            f"{self.path}: {self.left_out:,} of {self._rows:,} rows lack a value: {said}, counted from 0. Fill them, "
            "or leave these rows out with --skip_unusable_rows, which counts them"
        )


def _as_text(column: pa.Array, name: str, path: str) -> pa.Array:
    """Return a column as texts; refuse one of other things than names and whole numbers."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pc.if_else(pc.equal(column, ""), pa.scalar(None, kind), column).cast(pa.string())
    if pa.types.is_floating(kind):  # how pandas writes whole numbers beside missing ones
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
        whole = pc.all(pc.equal(column, pc.trunc(column))).as_py()
        if whole is False:
            raise ValueError(f"{path}: the column {name!r} must hold names or whole numbers; it holds fractions")
        column = column.cast(pa.int64())
    elif pa.types.is_null(kind):
        return pa.nulls(len(column), pa.string())
    elif not (pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise ValueError(f"{path}: the column {name!r} must hold names or whole numbers; it holds {kind}")
    return column.cast(pa.string())


def _as_number(column: pa.Array, name: str, path: str) -> pa.Array:
    """Return a column as floating-point numbers."""
    if pa.types.is_null(column.type) or pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        return column.cast(pa.float64())
    raise ValueError(f"{path}: the column {name!r} must hold probabilities; it holds {column.type}")
