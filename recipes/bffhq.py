"""bFFHQ with gender as the spurious attribute of age: ERM beside GERNE, judged on the minority groups.

    accelerate launch recipes/bffhq.py --demo
    accelerate launch recipes/bffhq.py --dataset_name FOLDER --seeds 0,1,2

FOLDER holds the images in the layout in which they were published (gerne_hf.data.bffhq.LAYOUT). Settings:
recipes/configs/bffhq.yaml; the command line overrides them.
"""

import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from accelerate import PartialState

from gerne_hf import GerneConfig
from gerne_hf.data import demo_bffhq, list_bffhq, load_bffhq, minority_accuracy
from gerne_hf.recipes import (
    ImageArguments,
    card_facts,
    image_backbone,
    image_trainer,
    parse_arguments,
    run_recipe,
    with_features,
)
from gerne_hf.utils import format_table, write_json


@dataclass
class Arguments(ImageArguments):
    """Arguments of this recipe; all fields of GerneConfig can be given too."""

    share: str = field(default="0.5pct", metadata={"help": "Folder of the training images."})


def main(arguments: Arguments, config: GerneConfig, run: Callable = run_recipe) -> Any:
    """Train the methods and return their test results; another `run` does something else with the same trainers."""
    output_dir = str(config.output_dir)
    folder = arguments.dataset_name or "data/bffhq"
    if arguments.demo:
        folder = os.path.join(output_dir, "demo_images")
        with PartialState().main_process_first():
            if PartialState().is_main_process:
                demo_bffhq(folder)
    list_bffhq(folder, arguments.share)  # so that a missing folder is found before a backbone is loaded
    backbone = image_backbone(arguments)
    config.remove_unused_columns = False  # images are decoded from a column that no model takes
    data = load_bffhq(
        folder,
        arguments.share,
        augment=arguments.augment,
        skip_undecodable=arguments.skip_undecodable,
        **backbone.images,
    )
    data = with_features(arguments, config, backbone, data)
    make_trainer = image_trainer(arguments, backbone, data)
    facts = card_facts("bffhq", arguments)
    return run(
        arguments, config, make_trainer, data["test"], facts, lambda results: report_minority(results, output_dir)
    )


def report_minority(results: dict[str, Any], output_dir: str) -> None:
    """Print and save the accuracy on young men and old women, the figure that the literature reports on bFFHQ."""
    figures = {method: [minority_accuracy(run) for run in runs] for method, runs in results.items()}
    rows = []
    for method, values in figures.items():
        spread = f"±{100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
        rows.append([method, f"{100 * statistics.fmean(values):.1f}{spread}"])
    print(f"{format_table(['method', 'minority accuracy, %'], rows)}\n", flush=True)
    write_json(figures, os.path.join(output_dir, "minority_accuracy.json"))


if __name__ == "__main__":
    main(*parse_arguments(Arguments, __file__))
