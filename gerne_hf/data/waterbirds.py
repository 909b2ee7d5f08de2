"""Waterbirds: y = landbird, waterbird; a = land, water in the background, tied to the bird for 95 % of training."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import torch
from torch.utils.data import Dataset

from ..hub.repositories import hub_origin
from .decoding import decode_images
from .images import as_pixels, random_crops
from .loading import load_splits, read_ids, require_columns, require_splits

LABELS = ["landbird", "waterbird"]
PLACES = ["land", "water"]
SPLITS = ["train", "validation", "test"]


class _Birds(Dataset, ABC):
    """Rows with a bird and a place each; what the model sees of them is up to the subclass."""

    column_names = ("label", "place")
    origin: tuple[str, str] | None = None  # Hub id and commit

    def __init__(self, labels: np.ndarray, places: np.ndarray):
        self.labels = np.asarray(labels, dtype=np.int64)
        self.places = np.asarray(places, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: int | str) -> Any:
        if key == "label":
            return np.array(LABELS)[self.labels]
        if key == "place":
            return np.array(PLACES)[self.places]
        if isinstance(key, str):
            raise KeyError(f"no column {key!r}; there are {', '.join(self.column_names)}")
        return self.__getitems__([key])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Rows with `pixel_values`, float32, and `label`."""
        index = np.asarray(indices)
        values, labels = self.pixel_values(torch.from_numpy(index)), self.labels[index].tolist()
        return [{"pixel_values": value, "label": label} for value, label in zip(values, labels, strict=True)]

    @abstractmethod
    def pixel_values(self, index: torch.Tensor) -> torch.Tensor:
        """The model's inputs of some rows."""


class Waterbirds(_Birds):
    """Photographs of birds, held decoded in memory; normalized, and augmented if asked, a batch at a time.

    Augmentation draws from PyTorch's global generator, which the Trainer seeds and keeps in its checkpoints, and which
    each worker of a data loader seeds for itself.

    Args:
        images (`np.ndarray` of shape `(N, 3, H, W)`, uint8): the photographs.
        labels, places (`np.ndarray` of shape `(N,)`): indices into [`LABELS`] and [`PLACES`].
        mean, std (`Sequence[float]` of length 3): by which the channels, in [0, 1], are normalized.
        augment (`bool`, defaults to `False`): random crops of 70 to 100 % of the area, half of them mirrored.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        places: np.ndarray,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        augment: bool = False,
    ):
        super().__init__(labels, places)
        self.images = torch.from_numpy(np.ascontiguousarray(images))
        self.mean = torch.tensor(mean, dtype=torch.float32).view(3, 1, 1) * 255
        self.scale = 1 / (torch.tensor(std, dtype=torch.float32).view(3, 1, 1) * 255)
        self.augment = augment

    def pixel_values(self, index: torch.Tensor) -> torch.Tensor:
        """`(n, 3, H, W)` photographs, normalized."""
        images = self.images.index_select(0, index)
        images = random_crops(images) if self.augment else images.float()
        return images.sub_(self.mean).mul_(self.scale)


class WaterbirdFeatures(_Birds):
    """What a frozen backbone sees of the birds, as the input of a linear head.

    Args:
        features (`torch.Tensor` of shape `(N, D)`): a vector a row.
        labels, places (`np.ndarray` of shape `(N,)`): indices into [`LABELS`] and [`PLACES`].
    """

    def __init__(self, features: torch.Tensor, labels: np.ndarray, places: np.ndarray):
        super().__init__(labels, places)
        self.features = features[:, :, None, None]

    def pixel_values(self, index: torch.Tensor) -> torch.Tensor:
        """`(n, D, 1, 1)` vectors, in the shape of images of one pixel."""
        return self.features.index_select(0, index)


def load_waterbirds(
    name: str = "grodino/waterbirds",
    image_size: int = 224,
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.5, 0.5, 0.5),
    augment: bool = True,
    skip_undecodable: bool = False,
) -> dict[str, Waterbirds]:
    """The data set's own three splits, decoded once.

    Args:
        name (`str`, defaults to `"grodino/waterbirds"`): Hub id or folder with the columns `image`, `label`, `place`.
        image_size (`int`, defaults to `224`): height and width in pixels that the images are resized to. They are
            squeezed into a square, so that no bird is cut off.
        mean, std (`Sequence[float]` of length 3): normalization of the backbone.
        augment (`bool`, defaults to `True`): augment the training images.
        skip_undecodable (`bool`, defaults to `False`): drop rows whose image cannot be decoded.

    Returns:
        `dict[str, Waterbirds]`: train, validation, test.

    Raises:
        ValueError: for missing splits or columns (naming those found), other classes or places, and images that can't
            be decoded (naming the row).
    """
    splits = load_splits(name)
    require_splits(splits, SPLITS, name)
    for key in SPLITS:
        require_columns(splits[key], ["image", "label", "place"], name)
    data = {}
    for key in SPLITS:
        labels, places = (_ids(splits[key], column, name) for column in ("label", "place"))
        images, rows = decode_images(
            splits[key], "image", lambda image: as_pixels(image, image_size), name, key, skip_undecodable
        )
        data[key] = Waterbirds(images, labels[rows], places[rows], mean, std, augment and key == "train")
        data[key].origin = hub_origin(splits[key])
    return data


def _ids(split: datasets.Dataset, column: str, name: str) -> np.ndarray:
    values = read_ids(split, column, name)
    if not np.isin(values, (0, 1)).all():
        names = LABELS if column == "label" else PLACES
        found = ", ".join(str(value) for value in np.unique(values)[:5])
        raise ValueError(f"{name}: the column {column!r} must hold 0 ({names[0]}) and 1 ({names[1]}); found {found}")
    return values


# ---- the demo: drawn birds ------------------------------------------------------------------------------------------

DEMO_TIED = 0.95
"""Share of the demo's training birds in the place that their kind is tied to."""


def demo_waterbirds(
    train_rows: int = 1200, validation_rows: int = 600, test_rows: int = 1200, image_size: int = 32, seed: int = 0
) -> dict[str, Waterbirds]:
    """Small drawn birds: a landbird has a round body, a waterbird a long one with a neck.

    Land is greenish with upright stems, water bluish with waves. In training the place is tied to the bird, in
    validation and test each group is equally large.

    Args:
        train_rows, validation_rows, test_rows (`int`): rows of the splits.
        image_size (`int`, defaults to `24`): height and width in pixels.
        seed (`int`, defaults to `0`): decides the rows.

    Returns:
        `dict[str, Waterbirds]`: train, validation, test.
    """
    rng = np.random.default_rng(seed)
    sizes = dict(zip(SPLITS, (train_rows, validation_rows, test_rows), strict=True))
    data = {}
    for key, rows in sizes.items():
        labels = np.arange(rows) % 2
        other = np.arange(rows) // 2 % 2 == 1 if key != "train" else np.arange(rows) // 2 % 20 >= 20 * DEMO_TIED
        places = np.where(other, 1 - labels, labels)
        images = _draw(rng, labels, places, image_size)
        data[key] = Waterbirds(images, labels, places)
    return data


def _draw(rng: np.random.Generator, labels: np.ndarray, places: np.ndarray, size: int) -> np.ndarray:
    """`(N, 3, size, size)` images, uint8."""
    rows = len(labels)
    y, x = np.mgrid[0:size, 0:size] / size

    def draw(low: float, high: float, channels: int = 1) -> np.ndarray:
        return rng.uniform(low, high, (rows, channels, 1, 1))

    along = np.where(places[:, None, None] == 0, x, y)[:, None]
    pattern = np.sin(2 * np.pi * (draw(3, 6) * along + draw(0, 1)))
    green, blue = np.array([0.25, 0.4, 0.25]), np.array([0.25, 0.3, 0.4])
    ground = np.where(places[:, None] == 0, green, blue)[:, :, None, None] + draw(-0.1, 0.1, 3)
    images = ground + 0.1 * pattern

    water = (labels == 1)[:, None, None, None]
    left, top = draw(0.35, 0.65), draw(0.4, 0.65)
    wide, high = np.where(water, 0.3, 0.22), np.where(water, 0.15, 0.22)
    body = ((x - left) / wide) ** 2 + ((y - top) / high) ** 2 < 1
    side = rng.choice([-1.0, 1.0], (rows, 1, 1, 1))
    neck = water & (np.abs(x - left - side * 0.24) < 0.06) & (y < top) & (y > top - 0.4)
    images = np.where(body | neck, draw(0.5, 0.75) + draw(-0.15, 0.15, 3), images)
    images = images + rng.normal(0, 0.08, images.shape)
    return (255 * images.clip(0, 1)).astype(np.uint8)
