r"""Step time of GerneTrainer over the stock Trainer's: same model, same rows a step, same data set, same collator.

And what GERNE costs: its two batches of B rows over the one of ERM, and over `shared`, whose rows do the same work.

    python benchmarks/overhead.py
    python benchmarks/overhead.py --cases trainer --models mlp --steps 500 --rounds 10 --threads 1
    python benchmarks/overhead.py --processes 2 --models bert resnet    # see processes.py

A step lasts from its beginning to the beginning of the next, so it holds everything the loop does: drawing indices,
collating, forward, backward, optimizer. In a round both trainers train side by side and take turns of a few steps, so
that whatever else the machine does slows both alike; the first steps of a round are not counted. A round's ratio is
that of its two medians; the ratio that is judged is the median over rounds, since a load that comes and goes between
rounds upsets medians over all of them. Ends with one Markdown table; exit status 1 if a ratio is out of its bounds.
"""

import argparse
import copy
import itertools
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from machine import describe_machine
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from gerne_hf import GerneConfig, GerneTrainer, less_biased_distribution
from gerne_hf.utils import format_table

WARM_UP = 10
TURN = 5  # steps
NUM_CLASSES = 10
NUM_ATTRIBUTES = 10


class Rows(torch.utils.data.Dataset):
    """Rows in memory, with the columns `labels` and `attribute` beside the inputs. A row costs as little as can be."""

    def __init__(self, inputs: dict[str, torch.Tensor]):
        row = torch.arange(len(next(iter(inputs.values()))))
        labels = row % NUM_CLASSES
        # A tenth of the rows conflict with their class's attribute, in turn with each of the others.
        shift = torch.where(row // 10 % 10 == 0, 1 + row // 100 % (NUM_ATTRIBUTES - 1), 0)
        self.columns = {**inputs, "labels": labels, "attribute": (labels + shift) % NUM_ATTRIBUTES}

    def __len__(self) -> int:
        return len(self.columns["labels"])

    def __getitem__(self, key: int | str):
        if isinstance(key, str):
            return self.columns[key]
        return {name: column[key] for name, column in self.columns.items()}


class MLP(nn.Module):
    """Three fully connected layers of 100 units, as in the paper's Colored MNIST, and a head."""

    def __init__(self):
        super().__init__()
        layers = [nn.Flatten()]
        for width in (3 * 28 * 28, 100, 100):
            layers += [nn.Linear(width, 100), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(100, NUM_CLASSES))

    def forward(self, pixel_values, labels=None):
        logits = self.layers(pixel_values)
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def build_mlp(rows: int) -> tuple[nn.Module, Rows]:
    return MLP(), Rows({"pixel_values": torch.rand(rows, 3, 28, 28)})


def build_bert(rows: int) -> tuple[nn.Module, Rows]:
    config = transformers.BertConfig(
        vocab_size=1000,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=512,
        max_position_embeddings=64,
        num_labels=NUM_CLASSES,
    )
    tokens = torch.randint(1000, (rows, 64))
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    return transformers.BertForSequenceClassification(config), Rows(inputs)


def build_resnet(rows: int) -> tuple[nn.Module, Rows]:
    config = transformers.ResNetConfig(
        embedding_size=64,
        hidden_sizes=[64, 128, 256, 512],
        depths=[2, 2, 2, 2],
        layer_type="basic",
        num_labels=NUM_CLASSES,
    )
    return transformers.ResNetForImageClassification(config), Rows({"pixel_values": torch.rand(rows, 3, 64, 64)})


MODELS: dict[str, tuple[str, Callable[[int], tuple[nn.Module, Rows]], int, int]] = {
    "mlp": ("MLP, 3 x 100 units, 3x28x28", build_mlp, 1000, 300),
    "bert": ("BERT, 4 layers, 128 wide, 64 tokens", build_bert, 32, 40),
    "resnet": ("ResNet-18, 64 px", build_resnet, 32, 20),
}
"""Name, what builds it, rows a step, counted steps a round."""


class Turns:
    """Lets one of two threads run at a time."""

    def __init__(self, first: int):
        self._changed = threading.Condition()
        self._running, self._left = first, {0, 1}

    def wait(self, me: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._running == me)

    def pass_on(self, me: int) -> None:
        with self._changed:
            if 1 - me in self._left:
                self._running = 1 - me
            self._changed.notify_all()

    def leave(self, me: int) -> None:
        with self._changed:
            self._left.discard(me)
        self.pass_on(me)


class StepClock(TrainerCallback):
    """Durations from the beginning of a step to that of the next, without the warm-up; passes the turn on."""

    def __init__(self, me: int, warm_up: int):
        self.me, self.warm_up = me, warm_up

    def start(self, turns: Turns) -> None:
        self.turns, self.durations, self.begun = turns, [], None

    def on_step_begin(self, args, state, control, **kwargs):
        if self.begun is not None and state.global_step > self.warm_up:
            self.durations.append(time.perf_counter() - self.begun)
        if state.global_step % TURN == 0:
            self.turns.pass_on(self.me)
            self.turns.wait(self.me)
        self.begun = time.perf_counter()


def train_in_turns(trainer: Trainer, clock: StepClock) -> np.ndarray:
    """Seconds of each counted step."""
    clock.turns.wait(clock.me)
    try:
        trainer.train()
    finally:
        clock.turns.leave(clock.me)
    return np.array(clock.durations)


@dataclass
class Case:
    """Two trainers on the same data set: what is measured, over what it is compared with.

    Args:
        title (`str`): the ratio in words.
        over, measured (`tuple[type, dict]`): class of the trainer, and settings.
        rows (`Callable`): from the rows of the one that is measured to those of the other, for this data.
        bounds (`Callable`): from the rows of the other and of the one that is measured to the ratio's bounds.
    """

    title: str
    over: tuple[type[Trainer], dict[str, Any]]
    measured: tuple[type[Trainer], dict[str, Any]]
    rows: Callable[[int], int]
    bounds: Callable[[int, int], tuple[float, float]]


FUSED = {"attribute_column": "attribute", "forward_mode": "fused", "c": 0.5, "beta": 1.0}
ALPHA = np.where(np.eye(NUM_CLASSES, NUM_ATTRIBUTES), 0.9, 0.1 / (NUM_ATTRIBUTES - 1))  # of the groups of [`Rows`]
SHARED = float(np.minimum(ALPHA, less_biased_distribution(ALPHA, FUSED["c"])).sum() / NUM_CLASSES)
"""M, the mass that the two batches have in common."""
CASES = {
    "trainer": Case(
        "GerneTrainer over Trainer",
        (Trainer, {}),
        (GerneTrainer, FUSED),
        lambda rows: rows,
        lambda over, measured: (0.0, 1.03),
    ),
    "erm": Case(
        "GERNE, B + B rows, over ERM, B rows",
        (GerneTrainer, {**FUSED, "plan": "erm"}),
        (GerneTrainer, FUSED),
        lambda rows: rows // 2,
        lambda over, measured: (0.0, 2.05),
    ),
    "shared": Case(
        "GERNE over shared rows, (2 - M) / 2 of them",
        (GerneTrainer, {**FUSED, "plan": "shared"}),
        (GerneTrainer, FUSED),
        lambda rows: round(rows * (2 - SHARED) / 2),
        lambda over, measured: (0.95 * measured / over, 1.05 * measured / over),
    ),
}


def measure(
    name: str, case: Case, steps: int | None, rounds: int, batch_size: int | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each round's step times in seconds, those of what is compared with and those of what is measured."""
    _, build, default_batch, default_steps = MODELS[name]
    batch_size, steps = batch_size or default_batch, steps or default_steps
    total = WARM_UP + steps + 1
    torch.manual_seed(0)
    # At least a row for every group; above that, an epoch a round where memory allows.
    model, dataset = build(min(max(total * batch_size, 1_000), 20_000))
    times = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        common = {
            "output_dir": folder,
            "max_steps": total,
            "optim": "sgd",
            "learning_rate": 1e-3,
            "save_strategy": "no",
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
        }
        trainers = []
        for (trainer, settings), rows in ((case.over, case.rows(batch_size)), (case.measured, batch_size)):
            config = TrainingArguments if trainer is Trainer else GerneConfig
            args = config(**common, per_device_train_batch_size=rows, **settings)
            trainers.append(trainer(model=copy.deepcopy(model), args=args, train_dataset=dataset))
        clocks = [StepClock(me, WARM_UP) for me in (0, 1)]
        for trainer, clock in zip(trainers, clocks, strict=True):
            trainer.remove_callback(transformers.PrinterCallback)
            trainer.add_callback(clock)
        for turn in range(rounds):
            turns = Turns(first=turn % 2)
            for clock in clocks:
                clock.start(turns)
            times.append(tuple(pool.map(train_in_turns, trainers, clocks)))
    return times


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument(
        "--steps", type=int, help="counted steps a round (default: by model), or a turn of --processes"
    )
    parser.add_argument("--rounds", type=int, default=6, help="trainings of each trainer")
    parser.add_argument("--batch_size", type=int, help="rows a step (default: 1000 for the MLP, 32 for the others)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch; with more, two pools compete")
    parser.add_argument("--processes", type=int, default=1, help="with 2 or more: their rows a second over one's")
    return parser


def main(args: argparse.Namespace) -> int:
    if args.processes > 1:
        import processes  # imports this module

        return processes.main(args)
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    table, missed = [], False
    for case, name in itertools.product([CASES[key] for key in args.cases], args.models):
        times = measure(name, case, args.steps, args.rounds, args.batch_size)
        over, measured = (1e3 * float(np.median(np.concatenate(parts))) for parts in zip(*times, strict=True))
        by_round = [float(np.median(m) / np.median(o)) for o, m in times]
        ratio, rows = float(np.median(by_round)), args.batch_size or MODELS[name][2]
        least, most = case.bounds(case.rows(rows), rows)
        met = least <= ratio <= most
        missed |= not met
        table.append(
            [
                case.title,
                MODELS[name][0],
                f"{rows} over {case.rows(rows)}",
                f"{sum(len(o) for o, _ in times):,}",
                f"{measured:.3f}",
                f"{over:.3f}",
                f"{ratio:.3f}",
                f"{min(by_round):.3f} to {max(by_round):.3f}",
                f"{least:.2f} to {most:.2f}" if least else f"{most}",
                "yes" if met else "no",
            ]
        )
    header = ["what", "model", "rows a step", "steps", "ms", "over, ms", "ratio", "over rounds", "bound", "met"]
    print(f"\n{describe_machine()}\n\n{format_table(header, table)}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(make_parser().parse_args()))
