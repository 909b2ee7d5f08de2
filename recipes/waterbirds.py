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

from transformers import PreTrainedModel

from gerne_hf import GerneConfig
from gerne_hf.data import WaterbirdFeatures, demo_waterbirds, load_waterbirds, waterbirds
from gerne_hf.models import ImageBackbone, MLPConfig, MLPForImageClassification, frozen_features, label_maps
from gerne_hf.recipes import (
    ImageArguments,
    card_facts,
    image_backbone,
    image_trainer,
    parse_arguments,
    run_recipe,
    with_features,
)


@dataclass
class Arguments(ImageArguments):
    """Arguments of this recipe; all fields of GerneConfig can be given too."""

    image_size: int | None = field(default=224, metadata={"help": "Height and width of the images in pixels."})
    freeze_backbone: bool = field(
        default=False, metadata={"help": "Train a linear head alone, on standardized features of the backbone."}
    )
    momentum: float | None = field(default=0.9, metadata={"help": "Momentum of SGD."})


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


def main(arguments: Arguments, config: GerneConfig, run: Callable = run_recipe) -> Any:
    """Train the methods and return their test results; another `run` does something else with the same trainers."""
    if arguments.freeze_backbone and config.push_to_hub:
        raise ValueError(
            "freeze_backbone=True trains a linear head on features, and push_to_hub=True would publish it without the "
            "backbone that computes them. Give one of the two; --frozen_layers keeps weights and publishes the whole"
        )
    backbone = image_backbone(arguments)
    data: dict[str, Any]
    if arguments.demo:
        data = demo_waterbirds()
    else:
        data = load_waterbirds(
            arguments.dataset_name or "grodino/waterbirds",
            augment=arguments.augment and not arguments.freeze_backbone,
            skip_undecodable=arguments.skip_undecodable,
            **backbone.images,
        )
    if arguments.freeze_backbone:
        frozen = backbone.make_model(waterbirds.LABELS)
        frozen.to(config.device)  # type: ignore[arg-type]  # mypy takes the decorated method for a function
        data, make_head = on_features(data, frozen)
        backbone = ImageBackbone(lambda names: make_head(), None)
        if not arguments.workers_given:
            config.dataloader_num_workers = 0  # features are in memory
    data = with_features(arguments, config, backbone, data)
    make_trainer = image_trainer(arguments, backbone, data)
    return run(arguments, config, make_trainer, data["test"], card_facts("waterbirds", arguments))


if __name__ == "__main__":
    main(*parse_arguments(Arguments, __file__))
