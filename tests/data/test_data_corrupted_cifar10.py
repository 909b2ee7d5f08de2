"""Corrupted CIFAR-10: the ten corruptions, the split, bad input, rows, the demo."""

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from gerne_hf import GroupIndex
from gerne_hf.data import corrupted_cifar10
from gerne_hf.data.corrupted_cifar10 import LABELS, MINORITY_ROWS, demo_cifar10, load_corrupted_cifar10
from gerne_hf.data.corruptions import CORRUPTIONS, corrupt

FEATURES = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=list(LABELS))})
SMALL = {"train_rows": 200, "minority_rows": 90}


def some_images(rows=6, size=32):
    """Smooth coloured images."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:size, 0:size] / size
    waves = [np.sin(2 * np.pi * (rng.uniform(0.5, 2) * x + rng.uniform(0.5, 2) * y)) for _ in range(3 * rows)]
    images = 0.5 + 0.3 * np.stack(waves).reshape(rows, 3, size, size)
    return (255 * images).astype(np.uint8).transpose(0, 2, 3, 1)


def miniature(folder, change=None, rows=230, test_rows=100):
    """Parquet files in the schema of uoft-cs/cifar10."""
    (folder / "plain_text").mkdir(parents=True)
    for split, count in (("train", rows), ("test", test_rows)):
        images = [Image.fromarray(image) for image in some_images(count)]
        table = {"img": images, "label": [i % 10 for i in range(count)]}
        if change:
            change(split, table)
        data = datasets.Dataset.from_dict(table, features=FEATURES)
        data.to_parquet(folder / "plain_text" / f"{split}-00000-of-00001.parquet")
    return str(folder)


pytestmark = pytest.mark.usefixtures("own_cache")


# ---- corruptions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_changes_every_image_and_follows_the_seed(name):
    images = some_images()
    before = images.copy()
    first, again = (corrupt(images, name, np.random.default_rng(3)) for _ in range(2))
    assert first.shape == images.shape and first.dtype == np.uint8
    assert (first == again).all() and (images == before).all()
    assert all((a != b).any() for a, b in zip(first, images, strict=True))
    # Still the same picture: what is left of it goes with the original, image by image.
    for a, b in zip(first, images, strict=True):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.35


@pytest.mark.parametrize("name", ["snow", "frost", "fog", "spatter", "elastic"])
def test_random_corruptions_differ_from_image_to_image(name):
    same = np.repeat(some_images(1), 4, axis=0)
    changed = corrupt(same, name, np.random.default_rng(0))
    assert not any((changed[0] == other).all() for other in changed[1:])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_black_white_and_grey_images_stay_images(name):
    flat = np.stack([np.full((32, 32, 3), value, dtype=np.uint8) for value in (0, 255, 128)])
    assert np.isfinite(corrupt(flat, name, np.random.default_rng(0)).astype(float)).all()


def test_what_the_plain_ones_do():
    rng, images = np.random.default_rng(0), some_images()
    bright = corrupt(images, "brightness", rng).astype(int)
    assert (bright.max(axis=-1) >= images.max(axis=-1)).all()
    expected = np.minimum(images.max(axis=-1).astype(int) + 51, 255)
    assert abs(bright.max(axis=-1) - expected).max() <= 1  # the value of HSV rises by 0.2
    flat = corrupt(images, "contrast", rng)
    for channel in range(3):
        ratio = flat[..., channel].std(axis=(1, 2)) / images[..., channel].std(axis=(1, 2))
        np.testing.assert_allclose(ratio, 0.3, atol=0.02)
    coarse = corrupt(images, "pixelate", rng)
    assert (
        len(np.unique(coarse[0].reshape(-1, 3), axis=0)) <= 24 * 24 < len(np.unique(images[0].reshape(-1, 3), axis=0))
    )
    vivid = corrupt(images, "saturate", rng).astype(int)
    assert (vivid.max(axis=-1) == images.max(axis=-1)).mean() > 0.99
    assert (vivid.min(axis=-1) <= images.min(axis=-1)).all()


def test_saturation_is_that_of_hsv():
    images = some_images(2)
    hsv = np.stack([np.asarray(Image.fromarray(image).convert("HSV")) for image in images]).astype(float) / 255
    found = np.stack(
        [np.asarray(Image.fromarray(i).convert("HSV")) for i in corrupt(images, "saturate", np.random.default_rng(0))]
    )
    expected = np.minimum(2 * hsv[..., 1] + 0.1, 1)
    assert abs(found[..., 1] / 255 - expected).max() < 0.05


# ---- loading ------------------------------------------------------------------------------------------------------


def test_loading_ties_corruptions_to_objects_in_training_only(tmp_path):
    data = load_corrupted_cifar10(miniature(tmp_path / "cifar"), **SMALL)
    assert {key: len(split) for key, split in data.items()} == {"train": 200, "validation": 30, "test": 100}
    groups = GroupIndex.from_dataset(data["train"], "label", "corruption")
    assert groups.label_names == LABELS and set(groups.attribute_names) == set(CORRUPTIONS)
    own = (data["train"].labels == data["train"].corruptions).sum()
    assert own == 200 - 90 and (groups.counts > 0).mean() > 0.9  # about one row for each minority group
    test = GroupIndex.from_dataset(data["test"], "label", "corruption")
    assert (test.counts == 1).all()


def test_each_row_is_its_own_image_corrupted(tmp_path):
    name = miniature(tmp_path / "cifar")
    data = load_corrupted_cifar10(name, **SMALL)["test"]
    images = some_images(100)
    kinds = np.array(list(CORRUPTIONS))
    for kind in ("brightness", "contrast", "jpeg", "pixelate", "saturate"):  # without chance
        rows = np.flatnonzero(kinds[data.corruptions] == kind)
        expected = corrupt(images[rows], kind, np.random.default_rng(0)).transpose(0, 3, 1, 2)
        assert len(rows) == 10 and (data.images[rows].numpy() == expected).all()


def test_two_loads_are_equal(tmp_path):
    name = miniature(tmp_path / "cifar")
    first, second = load_corrupted_cifar10(name, **SMALL), load_corrupted_cifar10(name, **SMALL)
    for key in first:
        assert torch.equal(first[key].images, second[key].images)
        assert (first[key]["corruption"] == second[key]["corruption"]).all()


def test_the_published_sizes(monkeypatch, tmp_path):
    """All of CIFAR-10 by its size, with the pixels left out."""
    labels = {"train": np.arange(50_000) % 10, "test": np.arange(10_000) % 10}
    monkeypatch.setattr(
        corrupted_cifar10,
        "_decode",
        lambda split, name, key, skip: (np.zeros((len(labels[key]), 1, 1, 3), dtype=np.uint8), labels[key]),
    )
    monkeypatch.setattr(corrupted_cifar10, "_corrupted", lambda images, kinds, rng, key: images)
    for share, minority in MINORITY_ROWS.items():
        data = load_corrupted_cifar10(miniature(tmp_path / str(share), rows=1, test_rows=1), share)
        assert [len(split) for split in data.values()] == [45_000, 5_000, 10_000]
        assert (data["train"].labels != data["train"].corruptions).sum() == minority
        assert abs(minority / 45_000 - share / 100) < 0.0005
        counts = GroupIndex.from_dataset(data["test"], "label", "corruption").counts
        assert (counts == 100).all()


def test_rows_are_normalized_and_enlarged(tmp_path):
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    name = miniature(tmp_path / "cifar")
    data = load_corrupted_cifar10(name, mean=mean, std=std, **SMALL)["test"]
    row = data[4]
    expected = (data.images[4] / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(row["pixel_values"], expected, atol=1e-5, rtol=0)
    assert row["label"] == 4 and data["label"][4] == "deer"
    larger = load_corrupted_cifar10(name, image_size=48, **SMALL)["test"][4]["pixel_values"]
    assert larger.shape == (3, 48, 48)
    with pytest.raises(KeyError, match="no column 'img'; there are label, corruption"):
        data["img"]


# ---- bad input ----------------------------------------------------------------------------------------------------


def test_another_share_is_refused():
    with pytest.raises(ValueError, match="minority must be one of 0.5, 1, 2, 5 .*; found 3"):
        load_corrupted_cifar10("nowhere", 3.0)


def test_missing_columns_splits_and_rows_are_named(tmp_path):
    name = miniature(tmp_path / "cifar")
    with pytest.raises(ValueError, match="has 230 training rows; 45,000 are taken"):
        load_corrupted_cifar10(name)
    splits = datasets.load_dataset(name)
    with pytest.raises(ValueError, match="lacks the columns img: it has .*image.*, and img, label are needed"):
        load_corrupted_cifar10(splits.rename_column("img", "image"), **SMALL)
    with pytest.raises(ValueError, match="lacks the splits test: it has train"):
        load_corrupted_cifar10(datasets.DatasetDict(train=splits["train"]), **SMALL)


def test_a_broken_image_is_named_by_its_row(tmp_path):
    def change(split, table):
        if split == "test":
            table["img"][9] = {"bytes": b"no image", "path": None}

    with pytest.raises(ValueError, match="the image of row 9 of the split 'test' cannot be decoded"):
        load_corrupted_cifar10(miniature(tmp_path / "cifar", change), **SMALL)


def test_broken_images_are_skipped_and_counted(tmp_path, capsys):
    def change(split, table):
        if split == "test":
            table["img"][9] = table["img"][0] = {"bytes": b"no image", "path": None}

    whole = load_corrupted_cifar10(miniature(tmp_path / "whole"), **SMALL)["test"]
    data = load_corrupted_cifar10(miniature(tmp_path / "cifar", change), **SMALL, skip_undecodable=True)
    kept = np.delete(whole.labels, [0, 9])
    assert data["test"].labels.tolist() == kept.tolist() and len(data["test"].images) == len(kept)
    assert f"2 of {len(whole)} rows of the split 'test' are skipped" in capsys.readouterr().out


# ---- the demo -----------------------------------------------------------------------------------------------------


def test_the_demo_has_the_real_schema():
    raw = demo_cifar10(130, 100)
    assert {key: len(split) for key, split in raw.items()} == {"train": 130, "test": 100}
    assert all(split.features == FEATURES for split in raw.values())
    assert raw["train"][0]["img"].size == (32, 32)
    data = load_corrupted_cifar10(raw, train_rows=100, minority_rows=90)
    assert [len(split) for split in data.values()] == [100, 30, 100]
    pixels = [np.asarray(demo_cifar10(10, 10, seed)["train"][3]["img"]) for seed in (0, 0, 1)]
    assert (pixels[0] == pixels[1]).all() and not (pixels[0] == pixels[2]).all()
