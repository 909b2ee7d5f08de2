"""bFFHQ: photographs of faces, read from a local folder. The class is the age, the attribute is the gender.

In training nearly all young people are women and nearly all old people are men; only 0.5 % of the rows are different.
Imports the modules of this room and no other room. The recipe is `recipes/bffhq.py`.
"""

import os
import re
from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np

from ..utils.extras import of_extra
from .celeba import draw_faces
from .images import transformed

with of_extra("vision"):
    from PIL import Image

LABELS = ["young", "old"]
GENDERS = ["female", "male"]
LAYOUT = """FOLDER/0.5pct/align/0/ID_AGE_GENDER.png     training, young women (folder 0) and old men (folder 1)
FOLDER/0.5pct/conflict/1/ID_AGE_GENDER.png  training, old women (folder 1) and young men (folder 0)
FOLDER/valid/ID_AGE_GENDER.png
FOLDER/test/ID_AGE_GENDER.png
with AGE 0 (10 to 29) or 1 (40 to 59), and GENDER 0 (female) or 1 (male)"""
"""Where the image files lie below the folder: the layout in which the benchmark's authors published them."""

_NAME = re.compile(r"([01])_([01])\.(?:png|jpe?g)$", re.IGNORECASE)
_ENDINGS = (".png", ".jpg", ".jpeg")


def load_bffhq(
    folder: str,
    share: str = "0.5pct",
    image_size: int = 224,
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.5, 0.5, 0.5),
    augment: bool = False,
    skip_undecodable: bool = False,
    crop: str = "none",
) -> datasets.DatasetDict:
    """Load the three splits from a local folder. Images are decoded each time a row is read.

    The columns for the groups are `label` (the age) and `gender`.

    Args:
        folder (`str`): the folder, laid out as [`LAYOUT`] shows.
        share (`str`, *optional*, defaults to `"0.5pct"`): name of the sub-folder with the training images.
        image_size (`int`, *optional*, defaults to `224`): height and width in pixels to which images are resized.
        mean, std (`Sequence[float]` of length 3, *optional*, default to 0.5 for each channel): mean and standard
            deviation by which the channels, in [0, 1], are normalized.
        augment (`bool`, *optional*, defaults to `False`): whether to augment the training images.
        skip_undecodable (`bool`, *optional*, defaults to `False`): whether to drop rows whose image cannot be decoded.
        crop (`str`, *optional*, defaults to `"none"`): how images are made square, as for [`as_pixels`].

    Returns:
        `datasets.DatasetDict`: `train`, `validation` and `test`, whose rows are `pixel_values` and `label`.

    Raises:
        FileNotFoundError: if the folder or a part of it is missing; the message shows the expected layout.
        ValueError: if a file name does not tell age and gender, or an image cannot be decoded; names the file or row.
    """
    splits = list_bffhq(folder, share)
    return transformed(splits, folder, "image", "label", image_size, mean, std, augment, skip_undecodable, crop)


def list_bffhq(folder: str, share: str = "0.5pct") -> datasets.DatasetDict:
    """List the image files of the three splits with their label and gender, without opening any image.

    Args:
        folder (`str`): the folder, laid out as [`LAYOUT`] shows.
        share (`str`, *optional*, defaults to `"0.5pct"`): name of the sub-folder with the training images.

    Returns:
        `datasets.DatasetDict`: `train`, `validation` and `test` with the columns `image`, `label` and `gender`.

    Raises:
        FileNotFoundError: if the folder or a part of it is missing; the message shows the expected layout.
        ValueError: if a file name does not tell age and gender.
    """
    parts = {"train": share, "validation": "valid", "test": "test"}
    return datasets.DatasetDict({key: _listed(folder, part) for key, part in parts.items()})


def _listed(folder: str, part: str) -> datasets.Dataset:
    """Return paths, ages and genders of the images below one part of the folder, in the order of their paths."""
    root = os.path.join(folder, part)
    paths = sorted(
        os.path.join(directory, file)
        for directory, _, files in os.walk(root)
        for file in files
        if file.lower().endswith(_ENDINGS)
    )
    if not paths:
        there = sorted(os.listdir(folder))[:10] if os.path.isdir(folder) else None
        found = "does not exist" if there is None else f"holds {', '.join(there) or 'nothing'}"
        raise FileNotFoundError(
            f"no images in {root}: {folder} {found}. No copy of bFFHQ on the Hub is known; download it from the "
            f"benchmark's authors and pass its folder as --dataset_name. The expected layout:\n{LAYOUT}"
        )
    matches = []
    for path in paths:
        match = _NAME.search(os.path.basename(path))
        if match is None:
            raise ValueError(f"the name of {path} tells no age and gender. The expected layout:\n{LAYOUT}")
        matches.append(match)
    table: dict[str, Any] = {
        "image": paths,
        "label": [int(match[1]) for match in matches],
        "gender": [int(match[2]) for match in matches],
    }
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=LABELS),
            "gender": datasets.ClassLabel(names=GENDERS),
        }
    )
    return datasets.Dataset.from_dict(table, features=features)


def minority_accuracy(result: dict[str, Any]) -> float:
    """Return the accuracy over the rows of the two groups that are rare in training: young men and old women.

    Args:
        result (`dict`): the result of [`group_metrics`] with the names in [`LABELS`] and [`GENDERS`].

    Returns:
        `float`: the share of correct rows, in [0, 1].

    Raises:
        ValueError: if there are no such rows.

    Example:

    ```python
    >>> young_men = {"label": "young", "attribute": "male", "count": 3, "accuracy": 1.0}
    >>> old_women = {"label": "old", "attribute": "female", "count": 1, "accuracy": 0.0}
    >>> minority_accuracy({"groups": [young_men, old_women]})
    0.75

    ```
    """
    rare = {("young", "male"), ("old", "female")}
    groups = [g for g in result["groups"] if (g["label"], g["attribute"]) in rare and g["count"]]
    if not groups:
        raise ValueError("there are neither young men nor old women, so there is no minority to judge")
    return sum(g["accuracy"] * g["count"] for g in groups) / sum(g["count"] for g in groups)


# ---- the demo: drawn faces ------------------------------------------------------------------------------------------

DEMO_MINORITY_ROWS = 60
"""Training faces of the demo that are young men or old women: 5 %."""
DEMO_SIDE = 32
"""Height and width of the demo's images in pixels."""


def demo_bffhq(folder: str, train_rows: int = 1200, eval_rows: int = 400, test_rows: int = 800, seed: int = 0) -> str:
    """Draw small faces and save them as files in the layout of the real data set, for [`load_bffhq`].

    Old people have slightly lighter hair, which changing light makes hard to see; men have short hair and a beard. In
    training the young are women and the old are men, except for a small minority. In the validation and test sets all
    groups are equally large.

    Args:
        folder (`str`): where the files are saved; made if it does not exist.
        train_rows (`int`, *optional*, defaults to `1200`): rows of the training set.
        eval_rows (`int`, *optional*, defaults to `400`): rows of the validation set.
        test_rows (`int`, *optional*, defaults to `800`): rows of the test set.
        seed (`int`, *optional*, defaults to `0`): seed of everything random.

    Returns:
        `str`: the folder.
    """
    rng = np.random.default_rng(seed)
    for part, rows in {"0.5pct": train_rows, "valid": eval_rows, "test": test_rows}.items():
        ages = np.arange(rows) % 2
        conflict = np.arange(rows) < DEMO_MINORITY_ROWS if part == "0.5pct" else np.arange(rows) // 2 % 2 == 1
        genders = np.where(conflict, 1 - ages, ages)
        for i, pixels in enumerate(draw_faces(rng, ages == 1, genders == 1, DEMO_SIDE)):
            inner = os.path.join("conflict" if conflict[i] else "align", str(ages[i])) if part == "0.5pct" else ""
            os.makedirs(os.path.join(folder, part, inner), exist_ok=True)
            Image.fromarray(pixels).save(os.path.join(folder, part, inner, f"{i}_{ages[i]}_{genders[i]}.png"))
    return folder
