"""CivilComments with the mention of identities as spurious attributes: ERM beside GERNE, judged on WILDS' 16 groups.

    accelerate launch recipes/civilcomments.py --demo
    accelerate launch recipes/civilcomments.py --dataset_name shlomihod/civil-comments-wilds --seeds 0,1,2
    accelerate launch recipes/civilcomments.py --dataset_name pietrolesci/civilcomments-wilds --grouping any

Settings: recipes/configs/civilcomments.yaml; the command line overrides them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gerne_hf import GerneConfig
from gerne_hf.data import civilcomments, demo_civilcomments, load_civilcomments, tokenize
from gerne_hf.recipes import TextArguments, card_facts, parse_arguments, run_recipe, text_tokenizer, text_trainer


@dataclass
class Arguments(TextArguments):
    """Arguments of this recipe; all fields of GerneConfig can be given too."""

    grouping: str = field(
        default="each",
        metadata={
            "help": "Groups of training: any identity, a row for each mentioned identity, or one identity.",
            "choices": list(civilcomments.GROUPINGS),
        },
    )


def main(arguments: Arguments, config: GerneConfig, run: Callable = run_recipe) -> Any:
    """Train the methods and return their test results; another `run` does something else with the same trainers."""
    source = demo_civilcomments() if arguments.demo else arguments.dataset_name or civilcomments.HUB_NAME
    data, counts = load_civilcomments(source, arguments.grouping)
    tokenizer = text_tokenizer(arguments, data["train"], [civilcomments.TEXT])
    data = tokenize(data, tokenizer, [civilcomments.TEXT], arguments.max_length)
    config.overlapping_columns = list(civilcomments.IDENTITIES)  # evaluate over the 16 groups of WILDS
    make_trainer = text_trainer(arguments, tokenizer, data, counts)
    return run(arguments, config, make_trainer, data["test"], card_facts("civilcomments", arguments))


if __name__ == "__main__":
    main(*parse_arguments(Arguments, __file__))
