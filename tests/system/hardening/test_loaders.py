"""Loaders of malformed data: right splits, or an error that names what is wrong; never another distribution."""

import json

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gerne_hf.data.celeba import load_celeba
from gerne_hf.data.civilcomments import IDENTITIES, TEXT, load_civilcomments
from gerne_hf.data.loading import require_splits
from gerne_hf.data.multinli import load_multinli
from gerne_hf.data.splits import prepare_splits
from gerne_hf.data.waterbirds import load_waterbirds

columns = st.one_of(
    st.lists(st.integers(0, 2), min_size=0, max_size=8),
    st.lists(st.sampled_from(["a", "b", "c"]), max_size=8),
    st.lists(st.booleans(), max_size=8),
    st.lists(st.one_of(st.sampled_from(["a", "b"]), st.none()), max_size=8),
    st.lists(st.integers(-1, 2), max_size=8),
    st.lists(st.floats(0, 1), max_size=8),
    st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=2), max_size=8),
    st.just([]),
)
names = st.sampled_from(["train", "training", "validation", "dev", "test", "extra"])


@st.composite
def malformed_splits(draw):
    splits = {}
    for name in draw(st.lists(names, min_size=1, max_size=4, unique=True)):
        rows = draw(st.integers(0, 8))
        kept = draw(st.lists(st.sampled_from(["text", "label", "place"]), min_size=1, max_size=3, unique=True))
        values = {"text": [f"row {i}" for i in range(rows)]}
        for column in ("label", "place"):
            pattern = draw(columns)
            values[column] = (pattern * rows)[:rows] if pattern else [0] * rows
        everything = ["text", "label", "place"]
        chosen = everything if draw(st.booleans()) else kept
        splits[name] = datasets.Dataset.from_dict({column: values[column] for column in chosen})
    return datasets.DatasetDict(splits)


@settings(derandomize=True, deadline=None, max_examples=25, database=None)
@given(malformed_splits())
def test_any_splits(splits):
    before = {key: split.to_dict() for key, split in splits.items()}
    try:
        prepared = prepare_splits(splits, ["text"], "label", ["place"])
    except (TypeError, ValueError) as error:
        known = ("'label'", "'place'", "columns", "split", "rows", *map(repr, before))
        assert any(word in str(error) for word in known), repr(error)
        return
    assert set(prepared) == {"train", "validation", "test"}
    origin = {}
    for split in (split for split in before.values() if len(split) == 3):
        for text, *values in zip(split["text"], split["label"], split["place"], strict=True):
            origin.setdefault(text, []).append(tuple(map(str, values)))
    for split in prepared.values():
        named = [split.features[column] for column in ("label", "place")]
        for row in split:
            pair = tuple(
                feature.int2str(row[column]) for feature, column in zip(named, ("label", "place"), strict=True)
            )
            assert pair in origin[row["text"]]
    maps = [[prepared[key].features[column].names for key in prepared] for column in ("label", "place")]
    assert all(names == of[0] for of in maps for names in of)


def saved(folder, **splits) -> str:
    datasets.DatasetDict({key: datasets.Dataset.from_dict(rows) for key, rows in splits.items()}).save_to_disk(folder)
    return str(folder)


PAIRS = {"premise": ["it rains", "it is hot"], "hypothesis": ["nobody is dry", "it is warm"], "label": [2, 0]}


@pytest.mark.parametrize(
    "column, values, message",
    [
        ("label", [2, None], "'label' has no value in row 1"),
        ("label", [2, 3], "label.*3"),
        ("label", [0.5, 1.0], "label"),
        ("label", ["entailment", "neutral"], "label"),
        ("hypothesis", ["nobody", None], "hypothesis.*row 1"),
        ("hypothesis", [1, 2], "hypothesis"),
        ("premise", [None, "it is hot"], "premise.*row 0"),
    ],
)
def test_multinli(tmp_path, column, values, message):
    matched = {key: value * 2 for key, value in PAIRS.items()}
    load_multinli(saved(tmp_path / "right", train=PAIRS, validation_matched=matched))
    name = saved(tmp_path / "wrong", train={**PAIRS, column: values}, validation_matched=matched)
    with pytest.raises((TypeError, ValueError), match=message):
        load_multinli(name)


def test_multinli_without_rows(tmp_path):
    unlabelled = {**PAIRS, "label": [-1, -1]}
    with pytest.raises(ValueError, match="'train' has no labelled rows"):
        load_multinli(saved(tmp_path / "a", train=unlabelled, validation_matched=PAIRS))
    with pytest.raises(ValueError, match="'validation_matched' has no labelled rows"):
        load_multinli(saved(tmp_path / "b", train=PAIRS, validation_matched=unlabelled))


def images(rows: int) -> list[Image.Image]:
    return [Image.fromarray(np.full((4, 4, 3), 40 * i, np.uint8)) for i in range(rows)]


BIRDS = {"image": images(4), "label": [0, 0, 1, 1], "place": [0, 1, 0, 1]}
FACES = {"image": images(4), "Blond_Hair": [False, False, True, True], "Male": [False, True, False, True]}
LOADERS = {
    "waterbirds": (load_waterbirds, BIRDS, "label", "place"),
    "celeba": (load_celeba, FACES, "Blond_Hair", "Male"),
}


def load(loader, folder, **splits):
    return loader(saved(folder, **splits), image_size=4)


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_images(tmp_path, name, split):
    loader, right, label, attribute = LOADERS[name]
    splits = {"train": right, "validation": right, "test": right}
    loaded = load(loader, tmp_path / "right", **splits)
    assert all(len(part) == 4 for part in loaded.values())
    for column in (label, attribute):
        wrongs = [[0, None, 1, 1], [0, 2, 1, 1], [0.5, 0.0, 1.0, 1.0], ["a", "b", "a", "b"], [[0], [1], [0], [1]]]
        for i, values in enumerate(wrongs):
            with pytest.raises((TypeError, ValueError), match=f"'{column}'"):
                load(loader, tmp_path / f"{column}{i}", **{**splits, split: {**right, column: values}})
        without = {key: value for key, value in right.items() if key != column}
        with pytest.raises(ValueError, match=f"lacks the columns {column}"):
            load(loader, tmp_path / f"without{column}", **{**splits, split: without})
    with pytest.raises(ValueError, match=f"lacks the splits {split}|no training split"):
        load(loader, tmp_path / "split", **{key: rows for key, rows in splits.items() if key != split})
    state = tmp_path / "right" / split / "state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "_data_files": []}))  # as it is saved without rows
    with pytest.raises(ValueError, match="one of its splits has no rows"):
        loader(str(tmp_path / "right"), image_size=4)


def test_splits_without_rows():
    full = datasets.Dataset.from_dict(PAIRS)
    splits = datasets.DatasetDict(train=full, test=full.select([]))
    require_splits(splits, ["train"], "the data set")
    with pytest.raises(ValueError, match="the data set: the split 'test' has no rows"):
        require_splits(splits, ["train", "test"], "the data set")


@pytest.mark.parametrize(
    "column, values, message",
    [
        ("toxicity", [0.9, None, 0.1], "'toxicity' has no value in row 0"),
        ("toxicity", [0.9, 1.5, 0.1], "'toxicity' must hold numbers from 0 to 1; found 1.5 to 1.5"),
        ("toxicity", ["0.9", "0.1", "0"], "'toxicity' must hold numbers"),
        ("black", [2.0, 0.0, 0.0], "'black' must hold numbers from 0 to 1"),
        ("black", ["yes", "no", "no"], "'black' must hold numbers"),
    ],
)
def test_civilcomments(tmp_path, column, values, message):
    right = {TEXT: ["a", "b", "c"], "toxicity": [0.9, 0.1, 0.5], "split": ["train", "val", "test"]}
    right |= {identity: [0.0, 1.0, None] for identity in IDENTITIES}
    parts, _ = load_civilcomments(saved(tmp_path / "right", train=right))
    assert [part["label"][:] for part in parts.values()] == [[1], [0], [1]]
    with pytest.raises(ValueError, match=message):
        load_civilcomments(saved(tmp_path / "wrong", train={**right, column: values}))
