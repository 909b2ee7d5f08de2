"""What image recipes share: pretrained backbones of Transformers and timm, a small one, and their training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    BaseImageProcessor,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTImageProcessor,
)

from ..hub.repositories import found_by
from .heads import label_maps
from .timm_checkpoints import timm_processor


@dataclass(frozen=True)
class ImageBackbone:
    """A backbone and the images that it takes.

    Args:
        make_model (`Callable`): makes a model with a fresh head, given the names of the classes.
        image_size (`int`): height and width in pixels.
        mean, std (`tuple[float, ...]`): normalization of the channels.
        timm (`bool`, defaults to `False`): whether it is a model of timm.
    """

    make_model: Callable[[Sequence[str]], PreTrainedModel]
    image_size: int
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    timm: bool = False

    @property
    def images(self) -> dict[str, Any]:
        """The settings that a loader of images takes."""
        return {"image_size": self.image_size, "mean": self.mean, "std": self.std}

    @property
    def processor(self) -> BaseImageProcessor:
        """What does to an image the same as the loader, for the saved checkpoint."""
        if self.timm:
            return timm_processor(self.image_size, self.mean, self.std)
        size = {"height": self.image_size, "width": self.image_size}
        return ViTImageProcessor(size=size, image_mean=list(self.mean), image_std=list(self.std), resample=3)


def small_image_model(names: Sequence[str]) -> ResNetForImageClassification:
    """A small residual network, from scratch."""
    sizes = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "layer_type": "basic"}
    return ResNetForImageClassification(ResNetConfig(**sizes, **label_maps(names)))


def pretrained_image_model(name: str, names: Sequence[str], image_size: int) -> PreTrainedModel:
    """A pretrained backbone with a fresh head.

    Args:
        name (`str`): folder or Hub id.
        names (`Sequence[str]`): the classes.
        image_size (`int`): height and width in pixels of the images that it is going to see.
    """
    settings = {"num_labels": len(names), "ignore_mismatched_sizes": True, "dtype": torch.float32, **label_maps(names)}
    with found_by("model_name_or_path", name):
        model = AutoModelForImageClassification.from_pretrained(name, **settings)
    if hasattr(model.config, "pretrained_cfg"):  # timm's settings: images as they are trained on, names of the classes
        model.config.pretrained_cfg.update(input_size=[3, image_size, image_size], crop_pct=1.0, crop_mode="squash")
        model.config.label_names = list(names)
    return model


def normalization(name: str) -> tuple[list[float], list[float]]:
    """Mean and deviation of the channels that a backbone expects."""
    return processor_normalization(image_processor(name))


def image_processor(name: str) -> Any:
    with found_by("model_name_or_path", name):
        return AutoImageProcessor.from_pretrained(name)


def processor_normalization(processor: Any) -> tuple[list[float], list[float]]:
    timm_settings = getattr(processor, "data_config", None)
    if timm_settings is not None:
        return timm_settings["mean"], timm_settings["std"]
    return processor.image_mean, processor.image_std


def native_size(processor: Any) -> int:
    """Height of the images that a backbone was trained on."""
    timm_settings = getattr(processor, "data_config", None)
    if timm_settings is not None:
        return int(timm_settings["input_size"][-1])
    crop = getattr(processor, "crop_size", None) if getattr(processor, "do_center_crop", False) else None
    size = dict(crop or processor.size)
    return int(size.get("height") or size.get("shortest_edge") or 224)
