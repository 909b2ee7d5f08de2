"""CelebA: the Hub's schema, other pairs of booleans, bad input, the demo."""

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from gerne_hf import GroupIndex
from gerne_hf.data.celeba import ATTRIBUTES, SPLITS, class_names, demo_celeba, load_celeba

ROWS = {"train": 12, "valid": 5, "test": 6}
FEATURES = datasets.Features(
    {
        "image": datasets.Image(),
        "celeb_id": datasets.Value("int64"),
        **{name: datasets.Value("bool") for name in ATTRIBUTES},
    }
)


def columns_of(rows):
    """Row i is a plain portrait of the colour (10 i, 100, 200); boolean number k is True in every row i with bit k."""
    table = {name: [bool(i >> k % 4 & 1) for i in range(rows)] for k, name in enumerate(ATTRIBUTES)}
    table["image"] = [Image.new("RGB", (12, 16), (10 * i, 100, 200)) for i in range(rows)]
    return table | {"celeb_id": list(range(rows))}


def miniature(folder, change=None, features=FEATURES, splits=ROWS, card=True):
    """Parquet files in the schema of flwrlabs/celeba, and its card; `change(split, columns)` spoils it."""
    (folder / "data").mkdir(parents=True)
    if card:  # it names the splits; without it "valid" is taken for "validation"
        lines = [f"  - split: {split}\n    path: data/{split}-*" for split in splits]
        (folder / "README.md").write_text(
            "---\nconfigs:\n- config_name: img_align+identity+attr\n  data_files:\n" + "\n".join(lines) + "\n---\n"
        )
    for split, rows in splits.items():
        columns = columns_of(rows)
        if change:
            change(split, columns)
        kept = datasets.Features({name: features[name] for name in columns})
        datasets.Dataset.from_dict(columns, features=kept).to_parquet(folder / "data" / f"{split}-00000.parquet")
    return str(folder)


pytestmark = pytest.mark.usefixtures("own_cache")


def test_there_are_forty_booleans():
    assert len(ATTRIBUTES) == len(set(ATTRIBUTES)) == 40 and {"Blond_Hair", "Male"} <= set(ATTRIBUTES)


def test_blond_hair_and_gender_by_default(tmp_path):
    data = load_celeba(miniature(tmp_path / "celeba"), image_size=8)
    assert {name: len(split) for name, split in data.items()} == {"train": 12, "validation": 5, "test": 6}
    assert [split.format["format_kwargs"]["transform"].augment for split in data.values()] == [True, False, False]
    blond, male = ATTRIBUTES.index("Blond_Hair") % 4, ATTRIBUTES.index("Male") % 4
    assert blond != male
    for split in data.values():
        groups = GroupIndex.from_dataset(split, "Blond_Hair", "Male")
        assert groups.label_names == ("not blond hair", "blond hair")
        assert groups.attribute_names == ("female", "male")
        expected = [(i >> blond & 1) * 2 + (i >> male & 1) for i in range(len(split))]
        assert groups.codes.tolist() == expected
    for i, row in enumerate(data["test"].__getitems__([0, 1, 2, 3, 4, 5])):
        assert set(row) == {"pixel_values", "label"} and row["label"] == (i >> blond & 1)
        pixel = (torch.tensor([10.0 * i, 100, 200]) / 255 - 0.5) / 0.5
        torch.testing.assert_close(row["pixel_values"], pixel[:, None, None].expand(3, 8, 8))


def test_split_names_with_and_without_the_card(tmp_path):
    for card, found in ((True, "valid"), (False, "validation")):
        name = miniature(tmp_path / found, card=card)
        assert list(datasets.load_dataset(name)) == ["train", found, "test"]
        assert [len(split) for split in load_celeba(name, image_size=4).values()] == [12, 5, 6]


def test_any_other_pair_and_a_product_of_two(tmp_path):
    data = load_celeba(miniature(tmp_path / "celeba"), "Young", ["Smiling", "Bald"], image_size=4)
    groups = GroupIndex.from_dataset(data["train"], "Young", ["Smiling", "Bald"])
    assert groups.label_names == ("old", "young") and groups.num_attributes == 4
    assert groups.attribute_names[1] == "not smiling & bald"
    young = ATTRIBUTES.index("Young") % 4
    assert [data["train"][i]["label"] for i in range(12)] == [i >> young & 1 for i in range(12)]


def test_the_original_files_minus_one_and_one(tmp_path):
    features = datasets.Features({**FEATURES, **{name: datasets.Value("int64") for name in ATTRIBUTES}})

    def change(split, columns):
        for name in ATTRIBUTES:
            columns[name] = [2 * value - 1 for value in columns[name]]

    data = load_celeba(miniature(tmp_path / "celeba", change, features), image_size=4)
    blond = ATTRIBUTES.index("Blond_Hair") % 4
    assert [data["test"][i]["label"] for i in range(6)] == [i >> blond & 1 for i in range(6)]


def test_names_of_the_two_values():
    assert class_names("No_Beard") == ["beard", "no beard"]
    assert class_names("5_o_Clock_Shadow") == ["not 5 o clock shadow", "5 o clock shadow"]


# ---- bad input ----------------------------------------------------------------------------------------------------


def test_an_unknown_boolean_is_named_with_the_columns(tmp_path):
    with pytest.raises(ValueError, match="lacks the columns Blonde: it has 5_o_Clock_Shadow, .*Young, image"):
        load_celeba(miniature(tmp_path / "celeba"), "Blonde", image_size=4)


def test_a_missing_split_is_named(tmp_path):
    name = miniature(tmp_path / "celeba", splits={"train": 4, "test": 4})
    with pytest.raises(ValueError, match="lacks the splits validation: it has train, test"):
        load_celeba(name, image_size=4)


def test_the_same_boolean_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Male is both label_column and attribute_column"):
        load_celeba(miniature(tmp_path / "celeba"), "Male", ["Male"], image_size=4)


def test_values_that_are_no_booleans_are_refused(tmp_path):
    features = datasets.Features({**FEATURES, "Male": datasets.Value("int64")})

    def change(split, columns):
        columns["Male"] = list(range(len(columns["Male"])))

    with pytest.raises(ValueError, match="'Male' must hold booleans, 0 and 1, or -1 and 1; found 0, 1, 2"):
        load_celeba(miniature(tmp_path / "celeba", change, features), image_size=4)


def test_a_broken_image_is_named_or_skipped_and_counted(tmp_path, capsys):
    def change(split, columns):
        if split == "valid":
            columns["image"][3] = {"bytes": b"no image", "path": None}

    name = miniature(tmp_path / "celeba", change)
    with pytest.raises(ValueError, match="image of row 3 of the split 'validation' cannot be decoded.*skip_undecod"):
        load_celeba(name, image_size=4)
    data = load_celeba(name, image_size=4, skip_undecodable=True)
    assert [len(split) for split in data.values()] == [12, 4, 6]
    assert "1 of 5 rows of the split 'validation' are skipped" in capsys.readouterr().out


# ---- the demo -----------------------------------------------------------------------------------------------------


def test_the_demo_has_the_real_schema_and_ties_hair_to_gender_in_training_only():
    raw = demo_celeba(80, 40, 40)
    assert tuple(raw) == SPLITS
    assert all(split.features == FEATURES for split in raw.values())
    data = load_celeba(raw, image_size=32)
    counts = {key: GroupIndex.from_dataset(split, "Blond_Hair", "Male").counts for key, split in data.items()}
    assert counts["train"].tolist() == [[2, 38], [38, 2]]
    assert counts["validation"].tolist() == counts["test"].tolist() == [[10, 10], [10, 10]]


def test_a_seed_stands_for_its_demo():
    first, again, other = demo_celeba(8, 4, 4), demo_celeba(8, 4, 4), demo_celeba(8, 4, 4, seed=1)
    pixels = [np.stack([np.asarray(row["image"]) for row in data["train"]]) for data in (first, again, other)]
    assert (pixels[0] == pixels[1]).all() and not (pixels[0] == pixels[2]).all()
