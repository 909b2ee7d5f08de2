"""Decoding all images of a split once, to hold them in memory; images that cannot be decoded are named or skipped.

Imports no other module of the package. `images.py` has the other way, decoding each time a row is read.
"""

from collections.abc import Callable

import datasets
import numpy as np
from accelerate import PartialState
from accelerate.utils import tqdm

from ..utils.extras import of_extra

with of_extra("vision"):
    from PIL import Image

ERRORS = (OSError, SyntaxError, ValueError, AttributeError, Image.DecompressionBombError)
"""What decoding an image may raise; AttributeError where a row has no image at all."""


def decode_images(
    split: datasets.Dataset,
    image_column: str,
    convert: Callable[[Image.Image], np.ndarray],
    name: str,
    description: str,
    skip: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Decode every image of a split and return them as one array.

    Args:
        split (`datasets.Dataset`): the split, with a column of images.
        image_column (`str`): name of that column.
        convert (`Callable`): makes an array of an image, of the same shape for every image.
        name, description (`str`): names of the data set and of the split, for messages.
        skip (`bool`, *optional*, defaults to `False`): whether to leave out rows whose image cannot be decoded, and
            print how many these are.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: the images, of shape `(n, ...)`, and the numbers of their rows, of shape
        `(n,)`.

    Raises:
        ValueError: if an image cannot be decoded (naming its row) and `skip` is false, or if none can be decoded.
    """
    split = split.select_columns([image_column])
    pixels = np.empty(0)
    rows: list[int] = []
    broken: dict[int, str] = {}
    for i in tqdm(range(len(split)), desc=f"Decoding {description} images", leave=False):
        try:
            image = convert(split[i][image_column])
        except ERRORS as error:
            broken[i] = str(error) or type(error).__name__
            if skip:
                continue
            raise ValueError(
                f"{name}: the image of row {i} of the split {description!r} cannot be decoded ({broken[i]}). Mend the "
                "file, drop the row, or pass --skip_undecodable true"
            ) from error
        if not rows:
            pixels = np.empty((len(split), *image.shape), dtype=image.dtype)
        pixels[len(rows)] = image
        rows.append(i)
    if broken:
        tell_skipped(broken, len(split), name, description)
    return pixels[: len(rows)], np.array(rows)


def tell_skipped(broken: dict[int, str], rows: int, name: str, description: str) -> None:
    """Print, once for all processes, how many rows are skipped as their images cannot be decoded.

    Args:
        broken (`dict[int, str]`): the error of each row that is skipped, by its number.
        rows (`int`): rows of the split.
        name, description (`str`): names of the data set and of the split.

    Raises:
        ValueError: if every row would be skipped.
    """
    first = min(broken)
    if len(broken) == rows:
        raise ValueError(f"{name}: no image of the split {description!r} can be decoded (row 0: {broken[0]})")
    PartialState().print(
        f"{name}: {len(broken):,} of {rows:,} rows of the split {description!r} are skipped, as their images cannot "
        f"be decoded (the first is row {first})."
    )
