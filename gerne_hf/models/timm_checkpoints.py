"""Checkpoints of timm models that Transformers and plain timm load from the same files, with equal logits.

As Transformers saves them, plain timm cannot load them: weights of a model made from a config have a prefix, and the
config has `model_args: null`, and settings of the images only if it had them before training.
"""

import os
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import TimmWrapperImageProcessor
from transformers.utils import logging

from ..utils.files import write_json

logger = logging.get_logger(__name__)

PREFIX = "timm_model."

WEIGHTS_FILE, PROCESSOR_FILE = "model.safetensors", "preprocessor_config.json"

_ARCHITECTURE = ("fixed_input_size", "global_pool", "first_conv", "classifier")

_IMAGES = ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std")

_RESAMPLING = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # in the order of Pillow's numbers

_RESCALED = 1 / 255


def is_timm(model: Any) -> bool:
    """Whether a model is one of timm in Transformers' wrapper."""
    return getattr(getattr(model, "config", None), "model_type", None) == "timm_wrapper"


def squeezed_images(image_size: int, mean: Any, std: Any, interpolation: str = "bicubic") -> dict[str, Any]:
    """timm's settings for images squeezed into a square, as the loaders of `gerne_hf.data` make them."""
    return {
        "input_size": [3, image_size, image_size],
        "interpolation": interpolation,
        "crop_pct": 1.0,
        "crop_mode": "squash",
        "mean": list(mean),
        "std": list(std),
    }


def timm_processor(image_size: int, mean: Any, std: Any) -> Any:
    """The processor of a timm model that does to an image the same as the loaders of `gerne_hf.data`."""

    return TimmWrapperImageProcessor(pretrained_cfg=squeezed_images(image_size, mean, std))


def image_settings(processor: Any) -> dict[str, Any] | None:
    """What a processor does to an image, as timm's settings; None where those cannot express it.

    Args:
        processor: an image processor of Transformers. Those that resize to a square, rescale and normalize can be
            expressed, and timm's own.
    """
    found = getattr(processor, "data_config", None)
    if found is not None:
        return {name: found[name] for name in _IMAGES if name in found}
    size = dict(getattr(processor, "size", None) or {})
    height = size.get("height")
    squeezes = getattr(processor, "do_resize", False) and height is not None and height == size.get("width")
    rescales = getattr(processor, "do_rescale", False) and abs(processor.rescale_factor - _RESCALED) < 1e-9
    others = any(getattr(processor, name, None) for name in ("do_center_crop", "do_pad"))
    if not (squeezes and rescales) or others:
        return None
    normalizes = getattr(processor, "do_normalize", False)
    mean, std = (processor.image_mean, processor.image_std) if normalizes else ([0.0] * 3, [1.0] * 3)
    return squeezed_images(height, mean, std, _RESAMPLING[int(processor.resample)])


def complete_config(model: Any, processor: Any = None) -> None:
    """Bring the config of a timm model up to date before it is saved: classes, and `pretrained_cfg`, which holds how
    the model is built and what images it takes. Nothing is kept there of the checkpoint that the model came from.

    Args:
        model (`TimmWrapperForImageClassification`): changed in place.
        processor (*optional*): what made the images; the config's settings stay if it is not an image processor.
    """
    config, built = model.config, dict(model.timm_model.pretrained_cfg or {})
    settings = {**built, **(getattr(config, "pretrained_cfg", None) or {})}
    kept = {name: settings[name] for name in _IMAGES if settings.get(name) is not None}
    kept.update({name: built[name] for name in _ARCHITECTURE if built.get(name) is not None})
    side = (config.model_args or {}).get("img_size")
    if side is not None:  # what the model takes, where its architecture takes one size only
        kept["input_size"] = [3, *([side, side] if isinstance(side, int) else side)]
    images = image_settings(processor)
    if images is None and hasattr(processor, "image_mean"):
        logger.warning_once(
            f"What {type(processor).__name__} does to an image cannot be said in timm's settings, which know images "
            f"that are resized to a square, rescaled by 1/255 and normalized. Plain timm and pipelines on a local "
            f"folder will prepare images as {config.architecture} does: {kept}"
        )
    config.pretrained_cfg = {**kept, **(images or {})}
    config.model_args = config.model_args or {}  # plain timm takes null for settings and fails
    names = [config.id2label[i] for i in range(config.num_labels)]
    config.label_names = names
    if not set(names) >= set(getattr(config, "label_descriptions", None) or {}):
        del config.label_descriptions


def complete_checkpoint(directory: str, processor: Any = None) -> None:
    """Make a saved timm model loadable by plain timm, and by Transformers with the same preprocessing.

    Args:
        directory (`str`): where [`complete_config`]'s model was saved. Weights in several files stay as they are, for
            timm reads one file only.
        processor (*optional*): timm's own is not saved by Transformers, but is read from `config.json`; a
            `preprocessor_config.json` that says so is written.
    """
    _drop_prefix(os.path.join(directory, WEIGHTS_FILE))
    write_processor(directory, processor)


def write_processor(directory: str, processor: Any) -> None:
    """Write `preprocessor_config.json` for timm's own processor; others are saved by the Trainer."""
    settings = image_settings(processor) if hasattr(processor, "data_config") else None
    if settings is not None:
        named = {"image_processor_type": "TimmWrapperImageProcessor", "pretrained_cfg": settings}
        write_json(named, os.path.join(directory, PROCESSOR_FILE))


def _drop_prefix(path: str) -> None:
    """Rename the weights in a file; Transformers adds the prefix again when it loads them. A failure leaves the file
    that was there."""
    if not os.path.isfile(path):
        return
    with safe_open(path, framework="pt") as file:
        names, metadata = list(file.keys()), file.metadata()
    if not any(name.startswith(PREFIX) for name in names):
        return
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in load_file(path).items()}
    partial = os.path.join(os.path.dirname(path), f"_{os.path.basename(path)}.partial")  # "_": never pushed
    save_file(weights, partial, metadata=metadata)
    os.replace(partial, path)
