"""bFFHQ: y = age, a = gender; in training the young are women and the old are men but for 0.5 %. A local folder."""

import os
import re
from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
from PIL import Image

from .celeba import draw_faces
from .images import transformed

LABELS = ["young", "old"]
GENDERS = ["female", "male"]
LAYOUT = """FOLDER/0.5pct/align/0/ID_AGE_GENDER.png     training, young women (folder 0) and old men (folder 1)
FOLDER/0.5pct/conflict/1/ID_AGE_GENDER.png  training, old women (folder 1) and young men (folder 0)
FOLDER/valid/ID_AGE_GENDER.png
FOLDER/test/ID_AGE_GENDER.png
with AGE 0 (10 to 29) or 1 (40 to 59), and GENDER 0 (female) or 1 (male)"""
"""Where the images lie, as they were published with the benchmark."""

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
) -> datasets.DatasetDict:
    """The three splits of a local folder, decoded as they are read; labels `label`, genders `gender`.

    Args:
        folder (`str`): laid out as [`LAYOUT`].
        share (`str`, defaults to `"0.5pct"`): folder of the training images.
        image_size (`int`, defaults to `224`): height and width in pixels.
        mean, std (`Sequence[float]` of length 3): normalization of the backbone.
        augment (`bool`, defaults to `False`): augment the training images.
        skip_undecodable (`bool`, defaults to `False`): drop rows whose image cannot be decoded.

    Returns:
        `datasets.DatasetDict`: train, validation, test, of `pixel_values` and `label`.

    Raises:
        FileNotFoundError: for a folder or part of it that is missing; shows the expected layout.
        ValueError: for file names without age and gender, and images that can't be decoded (naming the row).
    """
    splits = list_bffhq(folder, share)
    return transformed(splits, folder, "image", "label", image_size, mean, std, augment, skip_undecodable)


def list_bffhq(folder: str, share: str = "0.5pct") -> datasets.DatasetDict:
    """The image files of the three splits with label and gender, none of them opened; raises as [`load_bffhq`]."""
    parts = {"train": share, "validation": "valid", "test": "test"}
    return datasets.DatasetDict({key: _listed(folder, part) for key, part in parts.items()})


def _listed(folder: str, part: str) -> datasets.Dataset:
    """Paths, ages and genders of the images below a folder, in the order of their paths."""
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
    matches = [_NAME.search(os.path.basename(path)) for path in paths]
    for path, match in zip(paths, matches, strict=True):
        if match is None:
            raise ValueError(f"the name of {path} tells no age and gender. The expected layout:\n{LAYOUT}")
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
    """Accuracy over the rows whose age and gender training hardly knows together: young men and old women.

    Args:
        result (`dict`): of [`group_metrics`].

    Raises:
        ValueError: if there are no such rows.
    """
    rare = {("young", "male"), ("old", "female")}
    groups = [g for g in result["groups"] if (g["label"], g["attribute"]) in rare and g["count"]]
    if not groups:
        raise ValueError("there are neither young men nor old women, so there is no minority to judge")
    return sum(g["accuracy"] * g["count"] for g in groups) / sum(g["count"] for g in groups)


# ---- the demo: drawn faces ------------------------------------------------------------------------------------------

DEMO_MINORITY_ROWS = 60
"""Of the demo's training faces: 5 %."""
DEMO_SIDE = 32


def demo_bffhq(folder: str, train_rows: int = 1200, eval_rows: int = 400, test_rows: int = 800, seed: int = 0) -> str:
    """Small drawn faces as files in the layout of the real data set, for [`load_bffhq`].

    The old have lighter hair, faintly so under changing light; men have short hair and a beard. In training the young
    are women and the old are men but for a small minority; validation and test hold each group equally often.

    Args:
        folder (`str`): where the files go; made if it doesn't exist.
        train_rows, eval_rows, test_rows (`int`): rows of the splits.
        seed (`int`, defaults to `0`): decides the rows.

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
