"""Waterbirds: loading, bad input, rows, random crops, the demo, and the recipe on photographs."""

import importlib.util
import io
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

from gerne_hf import GroupIndex
from gerne_hf.data.waterbirds import (
    LABELS,
    PLACES,
    WaterbirdFeatures,
    Waterbirds,
    demo_waterbirds,
    load_waterbirds,
    random_crops,
)

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


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "waterbirds"


def some_birds(rows=8, side=16, **settings):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (rows, 3, side, side), dtype=np.uint8)
    return Waterbirds(images, np.arange(rows) % 2, np.arange(rows) // 2 % 2, **settings)


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


# ---- rows ---------------------------------------------------------------------------------------------------------


def test_a_row_is_the_normalized_image():
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    data = some_birds(mean=mean, std=std)
    for i in (0, 5):
        row = data[i]
        assert set(row) == {"pixel_values", "label"} and type(row["label"]) is int and row["label"] == i % 2
        expected = (data.images[i].double() / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[
            :, None, None
        ]
        assert row["pixel_values"].dtype == torch.float32
        torch.testing.assert_close(row["pixel_values"].double(), expected, atol=1e-5, rtol=0)


def test_a_batch_equals_its_single_rows_and_leaves_the_images_alone():
    data = some_birds()
    before = data.images.clone()
    wanted = [3, 0, 3, 7]
    for row, i in zip(data.__getitems__(wanted), wanted, strict=True):
        assert row["label"] == data[i]["label"] and torch.equal(row["pixel_values"], data[i]["pixel_values"])
    data.augment = True
    for _ in range(5):
        data.__getitems__(list(range(8)))
    assert torch.equal(data.images, before)


def test_the_group_index_reads_no_pixels(monkeypatch):
    data = some_birds()

    def refuse(self, index):
        raise AssertionError("pixels were read")

    monkeypatch.setattr(Waterbirds, "pixel_values", refuse)
    groups = GroupIndex.from_dataset(data, attribute_column="place")
    assert groups.label_names == tuple(LABELS) and groups.attribute_names == tuple(PLACES)
    assert groups.rows("waterbird", "land").tolist() == [1, 5] and groups.rows("landbird", "water").tolist() == [2, 6]


def test_an_unknown_column_is_named():
    with pytest.raises(KeyError, match="no column 'bird'; there are label, place"):
        some_birds()["bird"]


def test_features_are_rows_of_the_same_kind():
    birds = some_birds()
    features = torch.randn(8, 5)
    data = WaterbirdFeatures(features, birds.labels, birds.places)
    assert len(data) == 8 and (data["place"] == birds["place"]).all()
    row = data.__getitems__([6, 1])[1]
    assert row["label"] == 1 and torch.equal(row["pixel_values"], features[1][:, None, None])


# ---- random crops -------------------------------------------------------------------------------------------------


def ramp(rows, side=32):
    """Images whose red channel is the column and whose green one is the row of each pixel, times 8."""
    y, x = np.mgrid[0:side, 0:side]
    image = np.stack([8 * x, 8 * y, np.zeros_like(x)]).astype(np.uint8)
    return torch.from_numpy(np.repeat(image[None], rows, axis=0))


def test_crops_keep_shape_and_follow_the_seed():
    data = some_birds(rows=64, augment=True)
    index = torch.arange(64)
    torch.manual_seed(3)
    first = data.pixel_values(index)
    torch.manual_seed(3)
    assert torch.equal(data.pixel_values(index), first)
    other = data.pixel_values(index)
    assert first.shape == other.shape == (64, 3, 16, 16) and first.dtype == torch.float32
    assert not torch.equal(other, first)
    assert -1 <= first.min() and first.max() <= 1


def test_crops_have_the_published_size_place_and_mirroring():
    torch.manual_seed(0)
    crops = random_crops(ramp(4000))[:, :, 2:-2, 2:-2].double() / 8  # the rim is where a crop may leave the pixels
    across = (crops[:, 0, 0, -1] - crops[:, 0, 0, 0]) / 27
    down = (crops[:, 1, -1, 0] - crops[:, 1, 0, 0]) / 27
    assert abs((across < 0).double().mean() - 0.5) < 0.03 and (down > 0).all()
    width, height = across.abs(), down
    assert width.max() <= 1 + 1e-6 and height.max() <= 1 + 1e-6
    area, ratio = width * height, width / height
    assert area.min() >= 0.7 - 1e-4 and area.max() <= 1 + 1e-4 and ratio.min() >= 0.75 - 1e-4
    assert area.min() < 0.71 and area.max() > 0.95 and ratio.min() < 0.8 and ratio.max() > 1.25
    centre_x, centre_y = (crops[:, i].mean(dim=(1, 2)) - 15.5 for i in (0, 1))
    assert (centre_x.abs() <= 32 * (1 - width) / 2 + 1e-3).all() and (
        centre_y.abs() <= 32 * (1 - height) / 2 + 1e-3
    ).all()
    used = centre_x / (32 * (1 - width) / 2).clamp(min=1e-3)
    assert abs(used.mean()) < 0.05 and abs(used.std() - 3**-0.5) < 0.03  # uniform over the room there is


def test_crops_follow_torchvision():
    """The distribution of crop sizes is that of torchvision's own RandomResizedCrop."""
    from torchvision import transforms

    torch.manual_seed(0)
    image = torch.zeros(3, 500, 500)
    boxes = [transforms.RandomResizedCrop.get_params(image, (0.7, 1.0), (0.75, 4 / 3)) for _ in range(3000)]
    theirs = np.array([[width / 500, height / 500] for _, _, height, width in boxes])
    crops = random_crops(ramp(3000))[:, :, 2:-2, 2:-2].double() / 8
    ours = np.stack(
        [(crops[:, 0, 0, -1] - crops[:, 0, 0, 0]).abs() / 27, (crops[:, 1, -1, 0] - crops[:, 1, 0, 0]) / 27], axis=1
    )
    np.testing.assert_allclose(ours.mean(axis=0), theirs.mean(axis=0), atol=0.008)
    for quantile in (0.1, 0.5, 0.9):
        a, b = np.quantile(ours, quantile, axis=0), np.quantile(theirs, quantile, axis=0)
        np.testing.assert_allclose(a, b, atol=0.015)


# ---- the demo -----------------------------------------------------------------------------------------------------


def test_the_demo_ties_the_place_in_training_only():
    data = demo_waterbirds()
    counts = {key: GroupIndex.from_dataset(split, "label", "place").counts.tolist() for key, split in data.items()}
    assert counts == {
        "train": [[570, 30], [30, 570]],
        "validation": [[150, 150], [150, 150]],
        "test": [[300, 300], [300, 300]],
    }
    assert all(split.images.shape[1:] == (3, 32, 32) and not split.augment for split in data.values())


def test_a_seed_stands_for_its_demo():
    sizes = {"train_rows": 40, "validation_rows": 8, "test_rows": 8}
    first, again, other = demo_waterbirds(**sizes), demo_waterbirds(**sizes), demo_waterbirds(**sizes, seed=1)
    for split in first:
        assert torch.equal(first[split].images, again[split].images)
        assert not torch.equal(first[split].images, other[split].images)


def test_the_demo_shows_both_bird_and_place():
    """A linear model on the image's spectrum finds the place; on its silhouette, the bird."""
    data = demo_waterbirds(image_size=32)["test"]
    images = data.images.double().numpy() / 255
    blue = images[:, 2].mean(axis=(1, 2)) - images[:, 1].mean(axis=(1, 2))
    found = blue > np.median(blue)
    assert (found == (data.places == 1)).mean() > 0.9
    assert abs((found == (data.labels == 1)).mean() - 0.5) < 0.1
    lit = images.min(axis=1) > 0.45
    rows_lit = lit.any(axis=2).sum(axis=1)
    assert abs(np.corrcoef(rows_lit, data.places)[0, 1]) < 0.3


# ---- the recipe on photographs ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recipe():
    path = Path(__file__).parent.parent / "recipes" / "waterbirds.py"
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
    mean, std = recipe.normalization(backbone)
    assert (list(mean), list(std)) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    data = demo_waterbirds(60, 12, 12, image_size=16)
    features, make_head = recipe.on_features(data, recipe.pretrained_image_model(backbone, LABELS, 16))
    train = features["train"].features[:, :, 0, 0]
    assert train.mean(dim=0).abs().max() < 1e-3 and train.std(dim=0).max() < 1 + 1e-3
    assert {name: len(split) for name, split in features.items()} == {"train": 60, "validation": 12, "test": 12}
    assert features["test"].features[:, :, 0, 0].mean(dim=0).abs().max() > 0.01
    assert make_head().classifier.in_features == train.shape[1]
