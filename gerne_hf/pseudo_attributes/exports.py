"""What was found, for people and other programs: a table of the training rows, a CSV, a JSON and rows to look at.

Imports `reports/` for the examples and `groups/` for the columns; what is found is computed in
[`findings`](gerne_hf.pseudo_attributes.findings).
[`PseudoAttributes`](gerne_hf.pseudo_attributes.PseudoAttributes) calls `scored_table` and `export_findings`, a trainer
`save_findings`; the page about a run reads `inferred_groups.json`.
"""

import os
from collections.abc import Collection, Sequence
from typing import Any, Protocol

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.csv
from accelerate import PartialState

from ..groups.index import LABEL_COLUMNS
from ..reports.examples import remove_training_examples, save_training_examples
from ..reports.record import EXAMPLES_FOLDER, INFERRED_FILE
from ..utils.files import write_json
from .findings import LabelNoise, explaining_columns, label_noise, rows_to_show
from .own_columns import own_columns, own_names, whole_column
from .rules import InferredGroups, ScoredRows

ROWS_CSV = "pseudo_attributes.csv"
"""File of an export with a line for each training row."""

FIRST_ROWS = 20
"""Rows of probable label noise that `inferred_groups.json` names, those that are not hard first; the CSV marks all."""

MOST_CLASSES = 24
"""Classes of which rows are kept to be looked at: those with the most hard rows."""

_RENAMED = "data_"


class Scored(Protocol):
    """What is exported: the parts of [`PseudoAttributes`](gerne_hf.pseudo_attributes.PseudoAttributes) used here."""

    scores: np.ndarray
    predictions: np.ndarray
    labels: np.ndarray
    label_names: tuple[str, ...]
    fingerprint: str
    record: dict[str, Any]
    rows: ScoredRows | None


def scored_table(pseudo: Scored, inferred: InferredGroups, dataset: Any = None) -> datasets.Dataset:
    """Return a table of the training rows with their scores and the data set's own columns.

    Args:
        pseudo ([`PseudoAttributes`]): the scores.
        inferred ([`InferredGroups`]): the groups, of the same rows.
        dataset (*optional*): the training set, whose columns are added; see [`PseudoAttributes.table`].
    """
    classes = datasets.ClassLabel(names=list(pseudo.label_names))
    features = {
        "row": datasets.Value("int64"),
        "label": classes,
        "prediction": classes,
        "probability": datasets.Value("float32"),
        "hard": datasets.Value("bool"),
        "fold": datasets.Value("int64"),
    }
    count = len(pseudo.scores)
    columns = {
        "row": np.arange(count),
        "label": pseudo.labels,
        "prediction": pseudo.predictions,
        "probability": pseudo.scores.astype(np.float32),
        "hard": inferred.hard,
        "fold": np.zeros(count, dtype=np.int64) if pseudo.rows is None else pseudo.rows.folds,
    }
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    if dataset is None:
        return table
    label_column = pseudo.record.get("label_column")
    if label_column is None:
        label_column = next((name for name in LABEL_COLUMNS if name in own_names(dataset)), None)
    return _beside(table, dataset, label_column)


def _beside(table: datasets.Dataset, dataset: Any, label_column: str | None) -> datasets.Dataset:
    """Return the table with the columns of a data set; those with the name of a column of the table are renamed."""
    names = {
        name: _RENAMED + name if name in table.column_names else name
        for name in own_names(dataset)
        if not (name == label_column == "label")
    }
    if isinstance(dataset, datasets.Dataset):
        own = dataset.with_format(None).select_columns(list(names))
        own = own.rename_columns({old: new for old, new in names.items() if old != new})
    else:
        whole = {new: whole_column(dataset, old) for old, new in names.items()}
        columns = {new: values for new, values in whole.items() if values is not None}
        own = datasets.Dataset(pa.table(columns)) if columns else table.select_columns([])
    if not own.column_names:
        return table
    return datasets.concatenate_datasets([table, own], axis=1)


def describe_findings(
    pseudo: Scored,
    inferred: InferredGroups,
    dataset: Any = None,
    noise: LabelNoise | None = None,
    warnings: Sequence[str] = (),
    mass: np.ndarray | None = None,
) -> dict[str, Any]:
    """Return what `inferred_groups.json` holds.

    Args:
        pseudo ([`PseudoAttributes`]): the scores.
        inferred ([`InferredGroups`]): the groups.
        dataset (*optional*): the training set, whose columns may explain the hard rows.
        noise ([`LabelNoise`], *optional*): rows that look mislabelled.
        warnings (`Sequence[str]`, *optional*): what was warned of.
        mass (`np.ndarray` of shape `(K, A)`, *optional*): expected weight of each group in training; if it is not
            given, the hard rows' share of their class is that of the target distribution.
    """
    hard, names = inferred.hard, pseudo.label_names
    of_hard = np.zeros(inferred.index.counts.size, dtype=bool)
    of_hard[inferred.index.codes[hard]] = True
    weights = inferred.target if mass is None else np.asarray(mass, dtype=np.float64)
    weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    shares = (weights * of_hard.reshape(weights.shape)).sum(axis=1)
    columns = own_columns(dataset, {pseudo.record.get("label_column") or "", *LABEL_COLUMNS}) if hard.any() else []
    explaining = explaining_columns(columns, pseudo.labels, hard, len(names))
    accuracies = {
        name: pseudo.record.get(name)
        for name in ("in_sample_accuracy", "out_of_fold_accuracy", "class_balanced_accuracy")
    }
    return {
        "rule": inferred.rule,
        "fingerprint": pseudo.fingerprint,
        "folds": pseudo.record.get("folds"),
        **accuracies,
        "classes": [
            {
                "label": split.name,
                "rows": split.rows,
                "hard": split.hard,
                "share_of_rows": split.hard / max(split.rows, 1),
                "share_of_mass": float(shares[label]),
                "target": split.target if split.hard else 0.0,
                "reason": split.reason,
            }
            for label, split in enumerate(inferred.classes)
        ],
        "warnings": [str(warning) for warning in warnings],
        "explaining_columns": [
            {
                "column": column.name,
                "explained": column.explained,
                "bits": column.bits,
                "beyond_chance": column.beyond_chance,
                "values": [
                    {
                        "label": names[value.label],
                        "value": value.value,
                        "share_of_hard": value.of_hard,
                        "share_of_others": value.of_others,
                    }
                    for value in column.values
                ],
            }
            for column in explaining
        ],
        "label_noise": None
        if noise is None
        else {
            "rows": len(noise.rows),
            "hard": int(hard[noise.rows].sum()),
            "first_rows": noise.rows[np.argsort(hard[noise.rows], kind="stable")][:FIRST_ROWS].tolist(),
            "candidates": noise.candidates,
            "checked": noise.checked,
            "neighbours": noise.neighbours,
            "sampled": noise.sampled,
        },
    }


def export_findings(
    pseudo: Scored,
    inferred: InferredGroups,
    folder: str | os.PathLike,
    dataset: Any = None,
    *,
    csv_folder: str | os.PathLike | None = None,
    warnings: Sequence[str] = (),
    mass: np.ndarray | None = None,
) -> None:
    """Write `pseudo_attributes.csv` and `inferred_groups.json`; on several processes the main one does.

    Args:
        pseudo ([`PseudoAttributes`]): the scores.
        inferred ([`InferredGroups`]): the groups.
        folder (`str`): the folder of the files, made if there is none.
        dataset (*optional*): the training set, whose columns may explain the hard rows.
        csv_folder (`str`, *optional*): another folder for the CSV.
        warnings, mass (*optional*): as for [`describe_findings`].
    """
    if not PartialState().is_main_process:
        return
    noise = None if pseudo.rows is None else label_noise(pseudo.rows)
    found = describe_findings(pseudo, inferred, dataset, noise, warnings, mass)
    csv_folder = folder if csv_folder is None else csv_folder
    for path in (folder, csv_folder):
        os.makedirs(path, exist_ok=True)
    _write_csv(pseudo, inferred, noise, os.path.join(csv_folder, ROWS_CSV))
    write_json(found, os.path.join(folder, INFERRED_FILE))


def _write_csv(pseudo: Scored, inferred: InferredGroups, noise: LabelNoise | None, path: str) -> None:
    """Write a line for each row; without features nobody knows which look mislabelled, and the column is empty."""
    names = pa.array(list(pseudo.label_names))
    count = len(pseudo.scores)
    looks = pa.nulls(count, pa.bool_())
    if noise is not None:
        looks = pa.array(np.isin(np.arange(count), noise.rows))
    table = pa.table(
        {
            "row": np.arange(count),
            "label": names.take(pa.array(pseudo.labels)),
            "prediction": names.take(pa.array(pseudo.predictions)),
            "probability": pseudo.scores.astype(np.float32),
            "hard": inferred.hard,
            "looks_mislabelled": looks,
        }
    )
    pyarrow.csv.write_csv(table, path + ".partial")
    os.replace(path + ".partial", path)


def save_findings(
    pseudo: Scored,
    inferred: InferredGroups,
    dataset: Any,
    folder: str | os.PathLike,
    count: int,
    processing_class: Any = None,
    warnings: Sequence[str] = (),
    mass: np.ndarray | None = None,
    *,
    model: Any = None,
    no_texts: Collection[str] = (),
) -> None:
    """Write all that the page about a run shows of the groups that were inferred, on the main process.

    `inferred_groups.json` goes to the run's folder; the CSV of all rows, and images or texts of the hardest and of
    typical training rows of each class, go to `_examples` in it, which the Trainer does not push. Of more than 24
    classes rows of the 24 with the most hard ones are kept.

    Args:
        pseudo ([`PseudoAttributes`]): the scores.
        inferred ([`InferredGroups`]): the groups that were trained on.
        dataset: the training set.
        folder (`str`): the run's folder.
        count (`int`): rows of each kind and class that are kept to be looked at; with 0 none are, and those of an
            earlier run are removed.
        processing_class (*optional*): the tokenizer or image processor, which brings texts and images back.
        warnings (`Sequence[str]`, *optional*): what was warned of, before training or after.
        mass (`np.ndarray` of shape `(K, A)`, *optional*): expected weight of each group in training.
        model (*optional*): the model; one of timm says how images were normalized.
        no_texts (`Collection[str]`, *optional*): columns whose strings are not kept, such as those of attributes.
    """
    if not PartialState().is_main_process:
        return
    folder = os.fspath(folder)
    export_findings(
        pseudo,
        inferred,
        folder,
        dataset,
        csv_folder=os.path.join(folder, EXAMPLES_FOLDER),
        warnings=warnings,
        mass=mass,
    )
    if not count:
        remove_training_examples(folder)
        return
    order = sorted(range(len(inferred.classes)), key=lambda label: -inferred.classes[label].hard)
    classes = [
        _rows_of_class(pseudo, inferred, label, count)
        for label in sorted(order[:MOST_CLASSES])
        if inferred.classes[label].rows
    ]
    label_column = pseudo.record.get("label_column")
    hidden = {*no_texts, *([label_column] if label_column else [])}
    save_training_examples(folder, classes, dataset, processing_class, model, hidden)


def _rows_of_class(pseudo: Scored, inferred: InferredGroups, label: int, count: int) -> dict[str, Any]:
    hardest, typical = rows_to_show(pseudo.scores, pseudo.labels, inferred.hard, label, count)
    split, names = inferred.classes[label], pseudo.label_names
    return {
        "label": split.name,
        "rows": split.rows,
        "hard": split.hard,
        **{
            kind: [
                {
                    "row": int(row),
                    "prediction": names[pseudo.predictions[row]],
                    "probability": float(pseudo.scores[row]),
                }
                for row in rows
            ]
            for kind, rows in (("hardest", hardest), ("typical", typical))
        },
    }
