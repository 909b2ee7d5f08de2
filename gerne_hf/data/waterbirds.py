"""Waterbirds: photographs of birds. The class is the kind of bird, the attribute is the place: land or water.

In training 95 % of the birds are in front of the background that goes with their kind.
Imports the modules of this room and `hub`. The recipe is `recipes/waterbirds.py`.
"""

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
    """Rows with a kind of bird and a place each; a subclass says what the model sees of a row."""

    column_names = ("label", "place")
    label_names = tuple(LABELS)
    origin: tuple[str, str] | None = None
    """Id and commit on the Hub, where the rows came from there."""

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
        """Return rows with `pixel_values`, float32, and `label`."""
        index = np.asarray(indices)
        values, labels = self.pixel_values(torch.from_numpy(index)), self.labels[index].tolist()
        return [{"pixel_values": value, "label": label} for value, label in zip(values, labels, strict=True)]

    @abstractmethod
    def pixel_values(self, index: torch.Tensor) -> torch.Tensor:
        """Return the model's inputs for the rows whose numbers are `index`."""


class Waterbirds(_Birds):
    """Hold decoded photographs of birds in memory; they are augmented and normalized when a batch of rows is fetched.

    `data["label"]` and `data["place"]` are whole columns, `data[i]` is a row. Augmentation uses PyTorch's global
    random generator, which [`GerneTrainer`] seeds for each batch ([`seeded`](gerne_hf.utils.random.seeded)).

    Args:
        images (`np.ndarray` of shape `(N, 3, H, W)`, uint8): the photographs.
        labels, places (`np.ndarray` of shape `(N,)`): indices into [`LABELS`] and [`PLACES`].
        mean, std (`Sequence[float]` of length 3, *optional*, default to 0.5 for each channel): mean and standard
            deviation by which the channels, in [0, 1], are normalized.
        augment (`bool`, *optional*, defaults to `False`): whether to augment the images ([`random_crops`]).
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
        """Return the normalized photographs of the rows whose numbers are `index`: float32, `(n, 3, H, W)`."""
        images = self.images.index_select(0, index)
        images = random_crops(images) if self.augment else images.float()
        return images.sub_(self.mean).mul_(self.scale)


class WaterbirdFeatures(_Birds):
    """Hold the features that a frozen backbone computes from the photographs, as inputs of a linear head.

    Args:
        features (`torch.Tensor` of shape `(N, D)`): the features of each row.
        labels, places (`np.ndarray` of shape `(N,)`): indices into [`LABELS`] and [`PLACES`].
    """

    def __init__(self, features: torch.Tensor, labels: np.ndarray, places: np.ndarray):
        super().__init__(labels, places)
        self.features = features[:, :, None, None]

    def pixel_values(self, index: torch.Tensor) -> torch.Tensor:
        """Return the features of the rows whose numbers are `index`, shaped as images of one pixel: `(n, D, 1, 1)`."""
        return self.features.index_select(0, index)


def load_waterbirds(
    name: str = "grodino/waterbirds",
    image_size: int = 224,
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.5, 0.5, 0.5),
    augment: bool = True,
    skip_undecodable: bool = False,
    crop: str = "none",
) -> dict[str, Waterbirds]:
    """Load the three splits that the data set has, and decode all of their images.

    Args:
        name (`str`, *optional*, defaults to `"grodino/waterbirds"`): Hub id or folder with the columns `image`,
            `label` and `place`.
        image_size (`int`, *optional*, defaults to `224`): height and width in pixels to which images are resized.
        mean, std (`Sequence[float]` of length 3, *optional*, default to 0.5 for each channel): mean and standard
            deviation by which the channels, in [0, 1], are normalized.
        augment (`bool`, *optional*, defaults to `True`): whether to augment the training images.
        skip_undecodable (`bool`, *optional*, defaults to `False`): whether to drop rows whose image cannot be decoded.
        crop (`str`, *optional*, defaults to `"none"`): how images are made square, as for [`as_pixels`]; with "none"
            no bird is cut off.

    Returns:
        `dict[str, Waterbirds]`: `train`, `validation` and `test`.

    Raises:
        ValueError: if splits or columns are missing (naming those found), labels or places have other values, or an
            image cannot be decoded (naming the row).
    """
    splits = load_splits(name)
    require_splits(splits, SPLITS, name)
    for key in SPLITS:
        require_columns(splits[key], ["image", "label", "place"], name)
    data = {}
    for key in SPLITS:
        labels, places = (_ids(splits[key], column, name) for column in ("label", "place"))
        images, rows = decode_images(
            splits[key], "image", lambda image: as_pixels(image, image_size, crop), name, key, skip_undecodable
        )
        data[key] = Waterbirds(images, labels[rows], places[rows], mean, std, augment and key == "train")
        data[key].origin = hub_origin(splits[key])
    return data


def _ids(split: datasets.Dataset, column: str, name: str) -> np.ndarray:
    """Read a column whose values must be 0 and 1."""
    values = read_ids(split, column, name)
    if not np.isin(values, (0, 1)).all():
        names = LABELS if column == "label" else PLACES
        found = ", ".join(str(value) for value in np.unique(values)[:5])
        raise ValueError(f"{name}: the column {column!r} must hold 0 ({names[0]}) and 1 ({names[1]}); found {found}")
    return values


# ---- the demo: drawn birds ------------------------------------------------------------------------------------------

DEMO_TIED = 0.95
"""Share of the demo's training birds in the place that goes with their kind."""


def demo_waterbirds(
    train_rows: int = 1200, validation_rows: int = 600, test_rows: int = 1200, image_size: int = 32, seed: int = 0
) -> dict[str, Waterbirds]:
    """Draw small birds: a landbird has a round body, a waterbird a long one with a neck.

    Land is greenish with upright stems, water is bluish with waves. In training most birds are in the place that goes
    with their kind; in the validation and test sets all groups are equally large.

    Args:
        train_rows (`int`, *optional*, defaults to `1200`): rows of the training set.
        validation_rows (`int`, *optional*, defaults to `600`): rows of the validation set.
        test_rows (`int`, *optional*, defaults to `1200`): rows of the test set.
        image_size (`int`, *optional*, defaults to `32`): height and width in pixels.
        seed (`int`, *optional*, defaults to `0`): seed of everything random.

    Returns:
        `dict[str, Waterbirds]`: `train`, `validation` and `test`.
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
    """Draw one bird for each label and place: uint8, of shape `(N, 3, size, size)`."""
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
