"""MultiNLI with negation as the spurious attribute: ERM beside GERNE, with any sequence-classification backbone.

    accelerate launch recipes/multinli.py --demo
    accelerate launch recipes/multinli.py --dataset_name nyu-mll/multi_nli --model_name_or_path bert-base-uncased

Settings: recipes/configs/multinli.yaml; the command line overrides them.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

from datasets import DatasetDict
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gerne_hf import GerneConfig, GerneTrainer
from gerne_hf.comparison import METHODS
from gerne_hf.data import demo_multinli, load_multinli, multinli, tokenize
from gerne_hf.models import pretrained_text_models, pretrained_tokenizer, small_text_model, word_tokenizer
from gerne_hf.recipes import RecipeArguments, card_facts, parse_arguments, run_recipe

DEMO_LENGTH = 32


@dataclass
class Arguments(RecipeArguments):
    """Arguments of this recipe; all fields of GerneConfig can be given too."""

    model_name_or_path: str = field(default="bert-base-uncased", metadata={"help": "Backbone: Hub id or folder."})
    max_length: int = field(default=128, metadata={"help": "Tokens of a pair; longer ones are cut."})
    erm_epochs: float = field(default=0.0, metadata={"help": "Epochs of ERM that every method starts from."})
    erm_learning_rate: float = field(default=2e-5, metadata={"help": "Learning rate of these epochs."})


def trainer_for(
    data: DatasetDict,
    tokenizer: PreTrainedTokenizerBase,
    model_init: Callable[[], PreTrainedModel],
    config: GerneConfig,
    trainer_class: type[GerneTrainer] = GerneTrainer,
    evaluate: bool = True,
) -> GerneTrainer:
    """Return a trainer of a fresh model."""
    return trainer_class(
        model_init=model_init,
        args=config,
        train_dataset=data["train"],
        eval_dataset=data["validation"] if evaluate else None,
        processing_class=tokenizer,
    )


def erm_start(config: GerneConfig, arguments: Arguments) -> GerneConfig:
    """Return the settings of the ERM epochs: those of the run, without evaluation, checkpoints and pushes."""
    settings: dict[str, Any] = METHODS["erm"].settings | {"num_train_epochs": arguments.erm_epochs, "max_steps": -1}
    unsaved: dict[str, Any] = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
    unsaved["push_to_hub"] = False
    folder = os.path.join(str(config.output_dir), f"erm-start-seed{config.seed}")
    return replace(config, **settings, **unsaved, learning_rate=arguments.erm_learning_rate, output_dir=folder)


def main(arguments: Arguments, config: GerneConfig, run: Callable = run_recipe) -> Any:
    """Train the methods and return their test results; another `run` does something else with the same trainers."""
    if arguments.demo:
        data = demo_multinli()
        tokenizer = word_tokenizer(data["train"]["premise"][:] + data["train"]["hypothesis"][:], DEMO_LENGTH)
    else:
        data = load_multinli(arguments.dataset_name or "nyu-mll/multi_nli")
        tokenizer = pretrained_tokenizer(arguments.model_name_or_path)
    data = tokenize(data, tokenizer, ["premise", "hypothesis"], arguments.max_length)

    def small() -> PreTrainedModel:
        return small_text_model(tokenizer, multinli.LABELS, DEMO_LENGTH)

    name = arguments.model_name_or_path
    make_model = small if arguments.demo else pretrained_text_models(name, tokenizer, multinli.LABELS)

    starts: dict[int, dict[str, Any]] = {}  # weights after ERM by seed, from which all methods start

    def make_trainer(run: GerneConfig, trainer_class: type[GerneTrainer]) -> GerneTrainer:
        if arguments.erm_epochs and run.seed not in starts:
            start = trainer_for(data, tokenizer, make_model, erm_start(run, arguments), evaluate=False)
            start.train()
            weights = cast(PreTrainedModel, start.model).state_dict()
            starts[run.seed] = {name: weight.cpu() for name, weight in weights.items()}

        def init() -> PreTrainedModel:
            model = make_model()
            if arguments.erm_epochs:
                model.load_state_dict(starts[run.seed])
            return model

        return trainer_for(data, tokenizer, init, run, trainer_class)

    return run(arguments, config, make_trainer, data["test"], card_facts("multinli", arguments))


if __name__ == "__main__":
    main(*parse_arguments(Arguments, __file__))
