"""bFFHQ: the published layout, what is said where it is missing, minority accuracy, the demo."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from places import ROOT

from gerne_hf import GroupIndex, group_metrics
from gerne_hf.data.bffhq import DEMO_MINORITY_ROWS, GENDERS, LABELS, demo_bffhq, load_bffhq, minority_accuracy
from gerne_hf.recipes.arguments import parse_arguments

ROWS = {("0.5pct", "align"): 10, ("0.5pct", "conflict"): 4, ("valid", ""): 8, ("test", ""): 8}


def miniature(folder):
    """Plain images in the published layout; the red of each is its number in its split, times 10."""
    for (part, kind), rows in ROWS.items():
        for i in range(rows):
            age = i % 2
            gender = {"align": age, "conflict": 1 - age, "": i // 2 % 2}[kind]
            place = folder / part / kind / str(age) if kind else folder / part
            place.mkdir(parents=True, exist_ok=True)
            name = f"{i + 50 * (kind == 'conflict'):05}_{age}_{gender}.png"
            Image.new("RGB", (12, 12), (10 * i, 0, 0)).save(place / name)
    return str(folder)


def test_the_published_layout(tmp_path):
    data = load_bffhq(miniature(tmp_path / "bffhq"), image_size=6)
    assert {key: len(split) for key, split in data.items()} == {"train": 14, "validation": 8, "test": 8}
    index = {key: GroupIndex.from_dataset(split, "label", "gender") for key, split in data.items()}
    assert index["train"].label_names == tuple(LABELS) and index["train"].attribute_names == tuple(GENDERS)
    assert index["train"].counts.tolist() == [[5, 2], [2, 5]]
    assert index["validation"].counts.tolist() == index["test"].counts.tolist() == [[2, 2], [2, 2]]
    for i, row in enumerate(data["test"].__getitems__(list(range(8)))):
        assert row["label"] == i % 2 and row["pixel_values"].shape == (3, 6, 6)
        red = torch.tensor(2 * 10 * i / 255 - 1)
        torch.testing.assert_close(row["pixel_values"][0], red.expand(6, 6))


def test_another_share_and_other_endings(tmp_path):
    folder = Path(miniature(tmp_path / "bffhq"))
    (folder / "0.5pct").rename(folder / "2pct")
    for path in (folder / "valid").iterdir():
        Image.open(path).save(path.with_suffix(".JPG"), "JPEG")
        path.unlink()
    data = load_bffhq(str(folder), "2pct", image_size=4)
    assert [len(split) for split in data.values()] == [14, 8, 8]


# ---- bad input ----------------------------------------------------------------------------------------------------


def test_a_missing_folder_shows_the_layout(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist") as error:
        load_bffhq(str(tmp_path / "nowhere"))
    assert "FOLDER/0.5pct/align/0/ID_AGE_GENDER.png" in str(error.value) and "--dataset_name" in str(error.value)


def test_a_missing_part_shows_what_is_there(tmp_path):
    folder = Path(miniature(tmp_path / "bffhq"))
    (folder / "valid").rename(folder / "val")
    with pytest.raises(FileNotFoundError, match="holds 0.5pct, test, val.*\n?.*FOLDER/"):
        load_bffhq(str(folder))


def test_a_name_without_age_and_gender_is_refused(tmp_path):
    folder = Path(miniature(tmp_path / "bffhq"))
    Image.new("RGB", (4, 4)).save(folder / "test" / "portrait.png")
    with pytest.raises(ValueError, match="portrait.png tells no age and gender"):
        load_bffhq(str(folder))


def test_a_broken_image_is_named_or_skipped(tmp_path, capsys):
    folder = miniature(tmp_path / "bffhq")
    next((tmp_path / "bffhq" / "0.5pct" / "conflict").rglob("00050_*.png")).write_bytes(b"no image")
    with pytest.raises(ValueError, match="the image of row 10 of the split 'train' cannot be decoded"):
        load_bffhq(folder, image_size=4)
    assert len(load_bffhq(folder, image_size=4, skip_undecodable=True)["train"]) == 13
    assert "1 of 14 rows of the split 'train' are skipped" in capsys.readouterr().out


# ---- minority accuracy --------------------------------------------------------------------------------------------


def test_minority_accuracy_is_over_young_men_and_old_women():
    labels = [0, 0, 0, 1, 1, 1]
    genders = [1, 1, 0, 0, 1, 1]
    predicted = [0, 1, 1, 1, 0, 0]  # young men: one of two, old women: one of one; all others wrong
    result = group_metrics(predicted, labels, genders, label_names=LABELS, attribute_names=GENDERS)
    assert minority_accuracy(result) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="neither young men nor old women"):
        minority_accuracy(group_metrics([0, 1], [0, 1], [0, 1], label_names=LABELS, attribute_names=GENDERS))


# ---- the demo and the recipe --------------------------------------------------------------------------------------


def test_the_demo_lies_in_the_published_layout(tmp_path):
    folder = demo_bffhq(str(tmp_path / "faces"), 100, 40, 40)
    assert sorted(path.name for path in (tmp_path / "faces").iterdir()) == ["0.5pct", "test", "valid"]
    data = load_bffhq(folder, image_size=32)
    counts = {key: GroupIndex.from_dataset(split, "label", "gender").counts.tolist() for key, split in data.items()}
    rare = DEMO_MINORITY_ROWS // 2
    assert counts["train"] == [[50 - rare, rare], [rare, 50 - rare]]
    assert counts["validation"] == counts["test"] == [[10, 10], [10, 10]]


def test_the_recipe_reports_minority_accuracy(tmp_path, monkeypatch, capsys, without_pictures):
    path = ROOT / "recipes" / "bffhq.py"
    spec = importlib.util.spec_from_file_location("bffhq_recipe", path)
    recipe = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, recipe)  # dataclasses look their module up
    spec.loader.exec_module(recipe)
    monkeypatch.setattr(recipe, "demo_bffhq", lambda folder: demo_bffhq(folder, 120, 20, 40))
    arguments = ["--demo", "--output_dir", str(tmp_path / "out"), "--max_steps", "2", "--eval_strategy", "no"]
    arguments += ["--save_strategy", "no", "--load_best_model_at_end", "false", "--seeds", "1,2", "--use_cpu"]
    results = recipe.main(*recipe.parse_arguments(recipe.Arguments, recipe.__file__, arguments))
    saved = json.loads((tmp_path / "out" / "minority_accuracy.json").read_text())
    assert saved == {method: [minority_accuracy(run) for run in runs] for method, runs in results.items()}
    assert list(saved) == ["ERM", "GERNE"] and all(len(values) == 2 for values in saved.values())
    printed = capsys.readouterr().out
    mean = 50 * sum(saved["GERNE"])
    assert "minority accuracy, %" in printed and f"{mean:.1f}±" in printed.split("minority accuracy, %")[1]


def test_a_missing_folder_is_found_before_a_backbone_is_loaded(tmp_path):
    path = ROOT / "recipes" / "bffhq.py"
    spec = importlib.util.spec_from_file_location("recipe_bffhq", path)
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    missing = ["--dataset_name", str(tmp_path / "nowhere"), "--model_name_or_path", str(tmp_path / "no backbone")]
    arguments = [*missing, "--output_dir", str(tmp_path / "out"), "--use_cpu", "true"]
    with pytest.raises(FileNotFoundError, match="does not exist"):
        recipe.main(*parse_arguments(recipe.Arguments, str(path), arguments))
