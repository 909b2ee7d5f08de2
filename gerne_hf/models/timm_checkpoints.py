"""Checkpoints of timm models that both Transformers and plain timm load from the same files, with equal logits.

Imports `utils/`. The trainer that completes its checkpoints with these functions is in
`training/publishing_trainer.py`.

Plain timm cannot load what Transformers saves, for three reasons: the weights of a model that was made from a config
have a prefix in their names; the config has `model_args: null`; and it has the settings of the images only if it had
them before the training.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from ..utils.crops import BORDER
from ..utils.files import write_json

if TYPE_CHECKING:
    from transformers import TimmWrapperImageProcessor

logger = logging.get_logger(__name__)

PREFIX = "timm_model."
"""What the wrapper of Transformers puts before the name of each weight, and plain timm does not know."""

WEIGHTS_FILE, PROCESSOR_FILE = "model.safetensors", "preprocessor_config.json"
"""Files of a checkpoint: its weights, and how its images are made."""

_ARCHITECTURE = ("fixed_input_size", "global_pool", "first_conv", "classifier")  # settings of how a model is built

_IMAGES = ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std")  # settings of what images it takes

_RESAMPLING = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # in the order of Pillow's numbers

_RESCALED = 1 / 255  # the factor that brings pixel values to [0, 1]; timm knows no other


def is_timm(model: Any) -> bool:
    """Return whether a model is one of timm, in the wrapper of Transformers.

    Args:
        model: any model.

    Returns:
        `bool`
    """
    return getattr(getattr(model, "config", None), "model_type", None) == "timm_wrapper"


def squeezed_images(
    image_size: int, mean: Sequence[float], std: Sequence[float], interpolation: str = "bicubic", crop: str = "none"
) -> dict[str, Any]:
    """Return timm's settings for images that are made square as the loaders in `gerne_hf.data` do it.

    Args:
        image_size (`int`): height and width in pixels.
        mean (`Sequence[float]`): mean of each channel, of pixel values in [0, 1].
        std (`Sequence[float]`): standard deviation of each channel.
        interpolation (`str`, defaults to `"bicubic"`): how pixels are interpolated, in the words of timm.
        crop (`str`, defaults to `"none"`): one of [`CROPS`](gerne_hf.utils.crops.CROPS).

    Returns:
        `dict[str, Any]`: part of a `pretrained_cfg`.

    Example:

    ```python
    >>> squeezed_images(96, [0.5, 0.5, 0.5], [0.5, 0.5, 0.5])["input_size"]
    [3, 96, 96]

    ```
    """
    return {
        "input_size": [3, image_size, image_size],
        "interpolation": interpolation,
        "crop_pct": BORDER if crop == "border" else 1.0,
        "crop_mode": "center" if crop == "center" else "squash",
        "mean": list(mean),
        "std": list(std),
    }


def timm_processor(
    image_size: int, mean: Sequence[float], std: Sequence[float], crop: str = "none"
) -> "TimmWrapperImageProcessor":
    """Make the processor of a timm model that does to an image what the loaders in `gerne_hf.data` do.

    Args:
        image_size (`int`): height and width in pixels.
        mean (`Sequence[float]`): mean of each channel, of pixel values in [0, 1].
        std (`Sequence[float]`): standard deviation of each channel.
        crop (`str`, defaults to `"none"`): one of [`CROPS`](gerne_hf.utils.crops.CROPS).

    Returns:
        [`~transformers.TimmWrapperImageProcessor`]
    """
    from transformers import TimmWrapperImageProcessor  # needs timm, which this package does not

    return TimmWrapperImageProcessor(pretrained_cfg=squeezed_images(image_size, mean, std, crop=crop))


def image_settings(processor: Any) -> dict[str, Any] | None:
    """Return what a processor does to an image in the settings of timm.

    Args:
        processor: an image processor. That of timm can be expressed, and those of Transformers that resize to a
            square, rescale by 1/255 and perhaps normalize.

    Returns:
        `dict[str, Any]`: part of a `pretrained_cfg`; None for a processor that timm has no settings for.
    """
    found = getattr(processor, "data_config", None)
    if found is not None:
        return {name: found[name] for name in _IMAGES if name in found}
    size = dict(getattr(processor, "size", None) or {})
    height = size.get("height")
    squeezes = getattr(processor, "do_resize", False) and height is not None and height == size.get("width")
    rescales = getattr(processor, "do_rescale", False) and abs(processor.rescale_factor - _RESCALED) < 1e-9
    others = any(getattr(processor, name, None) for name in ("do_center_crop", "do_pad"))
    if height is None or not (squeezes and rescales) or others:
        return None
    normalizes = getattr(processor, "do_normalize", False)
    mean, std = (processor.image_mean, processor.image_std) if normalizes else ([0.0] * 3, [1.0] * 3)
    return squeezed_images(height, mean, std, _RESAMPLING[int(processor.resample)])


def complete_config(model: Any, processor: Any = None) -> None:
    """Bring the config of a timm model up to date before the model is saved.

    The names of the classes are set, and `pretrained_cfg`, which says how the model is built and what images it takes.
    Nothing stays there of the checkpoint that the model came from. Warns once if timm has no settings for what the
    processor does.

    Args:
        model (`TimmWrapperForImageClassification`): its config is changed in place.
        processor (*optional*): what made the images; the config keeps its settings if it is not an image processor.
    """
    config, built = model.config, dict(model.timm_model.pretrained_cfg or {})
    settings = {**built, **(getattr(config, "pretrained_cfg", None) or {})}
    kept = {name: settings[name] for name in _IMAGES if settings.get(name) is not None}
    kept.update({name: built[name] for name in _ARCHITECTURE if built.get(name) is not None})
    side = (config.model_args or {}).get("img_size")
    if side is not None:  # given for architectures that take images of one size only
        kept["input_size"] = [3, *([side, side] if isinstance(side, int) else side)]
    images = image_settings(processor)
    if images is None and hasattr(processor, "image_mean"):
        logger.warning_once(
            f"What {type(processor).__name__} does to an image cannot be said in timm's settings, which know images "
            f"that are resized to a square, rescaled by 1/255 and normalized. Plain timm and pipelines on a local "
            f"folder will prepare images as {config.architecture} does: {kept}"
        )
    config.pretrained_cfg = {**kept, **(images or {})}
    config.model_args = config.model_args or {}  # plain timm fails at null, which it takes for settings
    names = [config.id2label[i] for i in range(config.num_labels)]
    config.label_names = names
    if not set(names) >= set(getattr(config, "label_descriptions", None) or {}):
        del config.label_descriptions


def complete_checkpoint(directory: str, processor: Any = None) -> None:
    """Change the files of a saved timm model so that plain timm loads it, and Transformers with the same images.

    Args:
        directory (`str`): where a model was saved after [`complete_config`]. Weights in several files stay as they
            are, because timm reads a single file.
        processor (*optional*): what made the images, for [`write_processor`].
    """
    _drop_prefix(os.path.join(directory, WEIGHTS_FILE))
    write_processor(directory, processor)


def write_processor(directory: str, processor: Any) -> None:
    """Write `preprocessor_config.json` for the processor of timm, which Transformers does not save.

    Args:
        directory (`str`): folder of the checkpoint.
        processor: any processor, or None. Nothing is written for others than that of timm: the Trainer saves them.
    """
    settings = image_settings(processor) if hasattr(processor, "data_config") else None
    if settings is not None:
        named = {"image_processor_type": "TimmWrapperImageProcessor", "pretrained_cfg": settings}
        write_json(named, os.path.join(directory, PROCESSOR_FILE))


def _drop_prefix(path: str) -> None:
    """Take the wrapper's prefix off the names of the weights in a file; a failure leaves the file as it was.

    Transformers adds the prefix again when it loads the file.
    """
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
