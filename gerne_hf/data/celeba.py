"""CelebA: photographs with 40 booleans each. By default the class is `Blond_Hair`, the attribute is `Male`.

Blond men are 1 % of the training set. Any other of the booleans can be class or attribute.
Imports the modules of this room and no other room. The recipe is `recipes/celeba.py`.
"""

from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np

from ..utils.extras import of_extra
from .images import transformed
from .loading import read_ids, require_columns, require_splits
from .splits import choose_splits, load_any

with of_extra("vision"):
    from PIL import Image

HUB_NAME = "flwrlabs/celeba"
"""Id of the data set on the Hub."""
HUB_CONFIG = "img_align+identity+attr"
"""The configuration on the Hub that has the cropped images and the booleans."""
SPLITS = ("train", "valid", "test")
"""Names of the splits on the Hub."""
ATTRIBUTES = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair "
    "Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones "
    "Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline "
    "Rosy_Cheeks Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick "
    "Wearing_Necklace Wearing_Necktie Young"
).split()
"""The columns of the 40 booleans."""

_NAMES = {"Male": ["female", "male"], "Young": ["old", "young"], "No_Beard": ["beard", "no beard"]}


def class_names(attribute: str) -> list[str]:
    """Return the names of a boolean's two values, that of False first.

    Args:
        attribute (`str`): the column, one of [`ATTRIBUTES`].

    Returns:
        `list[str]` of length 2.

    Example:

    ```python
    >>> class_names("Blond_Hair"), class_names("Male")
    (['not blond hair', 'blond hair'], ['female', 'male'])

    ```
    """
    words = attribute.replace("_", " ").lower()
    return _NAMES.get(attribute, [f"not {words}", words])


def load_celeba(
    source: str | datasets.DatasetDict = HUB_NAME,
    label_column: str = "Blond_Hair",
    attribute_columns: Sequence[str] = ("Male",),
    image_size: int = 224,
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.5, 0.5, 0.5),
    augment: bool = True,
    skip_undecodable: bool = False,
    crop: str = "none",
) -> datasets.DatasetDict:
    """Load the three splits that the data set has. Images are decoded each time a row is read.

    Args:
        source (`str` or `datasets.DatasetDict`, *optional*, defaults to `"flwrlabs/celeba"`): Hub id, folder, or
            splits in memory, with the column `image` and the booleans.
        label_column (`str`, *optional*, defaults to `"Blond_Hair"`): the boolean that is the class.
        attribute_columns (`Sequence[str]`, *optional*, defaults to `("Male",)`): the boolean that is the attribute,
            or several of them: each combination of their values is then an attribute value.
        image_size (`int`, *optional*, defaults to `224`): height and width in pixels to which images are resized.
        mean, std (`Sequence[float]` of length 3, *optional*, default to 0.5 for each channel): mean and standard
            deviation by which the channels, in [0, 1], are normalized.
        augment (`bool`, *optional*, defaults to `True`): whether to augment the training images.
        skip_undecodable (`bool`, *optional*, defaults to `False`): whether to drop rows whose image cannot be decoded.
        crop (`str`, *optional*, defaults to `"none"`): how images are made square, as for [`as_pixels`].

    Returns:
        `datasets.DatasetDict`: `train`, `validation` and `test`, whose rows are `pixel_values` and `label`.

    Raises:
        ValueError: if splits or columns are missing (naming those found), values are no booleans, or an image cannot
            be decoded (naming the row).
    """
    name = source if isinstance(source, str) else "the data set"
    if isinstance(source, str):
        source = load_any(source, HUB_CONFIG if source == HUB_NAME else None)
    source = choose_splits(source, name)  # in a folder without the Hub's settings "valid" becomes "validation"
    require_splits(source, ["train", "validation", "test"], name)
    columns = list(dict.fromkeys([label_column, *attribute_columns]))
    if label_column in attribute_columns:
        raise ValueError(f"{label_column} is both label_column and attribute_column; choose another attribute")
    splits = datasets.DatasetDict()
    for key, raw in source.items():
        require_columns(raw, ["image", *columns], name)
        split = raw.select_columns(["image", *columns])
        for column in columns:
            split = _named(split, column, name)
        splits[key] = split
    return transformed(splits, name, "image", label_column, image_size, mean, std, augment, skip_undecodable, crop)


def _named(split: datasets.Dataset, column: str, name: str) -> datasets.Dataset:
    """Replace a column of booleans (or of -1 and 1, as in the original files, or 0 and 1) by a ClassLabel column."""
    values = read_ids(split, column, name)
    if not (np.isin(values, (0, 1)).all() or np.isin(values, (-1, 1)).all()):
        found = ", ".join(str(value) for value in np.unique(values)[:5])
        raise ValueError(f"{name}: the column {column!r} must hold booleans, 0 and 1, or -1 and 1; found {found}")
    feature = datasets.ClassLabel(names=class_names(column))
    return split.remove_columns(column).add_column(column, (values > 0).astype(np.int64), feature=feature)


# ---- the demo: drawn faces ------------------------------------------------------------------------------------------

DEMO_TIED = 0.95
"""Share of the demo's training faces whose hair is blond for women and dark for men."""


def demo_celeba(
    train_rows: int = 1200, validation_rows: int = 400, test_rows: int = 800, image_size: int = 32, seed: int = 0
) -> datasets.DatasetDict:
    """Draw small faces with the columns of the real data set, for [`load_celeba`].

    Hair is slightly lighter or darker, which changing light makes hard to see; men have short hair and a beard, women
    have long hair. In training most blond people are women. In the validation and test sets all groups are equally
    large.

    Args:
        train_rows (`int`, *optional*, defaults to `1200`): rows of the training set.
        validation_rows (`int`, *optional*, defaults to `400`): rows of the validation set.
        test_rows (`int`, *optional*, defaults to `800`): rows of the test set.
        image_size (`int`, *optional*, defaults to `32`): height and width in pixels.
        seed (`int`, *optional*, defaults to `0`): seed of everything random.

    Returns:
        `datasets.DatasetDict`: `train`, `valid` and `test` with the columns `image`, `celeb_id` and the 40 booleans.
    """
    rng = np.random.default_rng(seed)
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "celeb_id": datasets.Value("int64"),
            **{name: datasets.Value("bool") for name in ATTRIBUTES},
        }
    )
    splits = datasets.DatasetDict()
    for key, rows in zip(SPLITS, (train_rows, validation_rows, test_rows), strict=True):
        number = np.arange(rows)
        blond = number % 2 == 1
        tied = number // 2 % 20 < 20 * DEMO_TIED if key == "train" else number // 2 % 2 == 0
        male = np.where(tied, ~blond, blond)
        table: dict[str, Any] = {name: (rng.random(rows) < 0.3).tolist() for name in ATTRIBUTES}
        table |= {"Blond_Hair": blond.tolist(), "Male": male.tolist(), "celeb_id": number.tolist()}
        table["image"] = [Image.fromarray(pixels) for pixels in draw_faces(rng, blond, male, image_size)]
        splits[key] = datasets.Dataset.from_dict({name: table[name] for name in features}, features=features)
    return splits


def draw_faces(rng: np.random.Generator, blond: np.ndarray, male: np.ndarray, size: int) -> np.ndarray:
    """Draw faces of people who are blond or not, and men or women.

    Args:
        rng (`np.random.Generator`): draws light, colours and positions.
        blond (`np.ndarray` of shape `(N,)`, bool): who is blond.
        male (`np.ndarray` of shape `(N,)`, bool): who is a man.
        size (`int`): height and width in pixels.

    Returns:
        `np.ndarray` of shape `(N, size, size, 3)`, uint8: the images.
    """
    rows = len(blond)
    y, x = np.mgrid[0:size, 0:size] / size

    def draw(low: float, high: float, channels: int = 1) -> np.ndarray:
        return rng.uniform(low, high, (rows, 1, 1, channels))

    left, top = draw(0.45, 0.55), draw(0.5, 0.58)
    grid_x, grid_y = x[None, :, :, None] - left, y[None, :, :, None] - top
    man = male[:, None, None, None]
    head = (grid_x / 0.22) ** 2 + (grid_y / 0.28) ** 2 < 1
    long_hair = (np.abs(grid_x) < 0.32) & (grid_y > -0.3) & (grid_y < 0.4)
    short_hair = (grid_x / 0.26) ** 2 + ((grid_y + 0.08) / 0.28) ** 2 < 1
    hair = np.where(man, short_hair, long_hair)
    beard = man & head & (grid_y > 0.1)

    shade = np.where(blond[:, None, None, None], 0.57, 0.43) + draw(-0.1, 0.1)
    skin = np.array([0.75, 0.6, 0.5]) + draw(-0.1, 0.1)
    images = np.broadcast_to(draw(0.2, 0.8, 3), (rows, size, size, 3))
    images = np.where(hair, shade * np.array([1.1, 1.0, 0.75]), images)
    images = np.where(head, skin, images)
    images = np.where(beard, np.array([0.3, 0.22, 0.18]), images)
    images = images + rng.normal(0, 0.06, images.shape)
    return (255 * images.clip(0, 1)).astype(np.uint8)
