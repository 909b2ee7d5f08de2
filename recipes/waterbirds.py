"""Waterbirds with the background as the spurious attribute: ERM beside GERNE, with any image backbone.

    accelerate launch recipes/waterbirds.py --demo
    accelerate launch recipes/waterbirds.py --dataset_name grodino/waterbirds --seeds 0,1,2
    accelerate launch recipes/waterbirds.py --config recipes/configs/waterbirds_lite0_frozen.yaml \
        --model_name_or_path FOLDER

Settings: recipes/configs/waterbirds.yaml; the command line overrides them. benchmarks/backbones.py makes a FOLDER with
ImageNet weights from a Python package.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
)

from gerne_hf import GerneConfig, GerneTrainer
from gerne_hf.cli import RecipeArguments, parse_arguments
from gerne_hf.comparison import run_recipe
from gerne_hf.data.waterbirds import LABELS, WaterbirdFeatures, demo_waterbirds, load_waterbirds
from gerne_hf.models import MLPConfig, MLPForImageClassification, freeze_batch_norm, frozen_features

LABEL_MAPS = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}


@dataclass
class Arguments(RecipeArguments):
    """Arguments of this recipe; all fields of GerneConfig can be given too."""

    model_name_or_path: str = field(
        default="timm/resnet50.tv_in1k", metadata={"help": "Backbone: folder or Hub id, of Transformers or timm."}
    )
    image_size: int = field(default=224, metadata={"help": "Height and width of the images in pixels."})
    freeze_backbone: bool = field(
        default=False, metadata={"help": "Train a linear head on features that are computed once."}
    )
    freeze_batch_norm: bool = field(default=False, metadata={"help": "Keep the statistics of BatchNorm layers."})
    momentum: float = field(default=0.9, metadata={"help": "Momentum of SGD."})


def small_model() -> ResNetForImageClassification:
    """A small residual network, from scratch."""
    sizes = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "layer_type": "basic"}
    return ResNetForImageClassification(ResNetConfig(**sizes, **LABEL_MAPS))


def pretrained_model(name: str, image_size: int) -> PreTrainedModel:
    """A pretrained backbone with a fresh head."""
    model = AutoModelForImageClassification.from_pretrained(
        name, num_labels=len(LABELS), ignore_mismatched_sizes=True, dtype=torch.float32, **LABEL_MAPS
    )
    if hasattr(model.config, "pretrained_cfg"):  # timm's settings: images as they are trained on, names of the classes
        model.config.pretrained_cfg.update(input_size=[3, image_size, image_size], crop_pct=1.0, crop_mode="squash")
        model.config.label_names = LABELS
    return model


def normalization(name: str) -> tuple[list[float], list[float]]:
    """Mean and deviation of the channels that a backbone expects."""
    processor = AutoImageProcessor.from_pretrained(name)
    timm_settings = getattr(processor, "data_config", None)
    if timm_settings is not None:
        return timm_settings["mean"], timm_settings["std"]
    return processor.image_mean, processor.image_std


def on_features(data: dict, model: PreTrainedModel) -> tuple[dict, Callable[[], PreTrainedModel]]:
    """The data as a frozen model sees it, standardized by the training rows, and what makes a linear head for it."""
    vectors = {name: frozen_features(model, split, description=f"Features, {name}") for name, split in data.items()}
    mean, deviation = vectors["train"].mean(dim=0), vectors["train"].std(dim=0) + 1e-3  # some units never fire
    features = {
        name: WaterbirdFeatures((vectors[name] - mean) / deviation, split.labels, split.places)
        for name, split in data.items()
    }
    config = MLPConfig(image_size=1, num_channels=len(mean), hidden_sizes=[], **LABEL_MAPS)
    return features, lambda: MLPForImageClassification(config)


def main(arguments: Arguments, config: GerneConfig) -> dict:
    """Train the methods and return their test results."""
    if arguments.demo:
        data, make_model = demo_waterbirds(), small_model
    else:
        name = arguments.model_name_or_path
        mean, std = normalization(name)
        data = load_waterbirds(
            arguments.dataset_name or "grodino/waterbirds",
            arguments.image_size,
            mean,
            std,
            augment=not arguments.freeze_backbone,
        )

        def make_model() -> PreTrainedModel:
            return pretrained_model(name, arguments.image_size)

    if arguments.freeze_backbone:
        data, make_model = on_features(data, make_model().to(config.device))

    def make_trainer(run: GerneConfig, trainer_class: type[GerneTrainer]) -> GerneTrainer:
        def init() -> PreTrainedModel:
            model = make_model()
            return freeze_batch_norm(model) if arguments.freeze_batch_norm else model

        sgd = {"lr": run.learning_rate, "momentum": arguments.momentum, "weight_decay": run.weight_decay}
        return trainer_class(
            model_init=init,
            args=run,
            train_dataset=data["train"],
            eval_dataset=data["validation"],
            optimizer_cls_and_kwargs=(torch.optim.SGD, sgd),
        )

    return run_recipe(arguments, config, make_trainer, data["test"])


if __name__ == "__main__":
    main(*parse_arguments(Arguments, __file__))
