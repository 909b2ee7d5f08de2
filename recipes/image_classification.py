"""Any data set of images with a label and an attribute: ERM beside GERNE, with any image backbone.

    accelerate launch recipes/image_classification.py --demo
    accelerate launch recipes/image_classification.py --dataset_name FOLDER_WITH_METADATA_CSV \
        --label_column kind --attribute_column place --model_name_or_path timm/resnet18.tv_in1k
    accelerate launch recipes/image_classification.py --dataset_name NAME --label_column kind \
        --pseudo_attributes true --threshold 0.05

NAME is a Hub id, a folder of parquet or CSV files or of images with metadata.csv, a single such file, or a folder of
save_to_disk. Splits that are missing are cut out of the training rows. Settings:
recipes/configs/image_classification.yaml; the command line overrides them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gerne_hf import GerneConfig
from gerne_hf.data import demo_celeba, load_images
from gerne_hf.recipes import (
    DatasetArguments,
    ImageArguments,
    card_facts,
    image_backbone,
    image_trainer,
    parse_arguments,
    require_settings,
    run_recipe,
    with_features,
)


@dataclass
class Arguments(DatasetArguments, ImageArguments):
    """Arguments of this recipe; all fields of GerneConfig can be given too."""

    image_column: str = field(default="image", metadata={"help": "Column of the images, or of paths of image files."})


def main(arguments: Arguments, config: GerneConfig, run: Callable = run_recipe) -> Any:
    """Train the methods and return their test results; another `run` does something else with the same trainers."""
    require_settings(arguments, config)
    backbone = image_backbone(arguments)
    config.label_column = config.label_column or "label"
    config.remove_unused_columns = False  # images are decoded from a column that no model takes
    data = load_images(
        demo_celeba() if arguments.demo else arguments.dataset_name,
        arguments.image_column,
        config.label_column,
        config.attribute_columns,
        augment=arguments.augment,
        skip_undecodable=arguments.skip_undecodable,
        **{**arguments.source, **backbone.images},
    )
    data = with_features(arguments, config, backbone, data)
    make_trainer = image_trainer(arguments, backbone, data)
    return run(arguments, config, make_trainer, data["test"], card_facts("image_classification", arguments))


if __name__ == "__main__":
    main(*parse_arguments(Arguments, __file__))
