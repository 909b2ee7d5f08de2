"""Waterbirds in memory: rows, random crops, and the demo."""

import numpy as np
import pytest
import torch

from gerne_hf import GroupIndex
from gerne_hf.data.images import random_crops
from gerne_hf.data.waterbirds import LABELS, PLACES, WaterbirdFeatures, Waterbirds, demo_waterbirds


def some_birds(rows=8, side=16, **settings):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (rows, 3, side, side), dtype=np.uint8)
    return Waterbirds(images, np.arange(rows) % 2, np.arange(rows) // 2 % 2, **settings)


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
