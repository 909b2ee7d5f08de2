"""Rows saved for people to look at: those that a model is most wrong about, and training rows that seemed hard.

Imports `evaluation/`, `groups/` and `utils/`, and the file names in `record.py`. Which rows a model is most wrong
about is found while evaluating, by
[`GroupAccumulator.worst_rows`](gerne_hf.evaluation.accumulator.GroupAccumulator.worst_rows), and which training rows
are hard in `pseudo_attributes/`. [`page_parts`](gerne_hf.reports.page_parts) and
[`page_inferred`](gerne_hf.reports.page_inferred) show what is saved here.
"""

import contextlib
import os
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np

from ..evaluation.metrics import worst_groups
from ..groups.index import LABEL_COLUMNS
from ..groups.sources import column_names
from ..utils.files import write_json
from .record import EXAMPLES_FILE, EXAMPLES_FOLDER, INFERRED_FOLDER

if TYPE_CHECKING:  # of an optional extra
    from PIL.Image import Image

MAX_CHARACTERS = 2000
"""Characters of a text that are saved."""

THUMBNAIL_SIDE = 192
"""Pixels of the longer side of a saved image, at most."""

_LOSSLESS_SIDE = 64
"""Images of up to this many pixels a side are saved without loss, as PNG."""


def save_worst_examples(
    output_dir: str,
    result: dict[str, Any],
    worst_rows: dict[int, list[dict[str, Any]]],
    dataset: Any,
    prefix: str,
    processor: Any = None,
    model: Any = None,
    no_texts: Collection[str] = (),
) -> str:
    """Write the rows that an evaluation was most wrong about to `output_dir/_examples`.

    Images are saved as thumbnails, texts as the model saw them, decoded by the tokenizer. Only these rows are read
    again; of more than 24 groups those of the worst 24.

    The examples are data: mind who may see them. The Trainer does not push them, as the folder's name begins with an
    underscore.

    Args:
        output_dir (`str`): the run's folder.
        result (`dict`): the evaluation's result of [`group_metrics`](gerne_hf.evaluation.metrics.group_metrics), with
            the `step` of the weights.
        worst_rows (`dict[int, list[dict]]`): by the group's place in `result["groups"]`, its worst rows: number of the
            row, prediction, probability of the true label.
        dataset (`Any`): the data set that was evaluated; rows are read by their numbers.
        prefix (`str`): the evaluation's prefix, such as "test".
        processor (`Any`, *optional*): the tokenizer that decodes texts, or the image processor that says how images
            were normalized.
        model (`Any`, *optional*): the model; one of timm says how images were normalized, if the processor does not.
        no_texts (`Collection[str]`, *optional*): columns whose strings are not saved, such as those of attributes.
            Label columns never are.

    Returns:
        `str`: the path of `examples.json`.
    """
    folder = os.path.join(output_dir, EXAMPLES_FOLDER)
    os.makedirs(folder, exist_ok=True)
    _remove_pictures(folder)
    _, hidden = worst_groups(result["groups"])
    reader = _RowReader(dataset, processor, model, no_texts)
    files: dict[int, dict[str, Any]] = {}  # a row may be among the worst of several groups
    groups = []
    for i, examples in worst_rows.items():
        for row in {example["row"] for example in examples} - files.keys():
            files[row] = reader.content(row, os.path.join(folder, f"{prefix}-{row}"))
        group = {key: result["groups"][i][key] for key in ("label", "attribute", "count", "accuracy")}
        groups.append({**group, "examples": [{**example, **files[example["row"]]} for example in examples]})
    path = os.path.join(folder, EXAMPLES_FILE)
    write_json({"evaluation": prefix, "step": result["step"], "groups_left_out": hidden, "groups": groups}, path)
    return path


def save_training_examples(
    output_dir: str,
    classes: Sequence[dict[str, Any]],
    dataset: Any,
    processor: Any = None,
    model: Any = None,
    no_texts: Collection[str] = (),
) -> str:
    """Write hard and typical training rows of each class to `output_dir/_examples/inferred`.

    Images and texts are saved as by [`save_worst_examples`]; only these rows are read. Examples of an earlier run are
    removed.

    Args:
        output_dir (`str`): the run's folder.
        classes (`Sequence[dict]`): of each class `label`, `rows`, `hard`, and the lists `hardest` and `typical` of
            rows: number of the row, prediction, probability of its label.
        dataset (`Any`): the training set; rows are read by their numbers.
        processor, model, no_texts (*optional*): as for [`save_worst_examples`].

    Returns:
        `str`: the path of `examples.json`.
    """
    remove_training_examples(output_dir)
    folder = os.path.join(output_dir, EXAMPLES_FOLDER, INFERRED_FOLDER)
    os.makedirs(folder, exist_ok=True)
    reader = _RowReader(dataset, processor, model, no_texts)
    saved = [
        {
            **group,
            **{
                kind: [
                    {**example, **reader.content(example["row"], os.path.join(folder, f"train-{example['row']}"))}
                    for example in group[kind]
                ]
                for kind in ("hardest", "typical")
            },
        }
        for group in classes
    ]
    path = os.path.join(folder, EXAMPLES_FILE)
    write_json({"classes": saved}, path)
    return path


def remove_training_examples(output_dir: str) -> None:
    """Remove the training examples of an earlier run, if there are any.

    Args:
        output_dir (`str`): the run's folder.
    """
    folder = os.path.join(output_dir, EXAMPLES_FOLDER, INFERRED_FOLDER)
    if os.path.isdir(folder):
        _remove_pictures(folder)
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(folder, EXAMPLES_FILE))


def _remove_pictures(folder: str) -> None:
    """Remove the pictures of an earlier run, which are not among this run's examples."""
    for name in os.listdir(folder):
        if name.endswith((".png", ".jpg")):
            os.remove(os.path.join(folder, name))


class _RowReader:
    """Reads single rows for people: an image, or texts, or nothing where a row has neither."""

    def __init__(self, dataset: Any, processor: Any, model: Any, no_texts: Collection[str]):
        self.dataset = dataset = getattr(dataset, "shown", dataset)  # images whose features the model is trained on
        tokenizer = getattr(processor, "tokenizer", processor)
        self.tokenizer = tokenizer if hasattr(tokenizer, "decode") else None
        self.mean, self.std = _normalization(processor, model)
        self.no_texts = {*no_texts, *LABEL_COLUMNS}
        self.raw: datasets.Dataset | None = None
        self.image_column: str | None = None
        if isinstance(dataset, datasets.Dataset):  # beside any transform, which may crop and normalize
            self.raw = dataset.with_format(None)
            named = (name for name, kind in dataset.features.items() if isinstance(kind, datasets.Image))
            self.image_column = next(named, None)
            if self.image_column is not None:
                self.raw = self.raw.cast_column(self.image_column, datasets.Image())
                self.raw = self.raw.select_columns([self.image_column])

    def content(self, number: int, path: str) -> dict[str, Any]:
        """Return `image`, the name of a file written to `path` with an ending added, or `texts`, or neither."""
        if self.raw is not None and self.image_column is not None:
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
    """Return the texts of a row of token ids, without special tokens; a pair is two texts.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): the tokenizer that made the ids.
        input_ids (int sequence of shape `(L,)`): the row's tokens.
        attention_mask (int sequence of shape `(L,)`, *optional*): tokens where it is 0 are left out.
    """
    ids = np.asarray(input_ids).ravel()
    if attention_mask is not None:
        ids = ids[np.asarray(attention_mask).ravel() != 0]
    separator = getattr(tokenizer, "sep_token_id", None)
    breaks = np.array([], dtype=np.int64) if separator is None else np.flatnonzero(ids == separator)
    texts = [tokenizer.decode(part.tolist(), skip_special_tokens=True).strip() for part in np.split(ids, breaks)]
    return [_cut(text) for text in texts if text]


def _cut(text: str) -> str:
    """Return a text of at most 2,000 characters, with an ellipsis where something was cut."""
    return text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS] + "…"


def _normalization(processor: Any, model: Any) -> tuple[Sequence[float] | None, Sequence[float] | None]:
    """Return mean and deviation of the channels, from the image processor or timm's settings; None if unknown."""
    if getattr(processor, "image_mean", None) is not None:
        return processor.image_mean, processor.image_std
    config = getattr(model, "config", None)
    settings = getattr(processor, "data_config", None) or getattr(config, "pretrained_cfg", None) or {}
    return settings.get("mean"), settings.get("std")


def image_of_pixels(
    pixels: Any, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> "Image | None":
    """Return the image that became a model's input.

    Args:
        pixels (float array of shape `(C, H, W)`): the input; C is 1 or 3.
        mean (`Sequence[float]`, *optional*): mean of each channel, in [0, 1], which was subtracted.
        std (`Sequence[float]`, *optional*): deviation of each channel, by which was divided. Without mean and
            deviation, values outside [0, 1] are stretched to that range.

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
        image (`PIL.Image.Image`): an image of any size and mode.
        path (`str`): the file's path without its ending: a small image becomes a PNG, a larger one a JPEG.

    Returns:
        `str`: the file's name.
    """
    from PIL import Image

    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    path += ".png" if max(small.size) <= _LOSSLESS_SIDE else ".jpg"
    Image.fromarray(np.asarray(small)).save(path, quality=85)
    return os.path.basename(path)
