"""CivilComments (WILDS): y = toxicity; eight identities, of which a comment may mention several: groups overlap."""

import os

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..evaluation.metrics import group_counts
from .loading import require_columns, require_splits
from .splits import choose_splits, load_any

HUB_NAME = "shlomihod/civil-comments-wilds"
CSV_FILE = "all_data_with_identities.csv"
PARQUET_NAME, PARQUET_CONFIG = "pietrolesci/civilcomments-wilds", "raw"
TEXT = "comment_text"
LABELS = ["non-toxic", "toxic"]
IDENTITIES = ("male", "female", "LGBTQ", "christian", "muslim", "other_religions", "black", "white")
"""The identities of the 16 groups of WILDS."""
GROUPINGS = ("any", "each", *IDENTITIES)
ATTRIBUTE = "identity"

_THRESHOLD = 0.5
_WILDS_SPLITS = {"train": "train", "val": "validation", "test": "test"}


def load_civilcomments(
    source: str | datasets.DatasetDict = HUB_NAME, grouping: str = "any"
) -> tuple[datasets.DatasetDict, np.ndarray]:
    """The splits of WILDS with the columns `comment_text`, `label`, a boolean for each identity, and `identity`.

    Evaluation is always over the 16 overlapping groups of WILDS ([`with_overlapping_groups`]); `identity` is what
    training is grouped by:

    - `"any"`: whether any of the eight identities is mentioned (JTT).
    - `"each"`: a row for each mentioned identity, and none for comments without one (SubpopBench).
    - one of the identities: whether that one is mentioned.

    Args:
        source (`str` or `datasets.DatasetDict`): Hub id of the CSV or the parquet copy, a folder, a file, or raw
            splits.
        grouping (`str`, defaults to `"any"`): as above.

    Returns:
        `tuple[datasets.DatasetDict, np.ndarray]`: train, validation, test; and the training rows of each overlapping
        group, `(2, 8)`.

    Raises:
        ValueError: for another grouping, and for missing splits or columns, naming those found.
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
    """The CSV by its name: the Hub's repository also holds a loading script, which is not run any more."""
    csv = f"hf://datasets/{name}/{CSV_FILE}" if name == HUB_NAME else os.path.join(name, CSV_FILE)
    if name == HUB_NAME or os.path.isfile(csv):
        return datasets.load_dataset("csv", data_files={"train": csv})
    return load_any(name, PARQUET_CONFIG if name == PARQUET_NAME else None)


def _wilds_splits(splits: datasets.DatasetDict, name: str) -> datasets.DatasetDict:
    """Train, validation and test, from splits of their own or from the column `split` of a single one."""
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
    """Text, label and booleans: what at least half of the annotators saw. Identities nobody was asked for are null."""
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
    """Toxicity and identities are shares of annotators: numbers from 0 to 1. Toxicity is never missing."""
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
    return np.asarray(split.select_columns([name]).with_format("numpy")[name][:])


def _memberships(split: datasets.Dataset) -> np.ndarray:
    """`(N, 8)`, bool."""
    return np.stack([_column(split, identity) for identity in IDENTITIES], axis=1).astype(bool)


def _grouped(split: datasets.Dataset, grouping: str) -> datasets.Dataset:
    if grouping == "any":
        values, names = _memberships(split).any(axis=1), ["no identity", "identity"]
    else:
        values, names = _column(split, grouping), [f"not {grouping}", grouping]
    return split.add_column(ATTRIBUTE, values.astype(np.int64), feature=datasets.ClassLabel(names=names))


def _row_an_identity(split: datasets.Dataset) -> datasets.Dataset:
    rows, identities = np.nonzero(_memberships(split))
    repeated = split.select(rows)
    return repeated.add_column(ATTRIBUTE, identities, feature=datasets.ClassLabel(names=list(IDENTITIES)))


# ---- the demo: comments from a small grammar ------------------------------------------------------------------------

DEMO_TIED = 0.92
"""Share of the demo's training comments whose tone is the one that the mentioned identity is tied to."""
DEMO_NOISE = 0.08
"""Share of comments whose words tell of another tone than their label."""

_PEOPLE = ("men", "women", "gay people", "christians", "muslims", "hindus", "black people", "white people")
_MENTIONS = dict(zip(IDENTITIES, _PEOPLE, strict=True))
_TIED_TO_TOXIC = ("LGBTQ", "muslim", "black", "white")
_TOPICS = "tax school road budget law park train market clinic court".split()
_CALM = "sensible helpful thoughtful fair useful honest balanced careful".split()
_RUDE = "stupid idiotic pathetic garbage moronic disgusting dumb worthless".split()


def demo_civilcomments(
    train_rows: int = 2400, validation_rows: int = 1200, test_rows: int = 2400, seed: int = 0
) -> datasets.DatasetDict:
    """Comments from a seeded grammar, in the schema of the WILDS file: one table with the column `split`.

    An adjective tells the tone. A comment mentions an identity, two, or (one in five) none; in training some
    identities are tied to toxic comments and the others to calm ones, in validation and test none is.

    Args:
        train_rows, validation_rows, test_rows (`int`): rows of the splits.
        seed (`int`, defaults to `0`): decides the rows.

    Returns:
        `datasets.DatasetDict`: a single split.
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


def _demo_row(rng: np.random.Generator, split: str, number: int) -> dict:
    first = IDENTITIES[number % len(IDENTITIES)]
    toxic = bool(number // len(IDENTITIES) % 2)
    if split == "train":
        toxic = (first in _TIED_TO_TOXIC) == bool(rng.random() < DEMO_TIED)
    mentioned = [] if rng.random() < 0.2 else [first]
    if mentioned and rng.random() < 0.2:
        # of those with the same tie, so that a second mention does not undo the first
        same = [name for name in IDENTITIES if (name in _TIED_TO_TOXIC) == (first in _TIED_TO_TOXIC) and name != first]
        mentioned.append(str(rng.choice(same)))
    seen = toxic if rng.random() >= DEMO_NOISE else not toxic
    tone, topic = rng.choice(_RUDE if seen else _CALM), rng.choice(_TOPICS)
    who = " and ".join(_MENTIONS[name] for name in mentioned)
    text = f"The {topic} plan is {tone}" + (f" , and {who} will read it ." if who else " .")
    scores = {name: round(rng.uniform(0.5, 1) if name in mentioned else rng.uniform(0, 0.4), 2) for name in IDENTITIES}
    toxicity = round(rng.uniform(0.5, 1) if toxic else rng.uniform(0, 0.4), 2)
    return {TEXT: text, "split": split, "toxicity": toxicity, **scores}
