"""CivilComments (WILDS): comments on news. The class is the toxicity, the attributes are eight mentioned identities.

A comment may mention several identities, so that the groups overlap, or none.
Imports the modules of this room and `evaluation`. The recipe is `recipes/civilcomments.py`.
"""

import os
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..evaluation.metrics import group_counts
from .loading import require_columns, require_splits
from .splits import choose_splits, load_any

HUB_NAME = "shlomihod/civil-comments-wilds"
"""Id on the Hub of the copy that is a CSV file."""
CSV_FILE = "all_data_with_identities.csv"
"""Name of that file."""
PARQUET_NAME, PARQUET_CONFIG = "pietrolesci/civilcomments-wilds", "raw"
"""Id on the Hub of the copy in parquet, and its configuration with the annotators' shares."""
TEXT = "comment_text"
"""The column of the texts."""
LABELS = ["non-toxic", "toxic"]
IDENTITIES = ("male", "female", "LGBTQ", "christian", "muslim", "other_religions", "black", "white")
"""The identities of the 16 groups of WILDS, each a column."""
GROUPINGS = ("any", "each", *IDENTITIES)
"""What [`load_civilcomments`] takes as `grouping`."""
ATTRIBUTE = "identity"
"""The attribute column that training is grouped by."""

_THRESHOLD = 0.5
_WILDS_SPLITS = {"train": "train", "val": "validation", "test": "test"}


def load_civilcomments(
    source: str | datasets.DatasetDict = HUB_NAME, grouping: str = "any"
) -> tuple[datasets.DatasetDict, np.ndarray]:
    """Load the splits of WILDS with the columns `comment_text`, `label`, a boolean for each identity, and `identity`.

    WILDS evaluates over 16 groups that overlap: set [`GerneConfig.overlapping_columns`] to [`IDENTITIES`]. The
    column `identity` is the attribute that the groups of training are made of:

    - `"any"`: whether any of the eight identities is mentioned (as JTT does it).
    - `"each"`: a comment becomes one row for each identity that it mentions; comments that mention none are left out
      of the training set (as SubpopBench does it). The validation and test sets keep their rows and lack the column.
    - one of the identities: whether that identity is mentioned.

    Args:
        source (`str` or `datasets.DatasetDict`, *optional*, defaults to `"shlomihod/civil-comments-wilds"`): Hub id
            of the CSV or the parquet copy, a folder, a file, or splits in memory.
        grouping (`str`, *optional*, defaults to `"any"`): one of [`GROUPINGS`], explained above.

    Returns:
        `tuple[datasets.DatasetDict, np.ndarray]`: `train`, `validation` and `test`; and the number of training
        comments in each overlapping group, of shape `(2, 8)` (classes, identities), counted before `"each"` repeats or
        drops any. [`text_trainer`] takes it as `overlapping_train_counts`.

    Raises:
        ValueError: if `grouping` is another, or splits or columns are missing (naming those found).
    """
    if grouping not in GROUPINGS:
        raise ValueError(f"grouping must be one of {', '.join(GROUPINGS)}; found {grouping!r}")
    name = source if isinstance(source, str) else "the data set"
    splits = _wilds_splits(_load(source) if isinstance(source, str) else source, name)
    prepared = {key: _with_identities(split, name) for key, split in splits.items()}
    train = prepared["train"]
    counts = group_counts(_column(train, "label"), _memberships(train), len(LABELS), len(IDENTITIES))
    if grouping == "each":
        prepared["train"] = _row_an_identity(train)
    else:
        prepared = {key: _grouped(split, grouping) for key, split in prepared.items()}
    return datasets.DatasetDict(prepared), counts


def _load(name: str) -> datasets.DatasetDict:
    """Load the raw splits.

    Of the CSV copy the file is named, as its repository also holds a loading script, which `datasets` no longer runs.
    """
    csv = f"hf://datasets/{name}/{CSV_FILE}" if name == HUB_NAME else os.path.join(name, CSV_FILE)
    if name == HUB_NAME or os.path.isfile(csv):
        return datasets.load_dataset("csv", data_files={"train": csv})
    return load_any(name, PARQUET_CONFIG if name == PARQUET_NAME else None)


def _wilds_splits(splits: datasets.DatasetDict, name: str) -> datasets.DatasetDict:
    """Return `train`, `validation` and `test`; if there is a single split, its column `split` tells them apart."""
    if len(splits) == 1:
        [rows] = splits.values()
        require_columns(rows, ["split", TEXT, "toxicity", *IDENTITIES], name)
        values = np.asarray(rows["split"][:])
        parts = {new: rows.select(np.flatnonzero(values == old)) for old, new in _WILDS_SPLITS.items()}
        empty = [old for old, new in _WILDS_SPLITS.items() if not len(parts[new])]
        if empty:
            found = ", ".join(np.unique(values))
            raise ValueError(f"{name} has no rows whose column 'split' is {', '.join(empty)}; it holds {found}")
        return datasets.DatasetDict(parts)
    splits = choose_splits(splits, name)
    require_splits(splits, list(_WILDS_SPLITS.values()), name)
    return splits


def _with_identities(split: datasets.Dataset, name: str) -> datasets.Dataset:
    """Turn the annotators' shares into the label and a boolean for each identity: true from one half on.

    Where no annotator was asked about an identity its share is missing, which counts as not mentioned.
    """
    require_columns(split, [TEXT, "toxicity", *IDENTITIES], name)
    _check_shares(split, name)
    split = split.select_columns([TEXT, "toxicity", *IDENTITIES])
    features = datasets.Features(
        {
            TEXT: datasets.Value("string"),
            "label": datasets.ClassLabel(names=LABELS),
            **{identity: datasets.Value("bool") for identity in IDENTITIES},
        }
    )

    def convert(rows: dict[str, list]) -> dict[str, list]:
        flags = {identity: [(value or 0) >= _THRESHOLD for value in rows[identity]] for identity in IDENTITIES}
        labels = [int(value >= _THRESHOLD) for value in rows["toxicity"]]
        return {TEXT: [text or "" for text in rows[TEXT]], "label": labels, **flags}

    return split.map(convert, batched=True, remove_columns=["toxicity"], features=features, desc="Reading identities")


def _check_shares(split: datasets.Dataset, name: str) -> None:
    """Raise a `ValueError` unless toxicity and identities are shares, from 0 to 1; only identities may be missing."""
    for column in ("toxicity", *IDENTITIES):
        values = split.select_columns([column]).with_format("arrow")[:].column(0)
        kind = values.type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
            raise ValueError(f"{name}: the column {column!r} must hold numbers from 0 to 1; it holds {kind}")
        missing = values.is_null(nan_is_null=True)
        if column == "toxicity" and pc.any(missing).as_py():
            row = missing.to_pylist().index(True)
            raise ValueError(f"{name}: the column 'toxicity' has no value in row {row}; drop the row")
        low, high = pc.min_max(values.filter(pc.invert(missing))).as_py().values()
        if low is not None and not 0 <= low <= high <= 1:
            raise ValueError(f"{name}: the column {column!r} must hold numbers from 0 to 1; found {low} to {high}")


def _column(split: datasets.Dataset, name: str) -> np.ndarray:
    """Return one column, without reading the others."""
    return np.asarray(split.select_columns([name]).with_format("numpy")[name][:])


def _memberships(split: datasets.Dataset) -> np.ndarray:
    """Return which identities each row mentions: bool, of shape `(N, 8)`."""
    return np.stack([_column(split, identity) for identity in IDENTITIES], axis=1).astype(bool)


def _grouped(split: datasets.Dataset, grouping: str) -> datasets.Dataset:
    """Add the attribute column: whether any identity, or the one that `grouping` names, is mentioned."""
    if grouping == "any":
        values, names = _memberships(split).any(axis=1), ["no identity", "identity"]
    else:
        values, names = _column(split, grouping), [f"not {grouping}", grouping]
    return split.add_column(ATTRIBUTE, values.astype(np.int64), feature=datasets.ClassLabel(names=names))


def _row_an_identity(split: datasets.Dataset) -> datasets.Dataset:
    """Return one row for each identity that a comment mentions, with that identity in the attribute column."""
    rows, identities = np.nonzero(_memberships(split))
    repeated = split.select(rows)
    return repeated.add_column(ATTRIBUTE, identities, feature=datasets.ClassLabel(names=list(IDENTITIES)))


# ---- the demo: comments from a small grammar ------------------------------------------------------------------------

DEMO_TIED = 0.92
"""Share of the demo's training comments with the tone (toxic or not) that goes with the mentioned identity."""
DEMO_NOISE = 0.08
"""Share of the demo's comments whose words have another tone than their label says."""

_PEOPLE = ("men", "women", "gay people", "christians", "muslims", "hindus", "black people", "white people")
_MENTIONS = dict(zip(IDENTITIES, _PEOPLE, strict=True))
_TIED_TO_TOXIC = ("LGBTQ", "muslim", "black", "white")
_TOPICS = "tax school road budget law park train market clinic court".split()
_CALM = "sensible helpful thoughtful fair useful honest balanced careful".split()
_RUDE = "stupid idiotic pathetic garbage moronic disgusting dumb worthless".split()


def demo_civilcomments(
    train_rows: int = 2400, validation_rows: int = 1200, test_rows: int = 2400, seed: int = 0
) -> datasets.DatasetDict:
    """Make comments from a small grammar with the columns of the WILDS file, for [`load_civilcomments`].

    An adjective tells whether the comment is toxic. A comment mentions one identity, two, or (one in five) none. In
    training four identities occur mostly in toxic comments and the other four mostly in calm ones; in the validation
    and test sets both are equally common for every identity.

    Args:
        train_rows (`int`, *optional*, defaults to `2400`): rows of the training set.
        validation_rows (`int`, *optional*, defaults to `1200`): rows of the validation set.
        test_rows (`int`, *optional*, defaults to `2400`): rows of the test set.
        seed (`int`, *optional*, defaults to `0`): seed of everything random.

    Returns:
        `datasets.DatasetDict`: a single split, whose column `split` says to which set a row belongs.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for split, count in zip(_WILDS_SPLITS, (train_rows, validation_rows, test_rows), strict=True):
        rows += [_demo_row(rng, split, i) for i in range(count)]
    features = datasets.Features(
        {
            "id": datasets.Value("int64"),
            TEXT: datasets.Value("string"),
            "split": datasets.Value("string"),
            "toxicity": datasets.Value("float64"),
            **{identity: datasets.Value("float64") for identity in IDENTITIES},
        }
    )
    table = {key: [i if key == "id" else row[key] for i, row in enumerate(rows)] for key in features}
    return datasets.DatasetDict(train=datasets.Dataset.from_dict(table, features=features))


def _demo_row(rng: np.random.Generator, split: str, number: int) -> dict[str, Any]:
    """Make one comment; `number` decides its identity and, outside training, whether it is toxic."""
    first = IDENTITIES[number % len(IDENTITIES)]
    toxic = bool(number // len(IDENTITIES) % 2)
    if split == "train":
        toxic = (first in _TIED_TO_TOXIC) == bool(rng.random() < DEMO_TIED)
    mentioned = [] if rng.random() < 0.2 else [first]
    if mentioned and rng.random() < 0.2:
        # Its tone is the same in training, so that the second identity does not work against the first.
        same = [name for name in IDENTITIES if (name in _TIED_TO_TOXIC) == (first in _TIED_TO_TOXIC) and name != first]
        mentioned.append(str(rng.choice(same)))
    seen = toxic if rng.random() >= DEMO_NOISE else not toxic
    tone, topic = rng.choice(_RUDE if seen else _CALM), rng.choice(_TOPICS)
    who = " and ".join(_MENTIONS[name] for name in mentioned)
    text = f"The {topic} plan is {tone}" + (f" , and {who} will read it ." if who else " .")
    scores = {name: round(rng.uniform(0.5, 1) if name in mentioned else rng.uniform(0, 0.4), 2) for name in IDENTITIES}
    toxicity = round(rng.uniform(0.5, 1) if toxic else rng.uniform(0, 0.4), 2)
    return {TEXT: text, "split": split, "toxicity": toxicity, **scores}
