"""Colored MNIST: handwritten digits in colour. The class is the digit, the attribute is the colour.

In training each digit has its own colour, except for a small minority of the rows.
Imports the modules of this room and `hub`. The recipe is `recipes/colored_mnist.py`.
"""

from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import torch
from torch.utils.data import Dataset

from ..hub.repositories import hub_origin
from .decoding import decode_images
from .loading import load_splits, read_ids, require_columns, require_splits

TRAIN_ROWS = 55_000
"""Rows of the training set; MNIST's other 5,000 training rows are the validation set."""
MINORITY_ROWS = {0.5: 249, 1.0: 491, 2.0: 986, 5.0: 2449}
"""How many of the 55,000 training rows have another colour than their digit's, by their share in per cent."""

COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 160, 0),
    "blue": (0, 64, 255),
    "yellow": (255, 225, 25),
    "orange": (245, 130, 48),
    "purple": (145, 30, 180),
    "cyan": (70, 240, 240),
    "magenta": (240, 50, 230),
    "brown": (170, 110, 40),
    "grey": (128, 128, 128),
}
"""Red, green and blue of the ten colours, 0 to 255; digit i mostly has colour i in training."""


class ColoredDigits(Dataset):
    """Hold grey digits and their colours in memory; an image is coloured when its row is fetched.

    `data["label"]` and `data["colour"]` are whole columns, `data[i]` is a row.

    Args:
        digits (`np.ndarray` of shape `(N, H, W)`, uint8): grey images.
        labels (`np.ndarray` of shape `(N,)`): the digits, 0 to 9.
        colours (`np.ndarray` of shape `(N,)`): indices into [`COLOURS`].
    """

    column_names = ("label", "colour")
    origin: tuple[str, str] | None = None
    """Id and commit on the Hub, where the rows came from there."""

    def __init__(self, digits: np.ndarray, labels: np.ndarray, colours: np.ndarray):
        self.digits = torch.from_numpy(np.ascontiguousarray(digits))
        self.labels = np.asarray(labels, dtype=np.int64)
        self.colours = np.asarray(colours, dtype=np.int64)
        self.palette = torch.tensor(list(COLOURS.values()), dtype=torch.float32) / 255

    def __len__(self) -> int:
        return len(self.digits)

    def __getitem__(self, key: int | str) -> Any:
        if key == "label":
            return self.labels
        if key == "colour":
            return np.array(list(COLOURS))[self.colours]
        if isinstance(key, str):
            raise KeyError(f"no column {key!r}; there are {', '.join(self.column_names)}")
        return self.__getitems__([key])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return rows with `pixel_values` of shape `(3, H, W)`, float32 in [0, 1], and `label`."""
        index = np.asarray(indices)
        grey = self.digits[index].float().div_(255)[:, None]
        images = grey * self.palette[self.colours[index]][:, :, None, None]
        labels = self.labels[index].tolist()
        return [{"pixel_values": image, "label": label} for image, label in zip(images, labels, strict=True)]


def load_colored_mnist(
    name: str = "ylecun/mnist", minority: float = 0.5, skip_undecodable: bool = False
) -> dict[str, ColoredDigits]:
    """Load MNIST and colour it as in the paper (C-MNIST), with 55,000 training rows.

    The 5,000 training rows of MNIST that are left over become the validation set. In the validation and test sets all
    colours are equally common for every digit. A fixed seed decides the split and the colours.

    Args:
        name (`str`, *optional*, defaults to `"ylecun/mnist"`): Hub id or folder with the columns `image` and `label`.
        minority (`float`, *optional*, defaults to `0.5`): share of the training rows with another colour than their
            digit's, in per cent: 0.5, 1, 2 or 5.
        skip_undecodable (`bool`, *optional*, defaults to `False`): whether to drop rows whose image cannot be decoded.

    Returns:
        `dict[str, ColoredDigits]`: `train`, `validation` and `test`.

    Raises:
        ValueError: if `minority` is another share, the data set has other splits, columns, labels or too few rows, or
            an image cannot be decoded (naming the row).
    """
    if minority not in MINORITY_ROWS:
        allowed = ", ".join(f"{share:g}" for share in MINORITY_ROWS)
        raise ValueError(f"minority must be one of {allowed} (per cent of the training rows); found {minority:g}")
    splits = load_splits(name)
    require_splits(splits, ["train", "test"], name)
    digits, labels = _decode(splits["train"], name, "train", skip_undecodable)
    if len(digits) < TRAIN_ROWS:
        raise ValueError(f"{name} has {len(digits):,} training rows; C-MNIST takes {TRAIN_ROWS:,} of MNIST's 60,000")
    test_digits, test_labels = _decode(splits["test"], name, "test", skip_undecodable)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(digits))
    train, rest = np.sort(order[:TRAIN_ROWS]), np.sort(order[TRAIN_ROWS:])
    data = {
        "train": ColoredDigits(
            digits[train], labels[train], biased_colours(labels[train], MINORITY_ROWS[minority], rng)
        ),
        "validation": ColoredDigits(digits[rest], labels[rest], uniform_colours(labels[rest], rng)),
        "test": ColoredDigits(test_digits, test_labels, uniform_colours(test_labels, rng)),
    }
    for split in data.values():
        split.origin = hub_origin(splits["train"])
    return data


def demo_colored_mnist(minority_rows: int = 180, seed: int = 0) -> dict[str, ColoredDigits]:
    """Make a small C-MNIST from the 1,797 real digits of 8 x 8 pixels in scikit-learn.

    Args:
        minority_rows (`int`, *optional*, defaults to `180`): training rows with another colour than their digit's; by
            default about two in each minority group.
        seed (`int`, *optional*, defaults to `0`): seed of the split and the colours.

    Returns:
        `dict[str, ColoredDigits]`: `train` (997 rows), `validation` (300) and `test` (500).
    """
    from sklearn.datasets import load_digits

    digits, labels = load_digits(return_X_y=True)
    digits = np.rint(digits.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    rng = np.random.default_rng(seed)
    test, validation, train = np.split(rng.permutation(len(digits)), [500, 800])
    return {
        "train": ColoredDigits(digits[train], labels[train], biased_colours(labels[train], minority_rows, rng)),
        "validation": ColoredDigits(digits[validation], labels[validation], uniform_colours(labels[validation], rng)),
        "test": ColoredDigits(digits[test], labels[test], uniform_colours(labels[test], rng)),
    }


def biased_colours(labels: np.ndarray, minority_rows: int, rng: np.random.Generator) -> np.ndarray:
    """Give each row its digit's colour, except for exactly `minority_rows` rows.

    These rows are shared out among the digits in proportion to the digits' rows, and among the nine other colours of
    each digit evenly, so that no group is empty as long as there is a row for each.

    Args:
        labels (`np.ndarray` of shape `(N,)`): the digits.
        minority_rows (`int`): rows that get another colour.
        rng (`np.random.Generator`): chooses these rows and their colours.

    Returns:
        `np.ndarray` of shape `(N,)`: indices into [`COLOURS`].

    Example:

    ```python
    >>> import numpy as np
    >>> digits = np.repeat(np.arange(10), 20)
    >>> colours = biased_colours(digits, minority_rows=30, rng=np.random.default_rng(0))
    >>> int((colours != digits).sum())
    30

    ```
    """
    colours = labels.copy()
    num_colours = len(COLOURS)
    quota = minority_rows * np.bincount(labels, minlength=num_colours) / len(labels)
    counts = np.floor(quota).astype(int)
    counts[np.argsort(counts - quota, kind="stable")[: minority_rows - counts.sum()]] += 1
    for digit, count in enumerate(counts):
        rows = rng.permutation(np.flatnonzero(labels == digit))[:count]
        others = np.delete(np.arange(num_colours), digit)
        colours[rows] = np.resize(rng.permutation(others), count)
    return colours


def uniform_colours(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give the rows of each digit all colours equally often, in random order.

    Args:
        labels (`np.ndarray` of shape `(N,)`): the digits.
        rng (`np.random.Generator`): decides the order.

    Returns:
        `np.ndarray` of shape `(N,)`: indices into [`COLOURS`].

    Example:

    ```python
    >>> import numpy as np
    >>> colours = uniform_colours(np.zeros(20, dtype=int), np.random.default_rng(0))
    >>> np.bincount(colours).tolist()
    [2, 2, 2, 2, 2, 2, 2, 2, 2, 2]

    ```
    """
    colours = np.empty_like(labels)
    for digit in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == digit))
        colours[rows] = np.resize(rng.permutation(len(COLOURS)), len(rows))
    return colours


def _decode(split: datasets.Dataset, name: str, description: str, skip: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return all images of a split as one array of shape `(N, 28, 28)`, and the labels."""
    require_columns(split, ["image", "label"], name)
    digits, rows = decode_images(split, "image", lambda image: np.asarray(image.convert("L")), name, description, skip)
    labels = read_ids(split, "label", name)
    if not ((labels >= 0) & (labels < len(COLOURS))).all():
        raise ValueError(f"{name}: labels must be 0 to 9; found {labels.min()} to {labels.max()}")
    return digits, labels[rows]
