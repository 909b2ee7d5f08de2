"""Training the head of a frozen backbone: features that are computed once, against the whole network every epoch.

    python benchmarks/backbones.py efficientnet_lite0 outputs/lite0
    python benchmarks/frozen_features.py --dataset_name grodino/waterbirds --model_name_or_path outputs/lite0

Waterbirds with the settings of `recipes/configs/waterbirds_lite0_frozen.yaml`, but for the whole model that comes out:
all layers but the head are frozen, and the head sees the features as they are. An epoch is training and the evaluation
of the validation set. Whole epochs are alike, so `--whole_epochs` of them stand for all `--epochs`: half of them run
before the features are computed and half afterwards, as the machine may have other work. Beside the seconds on the
clock stand those of the processor, which other work changes less; the bound is on both. Ends with one Markdown table;
the exit status is 1 if the bound is missed.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from machine import describe_machine

from gerne_hf import GerneConfig, GerneTrainer
from gerne_hf.data import load_waterbirds
from gerne_hf.recipes import ImageArguments, image_backbone, image_trainer, parse_arguments, with_features
from gerne_hf.utils import format_table

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "recipes" / "configs" / "waterbirds_lite0_frozen.yaml"
BOUND = 10.0


def settings(options: argparse.Namespace, folder: str) -> tuple[ImageArguments, GerneConfig]:
    """The recipe's arguments and settings."""
    sys.path.insert(0, str(ROOT / "recipes"))
    import waterbirds as recipe

    given = [
        *("--config", str(CONFIG), "--dataset_name", options.dataset_name, "--output_dir", folder),
        *("--model_name_or_path", options.model_name_or_path, "--freeze_backbone", "false", "--augment", "false"),
        *("--frozen_layers", "all_but_head", "--freeze_batch_norm", "true", "--num_train_epochs", str(options.epochs)),
        *("--save_strategy", "no", "--load_best_model_at_end", "false", "--report_to", "none"),
        *("--per_device_eval_batch_size", "200"),  # of images; 2,000 of them need several GB
        *("--dataloader_num_workers", "0"),  # the images are decoded, and the processor counts one process
    ]
    return parse_arguments(recipe.Arguments, recipe.__file__, given)


def timed(call: Callable[[], Any]) -> tuple[Any, np.ndarray]:
    """What a call returns, and its seconds on the clock and of the processor."""
    begun = time.perf_counter(), time.process_time()
    result = call()
    return result, np.array([time.perf_counter() - begun[0], time.process_time() - begun[1]])


def main(options: argparse.Namespace) -> int:
    """Print the table; 1 if the bound is missed."""
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        arguments, config = settings(options, folder)
        backbone = image_backbone(arguments)
        images: dict[str, Any] = load_waterbirds(options.dataset_name, augment=False, **backbone.images)

        def trained(data: dict[str, Any], epochs: float) -> tuple[GerneTrainer, np.ndarray]:
            run = replace(config, num_train_epochs=epochs)
            trainer = image_trainer(arguments, backbone, data)(run, GerneTrainer)
            return trainer, timed(trainer.train)[1]

        def features(*names: str) -> dict[str, Any]:
            return with_features(arguments, config, backbone, {name: images[name] for name in ("train", *names)})

        def tested(trainer: GerneTrainer, rows: Any) -> np.ndarray:
            return timed(lambda: trainer.evaluate(rows, metric_key_prefix="test"))[1]

        halves = options.whole_epochs / 2
        _, before = trained(images, halves)
        seen, computing = timed(lambda: features("validation"))
        once, training = trained(seen, options.epochs)
        rows, computing_test = timed(lambda: features("test")["test"])
        test_once = tested(once, rows)
        _, found = timed(lambda: features("validation"))
        whole, after = trained(images, halves)
        test_whole = tested(whole, images["test"])
    slow, fast = (before + after) / options.whole_epochs * options.epochs, computing + training
    cases = {
        f"{options.epochs} epochs of training": (slow, fast, f">= {BOUND:.0f}"),
        "with a test": (slow + test_whole, fast + computing_test + test_once, "-"),
        "a later command": (slow, found + training, "-"),
    }
    table = []
    for name, (whole_network, once_only, bound) in cases.items():
        for i, clock in enumerate(("clock", "processor")):
            seconds = [f"{whole_network[i]:,.0f}", f"{once_only[i]:,.1f}", f"{whole_network[i] / once_only[i]:.1f}"]
            table.append([name, clock, *seconds, bound])
    header = ["what", "seconds of the", "whole network", "features once", "times faster", "bound"]
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(
        f"\n{describe_machine()}; load {load}. On the clock: {options.whole_epochs} epochs of the whole network "
        f"{before[0]:.1f} and {after[0]:.1f} s, the features of training and validation rows {computing[0]:.1f} s, "
        f"{options.epochs} epochs of the head {training[0]:.1f} s.\n\n{format_table(header, table)}"
    )
    return int((slow / fast).min() < BOUND)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_name", default="grodino/waterbirds", help="Hub id or folder")
    parser.add_argument("--model_name_or_path", default="outputs/lite0", help="the backbone's folder")
    parser.add_argument("--epochs", type=int, default=15, help="epochs of a training")
    parser.add_argument("--whole_epochs", type=int, default=2, help="epochs of the whole network that are measured")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    return parser


if __name__ == "__main__":
    sys.exit(main(make_parser().parse_args()))
