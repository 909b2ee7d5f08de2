"""Any data set of images: where it lies, missing splits, its columns, bad images."""

import io

import datasets
import pytest
import torch
from image_folders import KINDS, PLACES, image_folder, table_of
from PIL import Image

from gerne_hf import GroupIndex
from gerne_hf.data.images import load_images

pytestmark = pytest.mark.usefixtures("own_cache")
SETTINGS = {"label_column": "kind", "attribute_columns": ["place"], "image_size": 8}


def in_memory(train=60, validation=12, test=18, change=None):
    splits = {"train": table_of(train), "validation": table_of(validation), "test": table_of(test)}
    for split, table in splits.items():
        if change:
            change(split, table)
    features = datasets.Features(
        {"picture": datasets.Image(), "kind": datasets.Value("string"), "place": datasets.Value("string")}
    )
    return datasets.DatasetDict({key: datasets.Dataset.from_dict(t, features=features) for key, t in splits.items()})


def red(split):
    """The red of each row's image, 0 to 255."""
    rows = split.__getitems__(list(range(len(split))))
    return [round(255 * (0.5 * float(row["pixel_values"][0, 0, 0]) + 0.5)) for row in rows]


# ---- where it lies ------------------------------------------------------------------------------------------------


def test_an_image_folder_with_metadata(tmp_path):
    folder = image_folder(tmp_path / "animals", {"train": 60, "validation": 12, "test": 18})
    data = load_images(folder, augment=False, **SETTINGS)
    assert {key: len(split) for key, split in data.items()} == {"train": 60, "validation": 12, "test": 18}
    groups = GroupIndex.from_dataset(data["test"], "kind", "place")
    assert groups.label_names == tuple(KINDS) and groups.attribute_names == tuple(PLACES)
    assert sorted(red(data["test"])) == [5 * i for i in range(18)]
    for value, row in zip(red(data["test"]), data["test"], strict=True):
        assert row["label"] == value // 5 % 3 and row["pixel_values"].shape == (3, 8, 8)


@pytest.mark.parametrize("kind", ["parquet", "saved", "saved splits"])
def test_other_places(tmp_path, kind):
    splits = in_memory()
    name = tmp_path / "animals"
    if kind == "parquet":
        name.mkdir()
        for key, split in splits.items():
            split.to_parquet(name / f"{key}.parquet")
    elif kind == "saved":
        splits["train"].save_to_disk(name)
    else:
        splits.save_to_disk(name)
    data = load_images(str(name), "picture", augment=False, **SETTINGS)
    assert list(data) == ["train", "validation", "test"]
    lengths = [len(split) for split in data.values()]
    assert lengths == ([42, 6, 12] if kind == "saved" else [60, 12, 18])
    assert set(red(data["test"])) < {5 * i % 256 for i in range(60)}


def test_a_csv_of_paths(tmp_path):
    lines = ["picture,kind,place"]
    for i, image in enumerate(table_of(30)["picture"]):
        image.save(tmp_path / f"{i}.png")
        lines.append(f"{tmp_path / f'{i}.png'},{KINDS[i % 3]},{PLACES[i // 3 % 2]}")
    (tmp_path / "animals.csv").write_text("\n".join(lines))
    data = load_images(str(tmp_path / "animals.csv"), "picture", augment=False, **SETTINGS)
    assert sum(map(len, data.values())) == 30 and data["train"][0]["pixel_values"].shape == (3, 8, 8)


# ---- splits -------------------------------------------------------------------------------------------------------


def test_missing_splits_are_cut_by_a_fixed_seed_group_by_group_and_said_once(capsys):
    splits = in_memory(train=600)
    only = datasets.DatasetDict(train=splits["train"])
    data = load_images(only, "picture", augment=False, **SETTINGS)
    assert [len(split) for split in data.values()] == [420, 60, 120]
    for split, rows in zip(data.values(), (70, 10, 20), strict=True):
        assert abs(GroupIndex.from_dataset(split, "kind", "place").counts - rows).max() <= 1
    said = capsys.readouterr().out
    assert said.count("The data set has no validation and no test split") == 1
    assert "420 for train, 60 for validation, 120 for test" in said
    parts = [split.with_format(None)["kind"][:] for split in data.values()]
    again = load_images(only, "picture", augment=False, **SETTINGS)
    assert parts == [split.with_format(None)["kind"][:] for split in again.values()]
    assert [red(data[key])[:9] for key in data] == [red(again[key])[:9] for key in again]


def test_no_row_is_in_two_splits():
    table = table_of(90)
    table["picture"] = [Image.new("RGB", (4, 4), (i, 60, 90)) for i in range(90)]
    data = load_images(
        datasets.DatasetDict(train=datasets.Dataset.from_dict(table).cast_column("picture", datasets.Image())),
        "picture",
        augment=False,
        **SETTINGS,
    )
    assert sorted(sum((red(split) for split in data.values()), [])) == list(range(90))


def test_small_groups_stay_in_training():
    table = {key: column[:7] for key, column in table_of(60).items()}
    table["kind"] = ["cat"] * 4 + ["dog"] * 2 + ["emu"]
    train = datasets.Dataset.from_dict(table).cast_column("picture", datasets.Image())
    data = load_images(datasets.DatasetDict(train=train), "picture", **{**SETTINGS, "attribute_columns": []})
    assert (GroupIndex.from_dataset(data["train"], "kind").counts >= 1).all()
    with pytest.raises(ValueError, match="2 training rows in 2 groups are too few to cut validation and test"):
        load_images(datasets.DatasetDict(train=train.select([3, 4])), "picture", **SETTINGS)


def test_one_missing_split_leaves_the_other_alone(capsys):
    splits = in_memory()
    del splits["validation"]
    data = load_images(splits, "picture", augment=False, **SETTINGS)
    assert [len(split) for split in data.values()] == [54, 6, 18]
    assert "no validation split" in capsys.readouterr().out


def test_usual_and_chosen_names_of_splits():
    splits = in_memory()
    splits["val"] = splits.pop("validation")
    splits["holdout"] = splits.pop("test")
    data = load_images(splits, "picture", augment=False, test="holdout", **SETTINGS)
    assert [len(split) for split in data.values()] == [60, 12, 18]
    with pytest.raises(ValueError, match="has no split 'dev': it has train, val, holdout"):
        load_images(splits, "picture", validation="dev", **SETTINGS)


# ---- columns ------------------------------------------------------------------------------------------------------


def test_labels_of_any_type_count_from_zero():
    splits = in_memory()
    numbers = {"cat": 7, "dog": 3, "emu": 40}
    splits = splits.map(lambda row: {"number": numbers[row["kind"]], "inside": row["place"] == "barn"})
    data = load_images(splits, "picture", "number", ["inside", "kind"], image_size=4, augment=False)
    groups = GroupIndex.from_dataset(data["train"], "number", ["inside", "kind"])
    assert groups.label_names == ("3", "7", "40") and groups.num_attributes == 6
    assert [row["label"] for row in data["train"].__getitems__([0, 1, 2])] == [1, 0, 2]


def test_names_of_a_class_label_keep_their_order():
    splits = in_memory().cast_column("kind", datasets.ClassLabel(names=["emu", "dog", "cat"]))
    data = load_images(splits, "picture", augment=False, **SETTINGS)
    assert data["train"].features["kind"].names == ["emu", "dog", "cat"]
    assert data["train"][0]["label"] == 2


def test_missing_columns_are_named_with_those_found():
    with pytest.raises(
        ValueError, match="'train', lacks the columns image: it has picture, kind, place, and image, kind"
    ):
        load_images(in_memory(), "image", **SETTINGS)


def test_a_column_of_something_else_is_no_image():
    splits = in_memory().map(lambda row: {"score": 0.5})
    with pytest.raises(ValueError, match="'score' holds Value.*images or paths of image files are needed"):
        load_images(splits, "score", **SETTINGS)


def test_a_label_that_training_lacks_is_refused():
    def change(split, table):
        if split == "test":
            table["kind"][4] = "yak"

    with pytest.raises(ValueError, match=r"split 'test' has the labels 'yak' \(1 rows\), which training lacks"):
        load_images(in_memory(change=change), "picture", **SETTINGS)


def test_an_attribute_that_training_lacks_is_kept_and_told(caplog):
    def change(split, table):
        if split == "test":
            table["place"][4] = "attic"

    data = load_images(in_memory(change=change), "picture", **SETTINGS)
    assert "the split 'test' has values of 'place' that training lacks: 'attic'" in caplog.text
    names = {key: split.features["place"].names for key, split in data.items()}
    later = ["barn", "lawn", "attic"]
    assert names == {"train": later[:2], "validation": later, "test": later}  # in training it would be an empty group
    assert GroupIndex.from_dataset(data["test"], "kind", "place").rows("dog", "attic").tolist() == [4]


def test_attributes_may_be_unknown_in_training():
    splits = in_memory()
    splits["train"] = splits["train"].remove_columns("place")
    data = load_images(splits, "picture", **SETTINGS)
    assert data["train"].column_names == ["picture", "kind"] and "place" in data["test"].column_names


# ---- images -------------------------------------------------------------------------------------------------------


def broken(split, table):
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(whole, "PNG")
    contents = [b"this is text", whole.getvalue()[:-600], b""]
    if split == "train":
        for i, content in zip((7, 20, 21), contents, strict=True):
            table["picture"][i] = {"bytes": content, "path": None}
        table["picture"][33] = None


def test_a_broken_image_stops_before_training_naming_the_row():
    with pytest.raises(ValueError, match="row 7 of the split 'train' cannot be decoded .*, and 3 more"):
        load_images(in_memory(change=broken), "picture", **SETTINGS)


def test_broken_images_are_skipped_and_counted(capsys):
    data = load_images(in_memory(change=broken), "picture", augment=False, skip_undecodable=True, **SETTINGS)
    assert "4 of 60 rows of the split 'train' are skipped" in capsys.readouterr().out
    good = [i for i in range(60) if i not in (7, 20, 21, 33)]
    assert red(data["train"]) == [5 * i % 256 for i in good]
    assert data["train"].with_format(None)["kind"][:] == [i % 3 for i in good]


def test_training_images_are_cropped_at_random():
    noise = [Image.effect_noise((16, 16), 80).convert("RGB") for _ in range(60)]

    def change(split, table):
        table["picture"] = noise[: len(table["kind"])]

    data = load_images(in_memory(change=change), "picture", **SETTINGS)
    assert not torch.equal(data["train"][0]["pixel_values"], data["train"][0]["pixel_values"])
    assert torch.equal(data["test"][0]["pixel_values"], data["test"][0]["pixel_values"])
