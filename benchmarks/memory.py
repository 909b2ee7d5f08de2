r"""Memory over a long training: what the process holds after 1,000 steps, and after 10,000.

    python benchmarks/memory.py
    python benchmarks/memory.py --steps 100000 --first 10000

A tiny model and a small data set, so that what grows is the loop's: the sampler, the meters, the logs. Logs every 50
steps, evaluates and saves every 1,000. The resident set is read from /proc after a garbage collection. Ends with one
Markdown table; the exit status is 1 if it grew by more than the bound.
"""

import argparse
import contextlib
import gc
import io
import sys
import tempfile

import numpy as np
import torch
import transformers
from machine import describe_machine, memory
from overhead import NUM_ATTRIBUTES, NUM_CLASSES, Rows
from torch import nn
from transformers import TrainerCallback

from gerne_hf import GerneConfig, GerneTrainer
from gerne_hf.baselines import BaselineConfig, GroupDROTrainer
from gerne_hf.utils import format_table

MOST_MEGABYTES = 8.0
WIDTH = 16
VARIANTS = {
    "GERNE, independent, fused": (GerneTrainer, GerneConfig, {"forward_mode": "fused"}),
    "GERNE, independent, separate": (GerneTrainer, GerneConfig, {"forward_mode": "separate"}),
    "GERNE, shared, linear beta": (GerneTrainer, GerneConfig, {"plan": "shared", "beta_schedule": "linear"}),
    "Group DRO": (GroupDROTrainer, BaselineConfig, {"plan": "resampling"}),
}


class Tiny(nn.Module):
    """One linear layer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(WIDTH, NUM_CLASSES)

    def forward(self, inputs, labels=None):
        logits = self.layer(inputs)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return {"logits": logits} if loss is None else {"loss": loss, "logits": logits}


def resident() -> int:
    """Bytes that this process holds in memory."""
    gc.collect()
    return memory()["VmRSS"]


class Watch(TrainerCallback):
    """Reads the resident set every `every` steps."""

    def __init__(self, every: int):
        self.every, self.sizes = every, {}

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % self.every == 0:
            self.sizes[state.global_step] = resident()


def train(variant: str, steps: int, first: int) -> dict[int, int]:
    """Bytes resident by step."""
    trainer_class, config_class, settings = VARIANTS[variant]
    torch.manual_seed(0)
    data = [Rows({"inputs": torch.randn(2_000, WIDTH)}) for _ in range(2)]
    watch = Watch(first)
    with tempfile.TemporaryDirectory() as folder:
        args = config_class(
            output_dir=folder,
            attribute_column="attribute",
            beta_out_of_bounds="ignore",
            per_device_train_batch_size=2 * NUM_ATTRIBUTES,
            max_steps=steps,
            optim="sgd",
            logging_steps=50,
            eval_strategy="steps",
            eval_steps=first,
            save_steps=first,
            save_total_limit=1,
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
            **settings,
        )
        trainer = trainer_class(
            model=Tiny(), args=args, train_dataset=data[0], eval_dataset=data[1], callbacks=[watch]
        )
        trainer.remove_callback(transformers.PrinterCallback)
        with contextlib.redirect_stdout(io.StringIO()):
            trainer.train()
    return watch.sizes


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=1_000, help="steps after which memory is read first")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    return parser


def main(args: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    table, missed = [], False
    for variant in args.variants:
        sizes = {step: size / 1e6 for step, size in train(variant, args.steps, args.first).items()}
        steps = sorted(sizes)
        grown = sizes[steps[-1]] - sizes[steps[0]]
        slope = np.polyfit(steps, [sizes[step] for step in steps], 1)[0] if len(steps) > 1 else 0.0
        missed |= grown > MOST_MEGABYTES
        table.append(
            [
                variant,
                f"{sizes[steps[0]]:,.1f}",
                f"{sizes[steps[-1]]:,.1f}",
                f"{grown:+.1f}",
                f"{1e3 * slope:+.2f}",
                f"<= {MOST_MEGABYTES:.0f}",
                "no" if grown > MOST_MEGABYTES else "yes",
            ]
        )
    header = ["training", f"{args.first:,} steps, MB", f"{args.steps:,} steps, MB", "grown, MB"]
    print(f"\n{describe_machine()}\n")
    print(format_table([*header, "MB per 1,000 steps", "bound, MB", "met"], table))
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(make_parser().parse_args()))
