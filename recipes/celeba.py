"""CelebA with gender as the spurious attribute of hair colour (or any other pair): ERM beside GERNE.

    accelerate launch recipes/celeba.py --demo
    accelerate launch recipes/celeba.py --dataset_name flwrlabs/celeba --seeds 0,1,2
    accelerate launch recipes/celeba.py --label_column Smiling --attribute_column Young

Settings: recipes/configs/celeba.yaml; the command line overrides them.
"""

from collections.abc import Callable
from typing import Any

from gerne_hf import GerneConfig
from gerne_hf.data import celeba, demo_celeba, load_celeba
from gerne_hf.recipes import (
    ImageArguments,
    card_facts,
    image_backbone,
    image_trainer,
    parse_arguments,
    run_recipe,
    with_features,
)


def main(arguments: ImageArguments, config: GerneConfig, run: Callable = run_recipe) -> Any:
    """Train the methods and return their test results; another `run` does something else with the same trainers."""
    backbone = image_backbone(arguments)
    config.label_column = config.label_column or "Blond_Hair"
    config.remove_unused_columns = False  # images are decoded from a column that no model takes
    data = load_celeba(
        demo_celeba() if arguments.demo else arguments.dataset_name or celeba.HUB_NAME,
        config.label_column,
        config.attribute_columns,
        augment=arguments.augment,
        skip_undecodable=arguments.skip_undecodable,
        **backbone.images,
    )
    data = with_features(arguments, config, backbone, data)
    make_trainer = image_trainer(arguments, backbone, data)
    return run(arguments, config, make_trainer, data["test"], card_facts("celeba", arguments))


if __name__ == "__main__":
    main(*parse_arguments(ImageArguments, __file__))
