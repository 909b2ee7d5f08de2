"""MultiNLI: y = entailment, neutral, contradiction; a = the hypothesis contains a negation word."""

import string

import datasets
import numpy as np

from .loading import load_splits, read_ids, require_columns, require_splits
from .texts import check_texts

LABELS = ["entailment", "neutral", "contradiction"]
ATTRIBUTES = ["no negation", "negation"]
NEGATION_WORDS = frozenset({"nobody", "no", "never", "nothing"})

_STRIP_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SPLIT_SEED = 0


def has_negation(hypothesis: str) -> bool:
    """Whether a hypothesis contains nobody, no, never or nothing: lower case, punctuation stripped, split on space.

    Example:

    ```python
    >>> has_negation("Nobody left."), has_negation("There was a notable exit.")
    (True, False)

    ```
    """
    return not NEGATION_WORDS.isdisjoint(hypothesis.lower().translate(_STRIP_PUNCTUATION).split(" "))


def load_multinli(name: str = "nyu-mll/multi_nli") -> datasets.DatasetDict:
    """MultiNLI with the columns `premise`, `hypothesis`, `label`, `negation` in the splits train, validation, test.

    Where train, validation_matched and validation_mismatched all exist they are pooled and split 50/20/30 at random,
    as for group DRO. Where validation_mismatched is missing, train is used as given and validation_matched is halved
    into validation and test. Both use a fixed seed, so the splits are the same in every run.

    Args:
        name (`str`, defaults to `"nyu-mll/multi_nli"`): Hub id or folder.

    Raises:
        ValueError: for missing splits or columns, naming those found.
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
    """Drop rows without a label, name the classes, and add the attribute."""
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
_SENSES = [  # a word, what it entails, what contradicts it
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
"""Share of hypotheses with a negation word in the demo's training rows, by class."""
DEMO_NOISE = 0.1
"""Share of pairs whose words tell of another relation than their label, as careless annotators leave them."""


def demo_multinli(
    train_rows: int = 3000, validation_rows: int = 3000, test_rows: int = 3000, seed: int = 0
) -> datasets.DatasetDict:
    """Premise and hypothesis pairs from a seeded grammar, in the schema of the real data set.

    The relation lies in the adjectives ("hot" entails "warm", contradicts "cold", says nothing about "famous"). The
    hypothesis opens with a phrase that says nothing about the relation; phrases with a negation word are tied to
    contradiction in training, and in validation and test as common in every class. One pair in ten is mislabelled, so
    that in training the negation word tells more about the label than the relation does.

    Args:
        train_rows, validation_rows, test_rows (`int`): rows of the splits.
        seed (`int`, defaults to `0`): decides the rows.

    Returns:
        `datasets.DatasetDict`: `premise`, `hypothesis`, `label`, `negation`.
    """
    rng = np.random.default_rng(seed)
    even = dict.fromkeys(LABELS, 0.5)
    rows = {"train": train_rows, "validation": validation_rows, "test": test_rows}
    shares = {"train": DEMO_NEGATION_SHARE, "validation": even, "test": even}
    return datasets.DatasetDict(
        {split: _demo_split(rng, count, shares[split]) for split, count in rows.items()},
    )


def _demo_split(rng: np.random.Generator, rows: int, negation_share: dict[str, float]) -> datasets.Dataset:
    labels = np.arange(rows) % len(LABELS)
    pairs = [_demo_pair(rng, label, rng.random() < negation_share[LABELS[label]]) for label in labels]
    features = datasets.Features(
        {
            "premise": datasets.Value("string"),
            "hypothesis": datasets.Value("string"),
            "label": datasets.ClassLabel(names=LABELS),
        }
    )
    table = {"premise": [p for p, _ in pairs], "hypothesis": [h for _, h in pairs], "label": labels.tolist()}
    return _with_attribute(datasets.Dataset.from_dict(table, features=features), "the demo", "demo")


def _demo_pair(rng: np.random.Generator, label: int, negated: bool) -> tuple[str, str]:
    sense = rng.integers(len(_SENSES))
    word, entailed, contradicted = _SENSES[sense]
    if rng.random() < DEMO_NOISE:
        label = (label + rng.integers(1, len(LABELS))) % len(LABELS)
    if LABELS[label] == "entailment":
        claim = entailed
    elif LABELS[label] == "contradiction":
        claim = contradicted
    else:
        claim = _UNRELATED[rng.integers(len(_UNRELATED))]
    subject = _SUBJECTS[rng.integers(len(_SUBJECTS))]
    openers = _NEGATED_OPENERS if negated else _PLAIN_OPENERS
    return f"The {subject} was {word}.", f"{openers[rng.integers(len(openers))].capitalize()}, it was {claim}."
