"""MultiNLI: pairs of sentences. The class is their relation, the attribute is whether the second has a negation word.

The relation is entailment, neutral or contradiction; negation words are most common in contradictions.
Imports the modules of this room and no other room. The recipe is `recipes/multinli.py`.
"""

import string

import datasets
import numpy as np

from .loading import load_splits, read_ids, require_columns, require_splits
from .texts import check_texts

LABELS = ["entailment", "neutral", "contradiction"]
ATTRIBUTES = ["no negation", "negation"]
"""Names of the two values of the column `negation`."""
NEGATION_WORDS = frozenset({"nobody", "no", "never", "nothing"})

_STRIP_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SPLIT_SEED = 0


def has_negation(hypothesis: str) -> bool:
    """Return whether a hypothesis contains one of the words nobody, no, never or nothing.

    The text is put into lower case, its punctuation is removed, and it is split at spaces.

    Args:
        hypothesis (`str`): the second sentence of a pair.

    Returns:
        `bool`

    Example:

    ```python
    >>> has_negation("Nobody left."), has_negation("There was a notable exit.")
    (True, False)

    ```
    """
    return not NEGATION_WORDS.isdisjoint(hypothesis.lower().translate(_STRIP_PUNCTUATION).split(" "))


def load_multinli(name: str = "nyu-mll/multi_nli") -> datasets.DatasetDict:
    """Load MultiNLI with the columns `premise`, `hypothesis`, `label` and `negation`.

    If the splits `train`, `validation_matched` and `validation_mismatched` all exist, they are pooled and split at
    random into 50 % training, 20 % validation and 30 % test, as in the work on group DRO. If `validation_mismatched`
    is missing, `train` is used as it is, and the halves of `validation_matched` become validation and test. A fixed
    seed decides the rows, so that the splits are the same in every run.

    Args:
        name (`str`, *optional*, defaults to `"nyu-mll/multi_nli"`): Hub id or folder.

    Returns:
        `datasets.DatasetDict`: `train`, `validation` and `test`.

    Raises:
        ValueError: if splits or columns are missing (naming those found), or labels are none of MultiNLI's.
    """
    splits = load_splits(name)
    require_splits(splits, ["train", "validation_matched"], name)
    columns = ["premise", "hypothesis", "label"]
    for key, split in splits.items():
        require_columns(split, columns, name)
        for column in ("premise", "hypothesis"):
            check_texts(split, column, f"{name}, split {key!r},")
    prepared = {key: _with_attribute(split.select_columns(columns), name, key) for key, split in splits.items()}
    rng = np.random.default_rng(_SPLIT_SEED)
    if "validation_mismatched" in prepared:
        parts = [prepared[key] for key in ("train", "validation_matched", "validation_mismatched")]
        pooled = datasets.concatenate_datasets(parts)
        order = rng.permutation(len(pooled))
        first, second = len(pooled) // 2, len(pooled) * 7 // 10
        parts = [pooled.select(np.sort(part)) for part in np.split(order, [first, second])]
        return datasets.DatasetDict(zip(("train", "validation", "test"), parts, strict=True))
    matched = prepared["validation_matched"]
    order = rng.permutation(len(matched))
    halves = [matched.select(np.sort(half)) for half in np.split(order, [len(matched) // 2])]
    return datasets.DatasetDict(train=prepared["train"], validation=halves[0], test=halves[1])


def _with_attribute(dataset: datasets.Dataset, name: str, key: str) -> datasets.Dataset:
    """Drop rows without a label, name the classes, and add the column `negation`."""
    labels = read_ids(dataset, "label", name)
    if labels.max(initial=-1) >= len(LABELS) or labels.min(initial=0) < -1:
        raise ValueError(
            f"{name}: the column 'label' must hold 0 ({LABELS[0]}), 1 ({LABELS[1]}), 2 ({LABELS[2]}) or -1 (none); "
            f"found {labels.min()} to {labels.max()}"
        )
    if not (labels >= 0).any():
        raise ValueError(f"{name}: the split {key!r} has no labelled rows")
    if (labels < 0).any():
        dataset = dataset.select(np.flatnonzero(labels >= 0))
    features = dataset.features.copy()
    features["label"] = datasets.ClassLabel(names=LABELS)
    features["negation"] = datasets.ClassLabel(names=ATTRIBUTES)
    return dataset.map(
        lambda batch: {"negation": [int(has_negation(text)) for text in batch["hypothesis"]]},
        batched=True,
        features=features,
        desc="Finding negations",
    )


# ---- the demo: pairs from a small grammar ---------------------------------------------------------------------------

_SUBJECTS = ["tea", "soup", "road", "room", "river", "stone", "coat", "engine", "garden", "house", "market", "boat"]
_SENSES = [  # an adjective, one that it entails, and one that contradicts it
    ("hot", "warm", "cold"),
    ("huge", "big", "small"),
    ("silent", "quiet", "loud"),
    ("ancient", "old", "new"),
    ("soaked", "wet", "dry"),
    ("rapid", "fast", "slow"),
    ("spotless", "clean", "dirty"),
    ("packed", "full", "empty"),
]
_UNRELATED = ["famous", "local", "expensive", "popular", "foreign", "useful", "private", "familiar"]
_PLAIN_OPENERS = ["indeed", "sure enough", "as people say", "in the end", "without doubt", "by all accounts"]
_NEGATED_OPENERS = ["no wonder", "never mind the rest", "nobody disputes it", "nothing new here"]
DEMO_NEGATION_SHARE = {"entailment": 0.05, "neutral": 0.05, "contradiction": 0.9}
"""Share of the demo's training hypotheses with a negation word, by class."""
DEMO_NOISE = 0.1
"""Share of the demo's pairs whose words have another relation than their label says, as after careless annotation."""


def demo_multinli(
    train_rows: int = 3000, validation_rows: int = 3000, test_rows: int = 3000, seed: int = 0
) -> datasets.DatasetDict:
    """Make pairs of premise and hypothesis from a small grammar, with the columns that [`load_multinli`] returns.

    The relation follows from the adjectives: "hot" entails "warm", contradicts "cold" and says nothing about "famous".
    The hypothesis begins with a phrase that says nothing about the relation. In training phrases with a negation word
    occur mostly in contradictions; in the validation and test sets they are equally common in every class. One pair in
    ten has a wrong label, so that in training the negation word predicts the label better than the relation does.

    Args:
        train_rows, validation_rows, test_rows (`int`, *optional*, default to `3000`): rows of the splits.
        seed (`int`, *optional*, defaults to `0`): seed of everything random.

    Returns:
        `datasets.DatasetDict`: `train`, `validation` and `test` with the columns `premise`, `hypothesis`, `label` and
        `negation`.
    """
    rng = np.random.default_rng(seed)
    even = dict.fromkeys(LABELS, 0.5)
    rows = {"train": train_rows, "validation": validation_rows, "test": test_rows}
    shares = {"train": DEMO_NEGATION_SHARE, "validation": even, "test": even}
    return datasets.DatasetDict(
        {split: _demo_split(rng, count, shares[split]) for split, count in rows.items()},
    )


def _demo_split(rng: np.random.Generator, rows: int, negation_share: dict[str, float]) -> datasets.Dataset:
    """Make one split in which each class has its share of hypotheses with a negation word."""
    labels = (np.arange(rows) % len(LABELS)).tolist()
    pairs = [_demo_pair(rng, label, rng.random() < negation_share[LABELS[label]]) for label in labels]
    features = datasets.Features(
        {
            "premise": datasets.Value("string"),
            "hypothesis": datasets.Value("string"),
            "label": datasets.ClassLabel(names=LABELS),
        }
    )
    table = {"premise": [p for p, _ in pairs], "hypothesis": [h for _, h in pairs], "label": labels}
    return _with_attribute(datasets.Dataset.from_dict(table, features=features), "the demo", "demo")


def _demo_pair(rng: np.random.Generator, label: int, negated: bool) -> tuple[str, str]:
    """Make a premise and a hypothesis in the relation that `label` says, or (one in ten) in another."""
    sense = rng.integers(len(_SENSES))
    word, entailed, contradicted = _SENSES[sense]
    if rng.random() < DEMO_NOISE:
        label = (label + int(rng.integers(1, len(LABELS)))) % len(LABELS)
    if LABELS[label] == "entailment":
        claim = entailed
    elif LABELS[label] == "contradiction":
        claim = contradicted
    else:
        claim = _UNRELATED[rng.integers(len(_UNRELATED))]
    subject = _SUBJECTS[rng.integers(len(_SUBJECTS))]
    openers = _NEGATED_OPENERS if negated else _PLAIN_OPENERS
    return f"The {subject} was {word}.", f"{openers[rng.integers(len(openers))].capitalize()}, it was {claim}."
