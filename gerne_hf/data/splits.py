"""Any data set as the splits train, validation and test, with named classes and attribute values.

Imports `groups`, `hub` and `loading.py`. `images.py` and `texts.py` build on [`prepare_splits`].
"""

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import datasets
import numpy as np
from accelerate import PartialState
from transformers.utils import logging

from ..groups.columns import encode_column
from ..groups.sources import add_column
from ..hub.repositories import explained
from .loading import load_splits, readable, require_columns
from .missing import usable_rows

logger = logging.get_logger(__name__)

SPLITS = ("train", "validation", "test")
"""The names of the splits, in their order."""

_ALIASES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}

_BUILDERS = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".json": "json", ".jsonl": "json", ".ndjson": "json"}

_HELD_OUT = {"validation": 0.1, "test": 0.2}
"""The share of the training rows that becomes a split where the data set lacks it."""

_COLUMNS = "Name others with --text_column, --text_pair_column, --image_column, --label_column, --attribute_column"

_GOLDEN_RATIO = (5**0.5 - 1) / 2


def load_any(name: str, config: str | None = None, option: str = "dataset_name") -> datasets.DatasetDict:
    """Load all splits of any data set.

    Args:
        name (`str`): a Hub id; a folder of parquet, CSV or JSON lines files, or of images with `metadata.csv`; a
            single such file; or a folder that `save_to_disk` has written.
        config (`str`, *optional*): the data set's configuration on the Hub.
        option (`str`, *optional*): the option that gave the name, for messages.

    Returns:
        `datasets.DatasetDict`: the splits under the names that they have there; a single file or `Dataset` is `train`.

    Raises:
        ValueError: if the file has another type, or files are damaged or have no rows.
        OSError: if there is no such data set, or no network; a note says what to do.
    """
    extension = os.path.splitext(name)[1].lower()
    if os.path.isfile(name):
        if extension not in _BUILDERS:
            raise ValueError(f"{name} is no data file that can be read; {', '.join(_BUILDERS)} can")
        more = {"sep": "\t"} if extension == ".tsv" else {}
        with readable(name):
            return datasets.load_dataset(_BUILDERS[extension], data_files={"train": name}, **more)
    if os.path.isfile(os.path.join(name, "state.json")):  # a single Dataset of save_to_disk
        return datasets.DatasetDict(train=datasets.load_from_disk(name))
    with explained(f"There is no file {name}.") if extension in _BUILDERS else nullcontext():
        return load_splits(name, config, option)


def choose_splits(splits: datasets.DatasetDict, name: str, **chosen: str | None) -> datasets.DatasetDict:
    """Pick the splits train, validation and test, as far as they exist, and give them these names.

    Args:
        splits (`datasets.DatasetDict`): all splits of the data set.
        name (`str`): name of the data set, for messages.
        chosen (`str`, *optional*): names of the splits `train`, `validation` and `test` in the data set. For one that
            is not given, the usual names (such as "dev" or "valid") are tried.

    Returns:
        `datasets.DatasetDict`: `train`, and `validation` and `test` where they exist.

    Raises:
        ValueError: if a chosen split, or any training split, is missing; names the splits found.

    Example:

    ```python
    >>> import datasets
    >>> rows = datasets.Dataset.from_dict({"label": [0, 1]})
    >>> list(choose_splits(datasets.DatasetDict(train=rows, dev=rows), "the data set"))
    ['train', 'validation']

    ```
    """
    found = datasets.DatasetDict()
    for role in SPLITS:
        wanted = chosen.get(role)
        if wanted is not None and wanted not in splits:
            raise ValueError(f"{name} has no split {wanted!r}: it has {', '.join(splits)}")
        key = wanted or next((alias for alias in _ALIASES[role] if alias in splits), None)
        if key is not None:
            found[role] = splits[key]
    if "train" not in found:
        raise ValueError(f"{name} has no training split: it has {', '.join(splits)}. Name it with --train_split")
    return found


def with_classes(
    splits: datasets.DatasetDict, label_column: str, attribute_columns: Sequence[str] = (), name: str = "the data set"
) -> datasets.DatasetDict:
    """Turn labels and attributes of any type into ClassLabel columns, whose ids mean the same in every split.

    Args:
        splits (`datasets.DatasetDict`): the splits, `train` first.
        label_column (`str`): column of the class: integers, booleans, strings or a ClassLabel.
        attribute_columns (`Sequence[str]`, *optional*): columns of the attributes, of the same types. The training
            set may lack them.
        name (`str`, *optional*): name of the data set, for messages.

    Returns:
        `datasets.DatasetDict`: the splits with these columns replaced.

    Raises:
        TypeError, ValueError: if a column holds no categories (but floats, lists or nulls), if a split has labels that
            the training set lacks, or if there is only one label.

    Example:

    ```python
    >>> import datasets
    >>> rows = datasets.Dataset.from_dict({"text": ["purr", "woof", "miaow"], "label": ["cat", "dog", "cat"]})
    >>> train = with_classes(datasets.DatasetDict(train=rows), "label")["train"]
    >>> train["label"][:], train.features["label"].names
    ([0, 1, 0], ['cat', 'dog'])

    ```
    """
    known: dict[str, list[str]] = {}
    result = datasets.DatasetDict()
    for key, split in splits.items():
        codes = {}
        for column in (label_column, *attribute_columns):
            if column != label_column and key == "train" and column not in split.column_names:
                continue  # attributes may be unknown in training
            role = "label" if column == label_column else "attribute"
            codes[column], names = encode_column(split, column, role, known.get(column, ()))
            if role == "label" and len(names) < 2:
                raise ValueError(
                    f"{name}: the label column {column!r} has the single value {''.join(names)!r}, and a classifier "
                    "needs two or more. Name another --label_column"
                )
            new = names[len(known.get(column, names)) :]
            if new and role == "label":
                rows = int((codes[column] >= len(known[column])).sum())
                raise ValueError(
                    f"{name}: the split {key!r} has the labels {', '.join(map(repr, new))} ({rows:,} rows), which "
                    f"training lacks: it has {', '.join(known[column])}. The model cannot predict them: drop these "
                    "rows, or add such rows to the training split"
                )
            if new and key != "train":
                logger.warning(
                    f"{name}: the split {key!r} has values of {column!r} that training lacks: "
                    f"{', '.join(map(repr, new))}. Their groups are evaluated, with 0 training rows."
                )
            known[column] = names
        for column, values in codes.items():
            split = add_column(split.remove_columns(column), column, values, known[column])
        result[key] = split
    for column in attribute_columns:  # a split that was encoded earlier lacks the names that a later one brought
        for key, split in result.items():
            if key == "train":
                continue  # there a name without rows would be taken for a group without training rows
            if column in split.column_names and split.features[column].names != known[column]:
                values = np.asarray(split.with_format("numpy")[column][:])
                result[key] = add_column(split.remove_columns(column), column, values, known[column])
    return result


def complete_splits(
    splits: datasets.DatasetDict, label_column: str, attribute_columns: Sequence[str] = (), seed: int = 0
) -> datasets.DatasetDict:
    """Take the splits that are missing out of the training rows, of each group the same share, and print how many.

    Args:
        splits (`datasets.DatasetDict`): `train` and perhaps `validation` and `test`, as [`with_classes`] returns them.
        label_column (`str`): column of the class.
        attribute_columns (`Sequence[str]`, *optional*): columns of the attributes; those that `train` has count.
        seed (`int`, *optional*, defaults to `0`): seed of the choice of rows, which is the same in every run.

    Returns:
        `datasets.DatasetDict`: `train`, `validation` and `test`.

    Raises:
        ValueError: if there are too few training rows.
    """
    missing = [key for key in ("validation", "test") if key not in splits]
    if not missing:
        return splits
    train = splits["train"]
    group = np.zeros(len(train), dtype=np.int64)
    for column in (label_column, *(name for name in attribute_columns if name in train.column_names)):
        values = np.asarray(train.with_format("numpy")[column][:])
        group = np.unique(group * (int(values.max(initial=0)) + 1) + values, return_inverse=True)[1]
    order = np.random.default_rng(seed).permutation(len(train))
    order = order[np.argsort(group[order], kind="stable")]
    # Multiples of the golden ratio, modulo 1, spread any consecutive rows evenly over [0, 1), and so the rows of every
    # group, however small. Places from 0.3 on (if both splits are missing) are training: of two consecutive rows at
    # least one lies there. The only row of a group is put there too.
    place = np.arange(len(train)) * _GOLDEN_RATIO % 1.0
    place[np.bincount(group)[group[order]] == 1] = 0.999
    parts, edge = dict(splits), 0.0
    for key in missing:
        inside = (place >= edge) & (place < edge + _HELD_OUT[key])
        parts[key], edge = train.select(np.sort(order[inside])), edge + _HELD_OUT[key]
    parts["train"] = train.select(np.sort(order[place >= edge]))
    empty = [key for key in SPLITS if not len(parts[key])]
    if empty:
        raise ValueError(
            f"{len(train):,} training rows in {int(group.max(initial=-1)) + 1:,} groups are too few to cut "
            f"{' and '.join(missing)} from them: the only row of a group stays in training. Name other columns, or "
            "give the splits"
        )
    counts = ", ".join(f"{len(parts[key]):,} for {key}" for key in SPLITS)
    PartialState().print(
        f"The data set has no {' and no '.join(missing)} split: taken out of the training rows with the fixed seed "
        f"{seed}, group by group ({counts} rows)."
    )
    return datasets.DatasetDict({key: parts[key] for key in SPLITS})


def prepare_splits(
    source: str | datasets.DatasetDict,
    columns: Sequence[str],
    label_column: str,
    attribute_columns: Sequence[str] = (),
    config: str | None = None,
    check: Callable[[datasets.Dataset, str], None] | None = None,
    skip_unusable_rows: bool = False,
    **chosen: str | None,
) -> datasets.DatasetDict:
    """Load any data set as train, validation and test with the columns needed, and named classes and attribute values.

    Args:
        source (`str` or `datasets.DatasetDict`): a Hub id, folder or file as [`load_any`] takes it, or splits in
            memory.
        columns (`Sequence[str]`): columns of the model's inputs.
        label_column (`str`): column of the class: categories of any type.
        attribute_columns (`Sequence[str]`, *optional*): columns of the attributes: categories of any type. The
            training set may lack them, the validation and test sets may not.
        config (`str`, *optional*): the data set's configuration on the Hub.
        check (`Callable`, *optional*): function that is called with each split as it was loaded, and with a name of
            the split for messages.
        skip_unusable_rows (`bool`, *optional*, defaults to `False`): whether rows that lack a value are left out and
            counted.
        chosen (`str`, *optional*): names of the splits `train`, `validation` and `test` in the data set, where they
            are not the usual ones.

    Returns:
        `datasets.DatasetDict`: `train`, `validation` and `test`.

    Raises:
        TypeError, ValueError: if splits, columns or values are missing or cannot be used; says what was found.
    """
    name = source if isinstance(source, str) else "the data set"
    if label_column in attribute_columns:
        raise ValueError(
            f"the label column {label_column!r} cannot be an attribute too: each label would have a single attribute. "
            "Name another --attribute_column"
        )
    splits = choose_splits(load_any(source, config) if isinstance(source, str) else source, name, **chosen)
    cut = not {"validation", "test"} <= set(splits)
    for key, split in splits.items():
        attributes = list(attribute_columns) if key != "train" or cut else []
        needed = list(dict.fromkeys([*columns, label_column, *attributes]))
        require_columns(split, needed, f"{name}, split {key!r},", _COLUMNS)
        kept = {*needed, *attribute_columns}
        splits[key] = split.select_columns([column for column in split.column_names if column in kept])
    inputs = columns if check is not None or skip_unusable_rows else ()  # a missing image is one that is undecodable
    splits = usable_rows(splits, [*inputs, label_column, *attribute_columns], name, skip_unusable_rows)
    for key, split in splits.items():
        if check is not None:
            check(split, f"{name}, split {key!r},")
    splits = with_classes(splits, label_column, attribute_columns, name)
    return complete_splits(splits, label_column, attribute_columns)
