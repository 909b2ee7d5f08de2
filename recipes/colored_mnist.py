"""Colored MNIST: ERM beside GERNE, with the paper's data and a multilayer perceptron.

    accelerate launch recipes/colored_mnist.py --demo
    accelerate launch recipes/colored_mnist.py --dataset_name ylecun/mnist --minority 0.5 --seeds 0,1,2

Settings: recipes/configs/colored_mnist.yaml; the command line overrides them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from gerne_hf import GerneConfig, GerneTrainer
from gerne_hf.data import demo_colored_mnist, load_colored_mnist
from gerne_hf.models import ImageBackbone, MLPConfig, MLPForImageClassification, label_maps
from gerne_hf.recipes import RecipeArguments, card_facts, parse_arguments, run_recipe


@dataclass
class Arguments(RecipeArguments):
    """Arguments of this recipe; all fields of GerneConfig can be given too."""

    minority: float = field(default=0.5, metadata={"help": "Minority share in training, per cent: 0.5, 1, 2 or 5."})
    momentum: float = field(default=0.9, metadata={"help": "Momentum of SGD."})
    hidden_layers: int = field(default=3, metadata={"help": "Hidden layers of 100 units each."})
    skip_undecodable: bool = field(default=False, metadata={"help": "Drop rows whose image cannot be decoded."})


def main(arguments: Arguments, config: GerneConfig, run: Callable = run_recipe) -> Any:
    """Train the methods and return their test results; another `run` does something else with the same trainers."""
    if arguments.demo:
        data = demo_colored_mnist()
    else:
        name = arguments.dataset_name or "ylecun/mnist"
        data = load_colored_mnist(name, arguments.minority, arguments.skip_undecodable)

    size = data["train"].digits.shape[-1]
    shape: dict[str, Any] = {
        "hidden_sizes": [100] * arguments.hidden_layers,
        **label_maps([str(i) for i in range(10)]),
    }
    model_config = MLPConfig(image_size=size, **shape)
    # pixel values in [0, 1], which are not normalized
    backbone = ImageBackbone(lambda names: MLPForImageClassification(model_config), size, (0.0,) * 3, (1.0,) * 3)

    def make_trainer(run: GerneConfig, trainer_class: type[GerneTrainer]) -> GerneTrainer:
        sgd = {"lr": run.learning_rate, "momentum": arguments.momentum, "weight_decay": run.weight_decay}
        return trainer_class(
            model_init=lambda: MLPForImageClassification(model_config),
            args=run,
            train_dataset=data["train"],
            eval_dataset=data["validation"],
            processing_class=backbone.processor,
            optimizer_cls_and_kwargs=(torch.optim.SGD, sgd),
        )

    return run(arguments, config, make_trainer, data["test"], card_facts("colored_mnist", arguments))


if __name__ == "__main__":
    main(*parse_arguments(Arguments, __file__))
