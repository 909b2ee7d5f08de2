"""Image classifiers that recipes start from: pretrained backbones of Transformers and timm, and a small model.

Imports `hub/`, `utils/` and, of this room, [`heads`](gerne_hf.models.heads),
[`pretrained`](gerne_hf.models.pretrained) and [`timm_checkpoints`](gerne_hf.models.timm_checkpoints). They are
trained in `recipes/images.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    BaseImageProcessor,
    BitImageProcessor,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTImageProcessor,
)

from ..hub.repositories import found_by
from ..utils.crops import resized
from .heads import label_maps
from .pretrained import PretrainedOnce
from .timm_checkpoints import timm_processor


@dataclass(frozen=True)
class ImageBackbone:
    """A backbone and the images that it takes.

    Args:
        make_model (`Callable`): given the names of the classes, makes a model with a fresh head.
        image_size (`int`, *optional*): height and width of the images in pixels; None if it takes features, no images.
        mean (`tuple[float, ...]`, defaults to `(0.5, 0.5, 0.5)`): mean of each channel, of pixel values in [0, 1].
        std (`tuple[float, ...]`, defaults to `(0.5, 0.5, 0.5)`): standard deviation of each channel.
        timm (`bool`, defaults to `False`): whether it is a model of timm.
        crop (`str`, defaults to `"none"`): how images are made square: one of [`CROPS`](gerne_hf.utils.crops.CROPS).
    """

    make_model: Callable[[Sequence[str]], PreTrainedModel]
    image_size: int | None
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    timm: bool = False
    crop: str = "none"

    @property
    def images(self) -> dict[str, Any]:
        """`dict[str, Any]`: size, mean, deviation and crop, as loaders in `gerne_hf.data` take them as arguments."""
        crop = {} if self.crop == "none" else {"crop": self.crop}
        return {"image_size": self.image_size, "mean": self.mean, "std": self.std, **crop}

    @property
    def processor(self) -> BaseImageProcessor | None:
        """`BaseImageProcessor`: does to an image what those loaders do. It is saved with the checkpoint."""
        if self.image_size is None:
            return None
        if self.timm:
            return timm_processor(self.image_size, self.mean, self.std, self.crop)
        square = {"height": self.image_size, "width": self.image_size}
        if self.crop != "none":
            width, height = resized((1, 1), self.image_size, self.crop)
            size = {"shortest_edge": width} if self.crop == "center" else {"height": height, "width": width}
            mean, std = list(self.mean), list(self.std)
            return BitImageProcessor(size=size, crop_size=square, resample=3, image_mean=mean, image_std=std)
        return ViTImageProcessor(size=square, image_mean=list(self.mean), image_std=list(self.std), resample=3)


def small_image_model(names: Sequence[str]) -> ResNetForImageClassification:
    """Make a small residual network with random weights, for demonstrations and tests.

    Args:
        names (`Sequence[str]`): the classes in the order of their ids.

    Returns:
        [`~transformers.ResNetForImageClassification`]
    """
    sizes: dict[str, Any] = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "layer_type": "basic"}
    return ResNetForImageClassification(ResNetConfig(**sizes, **label_maps(names)))


def pretrained_image_model(name: str, names: Sequence[str], image_size: int) -> PreTrainedModel:
    """Load a pretrained backbone and give it a fresh head.

    Args:
        name (`str`): folder or Hub id of the backbone.
        names (`Sequence[str]`): the classes in the order of their ids.
        image_size (`int`): height and width in pixels of the images that the model is going to see.

    Returns:
        [`~transformers.PreTrainedModel`]: in float32.

    Raises:
        OSError: if there is no such model, or it cannot be read; a note says what to do.
    """
    return pretrained_image_models(name, image_size)(names)


def pretrained_image_models(name: str, image_size: int) -> Callable[[Sequence[str]], PreTrainedModel]:
    """Return a function that makes models as [`pretrained_image_model`] does, and reads the backbone's files once.

    Args:
        name (`str`): folder or Hub id of the backbone.
        image_size (`int`): height and width in pixels of the images that the models are going to see.

    Returns:
        `Callable[[Sequence[str]], PreTrainedModel]`: given the names of the classes, makes a model with a fresh head.
    """
    makers: dict[tuple[str, ...], PretrainedOnce] = {}

    def make_model(names: Sequence[str]) -> PreTrainedModel:
        classes = tuple(names)

        def settle(model: PreTrainedModel) -> None:
            if hasattr(model.config, "pretrained_cfg"):  # a model of timm, whose config says which images it takes
                size = [3, image_size, image_size]
                model.config.pretrained_cfg.update(input_size=size, crop_pct=1.0, crop_mode="squash")
                model.config.label_names = list(classes)

        if classes not in makers:
            makers[classes] = PretrainedOnce(
                AutoModelForImageClassification,
                name,
                settle,
                num_labels=len(classes),
                ignore_mismatched_sizes=True,
                dtype=torch.float32,
                **label_maps(classes),
            )
        return makers[classes]()

    return make_model


def normalization(name: str) -> tuple[list[float], list[float]]:
    """Return the mean and the deviation of each channel that a backbone expects.

    Args:
        name (`str`): folder or Hub id of the backbone.

    Returns:
        `tuple[list[float], list[float]]`: of pixel values in [0, 1].

    Raises:
        OSError: if the backbone has no image processor, or it cannot be read; a note says what to do.
    """
    return processor_normalization(image_processor(name))


def image_processor(name: str) -> Any:
    """Load the image processor of a backbone.

    Args:
        name (`str`): folder or Hub id of the backbone.

    Returns:
        The image processor, of Transformers or of timm.

    Raises:
        OSError: if the backbone has none, or it cannot be read; a note says what to do.
    """
    with found_by("model_name_or_path", name):
        return AutoImageProcessor.from_pretrained(name)


def processor_normalization(processor: Any) -> tuple[list[float], list[float]]:
    """Return the mean and the deviation of each channel with which an image processor normalizes.

    Args:
        processor: an image processor, of Transformers or of timm.

    Returns:
        `tuple[list[float], list[float]]`: of pixel values in [0, 1].
    """
    timm_settings = getattr(processor, "data_config", None)
    if timm_settings is not None:
        return timm_settings["mean"], timm_settings["std"]
    return processor.image_mean, processor.image_std


def native_size(processor: Any) -> int:
    """Return the height of the images that a backbone was trained on.

    Args:
        processor: the backbone's image processor, of Transformers or of timm.

    Returns:
        `int`: in pixels; 224 if the processor does not say.
    """
    timm_settings = getattr(processor, "data_config", None)
    if timm_settings is not None:
        return int(timm_settings["input_size"][-1])
    crop = getattr(processor, "crop_size", None) if getattr(processor, "do_center_crop", False) else None
    size = dict(crop or processor.size)
    return int(size.get("height") or size.get("shortest_edge") or 224)
