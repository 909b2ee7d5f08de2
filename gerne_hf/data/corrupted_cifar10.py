"""Corrupted CIFAR-10: small corrupted images. The class is the object, the attribute is the corruption.

In training each object has its own corruption, except for a small minority of the rows.
Imports the modules of this room and `hub`. The recipe is `recipes/corrupted_cifar10.py`, the corruptions themselves
are in `corruptions.py`.
"""

from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import torch
from accelerate.utils import tqdm
from torch.utils.data import Dataset

from ..hub.repositories import hub_origin
from ..utils.extras import of_extra
from .colored_mnist import biased_colours, uniform_colours
from .corruptions import CORRUPTIONS, corrupt
from .decoding import decode_images
from .images import normalize
from .loading import load_splits, read_ids, require_columns, require_splits

with of_extra("vision"):
    from PIL import Image

LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN_ROWS = 45_000
"""Rows of the training set; CIFAR-10's other 5,000 training rows are the validation set."""
MINORITY_ROWS = {0.5: 228, 1.0: 442, 2.0: 887, 5.0: 2242}
"""How many of the 45,000 training rows have another corruption than their object's, by their share in per cent.

The numbers are those of the benchmarks to which results are compared."""
_CHUNK = 1000
"""Images that are corrupted at once."""


class CorruptedImages(Dataset):
    """Hold corrupted images in memory; they are normalized when a batch of rows is fetched.

    `data["label"]` and `data["corruption"]` are whole columns, `data[i]` is a row.

    Args:
        images (`np.ndarray` of shape `(N, H, W, 3)`, uint8): images that are corrupted already.
        labels, corruptions (`np.ndarray` of shape `(N,)`): indices into [`LABELS`] and [`CORRUPTIONS`].
        mean, std (`Sequence[float]` of length 3, *optional*, default to 0.5 for each channel): mean and standard
            deviation by which the channels, in [0, 1], are normalized.
        image_size (`int`, *optional*): height and width in pixels to which rows are resized; if not given they keep
            their size.
    """

    column_names = ("label", "corruption")
    label_names = LABELS
    origin: tuple[str, str] | None = None
    """Id and commit on the Hub, where the rows came from there."""

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        corruptions: np.ndarray,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        image_size: int | None = None,
    ):
        self.images = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        self.labels = np.asarray(labels, dtype=np.int64)
        self.corruptions = np.asarray(corruptions, dtype=np.int64)
        self.mean, self.std = tuple(mean), tuple(std)
        self.image_size = image_size

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: int | str) -> Any:
        if key == "label":
            return np.array(LABELS)[self.labels]
        if key == "corruption":
            return np.array(list(CORRUPTIONS))[self.corruptions]
        if isinstance(key, str):
            raise KeyError(f"no column {key!r}; there are {', '.join(self.column_names)}")
        return self.__getitems__([key])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return rows with `pixel_values` of shape `(3, H, W)`, float32, and `label`."""
        index = np.asarray(indices)
        images = normalize(self.images[index], self.mean, self.std)
        if self.image_size is not None and self.image_size != images.shape[-1]:
            size = (self.image_size, self.image_size)
            images = torch.nn.functional.interpolate(images, size, mode="bilinear", antialias=True)
        labels = self.labels[index].tolist()
        return [{"pixel_values": image, "label": label} for image, label in zip(images, labels, strict=True)]


def load_corrupted_cifar10(
    source: str | datasets.DatasetDict = "uoft-cs/cifar10",
    minority: float = 0.5,
    image_size: int | None = None,
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.5, 0.5, 0.5),
    train_rows: int = TRAIN_ROWS,
    minority_rows: int | None = None,
    skip_undecodable: bool = False,
) -> dict[str, CorruptedImages]:
    """Load CIFAR-10 and corrupt it: 45,000 training rows, 5,000 of validation and 10,000 of test.

    The training rows of CIFAR-10 that are left over become the validation set. In the validation and test sets all
    corruptions are equally common for every object. A fixed seed decides the split and the corruptions.

    Args:
        source (`str` or `datasets.DatasetDict`, *optional*, defaults to `"uoft-cs/cifar10"`): Hub id, folder, or the
            splits `train` and `test` in memory, with the columns `img` and `label`.
        minority (`float`, *optional*, defaults to `0.5`): share of the training rows with another corruption than
            their object's, in per cent: 0.5, 1, 2 or 5.
        image_size (`int`, *optional*): height and width in pixels to which rows are resized; if not given they keep
            their size.
        mean, std (`Sequence[float]` of length 3, *optional*, default to 0.5 for each channel): mean and standard
            deviation by which the channels, in [0, 1], are normalized.
        train_rows (`int`, *optional*, defaults to `45000`): rows of the training set.
        minority_rows (`int`, *optional*): training rows with another corruption than their object's, for data of
            another size; `minority` decides if not given.
        skip_undecodable (`bool`, *optional*, defaults to `False`): whether to drop rows whose image cannot be decoded.

    Returns:
        `dict[str, CorruptedImages]`: `train`, `validation` and `test`.

    Raises:
        ValueError: if `minority` is another share, the data have other splits, columns, labels or too few rows, or an
            image cannot be decoded (naming the row).
    """
    if minority_rows is None and minority not in MINORITY_ROWS:
        allowed = ", ".join(f"{share:g}" for share in MINORITY_ROWS)
        raise ValueError(f"minority must be one of {allowed} (per cent of the training rows); found {minority:g}")
    minority_rows = MINORITY_ROWS[minority] if minority_rows is None else minority_rows
    name = source if isinstance(source, str) else "the data set"
    splits = load_splits(source) if isinstance(source, str) else source
    require_splits(splits, ["train", "test"], name)
    images, labels = _decode(splits["train"], name, "train", skip_undecodable)
    if len(images) <= train_rows:
        raise ValueError(
            f"{name} has {len(images):,} training rows; {train_rows:,} are taken for training, and the rest of "
            "CIFAR-10's 50,000 for validation"
        )
    test_images, test_labels = _decode(splits["test"], name, "test", skip_undecodable)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(images))
    train, rest = np.sort(order[:train_rows]), np.sort(order[train_rows:])
    biased = biased_colours(labels[train], minority_rows, rng)
    parts = {
        "train": (images[train], labels[train], biased),
        "validation": (images[rest], labels[rest], uniform_colours(labels[rest], rng)),
        "test": (test_images, test_labels, uniform_colours(test_labels, rng)),
    }
    data = {
        key: CorruptedImages(_corrupted(pixels, kinds, rng, key), y, kinds, mean, std, image_size)
        for key, (pixels, y, kinds) in parts.items()
    }
    for split in data.values():
        split.origin = hub_origin(splits["train"])
    return data


def _decode(split: datasets.Dataset, name: str, description: str, skip: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return all images of a split as one array of shape `(N, 32, 32, 3)`, and the labels."""
    require_columns(split, ["img", "label"], name)
    images, rows = decode_images(split, "img", lambda image: np.asarray(image.convert("RGB")), name, description, skip)
    labels = read_ids(split, "label", name)
    if labels.min() < 0 or labels.max() >= len(LABELS):
        raise ValueError(f"{name}: labels must be 0 to 9; found {labels.min()} to {labels.max()}")
    return images, labels[rows]


def _corrupted(images: np.ndarray, kinds: np.ndarray, rng: np.random.Generator, description: str) -> np.ndarray:
    """Return the images, each with its corruption (an index into [`CORRUPTIONS`])."""
    result = np.empty_like(images)
    for kind, name in enumerate(tqdm(CORRUPTIONS, desc=f"Corrupting {description} images", leave=False)):
        rows = np.flatnonzero(kinds == kind)
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            result[part] = corrupt(images[part], name, rng)
    return result


# ---- the demo: drawn signs ------------------------------------------------------------------------------------------

DEMO_SIZES = {"train_rows": 3000, "minority_rows": 270}
"""Sizes for [`load_corrupted_cifar10`] that fit the demo's rows: each minority group gets three."""


def demo_cifar10(rows: int = 3500, test_rows: int = 2000, seed: int = 0) -> datasets.DatasetDict:
    """Draw signs of ten shapes with the columns of the real data set, for [`load_corrupted_cifar10`].

    Args:
        rows (`int`, *optional*, defaults to `3500`): rows of the split `train`.
        test_rows (`int`, *optional*, defaults to `2000`): rows of the split `test`.
        seed (`int`, *optional*, defaults to `0`): seed of everything random.

    Returns:
        `datasets.DatasetDict`: `train` and `test` with the columns `img` and `label`.
    """
    rng = np.random.default_rng(seed)
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=list(LABELS))})
    splits = datasets.DatasetDict()
    for key, count in (("train", rows), ("test", test_rows)):
        labels = np.arange(count) % len(LABELS)
        images = [Image.fromarray(pixels) for pixels in _draw(rng, labels)]
        splits[key] = datasets.Dataset.from_dict({"img": images, "label": labels.tolist()}, features=features)
    return splits


def _draw(rng: np.random.Generator, labels: np.ndarray, size: int = 32) -> np.ndarray:
    """Draw one sign for each label: uint8, of shape `(N, size, size, 3)`."""
    rows = len(labels)
    down, across = np.mgrid[0:size, 0:size] / size - 0.5
    scale = rng.uniform(0.32, 0.38, (rows, 1, 1))
    x = (across - rng.uniform(-0.03, 0.03, (rows, 1, 1))) / scale
    y = (down - rng.uniform(-0.03, 0.03, (rows, 1, 1))) / scale
    radius, edge = np.hypot(x, y), np.maximum(abs(x), abs(y))
    diagonal = np.minimum(abs(x - y), abs(x + y))
    shapes = [
        radius < 1,
        (radius < 1) & (radius > 0.55),
        edge < 0.9,
        (edge < 0.9) & (edge > 0.5),
        (abs(y) < 1) & (abs(x) < (y + 1) / 2),
        (abs(y) < 1) & (abs(x) < (1 - y) / 2),
        (edge < 1) & (np.minimum(abs(x), abs(y)) < 0.25),
        (edge < 1) & (diagonal < 0.35),
        (edge < 1) & (abs(abs(y) - 0.6) < 0.25),
        (edge < 1) & (abs(abs(x) - 0.6) < 0.25),
    ]
    sign = np.select([labels[:, None, None] == k for k in range(len(shapes))], shapes)[..., None]
    colour = rng.uniform(0.15, 0.85, (rows, 1, 1, 3))
    other = np.where(colour.mean(axis=-1, keepdims=True) > 0.5, colour - 0.4, colour + 0.4)
    images = np.where(sign, other, colour) + rng.normal(0, 0.03, (rows, size, size, 3))
    return (255 * images.clip(0, 1)).astype(np.uint8)
