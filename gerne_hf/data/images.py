"""Rows of images: loading any data set of images; decoding, augmenting and normalizing a batch when it is read.

Imports `utils/` and the modules of this room. `decoding.py` has the other way, decoding all images once.
"""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import datasets
import numpy as np
import torch
import torch.nn.functional as F

from ..utils.crops import check_crop, resized
from ..utils.extras import of_extra
from .decoding import ERRORS, tell_skipped
from .splits import prepare_splits

with of_extra("vision"):
    from PIL import Image

CROP_SCALE = (0.7, 1.0)
"""Smallest and largest area of a random crop, as a share of the image; the values of SubpopBench."""
CROP_RATIO = (0.75, 4 / 3)
"""Smallest and largest ratio of width to height of a random crop; the values of SubpopBench."""

_CROP_TRIES = 10
"""How often a crop is drawn until one fits into the image."""


class ImageTransform:
    """Turn rows of a `datasets.Dataset` into `pixel_values` and `label`; use it with `Dataset.with_transform`.

    Images are made square as `crop` says. Augmentation uses PyTorch's global random generator,
    which [`GerneTrainer`] seeds for each batch ([`seeded`](gerne_hf.utils.random.seeded)).

    Args:
        image_column, label_column (`str`): the columns to read.
        image_size (`int`): height and width in pixels to which images are resized.
        mean, std (`Sequence[float]` of length 3, *optional*, default to 0.5 for each channel): mean and standard
            deviation by which the channels, in [0, 1], are normalized.
        augment (`bool`, *optional*, defaults to `False`): whether to augment the images ([`random_crops`]).
        crop (`str`, *optional*, defaults to `"none"`): how images are made square, as for [`as_pixels`].

    Raises:
        ValueError: for a `crop` that does not exist.
    """

    def __init__(
        self,
        image_column: str,
        label_column: str,
        image_size: int,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        augment: bool = False,
        crop: str = "none",
    ):
        check_crop(crop)
        self.crop = crop
        self.image_column, self.label_column = image_column, label_column
        self.image_size = image_size
        self.mean, self.std = list(mean), list(std)
        self.augment = augment

    def __call__(self, rows: dict[str, list[Any]]) -> dict[str, Any]:
        pixels = np.stack([as_pixels(image, self.image_size, self.crop) for image in rows[self.image_column]])
        images = normalize(torch.from_numpy(pixels), self.mean, self.std, self.augment)
        return {"pixel_values": images, "label": [int(label) for label in rows[self.label_column]]}


def as_pixels(image: Image.Image, image_size: int, crop: str = "none") -> np.ndarray:
    """Return an image as an array of the pixels of a square.

    Args:
        image (`PIL.Image.Image`): an image of any size and mode.
        image_size (`int`): height and width in pixels to which it is resized.
        crop (`str`, *optional*, defaults to `"none"`): how it is made square: "none" squeezes the whole image,
            "center" takes the largest square in the middle, "border" squeezes the whole image and cuts an eighth off.

    Returns:
        `np.ndarray` of shape `(3, image_size, image_size)`, uint8: red, green and blue.

    Example:

    ```python
    >>> from PIL import Image
    >>> as_pixels(Image.new("RGB", (4, 3), (255, 0, 9)), 2)[:, 0, 0].tolist()
    [255, 0, 9]

    ```
    """
    image = image.convert("RGB")
    size = resized(image.size, image_size, crop)
    if image.size != size:
        image = image.resize(size)
    left, top = (round((side - image_size) / 2) for side in size)  # as torchvision and timm cut
    return np.asarray(image)[top : top + image_size, left : left + image_size].transpose(2, 0, 1)


def normalize(
    images: torch.Tensor, mean: Sequence[float], std: Sequence[float], augment: bool = False
) -> torch.Tensor:
    """Return images as a model takes them: with channels of about mean 0 and deviation 1.

    Args:
        images (`torch.Tensor` of shape `(n, 3, H, W)`, uint8): the images; changed in place if `augment` is true.
        mean, std (`Sequence[float]` of length 3): mean and standard deviation of the channels, in [0, 1].
        augment (`bool`, *optional*, defaults to `False`): whether to augment the images ([`random_crops`]).

    Returns:
        `torch.Tensor` of shape `(n, 3, H, W)`, float32.

    Example:

    ```python
    >>> import torch
    >>> white = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    >>> normalize(white, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))[0, 0].tolist()
    [[2.0, 2.0], [2.0, 2.0]]

    ```
    """
    images = random_crops(images) if augment else images.float()
    center, scale = (torch.tensor(values, dtype=torch.float32).view(3, 1, 1) * 255 for values in (mean, std))
    return images.sub_(center).mul_(1 / scale)


def random_crops(images: torch.Tensor) -> torch.Tensor:
    """Crop each image at random, resize it back, and mirror it with probability 0.5.

    Crops have 70 to 100 % of the area. Does for a whole batch at once what torchvision's `RandomResizedCrop` and
    `RandomHorizontalFlip` do for one image. Draws from PyTorch's global random generator.

    Args:
        images (`torch.Tensor` of shape `(n, 3, H, W)`, uint8): the images, which are changed in place.

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
    """Draw width and height of crops as shares of the image; if no try fits, the first is cut to fit."""
    area = torch.empty(count, _CROP_TRIES).uniform_(*CROP_SCALE) * (height * width)
    ratio = torch.empty(count, _CROP_TRIES).uniform_(*np.log(CROP_RATIO)).exp()
    across, down = (area * ratio).sqrt() / width, (area / ratio).sqrt() / height
    first = ((across <= 1) & (down <= 1)).int().argmax(dim=1, keepdim=True)
    width_share, height_share = (size.gather(1, first).squeeze(1).clamp(max=1) for size in (across, down))
    return width_share, height_share


def _pixel_centres(size: int) -> torch.Tensor:
    """Return the coordinates of pixel centres where the image runs from -1 to 1."""
    return (2 * torch.arange(size) + 1) / size - 1


# ---- images that cannot be decoded ----------------------------------------------------------------------------------


def decodable_rows(
    dataset: datasets.Dataset, image_column: str, name: str, split: str, skip: bool = False
) -> datasets.Dataset:
    """Check before training that every image can be decoded, and return the rows for which this holds.

    `datasets` caches the outcome, so that a later run with the same data does not check again.

    Args:
        dataset (`datasets.Dataset`): rows with a column of images.
        image_column (`str`): name of that column.
        name, split (`str`): names of the data set and of the split, for messages.
        skip (`bool`, *optional*, defaults to `False`): whether to drop rows whose image cannot be decoded, and print
            how many these are.

    Returns:
        `datasets.Dataset`: the same rows, without those that are dropped.

    Raises:
        ValueError: if an image cannot be decoded (naming its row) and `skip` is false, or if none can be decoded.
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
    """Give the error that decoding each image of a batch raises, an empty text for none; for `Dataset.map`."""

    def __init__(self, image_column: str):
        self.image_column = image_column

    def __call__(self, rows: dict[str, list[Any]]) -> dict[str, list[str]]:
        with ThreadPoolExecutor() as pool:  # decoding lets other threads run
            return {"error": list(pool.map(_decoding_error, rows[self.image_column]))}


def _decoding_error(image: dict[str, Any] | None) -> str:
    """Return the error that decoding an image, stored as bytes or a path, raises; an empty text for none."""
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
    crop: str = "none",
    config: str | None = None,
    skip_unusable_rows: bool = False,
    **chosen: str | None,
) -> datasets.DatasetDict:
    """Load any data set with a column of images. Images are decoded each time a row is read.

    Args:
        source (`str` or `datasets.DatasetDict`): a Hub id, folder or file as [`load_any`] takes it, or splits in
            memory.
        image_column (`str`, *optional*, defaults to `"image"`): column of the images, or of the paths of image files.
        label_column (`str`, *optional*, defaults to `"label"`): column of the class: categories of any type.
        attribute_columns (`Sequence[str]`, *optional*): columns of the attributes: categories of any type.
        image_size (`int`, *optional*, defaults to `224`): height and width in pixels to which images are resized.
        mean, std (`Sequence[float]` of length 3, *optional*, default to 0.5 for each channel): mean and standard
            deviation by which the channels, in [0, 1], are normalized.
        augment (`bool`, *optional*, defaults to `True`): whether to augment the training images.
        skip_undecodable (`bool`, *optional*, defaults to `False`): whether to drop rows whose image cannot be decoded.
        crop (`str`, *optional*, defaults to `"none"`): how images are made square, as for [`as_pixels`].
        config (`str`, *optional*): the data set's configuration on the Hub.
        skip_unusable_rows (`bool`, *optional*, defaults to `False`): whether rows that lack a value are left out.
        chosen (`str`, *optional*): names of the splits `train`, `validation` and `test` in the data set, where they
            are not the usual ones.

    Returns:
        `datasets.DatasetDict`: `train`, `validation` and `test`, whose rows are `pixel_values` and `label`. Train with
        `remove_unused_columns=False`, as the images are decoded from a column that no model takes.

    Raises:
        TypeError, ValueError: as [`prepare_splits`]; and ValueError if an image cannot be decoded.
    """
    name = source if isinstance(source, str) else "the data set"
    splits = prepare_splits(
        source, [image_column], label_column, attribute_columns, config, None, skip_unusable_rows, **chosen
    )
    return transformed(
        splits, name, image_column, label_column, image_size, mean, std, augment, skip_undecodable, crop
    )


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
    crop: str = "none",
) -> datasets.DatasetDict:
    """Check the images of splits, and let their rows be read as `pixel_values` and `label`.

    Args:
        splits (`datasets.DatasetDict`): splits with columns of images (or of paths of image files) and labels.
        name (`str`): name of the data set, for messages.
        image_column, label_column, image_size, mean, std, augment, skip_undecodable, crop: as for [`load_images`].

    Returns:
        `datasets.DatasetDict`: the same splits with an [`ImageTransform`]; only `train` is augmented.

    Raises:
        ValueError: if the column holds neither images nor paths, or an image cannot be decoded.
    """
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
        transform = ImageTransform(image_column, label_column, image_size, mean, std, augment and key == "train", crop)
        result[key] = split.with_transform(transform)
    return result
