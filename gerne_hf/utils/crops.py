"""The ways to make a square image of a photograph, by name; loaders of data and processors of models both have them.

Imports nothing of this package. `data/images.py` makes the squares; `models/images.py` makes processors that do so.
"""

from typing import Any

CROPS = ("none", "center", "border")
"""Names of the ways: "none" squeezes the whole image into the square. "center" takes the largest square in the middle.
"border" squeezes the whole image too, and cuts an eighth of its width and height off, half of that on each side: 256
pixels become 224, as SubpopBench does with Waterbirds.

Where the pixels beside the square in the middle cannot be halved, the loaders and timm cut as torchvision does, and
processors of Transformers a pixel further up or left."""

BORDER = 7 / 8
"""The share of width and height that is left by "border"."""


def check_crop(crop: Any) -> None:
    """Refuse a way to make square images that does not exist.

    Args:
        crop: to be one of [`CROPS`].

    Raises:
        ValueError: for anything else.
    """
    if crop not in CROPS:
        raise ValueError(f"crop must be one of {', '.join(map(repr, CROPS))}; found {crop!r}")


def resized(size: tuple[int, int], image_size: int, crop: str) -> tuple[int, int]:
    """Return width and height to which an image is resized before the square in its middle is cut out.

    Args:
        size (`tuple[int, int]`): width and height of the image in pixels.
        image_size (`int`): height and width of the square in pixels.
        crop (`str`): one of [`CROPS`].

    Returns:
        `tuple[int, int]`: both are at least `image_size`.

    Example:

    ```python
    >>> [resized((178, 218), 224, crop) for crop in ("none", "center", "border")]
    [(224, 224), (224, 274), (256, 256)]

    ```
    """
    if crop == "center":
        width, height = (int(image_size * side / min(size)) for side in size)
        return width, height
    side = int(image_size / BORDER) if crop == "border" else image_size
    return side, side
