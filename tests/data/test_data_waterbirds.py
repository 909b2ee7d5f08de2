"""Waterbirds from its files: loading, bad input, and the recipe on photographs."""

import importlib.util
import io
import sys

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from places import ROOT
from transformers import AutoImageProcessor, AutoModelForImageClassification

from gerne_hf.data.waterbirds import LABELS, PLACES, demo_waterbirds, load_waterbirds
from gerne_hf.models import image_processor, pretrained_image_model, processor_normalization

pytestmark = pytest.mark.usefixtures("own_cache")
SIZES = {"train": 14, "validation": 5, "test": 6}
FEATURES = datasets.Features(
    {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=LABELS),
        "bird": datasets.Value("string"),
        "place": datasets.ClassLabel(names=PLACES),
    }
)


def columns_of(split, rows, side=(20, 12)):
    """Row i of a split is a plain image of the colour (10 i, 100, 200), stored losslessly."""
    start = 100 * list(SIZES).index(split)
    return {
        "image": [Image.new("RGB", side, (10 * i % 256, 100, 200)) for i in range(rows)],
        "label": [i % 2 for i in range(rows)],
        "bird": [f"bird {start + i}" for i in range(rows)],
        "place": [i // 2 % 2 for i in range(rows)],
    }


def miniature(folder, change=None, rename=None, splits=SIZES, features=FEATURES):
    """A folder of parquet files in the schema of grodino/waterbirds; `change(split, columns)` spoils it."""
    (folder / "data").mkdir(parents=True)
    for split, rows in splits.items():
        columns = columns_of(split, rows)
        if change:
            change(split, columns)
        data = datasets.Dataset.from_dict(columns, features=features).rename_columns(rename or {})
        data.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return str(folder)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "waterbirds"


# ---- loading ------------------------------------------------------------------------------------------------------


def test_loading_makes_the_three_splits(folder):
    data = load_waterbirds(miniature(folder), image_size=10)
    assert {name: len(split) for name, split in data.items()} == SIZES
    assert [split.augment for split in data.values()] == [True, False, False]
    for split in data.values():
        assert split.images.shape == (len(split), 3, 10, 10) and split.images.dtype == torch.uint8
        for i, image in enumerate(split.images):
            expected = torch.tensor([10 * i, 100, 200], dtype=torch.uint8)
            assert (image == expected[:, None, None]).all()  # squeezed into a square, channels first
        assert split["label"].tolist() == [LABELS[i % 2] for i in range(len(split))]
        assert split["place"].tolist() == [PLACES[i // 2 % 2] for i in range(len(split))]


def test_images_of_the_right_size_are_left_as_they_are(folder):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)

    def change(split, columns):
        columns["image"] = [Image.fromarray(pixels)] * len(columns["image"])

    data = load_waterbirds(miniature(folder, change), image_size=8)
    assert (data["test"].images[3].numpy() == pixels.transpose(2, 0, 1)).all()


def test_grey_and_transparent_images_become_rgb(folder):
    def change(split, columns):
        columns["image"][0] = Image.new("L", (8, 8), 77)
        columns["image"][1] = Image.new("RGBA", (8, 8), (1, 2, 3, 128))

    data = load_waterbirds(miniature(folder, change), image_size=8)
    assert data["train"].images[0].unique().tolist() == [77]
    assert data["train"].images[1, :, 0, 0].tolist() == [1, 2, 3]


def test_a_folder_of_save_to_disk(folder):
    splits = {
        split: datasets.Dataset.from_dict(columns_of(split, rows), features=FEATURES) for split, rows in SIZES.items()
    }
    datasets.DatasetDict(splits).save_to_disk(folder)
    data = load_waterbirds(str(folder), image_size=4, augment=False)
    assert {name: len(split) for name, split in data.items()} == SIZES and not data["train"].augment


# ---- bad input ----------------------------------------------------------------------------------------------------


def test_missing_columns_are_named_with_those_found(folder):
    name = miniature(folder, rename={"place": "background"})
    with pytest.raises(ValueError, match="lacks the columns place: it has image, label, bird, background, and image,"):
        load_waterbirds(name, 8)


def test_a_missing_split_is_named_with_those_found(folder):
    name = miniature(folder, splits={"train": 4, "test": 4})
    with pytest.raises(ValueError, match="lacks the splits validation: it has train, test"):
        load_waterbirds(name, 8)


@pytest.mark.parametrize("column, value", [("label", 2), ("place", -1)])
def test_other_classes_and_places_are_refused(folder, column, value):
    def change(split, columns):
        if split == "validation":
            columns[column][3] = value

    features = datasets.Features({**FEATURES, "label": datasets.Value("int64"), "place": datasets.Value("int64")})
    name = miniature(folder, change, features=features)
    with pytest.raises(ValueError, match=rf"the column '{column}' must hold 0 \(land.*\) and 1 .*found .*{value}"):
        load_waterbirds(name, 8)


def broken_images():
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(whole, "PNG")
    return {"no image": b"this is text", "cut off": whole.getvalue()[:-600], "empty": b"", "missing": None}


@pytest.mark.parametrize("kind", broken_images())
def test_an_image_that_cannot_be_decoded_is_named_by_its_row(folder, kind):
    def change(split, columns):
        if split == "test":
            content = broken_images()[kind]
            columns["image"][4] = None if content is None else {"bytes": content, "path": None}

    name = miniature(folder, change)
    with pytest.raises(ValueError, match="the image of row 4 of the split 'test' cannot be decoded.*skip_undecodable"):
        load_waterbirds(name, 8)


def test_broken_images_are_skipped_and_counted(folder, capsys):
    def change(split, columns):
        if split == "validation":
            columns["image"][1] = {"bytes": b"this is text", "path": None}

    data = load_waterbirds(miniature(folder, change), 8, skip_undecodable=True)
    whole = load_waterbirds(miniature(folder / "whole"), 8)
    for key, split in data.items():
        kept = np.delete(np.arange(len(whole[key])), 1) if key == "validation" else np.arange(len(whole[key]))
        assert torch.equal(split.images, whole[key].images[kept])
        assert split.labels.tolist() == whole[key].labels[kept].tolist()
        assert split.places.tolist() == whole[key].places[kept].tolist()
    assert f"1 of {len(whole['validation'])} rows of the split 'validation' are skipped" in capsys.readouterr().out


# ---- the recipe on photographs ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recipe():
    path = ROOT / "recipes" / "waterbirds.py"
    spec = importlib.util.spec_from_file_location("waterbirds_recipe", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A folder with a tiny timm model of four classes, as benchmarks/backbones.py makes one of 1,000."""
    import timm
    from transformers import TimmWrapperConfig, TimmWrapperForImageClassification

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("backbone")
    settings = {"input_size": [3, 32, 32], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "crop_pct": 0.9}
    config = TimmWrapperConfig(architecture="test_efficientnet", pretrained_cfg=settings, num_labels=4)
    model = TimmWrapperForImageClassification(config)
    model.load_state_dict(timm.create_model("test_efficientnet", num_classes=4).state_dict())  # initialized by timm
    model.save_pretrained(folder)
    return str(folder)


def run_recipe(recipe, folder, backbone, output, *more):
    arguments = [
        *("--dataset_name", miniature(folder), "--model_name_or_path", backbone, "--image_size", "16"),
        *("--output_dir", str(output), "--max_steps", "2", "--per_device_train_batch_size", "8", "--seed", "1"),
        *("--save_strategy", "no", "--load_best_model_at_end", "false", "--dataloader_num_workers", "0", "--use_cpu"),
    ]
    return recipe.main(*recipe.parse_arguments(recipe.Arguments, recipe.__file__, [*arguments, *more]))


def test_fine_tuning_a_backbone(recipe, folder, backbone, tmp_path, without_pictures):
    results = run_recipe(recipe, folder, backbone, tmp_path / "out", "--freeze_batch_norm")
    assert list(results) == ["ERM", "GERNE"] and all(len(runs[0]["groups"]) == 4 for runs in results.values())
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "out")
    assert model.config.id2label == dict(enumerate(LABELS))
    before = AutoModelForImageClassification.from_pretrained(backbone).state_dict()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert any("conv" in name for name in changed) and not any("running" in name for name in changed)
    shown = AutoImageProcessor.from_pretrained(tmp_path / "out")(Image.new("RGB", (40, 20)))["pixel_values"]
    assert shown.shape == (1, 3, 16, 16)


def test_a_head_on_frozen_features(recipe, folder, backbone, tmp_path, without_pictures):
    results = run_recipe(recipe, folder, backbone, tmp_path / "out", "--freeze_backbone", "--compare", "none")
    assert list(results) == ["GERNE"] and len(results["GERNE"][0]["groups"]) == 4
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "out")
    assert model.config.hidden_sizes == [] and model.classifier.out_features == 2


def test_features_are_standardized_by_the_training_rows(recipe, backbone):
    mean, std = processor_normalization(image_processor(backbone))
    assert (list(mean), list(std)) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    data = demo_waterbirds(60, 12, 12, image_size=16)
    features, make_head = recipe.on_features(data, pretrained_image_model(backbone, LABELS, 16))
    train = features["train"].features[:, :, 0, 0]
    assert train.mean(dim=0).abs().max() < 1e-3 and train.std(dim=0).max() < 1 + 1e-3
    assert {name: len(split) for name, split in features.items()} == {"train": 60, "validation": 12, "test": 12}
    assert features["test"].features[:, :, 0, 0].mean(dim=0).abs().max() > 0.01
    assert make_head().classifier.in_features == train.shape[1]
