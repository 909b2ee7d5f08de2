"""What image recipes share: the backbone that the arguments name, and the function that makes their trainers.

Imports `models`, `data`, `comparison`, `trainer.py`, `arguments.py` and `features.py`. `run.py` uses the trainers;
`texts.py` is for texts.
"""

from typing import Any

import torch
from transformers import PreTrainedModel

from ..comparison.comparing import MakeTrainer
from ..config import GerneConfig
from ..data.features import is_features
from ..models.images import (
    ImageBackbone,
    image_processor,
    native_size,
    pretrained_image_models,
    processor_normalization,
    small_image_model,
)
from ..trainer import GerneTrainer
from .arguments import ImageArguments
from .features import class_names, frozen_model


def image_backbone(arguments: ImageArguments) -> ImageBackbone:
    """Return the backbone that the arguments name; in a demo a small, untrained one for images of 32 pixels.

    Args:
        arguments ([`ImageArguments`]): the recipe's arguments.

    Returns:
        [`ImageBackbone`]: how to make the model, and the size and normalization of its images.

    Raises:
        OSError: if there is no such backbone, or no network; a note says what to do.
    """
    if arguments.demo:
        return ImageBackbone(small_image_model, 32, crop=arguments.crop)
    name = arguments.model_name_or_path
    processor = image_processor(name)
    size = arguments.image_size or native_size(processor)
    mean, std = processor_normalization(processor)
    timm = hasattr(processor, "data_config")
    return ImageBackbone(pretrained_image_models(name, size), size, tuple(mean), tuple(std), timm, arguments.crop)


def image_trainer(arguments: ImageArguments, backbone: ImageBackbone, data: dict[str, Any]) -> MakeTrainer:
    """Return the function that makes the trainers of an image recipe, for [`run_recipe`].

    Args:
        arguments ([`ImageArguments`]): the recipe's arguments, of which `momentum`, `frozen_layers` and
            `freeze_batch_norm` are used.
        backbone ([`ImageBackbone`]): the backbone to train.
        data (`dict`): `train` and `validation`, whose rows are `pixel_values` and `label`, or their features from
            [`with_features`]. The training set is a `datasets.Dataset` whose label column is a ClassLabel, or has the
            attribute `label_names`.

    Returns:
        `Callable[[GerneConfig, type[GerneTrainer]], GerneTrainer]`
    """

    def make_trainer(run: GerneConfig, trainer_class: type[GerneTrainer]) -> GerneTrainer:
        train = data["train"]
        names = class_names(train, run)

        def init() -> PreTrainedModel:
            return frozen_model(arguments, backbone, names, is_features(train))

        more: dict[str, Any] = {}
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
