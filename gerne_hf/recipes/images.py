"""What image recipes share: a backbone, and what makes trainers of it."""

from typing import Any

import torch
from transformers import PreTrainedModel

from ..comparison.comparing import MakeTrainer
from ..config import GerneConfig
from ..models.heads import freeze_batch_norm
from ..models.images import (
    ImageBackbone,
    _image_processor,
    _native_size,
    _normalization,
    pretrained_image_model,
    small_image_model,
)
from ..trainer import GerneTrainer
from .arguments import ImageArguments


def image_backbone(arguments: ImageArguments) -> ImageBackbone:
    """The backbone that the arguments name; in a demo a small one, from scratch, for images of 32 pixels."""
    if arguments.demo:
        return ImageBackbone(small_image_model, 32)
    name = arguments.model_name_or_path
    processor = _image_processor(name)
    size = arguments.image_size or _native_size(processor)
    mean, std = _normalization(processor)
    timm = hasattr(processor, "data_config")
    return ImageBackbone(lambda names: pretrained_image_model(name, names, size), size, tuple(mean), tuple(std), timm)


def image_trainer(arguments: ImageArguments, backbone: ImageBackbone, data: dict[str, Any]) -> MakeTrainer:
    """What makes the trainers of an image recipe, for [`run_recipe`].

    Args:
        arguments ([`ImageArguments`]): momentum and frozen layers.
        backbone ([`ImageBackbone`]): what is trained.
        data (`dict`): `train` and `validation`, rows of `pixel_values` and `label`; the training rows are a
            `datasets.Dataset` whose label column is a ClassLabel, or have `label_names`.
    """

    def make_trainer(run: GerneConfig, trainer_class: type[GerneTrainer]) -> GerneTrainer:
        train = data["train"]
        names = getattr(train, "label_names", None) or train.features[run.label_column or "label"].names

        def init() -> PreTrainedModel:
            model = backbone.make_model(names)
            return freeze_batch_norm(model) if arguments.freeze_batch_norm else model

        more = {}
        if arguments.momentum is not None:
            sgd = {"lr": run.learning_rate, "momentum": arguments.momentum, "weight_decay": run.weight_decay}
            more["optimizer_cls_and_kwargs"] = (torch.optim.SGD, sgd)
        return trainer_class(
            model_init=init,
            args=run,
            train_dataset=train,
            eval_dataset=data["validation"],
            processing_class=backbone.processor,
            **more,
        )

    return make_trainer
