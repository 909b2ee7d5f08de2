"""Any data set of texts, or pairs of texts, with a label and an attribute: ERM beside GERNE, with any text backbone.

    accelerate launch recipes/text_classification.py --demo
    accelerate launch recipes/text_classification.py --dataset_name comments.csv \
        --text_column comment --label_column rude --attribute_column topic
    accelerate launch recipes/text_classification.py --dataset_name nyu-mll/glue --dataset_config qnli \
        --text_column question --text_pair_column sentence --pseudo_attributes true --threshold 0.05

--dataset_name is a Hub id, a folder of parquet, CSV or JSON lines files, a single such file, or a folder of
save_to_disk. Splits that are missing are cut out of the training rows. Settings:
recipes/configs/text_classification.yaml; the command line overrides them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gerne_hf import GerneConfig
from gerne_hf.data import demo_multinli, load_texts, tokenize
from gerne_hf.recipes import (
    DatasetArguments,
    TextArguments,
    card_facts,
    parse_arguments,
    require_settings,
    run_recipe,
    text_tokenizer,
    text_trainer,
)


@dataclass
class Arguments(DatasetArguments, TextArguments):
    """Arguments of this recipe; all fields of GerneConfig can be given too."""

    text_column: str = field(default="text", metadata={"help": "Column of the texts."})
    text_pair_column: str | None = field(default=None, metadata={"help": "Column of the second text of each pair."})


def main(arguments: Arguments, config: GerneConfig, run: Callable = run_recipe) -> Any:
    """Train the methods and return their test results; another `run` does something else with the same trainers."""
    require_settings(arguments, config)
    config.label_column = config.label_column or "label"
    columns = [column for column in (arguments.text_column, arguments.text_pair_column) if column]
    data = load_texts(
        demo_multinli(2000, 600, 1500) if arguments.demo else arguments.dataset_name,
        arguments.text_column,
        arguments.text_pair_column,
        config.label_column,
        config.attribute_columns,
        **arguments.source,
    )
    tokenizer = text_tokenizer(arguments, data["train"], columns)
    data = tokenize(data, tokenizer, columns, arguments.max_length)
    if config.label_column != "label":  # the name that collators know
        data, config.label_column = data.rename_column(config.label_column, "label"), "label"
    make_trainer = text_trainer(arguments, tokenizer, data)
    return run(arguments, config, make_trainer, data["test"], card_facts("text_classification", arguments))


if __name__ == "__main__":
    main(*parse_arguments(Arguments, __file__))
