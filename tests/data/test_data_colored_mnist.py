"""Colored MNIST: how colours are dealt, the rows, the splits and the demo."""

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from gerne_hf import GroupIndex
from gerne_hf.data import colored_mnist
from gerne_hf.data.colored_mnist import (
    COLOURS,
    MINORITY_ROWS,
    ColoredDigits,
    biased_colours,
    demo_colored_mnist,
    load_colored_mnist,
    uniform_colours,
)

MNIST_COUNTS = [5444, 6179, 5470, 5638, 5307, 4987, 5417, 5715, 5389, 5454]
"""Digits in the first 55,000 rows of MNIST."""


def group_counts(labels, colours):
    counts = np.zeros((10, 10), dtype=int)
    np.add.at(counts, (labels, colours), 1)
    return counts


def minority(counts):
    """Counts of the nine other colours of each digit."""
    return counts[~np.eye(10, dtype=bool)].reshape(10, 9)


def mnist_labels():
    return np.random.default_rng(3).permutation(np.repeat(np.arange(10), MNIST_COUNTS))


# ---- colours ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", MINORITY_ROWS.values())
@pytest.mark.parametrize("seed", [0, 1])
def test_exactly_so_many_rows_get_another_colour(rows, seed):
    labels = mnist_labels()
    before = labels.copy()
    colours = biased_colours(labels, rows, np.random.default_rng(seed))
    assert len(labels) == 55_000 and (labels == before).all()
    assert (colours != labels).sum() == rows
    counts = group_counts(labels, colours)
    assert counts.min() > 0
    others = minority(counts)
    assert (others.max(axis=1) - others.min(axis=1) <= 1).all()
    quota = rows * np.array(MNIST_COUNTS) / 55_000
    assert (np.abs(others.sum(axis=1) - quota) < 1).all()


def test_the_minority_rows_are_those_of_the_paper():
    assert MINORITY_ROWS == {0.5: 249, 1: 491, 2: 986, 5: 2449}
    assert colored_mnist.TRAIN_ROWS == 55_000


def test_the_generator_decides_the_minority():
    labels = mnist_labels()
    first, again, other = (biased_colours(labels, 249, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any()


def test_uniform_colours_are_even():
    labels = mnist_labels()
    colours = uniform_colours(labels, np.random.default_rng(0))
    counts = group_counts(labels, colours)
    assert (counts.max(axis=1) - counts.min(axis=1) <= 1).all() and counts.min() >= 498
    runs = (np.diff(colours[labels == 7]) != 0).mean()  # in random order
    assert 0.85 < runs < 0.95


# ---- rows ---------------------------------------------------------------------------------------------------------


def some_digits(rows=12, side=5):
    rng = np.random.default_rng(0)
    return ColoredDigits(
        rng.integers(0, 256, size=(rows, side, side), dtype=np.uint8),
        rng.integers(0, 10, size=rows),
        rng.integers(0, 10, size=rows),
    )


def test_a_row_is_the_grey_digit_in_its_colour():
    data = some_digits()
    assert len(data) == 12
    for i in range(len(data)):
        row = data[i]
        assert set(row) == {"pixel_values", "label"} and row["label"] == data.labels[i]
        assert type(row["label"]) is int
        pixels = row["pixel_values"]
        assert pixels.shape == (3, 5, 5) and pixels.dtype == torch.float32
        assert 0 <= pixels.min() and pixels.max() <= 1
        grey = data.digits[i].numpy() / 255
        rgb = list(COLOURS.values())[data.colours[i]]
        for channel in range(3):
            np.testing.assert_allclose(pixels[channel].numpy(), grey * rgb[channel] / 255, atol=1e-6)


def test_a_white_pixel_has_the_full_colour():
    white = ColoredDigits(np.full((10, 1, 1), 255, dtype=np.uint8), np.zeros(10, int), np.arange(10))
    for i, rgb in enumerate(COLOURS.values()):
        assert (255 * white[i]["pixel_values"]).round().flatten().tolist() == list(rgb)
    assert len(set(COLOURS.values())) == 10


def test_a_batch_equals_its_single_rows():
    data = some_digits()
    wanted = [7, 0, 7, 11]
    for row, i in zip(data.__getitems__(wanted), wanted, strict=True):
        assert row["label"] == data[i]["label"] and torch.equal(row["pixel_values"], data[i]["pixel_values"])


def test_columns_need_no_pixels(monkeypatch):
    data = some_digits()

    def refuse(self, indices):
        raise AssertionError("a row was coloured")

    monkeypatch.setattr(ColoredDigits, "__getitems__", refuse)
    assert (data["label"] == data.labels).all()
    assert list(data["colour"]) == [list(COLOURS)[i] for i in data.colours]
    groups = GroupIndex.from_dataset(data, "label", "colour")
    assert len(groups) == 12


def test_the_group_index_reads_them():
    labels = mnist_labels()[:3000]
    colours = biased_colours(labels, 300, np.random.default_rng(0))
    data = ColoredDigits(np.zeros((3000, 1, 1), dtype=np.uint8), labels, colours)
    groups = GroupIndex.from_dataset(data, attribute_column="colour")
    assert groups.counts.shape == (10, 10) and groups.label_names == tuple("0123456789")
    for i, name in enumerate(COLOURS):
        for digit in range(10):
            expected = np.flatnonzero((labels == digit) & (colours == i))
            assert groups.rows(digit, name).tolist() == expected.tolist()


# ---- loading ------------------------------------------------------------------------------------------------------

TRAIN, LEFT, TEST = 540, 60, 100


def numbered_image(number, side=28):
    """A grey image whose first two pixels are the row's number."""
    pixels = np.zeros((side, side), dtype=np.uint8)
    pixels[0, :2] = divmod(number, 256)
    return Image.fromarray(pixels)


def number_of(digit):
    return 256 * int(digit[0, 0]) + int(digit[0, 1])


def miniature(folder, rename=None, splits=None, broken=()):
    """A folder in the schema of ylecun/mnist; row i shows the number i and has the digit i mod 10."""
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=[str(i) for i in range(10)])}
    )
    (folder / "mnist").mkdir(parents=True)
    for split, rows in (splits or {"train": TRAIN + LEFT, "test": TEST}).items():
        numbers = range(rows) if split == "train" else range(1000, 1000 + rows)
        columns = {"image": [numbered_image(i) for i in numbers], "label": [i % 10 for i in numbers]}
        for i in broken if split == "train" else ():
            columns["image"][i] = {"bytes": b"no image", "path": None}
        data = datasets.Dataset.from_dict(columns, features=features)
        data = data.rename_columns(rename or {})
        data.to_parquet(folder / "mnist" / f"{split}-00000-of-00001.parquet")
    return str(folder)


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(colored_mnist, "TRAIN_ROWS", TRAIN)
    monkeypatch.setattr(colored_mnist, "MINORITY_ROWS", {0.5: 200, 5.0: 300})
    return tmp_path / "mnist"


@pytest.mark.parametrize("share, rows", [(0.5, 200), (5.0, 300)])
def test_loading_makes_three_splits(small, share, rows):
    data = load_colored_mnist(miniature(small), share)
    assert {name: len(split) for name, split in data.items()} == {"train": TRAIN, "validation": LEFT, "test": TEST}
    train, validation, test = (data[name] for name in ("train", "validation", "test"))
    numbers = [[number_of(digit) for digit in split.digits] for split in (train, validation, test)]
    assert sorted(numbers[0] + numbers[1]) == list(range(TRAIN + LEFT))
    assert numbers[0] != list(range(TRAIN))  # at random, not the first
    assert numbers[2] == list(range(1000, 1000 + TEST))
    for split, shown in zip((train, validation, test), numbers, strict=True):
        assert split.digits.shape[1:] == (28, 28) and split.digits.dtype == torch.uint8
        assert split.labels.tolist() == [number % 10 for number in shown]
    assert (train.labels != train.colours).sum() == rows
    assert group_counts(train.labels, train.colours).min() > 0
    for split in (validation, test):
        counts = group_counts(split.labels, split.colours)
        assert (counts.max(axis=1) - counts.min(axis=1) <= 1).all()


def test_loading_again_gives_the_same(small):
    name = miniature(small)
    first, second = load_colored_mnist(name), load_colored_mnist(name)
    for split in first:
        assert torch.equal(first[split].digits, second[split].digits)
        assert (first[split].colours == second[split].colours).all()


@pytest.mark.parametrize("share", [0.7, 0, 50])
def test_another_share_is_refused_before_anything_is_loaded(tmp_path, share):
    with pytest.raises(ValueError, match=r"minority must be one of 0\.5, 1, 2, 5 .*found " + f"{share:g}"):
        load_colored_mnist(str(tmp_path / "nowhere"), share)


def test_too_few_rows(small, monkeypatch):
    monkeypatch.setattr(colored_mnist, "TRAIN_ROWS", 55_000)
    with pytest.raises(ValueError, match="has 600 training rows; C-MNIST takes 55,000 of MNIST's 60,000"):
        load_colored_mnist(miniature(small))


def test_missing_columns_are_named_with_those_found(small):
    with pytest.raises(ValueError, match="lacks the columns image: it has picture, label, and image, label are"):
        load_colored_mnist(miniature(small, rename={"image": "picture"}))


def test_a_missing_split_is_named_with_those_found(small):
    with pytest.raises(ValueError, match="lacks the splits test: it has train, and train, test are needed"):
        load_colored_mnist(miniature(small, splits={"train": 20}))


def test_a_broken_image_is_named_by_its_row(small):
    with pytest.raises(ValueError, match="the image of row 7 of the split 'train' cannot be decoded .*skip_undecod"):
        load_colored_mnist(miniature(small, broken=[7, 9]))


def test_broken_images_are_skipped_and_counted(small, capsys):
    data = load_colored_mnist(miniature(small, broken=[7, 9]), skip_undecodable=True)
    numbers = [number_of(digit) for key in ("train", "validation") for digit in data[key].digits]
    assert sorted(numbers) == sorted(set(range(TRAIN + LEFT)) - {7, 9})
    for split in data.values():
        assert split.labels.tolist() == [number_of(digit) % 10 for digit in split.digits]
    assert "2 of 600 rows of the split 'train' are skipped" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no image of the split 'train' can be decoded"):
        load_colored_mnist(miniature(small / "all", broken=range(600)), skip_undecodable=True)


# ---- the demo -----------------------------------------------------------------------------------------------------


def test_the_demo_splits_the_digits_of_scikit_learn():
    data = demo_colored_mnist()
    assert {name: len(split) for name, split in data.items()} == {"train": 997, "validation": 300, "test": 500}
    digits = torch.cat([split.digits for split in data.values()])
    assert digits.shape == (1797, 8, 8) and digits.max() == 255
    train = data["train"]
    assert (train.labels != train.colours).sum() == 180
    assert group_counts(train.labels, train.colours).min() > 0
    for split in (data["validation"], data["test"]):
        counts = group_counts(split.labels, split.colours)
        assert counts.min() > 0 and (counts.max(axis=1) - counts.min(axis=1) <= 1).all()


def test_the_demo_uses_every_digit_once():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    expected = sorted((tuple(image), label) for image, label in zip(images.astype(int).tolist(), labels, strict=True))
    found = [
        (tuple((digit.flatten().double() * 16 / 255).round().int().tolist()), label)
        for split in demo_colored_mnist().values()
        for digit, label in zip(split.digits, split.labels, strict=True)
    ]
    assert sorted(found) == expected


def test_a_seed_stands_for_its_demo():
    first, again, other = demo_colored_mnist(), demo_colored_mnist(), demo_colored_mnist(seed=1)
    for split in first:
        assert (first[split].colours == again[split].colours).all()
        assert not np.array_equal(first[split].colours, other[split].colours)
