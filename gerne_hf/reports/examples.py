"""The rows of each group that a model is most wrong about, kept for people to look at."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
from PIL import Image
from transformers.utils import logging

from ..evaluation.metrics import worst_groups
from ..groups.index import LABEL_COLUMNS
from ..groups.sources import column_names
from ..trainer import GerneTrainer
from ..utils.files import write_json

logger = logging.get_logger(__name__)

EXAMPLES_FOLDER = "_examples"
"""The Trainer leaves names that begin with an underscore out of every push: examples are data."""

EXAMPLES_FILE = "examples.json"

MAX_CHARACTERS = 2000

THUMBNAIL_SIDE = 192

_LOSSLESS_SIDE = 64


def save_worst_examples(trainer: "GerneTrainer", dataset: Any, prefix: str = "test") -> str | None:
    """Write the rows that the last evaluation of `dataset` was most wrong about to `output_dir/_examples`.

    Images are saved as thumbnails, texts as the model saw them, decoded by the tokenizer. Only these rows are read
    again; of more than 24 groups those of the worst 24.

    The examples are data: mind who may see them. The Trainer does not push them, as the folder's name begins with an
    underscore.

    Args:
        trainer ([`GerneTrainer`]): after `evaluate(dataset, metric_key_prefix=prefix)`, on every process.
        dataset: the data set that was evaluated.
        prefix (`str`, defaults to `"test"`): of that evaluation.

    Returns:
        `str`: the path of `examples.json`; None on the other processes, and where `worst_examples` is 0.

    Raises:
        ValueError: if there was no such evaluation.
    """
    if not trainer.args.worst_examples or not trainer.args.should_save:
        return None
    if prefix not in trainer.group_results:
        raise ValueError(
            f"there is no evaluation {prefix!r}, only {sorted(trainer.group_results) or 'none at all'}; call "
            f"trainer.evaluate(dataset, metric_key_prefix={prefix!r}) first"
        )
    folder = os.path.join(trainer.args.output_dir, EXAMPLES_FOLDER)
    os.makedirs(folder, exist_ok=True)
    _remove_pictures(folder)
    result = trainer.group_results[prefix]
    _, hidden = worst_groups(result["groups"])
    reader = _RowReader(trainer, dataset)
    files: dict[int, dict[str, Any]] = {}  # a row may be among the worst of several groups
    groups = []
    for i, examples in trainer.worst_rows[prefix].items():
        for row in {example["row"] for example in examples} - files.keys():
            files[row] = reader.content(row, os.path.join(folder, f"{prefix}-{row}"))
        group = {key: result["groups"][i][key] for key in ("label", "attribute", "count", "accuracy")}
        groups.append({**group, "examples": [{**example, **files[example["row"]]} for example in examples]})
    path = os.path.join(folder, EXAMPLES_FILE)
    write_json({"evaluation": prefix, "step": result["step"], "groups_left_out": hidden, "groups": groups}, path)
    return path


def _remove_pictures(folder: str) -> None:
    """Pictures of an earlier run are not among this run's examples."""
    for name in os.listdir(folder):
        if name.endswith((".png", ".jpg")):
            os.remove(os.path.join(folder, name))


class _RowReader:
    """Reads single rows for people: an image, or texts, or nothing where a row has neither."""

    def __init__(self, trainer: "GerneTrainer", dataset: Any):
        self.dataset = dataset
        processor = trainer.processing_class
        tokenizer = getattr(processor, "tokenizer", processor)
        self.tokenizer = tokenizer if hasattr(tokenizer, "decode") else None
        self.mean, self.std = _normalization(processor, trainer.accelerator.unwrap_model(trainer.model))
        self.no_texts = {*trainer.args.attribute_columns, trainer.args.label_column, *LABEL_COLUMNS}
        self.raw = self.image_column = None
        if isinstance(dataset, datasets.Dataset):  # beside any transform, which may crop and normalize
            self.raw = dataset.with_format(None)
            named = (name for name, kind in dataset.features.items() if isinstance(kind, datasets.Image))
            self.image_column = next(named, None)
            if self.image_column is not None:
                self.raw = self.raw.cast_column(self.image_column, datasets.Image())
                self.raw = self.raw.select_columns([self.image_column])

    def content(self, number: int, path: str) -> dict[str, Any]:
        """`image`, the name of a file that was written to `path` with an ending added, or `texts`, or neither."""
        if self.image_column is not None:
            return {"image": save_thumbnail(self.raw[number][self.image_column], path)}
        row = self.dataset[number]
        if not isinstance(row, Mapping):
            return {}
        for value in row.values():
            if hasattr(value, "convert") and hasattr(value, "thumbnail"):
                return {"image": save_thumbnail(value, path)}
        if "input_ids" in row and self.tokenizer is not None:
            return {"texts": decode_texts(self.tokenizer, row["input_ids"], row.get("attention_mask"))}
        if "pixel_values" in row:
            image = image_of_pixels(row["pixel_values"], self.mean, self.std)
            return {"image": save_thumbnail(image, path)} if image is not None else {}
        names = [name for name in column_names(self.dataset) if name not in self.no_texts]
        plain = row if self.raw is None else self.raw[number]
        texts = [plain[name] for name in names if isinstance(plain.get(name), str)]
        return {"texts": [_cut(text) for text in texts]} if texts else {}


def decode_texts(tokenizer: Any, input_ids: Any, attention_mask: Any = None) -> list[str]:
    """The texts of a row of token ids, without special tokens; a pair is two texts.

    Args:
        tokenizer: a tokenizer of Transformers.
        input_ids, attention_mask (int sequences of shape `(L,)`): the row; masked tokens are left out.
    """
    ids = np.asarray(input_ids).ravel()
    if attention_mask is not None:
        ids = ids[np.asarray(attention_mask).ravel() != 0]
    separator = getattr(tokenizer, "sep_token_id", None)
    breaks = [] if separator is None else np.flatnonzero(ids == separator)
    texts = [tokenizer.decode(part.tolist(), skip_special_tokens=True).strip() for part in np.split(ids, breaks)]
    return [_cut(text) for text in texts if text]


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS] + "…"


def _normalization(processor: Any, model: Any) -> tuple[Sequence[float] | None, Sequence[float] | None]:
    """Mean and deviation of the channels, of the image processor or of timm's settings; None where nobody knows."""
    if getattr(processor, "image_mean", None) is not None:
        return processor.image_mean, processor.image_std
    config = getattr(model, "config", None)
    settings = getattr(processor, "data_config", None) or getattr(config, "pretrained_cfg", None) or {}
    return settings.get("mean"), settings.get("std")


def image_of_pixels(
    pixels: Any, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> "Image | None":
    """The image behind a model's input.

    Args:
        pixels (float array of shape `(C, H, W)`): C is 1 or 3.
        mean, std (`Sequence[float]`, *optional*): by which the channels, in [0, 1], were normalized. Without them,
            values outside [0, 1] are stretched to that range.

    Returns:
        `PIL.Image.Image`: None for an input of another shape.
    """
    from PIL import Image

    values = np.asarray(pixels, dtype=np.float32)
    if values.ndim != 3 or values.shape[0] not in (1, 3):
        return None
    values = values.transpose(1, 2, 0)
    if mean is not None and std is not None:
        values = values * np.asarray(std, dtype=np.float32) + np.asarray(mean, dtype=np.float32)
    elif values.min() < 0 or values.max() > 1:
        values = (values - values.min()) / max(float(np.ptp(values)), 1e-12)
    values = np.rint(255 * np.clip(np.nan_to_num(values), 0, 1)).astype(np.uint8)
    return Image.fromarray(np.repeat(values, 3, axis=2) if values.shape[2] == 1 else values)


def save_thumbnail(image: "Image", path: str) -> str:
    """Save an image of at most 192 pixels a side, without what its file said besides (place, camera).

    Args:
        image (`PIL.Image.Image`): of any size and mode.
        path (`str`): the file without its ending: a small image becomes a PNG, a larger one a JPEG.

    Returns:
        `str`: the file's name.
    """
    from PIL import Image

    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    path += ".png" if max(small.size) <= _LOSSLESS_SIDE else ".jpg"
    Image.fromarray(np.asarray(small)).save(path, quality=85)
    return os.path.basename(path)
