"""MultiNLI: what counts as a negation, the splits, and the pairs of the demo."""

import re

import datasets
import numpy as np
import pytest

from gerne_hf.data import multinli
from gerne_hf.data.multinli import ATTRIBUTES, DEMO_NEGATION_SHARE, LABELS, demo_multinli, has_negation, load_multinli

ROWS = {"train": 61, "validation_matched": 20, "validation_mismatched": 19}
UNLABELLED = {"train": 7, "validation_matched": 2, "validation_mismatched": 1}
COLUMNS = ["premise", "hypothesis", "label", "negation"]


pytestmark = pytest.mark.usefixtures("own_cache")


def miniature(rows=ROWS, unlabelled=UNLABELLED):
    """Splits in the schema of nyu-mll/multi_nli; a row's premise tells its split and number. Some have label -1."""
    text = datasets.Value("string")
    features = datasets.Features(
        {
            "promptID": datasets.Value("int32"),
            "pairID": text,
            "premise": text,
            "premise_binary_parse": text,
            "premise_parse": text,
            "hypothesis": text,
            "hypothesis_binary_parse": text,
            "hypothesis_parse": text,
            "genre": text,
            "label": datasets.ClassLabel(names=["entailment", "neutral", "contradiction"]),
        }
    )
    splits = datasets.DatasetDict()
    for split, count in rows.items():
        numbers = range(count + unlabelled.get(split, 0))
        labels = [i % 3 if i < count else -1 for i in numbers]
        table = {name: [f"{name} {i}" for i in numbers] for name in features}
        table |= {
            "promptID": list(numbers),
            "premise": [f"{split} {i}" for i in numbers],
            "hypothesis": ["Nobody left." if i % 4 == 0 else "Somebody left." for i in numbers],
            "label": labels,
        }
        order = np.random.default_rng(0).permutation(len(labels))
        splits[split] = datasets.Dataset.from_dict(table, features=features).select(order).flatten_indices()
    return splits


def as_parquet(splits, folder):
    """A folder laid out as on the Hub."""
    (folder / "data").mkdir(parents=True)
    for name, split in splits.items():
        split.to_parquet(folder / "data" / f"{name}-00000-of-00001.parquet")
    return str(folder)


def as_saved(splits, folder):
    splits.save_to_disk(folder)
    return str(folder)


def premises(split):
    return split["premise"][:]


# ---- negation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hypothesis",
    [
        "Nobody left.",
        "There is NO water",
        "It was never, ever dry.",
        "They said nothing!",
        "He left (no doubt)",
        '"Never", she said',
        "no",
        "The answer was: no?",
        "no-body... no",
    ],
)
def test_negation_words_whatever_their_case_and_punctuation(hypothesis):
    assert has_negation(hypothesis)


@pytest.mark.parametrize(
    "hypothesis",
    [
        "There was a notable exit.",
        "The north is known for its noise.",
        "Nevertheless they came.",
        "That is nobody's business",  # stripped of its punctuation it is "nobodys"
        "A no-nonsense man",
        "Nothingness was all around",
        "They did not leave, and none could.",
        "",
    ],
)
def test_other_words_are_no_negation(hypothesis):
    assert not has_negation(hypothesis)


# ---- loading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [as_parquet, as_saved])
def test_three_splits_are_pooled(tmp_path, write):
    data = load_multinli(write(miniature(), tmp_path / "data_set"))
    assert list(data) == ["train", "validation", "test"]
    assert [len(split) for split in data.values()] == [50, 20, 30]
    seen = [premise for split in data.values() for premise in premises(split)]
    assert sorted(seen) == sorted(f"{split} {i}" for split, count in ROWS.items() for i in range(count))
    for split in data.values():  # pooled, not taken over
        assert len({premise.split()[0] for premise in premises(split)}) > 1


@pytest.mark.parametrize("write", [as_parquet, as_saved])
def test_columns_hold_what_the_raw_rows_held(tmp_path, write):
    data = load_multinli(write(miniature(), tmp_path / "data_set"))
    for split in data.values():
        assert sorted(split.column_names) == sorted(COLUMNS)
        assert split.features["label"].names == LABELS == ["entailment", "neutral", "contradiction"]
        assert split.features["negation"].names == ATTRIBUTES
        for row in split:
            number = int(row["premise"].split()[1])
            assert row["label"] == number % 3
            assert row["negation"] == (number % 4 == 0) == (row["hypothesis"] == "Nobody left.")


def test_two_splits_halve_the_matched_one(tmp_path):
    rows = {"train": 61, "validation_matched": 21}
    data = load_multinli(as_parquet(miniature(rows), tmp_path / "data_set"))
    assert [len(split) for split in data.values()] == [61, 10, 11]
    assert sorted(premises(data["train"])) == sorted(f"train {i}" for i in range(61))
    validation, test = premises(data["validation"]), premises(data["test"])
    assert sorted(validation + test) == sorted(f"validation_matched {i}" for i in range(21))
    assert {int(premise.split()[1]) for premise in validation} != set(range(10))


@pytest.mark.parametrize("splits", [list(ROWS), ["train", "validation_matched"]])
def test_the_splits_are_the_same_in_every_run(tmp_path, splits):
    rows = {split: ROWS[split] for split in splits}
    name = as_parquet(miniature(rows), tmp_path / "data_set")
    first, second = load_multinli(name), load_multinli(name)
    saved = load_multinli(as_saved(miniature(rows), tmp_path / "saved"))
    for split in first:
        assert premises(first[split]) == premises(second[split]) == premises(saved[split])


def test_a_missing_split_is_named_with_those_found(tmp_path):
    name = as_saved(miniature({"train": 9, "validation_mismatched": 6}), tmp_path / "data_set")
    with pytest.raises(ValueError, match="lacks the splits validation_matched") as error:
        load_multinli(name)
    assert "it has train, validation_mismatched, and train, validation_matched are needed" in str(error.value)
    assert name in str(error.value)


@pytest.mark.parametrize("broken", ["train", "validation_matched", "validation_mismatched"])
def test_a_missing_column_is_named_with_those_found(tmp_path, broken):
    splits = miniature()
    splits[broken] = splits[broken].rename_column("hypothesis", "claim").remove_columns(["genre", "promptID"])
    with pytest.raises(ValueError, match="lacks the columns hypothesis:") as error:
        load_multinli(as_saved(splits, tmp_path / "data_set"))
    message = str(error.value)
    assert "it has pairID, premise" in message and "claim" in message
    assert "premise, hypothesis, label are needed" in message and "--dataset_name" in message


# ---- the demo -----------------------------------------------------------------------------------------------------


def test_the_demo_has_the_schema_of_the_real_data():
    data = demo_multinli(90, 60, 30)
    assert {name: len(split) for name, split in data.items()} == {"train": 90, "validation": 60, "test": 30}
    for split in data.values():
        assert sorted(split.column_names) == sorted(COLUMNS)
        assert split.features["label"].names == LABELS and split.features["negation"].names == ATTRIBUTES
        assert np.bincount(split["label"][:]).tolist() == [len(split) // 3] * 3
        for row in split:
            assert row["negation"] == has_negation(row["hypothesis"])


def test_negation_is_tied_to_contradiction_in_training_and_even_in_the_test_set():
    data = demo_multinli()
    for name in ("train", "test"):
        labels, negation = np.array(data[name]["label"][:]), np.array(data[name]["negation"][:])
        for y, label in enumerate(LABELS):
            share = DEMO_NEGATION_SHARE[label] if name == "train" else 0.5
            rows = (labels == y).sum()
            assert rows == 1000
            deviation = (share * (1 - share) / rows) ** 0.5
            assert negation[labels == y].mean() == pytest.approx(share, abs=4 * deviation), (name, label)
    assert DEMO_NEGATION_SHARE["contradiction"] > 0.8 > 0.2 > DEMO_NEGATION_SHARE["entailment"]


def test_no_group_of_the_demo_is_empty():
    for split in demo_multinli().values():
        pairs = zip(split["label"][:], split["negation"][:], strict=True)
        assert len(set(pairs)) == 6


def test_the_relation_is_decided_by_the_adjectives_but_for_one_pair_in_ten():
    entailed = {word: claim for word, claim, _ in multinli._SENSES}
    contradicted = {word: claim for word, _, claim in multinli._SENSES}
    assert entailed["hot"] == "warm" and contradicted["hot"] == "cold"
    truthful = 0
    for split in demo_multinli(1200, 1200, 1200).values():
        for row in split:
            subject, word = re.fullmatch(r"The (\w+) was (\w+)\.", row["premise"]).groups()
            opener, claim = re.fullmatch(r"([A-Z][\w ]+), it was (\w+)\.", row["hypothesis"]).groups()
            assert subject in multinli._SUBJECTS and opener
            assert claim in (entailed[word], contradicted[word], *multinli._UNRELATED)
            relation = 0 if claim == entailed[word] else 2 if claim == contradicted[word] else 1
            truthful += row["label"] == relation
    # 4 standard errors of 3,600 draws
    assert abs(truthful / 3600 - (1 - multinli.DEMO_NOISE)) < 4 * (0.1 * 0.9 / 3600) ** 0.5


def test_no_claim_belongs_to_two_senses():
    claims = [claim for _, *pair in multinli._SENSES for claim in pair]
    words = [word for word, *_ in multinli._SENSES]
    assert len(set(claims + words)) == 3 * len(multinli._SENSES)


def test_a_seed_stands_for_its_rows():
    first, again, other = demo_multinli(60, 30, 30), demo_multinli(60, 30, 30), demo_multinli(60, 30, 30, seed=1)
    for split in first:
        assert first[split].to_dict() == again[split].to_dict()
        assert first[split].to_dict() != other[split].to_dict()
