"""Rows of images: decoding, augmentation and normalization, a batch at a time."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import datasets
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from .decoding import ERRORS, tell_skipped
from .splits import prepare_splits

CROP_SCALE = (0.7, 1.0)
CROP_RATIO = (0.75, 4 / 3)
"""Area and aspect ratio of the random crops, as published (SubpopBench); half of them are mirrored."""

_CROP_TRIES = 10


class ImageTransform:
    """Turns rows of a `datasets.Dataset` into `pixel_values` and `label`, for `with_transform`.

    Images are squeezed into a square, so that nothing is cut off. Augmentation draws from PyTorch's global generator,
    which [`GerneTrainer`] seeds for each batch ([`seeded`](gerne_hf.randomness.seeded)).

    Args:
        image_column, label_column (`str`): the columns to read.
        image_size (`int`): height and width in pixels.
        mean, std (`Sequence[float]` of length 3): by which the channels, in [0, 1], are normalized.
        augment (`bool`, defaults to `False`): random crops of 70 to 100 % of the area, half of them mirrored.
    """

    def __init__(
        self,
        image_column: str,
        label_column: str,
        image_size: int,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        augment: bool = False,
    ):
        self.image_column, self.label_column = image_column, label_column
        self.image_size = image_size
        self.mean, self.std = list(mean), list(std)
        self.augment = augment

    def __call__(self, rows: dict[str, list[Any]]) -> dict[str, Any]:
        pixels = np.stack([as_pixels(image, self.image_size) for image in rows[self.image_column]])
        images = normalize(torch.from_numpy(pixels), self.mean, self.std, self.augment)
        return {"pixel_values": images, "label": [int(label) for label in rows[self.label_column]]}


def as_pixels(image: Image.Image, image_size: int) -> np.ndarray:
    """An image as `(3, image_size, image_size)`, uint8."""
    image = image.convert("RGB")
    if image.size != (image_size, image_size):
        image = image.resize((image_size, image_size))
    return np.asarray(image).transpose(2, 0, 1)


def normalize(images: torch.Tensor, mean: Sequence[float], std: Sequence[float], augment: bool = False):
    """Images as a model takes them.

    Args:
        images (`torch.Tensor` of shape `(n, 3, H, W)`, uint8): changed in place if augmented.
        mean, std (`Sequence[float]` of length 3): of the channels, in [0, 1].
        augment (`bool`, defaults to `False`): whether to take random crops.

    Returns:
        `torch.Tensor` of shape `(n, 3, H, W)`, float32.
    """
    images = random_crops(images) if augment else images.float()
    mean, std = (torch.tensor(values, dtype=torch.float32).view(3, 1, 1) * 255 for values in (mean, std))
    return images.sub_(mean).mul_(1 / std)


def random_crops(images: torch.Tensor) -> torch.Tensor:
    """Crop each image at random and resize it back, half of them mirrored: torchvision's `RandomResizedCrop` and
    `RandomHorizontalFlip` for a whole batch at once.

    Args:
        images (`torch.Tensor` of shape `(n, 3, H, W)`, uint8): changed in place.

    Returns:
        `torch.Tensor` of shape `(n, 3, H, W)`, float32, in [0, 255].
    """
    count, _, height, width = images.shape
    pixels, mirrored = images.numpy(), (torch.rand(count) < 0.5).numpy()
    pixels[mirrored] = pixels[mirrored][..., ::-1]  # through NumPy: PyTorch's indexing takes twice the time
    across, down = _crop_sizes(count, height, width)
    # Coordinates run from -1 to 1; a crop is a scale and a shift within what it leaves free.
    left, top = (1 - across) * (2 * torch.rand(count) - 1), (1 - down) * (2 * torch.rand(count) - 1)
    x = _pixel_centres(width) * across[:, None] + left[:, None]
    y = _pixel_centres(height) * down[:, None] + top[:, None]
    shape = (count, height, width)
    grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=-1)
    return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)


def _crop_sizes(count: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Width and height of crops as shares of the image; a crop that doesn't fit is drawn again, and at last cut."""
    area = torch.empty(count, _CROP_TRIES).uniform_(*CROP_SCALE) * (height * width)
    ratio = torch.empty(count, _CROP_TRIES).uniform_(*np.log(CROP_RATIO)).exp()
    across, down = (area * ratio).sqrt() / width, (area / ratio).sqrt() / height
    first = ((across <= 1) & (down <= 1)).int().argmax(dim=1, keepdim=True)
    return tuple(size.gather(1, first).squeeze(1).clamp(max=1) for size in (across, down))


def _pixel_centres(size: int) -> torch.Tensor:
    return (2 * torch.arange(size) + 1) / size - 1


# ---- images that cannot be decoded ----------------------------------------------------------------------------------


def decodable_rows(
    dataset: datasets.Dataset, image_column: str, name: str, split: str, skip: bool = False
) -> datasets.Dataset:
    """Decode every image once, before training; `datasets` keeps the result in its cache for the next run.

    Args:
        dataset (`datasets.Dataset`): its image column holds images.
        image_column, name, split (`str`): the column; data set and split, for messages.
        skip (`bool`, defaults to `False`): drop rows whose image cannot be decoded, and say how many.

    Raises:
        ValueError: for such a row, naming it, unless they are skipped; and if none is left.
    """
    raw = dataset.select_columns([image_column]).cast_column(image_column, datasets.Image(decode=False))
    errors = raw.map(
        _Decoder(image_column),
        batched=True,
        remove_columns=[image_column],
        features=datasets.Features({"error": datasets.Value("string")}),
        desc=f"Checking {split} images",
    )["error"][:]
    broken = [i for i, error in enumerate(errors) if error]
    if not broken:
        return dataset
    if not skip:
        more = f", and {len(broken) - 1:,} more" if len(broken) > 1 else ""
        raise ValueError(
            f"{name}: the image of row {broken[0]} of the split {split!r} cannot be decoded ({errors[broken[0]]})"
            f"{more}. Mend the file, drop the row, or pass --skip_undecodable true"
        )
    tell_skipped({i: errors[i] for i in broken}, len(dataset), name, split)
    return dataset.select(np.flatnonzero([not error for error in errors]))


class _Decoder:
    """The error that decoding each image of a batch raises, empty for none."""

    def __init__(self, image_column: str):
        self.image_column = image_column

    def __call__(self, rows: dict[str, list[Any]]) -> dict[str, list[str]]:
        with ThreadPoolExecutor() as pool:  # decoding lets other threads run
            return {"error": list(pool.map(_decoding_error, rows[self.image_column]))}


def _decoding_error(image: dict[str, Any] | None) -> str:
    if image is None:
        return "there is no image"
    try:
        if image["bytes"] is None:
            with Image.open(image["path"]) as opened:
                opened.convert("RGB")
        else:
            with Image.open(io.BytesIO(image["bytes"])) as opened:
                opened.convert("RGB")
    except ERRORS as error:
        return str(error) or type(error).__name__
    return ""


# ---- loading --------------------------------------------------------------------------------------------------------


def load_images(
    source: str | datasets.DatasetDict,
    image_column: str = "image",
    label_column: str = "label",
    attribute_columns: Sequence[str] = (),
    image_size: int = 224,
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.5, 0.5, 0.5),
    augment: bool = True,
    skip_undecodable: bool = False,
    config: str | None = None,
    **chosen: str | None,
) -> datasets.DatasetDict:
    """Any data set with an image column as rows of `pixel_values` and `label`, decoded as they are read.

    Args:
        source (`str` or `datasets.DatasetDict`): as [`load_any`], or splits in memory.
        image_column (`str`, defaults to `"image"`): images, or paths of image files.
        label_column (`str`, defaults to `"label"`), attribute_columns (`Sequence[str]`): categories of any type.
        image_size (`int`, defaults to `224`): height and width in pixels.
        mean, std (`Sequence[float]` of length 3): normalization of the backbone.
        augment (`bool`, defaults to `True`): augment the training images.
        skip_undecodable (`bool`, defaults to `False`): drop rows whose image cannot be decoded.
        config (`str`, *optional*): the configuration on the Hub.
        chosen: `train`, `validation`, `test`: names of the splits, where they are not the usual ones.

    Returns:
        `datasets.DatasetDict`: train, validation, test. Train with `remove_unused_columns=False`.

    Raises:
        TypeError, ValueError: as [`prepare_splits`], and for images that cannot be decoded.
    """
    name = source if isinstance(source, str) else "the data set"
    splits = prepare_splits(source, [image_column], label_column, attribute_columns, config, **chosen)
    return transformed(splits, name, image_column, label_column, image_size, mean, std, augment, skip_undecodable)


def transformed(
    splits: datasets.DatasetDict,
    name: str,
    image_column: str,
    label_column: str,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    augment: bool,
    skip_undecodable: bool,
) -> datasets.DatasetDict:
    """Splits whose images are checked and which give rows of `pixel_values` and `label`; as [`load_images`]."""
    result = datasets.DatasetDict()
    for key, split in splits.items():
        feature = split.features[image_column]
        if not isinstance(feature, datasets.Image):
            if getattr(feature, "dtype", None) not in ("string", "large_string"):
                raise ValueError(
                    f"{name}: the column {image_column!r} holds {feature}; images or paths of image files are needed. "
                    f"The columns are {', '.join(split.column_names)}"
                )
            split = split.cast_column(image_column, datasets.Value("string"))
            split = split.cast_column(image_column, datasets.Image())
        split = decodable_rows(split, image_column, name, key, skip_undecodable)
        transform = ImageTransform(image_column, label_column, image_size, mean, std, augment and key == "train")
        result[key] = split.with_transform(transform)
    return result
