"""Images that are decoded once and held in memory; one that cannot be is named by its row, or skipped and counted."""

from collections.abc import Callable

import datasets
import numpy as np
from accelerate import PartialState
from accelerate.utils import tqdm
from PIL import Image

ERRORS = (OSError, SyntaxError, ValueError, AttributeError, Image.DecompressionBombError)
"""What decoding raises; AttributeError where there is no image at all."""


def decode_images(
    split: datasets.Dataset,
    image_column: str,
    convert: Callable[[Image.Image], np.ndarray],
    name: str,
    description: str,
    skip: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Every image of a split as one array.

    Args:
        split (`datasets.Dataset`): its image column holds images.
        image_column (`str`): the column.
        convert (`Callable`): makes an array of an image, of the same shape for all.
        name, description (`str`): data set and split, for messages.
        skip (`bool`, defaults to `False`): leave out rows whose image cannot be decoded, and say how many.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: `(n, ...)` images, and the `(n,)` numbers of their rows.

    Raises:
        ValueError: for such a row, naming it, unless they are skipped; and if none is left.
    """
    split = split.select_columns([image_column])
    pixels, rows, broken = None, [], {}
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
        if pixels is None:
            pixels = np.empty((len(split), *image.shape), dtype=image.dtype)
        pixels[len(rows)] = image
        rows.append(i)
    if broken:
        tell_skipped(broken, len(split), name, description)
    return pixels[: len(rows)], np.array(rows)


def tell_skipped(broken: dict[int, str], rows: int, name: str, description: str) -> None:
    """Say how many rows are skipped; raise a `ValueError` if none is left."""
    first = min(broken)
    if len(broken) == rows:
        raise ValueError(f"{name}: no image of the split {description!r} can be decoded (row 0: {broken[0]})")
    PartialState().print(
        f"{name}: {len(broken):,} of {rows:,} rows of the split {description!r} are skipped, as their images cannot "
        f"be decoded (the first is row {first})."
    )
