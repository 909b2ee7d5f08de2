r"""Beside the package `spuco`: rows a second, worst-group accuracy after equal rows, and time to a given one.

    pip install "gerne_hf[peers]"
    python benchmarks/peers.py                                        # scikit-learn's 8 x 8 digits
    python benchmarks/peers.py --dataset_name ylecun/mnist --batch_size 1000 --epochs 10 --seeds 0,1

Colored MNIST, the same rows, initial weights, batch size, workers and threads for all. spuco runs by its own trainers
and samplers. All run with the optimizer of spuco's quick start on MNIST ("own": SGD 0.01, momentum 0.9, weight decay
1e-4, constant rate) and with that of recipes/colored_mnist.py ("ours"; of spuco only ERM takes a schedule, so its rate
is constant). Every other seed runs them in reverse order: what ran before leaves its traces in a process. Its loaders
have 4 workers, which no argument changes; with another `--workers` its loader is replaced by one that differs in that
alone. The clock runs from before a trainer is built and stops while the test set is evaluated, once an epoch, by the
same function for all. "Time to" is the end of the first epoch with at least the target: the worst-group accuracy that
the best method of spuco ends with, unless `--target` is given. Ends with one Markdown table; the exit status is 1 if
gerne_hf's ERM is slower than spuco's, or GERNE takes more than half of the time of spuco's best method.
"""

import argparse
import contextlib
import copy
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import transformers
from machine import describe_machine
from torch import nn
from torch.utils.data import DataLoader, Dataset

from gerne_hf import GerneConfig, GerneTrainer
from gerne_hf.baselines import BaselineConfig, GroupDROTrainer
from gerne_hf.data import ColoredDigits, demo_colored_mnist, load_colored_mnist
from gerne_hf.models import MLPConfig, MLPForImageClassification
from gerne_hf.utils import format_table

NUM_CLASSES = 10
OPTIMIZERS = {
    "own": {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4},
    "ours": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.003},
}
STEP_SIZE = 0.01  # of Group DRO's weights: the default of both packages
MOST_TIME = 0.5


class Pairs(Dataset):
    """The rows as spuco takes them, (image, label), with its group partition."""

    def __init__(self, digits: ColoredDigits):
        self.digits = digits
        keys = list(zip(digits.labels.tolist(), digits.colours.tolist(), strict=True))
        self.group_partition = {key: [] for key in sorted(set(keys))}
        for row, key in enumerate(keys):
            self.group_partition[key].append(row)

    def __len__(self) -> int:
        return len(self.digits)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: list[int]) -> list[tuple[torch.Tensor, int]]:
        return [(row["pixel_values"], row["label"]) for row in self.digits.__getitems__(rows)]


class Logits(nn.Module):
    """A model of transformers as spuco calls it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values=images).logits


def build_mlp(size: int) -> nn.Module:
    return MLPForImageClassification(MLPConfig(image_size=size, num_labels=NUM_CLASSES))


def build_resnet(size: int) -> nn.Module:
    settings = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "layer_type": "basic"}
    config = transformers.ResNetConfig(**settings, num_labels=NUM_CLASSES, downsample_in_first_stage=False)
    return transformers.ResNetForImageClassification(config)


MODELS: dict[str, tuple[str, Callable[[int], nn.Module]]] = {
    "mlp": ("MLP, 2 x 100 units", build_mlp),
    "resnet": ("ResNet, 2 stages", build_resnet),
}


@dataclass
class Run:
    """What one training showed: seconds and worst-group accuracy (per cent) at the end of each epoch."""

    begun: float
    paused: float = 0.0
    rows: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    worst: list[float] = field(default_factory=list)

    def end_of_epoch(self, rows: int, model: nn.Module, test: ColoredDigits) -> None:
        now = time.perf_counter()
        self.rows.append(rows)
        self.seconds.append(now - self.begun - self.paused)
        self.worst.append(worst_group_accuracy(model, test))
        self.paused += time.perf_counter() - now

    @property
    def rate(self) -> float:
        """Rows a second, the median over the epochs after the first."""
        rates = np.diff(self.rows, prepend=0) / np.diff(self.seconds, prepend=0.0)
        return float(np.median(rates[1:] if len(rates) > 1 else rates))

    def time_to(self, target: float) -> float | None:
        return next((s for s, worst in zip(self.seconds, self.worst, strict=True) if worst >= target), None)


@torch.no_grad()
def worst_group_accuracy(model: nn.Module, test: ColoredDigits) -> float:
    training = model.training
    model.eval()
    right = []
    for rows in np.array_split(np.arange(len(test)), max(len(test) // 1000, 1)):
        images = torch.stack([row["pixel_values"] for row in test.__getitems__(rows)])
        right.append(model(pixel_values=images).logits.argmax(-1).numpy() == test.labels[rows])
    model.train(training)
    groups = test.labels * NUM_CLASSES + test.colours
    rows, hits = np.bincount(groups), np.bincount(groups, np.concatenate(right))
    return 100 * float((hits[rows > 0] / rows[rows > 0]).min())


def spuco_run(method: str, optimizer: str, model: nn.Module, data: dict, args: argparse.Namespace, seed: int) -> Run:
    from spuco.datasets import GroupLabeledDatasetWrapper
    from spuco.robust_train import ERM, GroupBalanceBatchERM, GroupDRO
    from spuco.utils import set_seed

    set_seed(seed)
    train, model = Pairs(data["train"]), Logits(model)
    common = {
        "model": model,
        "batch_size": args.batch_size,
        "optimizer": torch.optim.SGD(model.parameters(), **OPTIMIZERS[optimizer]),
        "num_epochs": args.epochs,
    }
    run = Run(time.perf_counter())
    if method == "ERM":
        trained = ERM(trainset=train, **common)
    elif method == "group-balanced":
        trained = GroupBalanceBatchERM(trainset=train, group_partition=train.group_partition, **common)
    else:
        trained = GroupDRO(trainset=GroupLabeledDatasetWrapper(train, train.group_partition), **common)
    inner = trained.trainer
    if args.workers != inner.trainloader.num_workers:
        order = {"sampler": inner.sampler} if inner.sampler is not None else {"shuffle": True}
        loader = {"batch_size": inner.batch_size, "num_workers": args.workers, "pin_memory": True}
        inner.trainloader = DataLoader(inner.trainset, **loader, **order)
    for epoch in range(args.epochs):
        trained.train_epoch(epoch)
        run.end_of_epoch((epoch + 1) * len(train), model.model, data["test"])
    return run


class EndOfEpoch(transformers.TrainerCallback):
    def __init__(self, run: Run, test: ColoredDigits):
        self.run, self.test = run, test

    def on_epoch_end(self, args, state, control, model=None, **kwargs):
        self.run.end_of_epoch(state.global_step * args.train_batch_size, model, self.test)


def gerne_run(method: str, optimizer: str, model: nn.Module, data: dict, args: argparse.Namespace, seed: int) -> Run:
    settings_of_optimizer = OPTIMIZERS[optimizer]
    schedule = {"lr_scheduler_type": "cosine", "warmup_steps": 0.3} if optimizer == "ours" else {}
    plans = {"ERM": ("erm", False), "Group DRO": ("resampling", True), "GERNE": ("independent", True)}
    plan, class_balanced = plans[method]
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "output_dir": folder,
            "plan": plan,
            "class_balanced": class_balanced,
            "attribute_column": "colour",
            "per_device_train_batch_size": args.batch_size,
            "num_train_epochs": args.epochs,
            "learning_rate": settings_of_optimizer["lr"],
            "weight_decay": settings_of_optimizer["weight_decay"],
            **{"lr_scheduler_type": "constant", **schedule},
            "max_grad_norm": 0,
            "seed": seed,
            "logging_steps": 100,
            "save_strategy": "no",
            "disable_tqdm": True,
            "dataloader_num_workers": args.workers,
            "use_cpu": True,
        }
        run = Run(time.perf_counter())
        if method == "Group DRO":
            cls, config = GroupDROTrainer, BaselineConfig(**settings, group_dro_step_size=STEP_SIZE)
        else:
            cls, config = GerneTrainer, GerneConfig(**settings)
        trainer = cls(
            model=model,
            args=config,
            train_dataset=data["train"],
            optimizer_cls_and_kwargs=(torch.optim.SGD, settings_of_optimizer),
            callbacks=[EndOfEpoch(run, data["test"])],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        with contextlib.redirect_stdout(io.StringIO()):
            trainer.train()
    return run


METHODS = [
    *(("spuco", name, of, spuco_run) for name in ("ERM", "group-balanced", "Group DRO") for of in OPTIMIZERS),
    *(("gerne_hf", name, of, gerne_run) for name in ("ERM", "Group DRO", "GERNE") for of in OPTIMIZERS),
]


def mean(values: list[float | None]) -> float | None:
    return None if None in values else statistics.fmean(values)


def compare(model_name: str, data: dict, args: argparse.Namespace) -> tuple[list[list[str]], bool]:
    """The table's rows of one model, and whether a bound is missed."""
    title, build = MODELS[model_name]
    runs: dict[tuple[str, str, str], list[Run]] = {key[:3]: [] for key in METHODS}
    for turn, seed in enumerate(args.seeds):
        torch.manual_seed(seed)
        start = build(data["train"].digits.shape[-1])
        for package, method, optimizer, train in METHODS[:: -1 if turn % 2 else 1]:
            runs[package, method, optimizer].append(train(method, optimizer, copy.deepcopy(start), data, args, seed))
            print(f"{title}, seed {seed}: {package} {method} ({optimizer}) done", file=sys.stderr, flush=True)
    theirs = {key: of for key, of in runs.items() if key[0] == "spuco"}
    target = args.target
    if target is None:
        target = max(statistics.fmean(run.worst[-1] for run in of) for of in theirs.values())
    rates = {key: statistics.fmean(run.rate for run in of) for key, of in runs.items()}
    times = {key: mean([run.time_to(target) for run in of]) for key, of in runs.items()}
    table = [
        [
            f"{title}: {package} {method}, {optimizer}",
            f"{rates[package, method, optimizer]:,.0f}",
            f"{statistics.fmean(run.worst[-1] for run in of):.1f}",
            "-" if times[package, method, optimizer] is None else f"{times[package, method, optimizer]:.1f}",
            f"{target:.1f}",
        ]
        for (package, method, optimizer), of in runs.items()
    ]
    their_rate = max(rates["spuco", "ERM", optimizer] for optimizer in OPTIMIZERS)
    best = min((times[key] for key in theirs if times[key] is not None), default=None)
    ours = min((t for o in OPTIMIZERS if (t := times["gerne_hf", "GERNE", o]) is not None), default=None)
    missed = max(rates["gerne_hf", "ERM", optimizer] for optimizer in OPTIMIZERS) < their_rate
    missed |= ours is None or (best is not None and ours > MOST_TIME * best)
    return table, missed


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_name", help="Hub id or folder of MNIST (default: scikit-learn's digits)")
    parser.add_argument("--minority", type=float, default=0.5, help="minority share of MNIST, per cent")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--batch_size", type=int, default=200, help="rows a step, for GERNE both batches together")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0])
    parser.add_argument("--workers", type=int, default=4, help="of the loaders")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--target", type=float, help="worst-group accuracy to reach, per cent")
    return parser


def main(args: argparse.Namespace) -> int:
    try:
        import spuco  # noqa: F401
    except ImportError:
        raise SystemExit('this needs the package spuco: pip install "gerne_hf[peers]"') from None
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    data = load_colored_mnist(args.dataset_name, args.minority) if args.dataset_name else demo_colored_mnist()
    results = [compare(name, data, args) for name in args.models]
    header = ["model: package, method, optimizer", "rows/s", "WGA, %", "time to target, s", "target, %"]
    counts = f"{len(data['train']):,} rows, {args.epochs} epochs, batches of {args.batch_size}, {args.workers} workers"
    print(f"\n{describe_machine()}\n{counts}, seeds {args.seeds}\n")
    print(format_table(header, [row for table, _ in results for row in table]))
    return int(any(missed for _, missed in results))


if __name__ == "__main__":
    sys.exit(main(make_parser().parse_args()))
