"""Corrupted CIFAR-10: objects, each tied to an image corruption in training: ERM beside GERNE.

    accelerate launch recipes/corrupted_cifar10.py --demo
    accelerate launch recipes/corrupted_cifar10.py --dataset_name uoft-cs/cifar10 --minority 0.5 --seeds 0,1,2

Settings: recipes/configs/corrupted_cifar10.yaml; the command line overrides them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gerne_hf import GerneConfig
from gerne_hf.data import corrupted_cifar10, demo_cifar10, load_corrupted_cifar10
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

    minority: float = field(default=0.5, metadata={"help": "Minority share in training, per cent: 0.5, 1, 2 or 5."})


def main(arguments: Arguments, config: GerneConfig, run: Callable = run_recipe) -> Any:
    """Train the methods and return their test results; another `run` does something else with the same trainers."""
    if arguments.crop != "none":
        raise ValueError(f"crop={arguments.crop!r} has no use: the images of CIFAR-10 are squares. Leave it out")
    backbone = image_backbone(arguments)
    if arguments.demo:
        data = load_corrupted_cifar10(demo_cifar10(), **{**corrupted_cifar10.DEMO_SIZES, **backbone.images})
    else:
        name = arguments.dataset_name or "uoft-cs/cifar10"
        skip = arguments.skip_undecodable
        data = load_corrupted_cifar10(name, arguments.minority, skip_undecodable=skip, **backbone.images)
    data = with_features(arguments, config, backbone, data)
    make_trainer = image_trainer(arguments, backbone, data)
    return run(arguments, config, make_trainer, data["test"], card_facts("corrupted_cifar10", arguments))


if __name__ == "__main__":
    main(*parse_arguments(Arguments, __file__))
