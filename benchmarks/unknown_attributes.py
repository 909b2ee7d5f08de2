"""Unknown attributes without any setting, beside ERM and known attributes: one table over data sets and seeds.

    python benchmarks/backbones.py efficientnet_lite0 outputs/lite0
    python benchmarks/unknown_attributes.py --mnist ylecun/mnist --waterbirds grodino/waterbirds \
        --backbone outputs/lite0 --seeds 0,1,2

The settings of each data set are those of its recipe (recipes/configs), which were selected on the validation set for
known attributes. "paper's rule" is the share t of each class, in one fold: t = 0.01, and the t of the recipe's
settings, which was selected on the validation set. "default" has no setting for unknown attributes at all and no
attribute anywhere but in the test set; "validation attributes" has them in the validation set too. `--only` and
`--methods` run a part; runs that are complete are not repeated, and the table shows all that are. "CPU s" is the time
of the processor that a run took, biased models included, which other work on the machine does not change.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from machine import describe_machine
from sentence_pairs import pair_features
from transformers import HfArgumentParser

from gerne_hf import GerneConfig, GerneTrainer
from gerne_hf.data import (
    ColoredDigits,
    WaterbirdFeatures,
    load_colored_mnist,
    load_multinli,
    load_waterbirds,
    multinli,
    waterbirds,
)
from gerne_hf.evaluation import group_metrics
from gerne_hf.models import (
    MLPConfig,
    MLPForImageClassification,
    freeze_batch_norm,
    freeze_layers,
    label_maps,
    normalization,
    pretrained_image_model,
)
from gerne_hf.utils import format_table, write_json

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "recipes"))

ERM = {"plan": "erm", "pseudo_attributes": False}
NONE = {"attribute_column": None, "metric_for_best_model": None}
PAPER = {"pseudo_attributes": True, "biased_folds": 1}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "erm": ("ERM", {**ERM, "class_balanced": False}),
    "class_balanced": ("class-balanced ERM", {**ERM, "class_balanced": True}),
    "paper": ("paper's rule, t = 0.01", {**PAPER, "threshold": 0.01, "c": 1.0, "beta": 0.8}),
    "paper_best": ("paper's rule, its best t", PAPER),
    "default": ("default, no setting", {"pseudo_attributes": True, "c": 0.5, "beta": 1.0, **NONE}),
    "validation": ("default, validation attributes", {"pseudo_attributes": True, "c": 0.5, "beta": 1.0}),
    "known": ("known attributes", {}),
}
"""By name: title, and the fields of the config."""

DEFAULT = METHODS["default"][1]
TRIED = {
    "five_folds": ("default, five folds", {**DEFAULT, "biased_folds": 5}),
    "early": ("default, biased models of one epoch", {**DEFAULT, "biased_epochs": 1}),
    "confident_mistakes": ("confident mistakes", {**DEFAULT, "pseudo_rule": "confident_mistakes"}),
    "mistakes": ("mistakes", {**DEFAULT, "pseudo_rule": "mistakes"}),
}
"""Other ways that were tried in the place of the default; run only where `--methods` names them."""

PAPERS_OWN = ("threshold", "biased_learning_rate", "biased_weight_decay", "biased_epochs")
"""Fields of a recipe's settings that are for the paper's rule alone."""


@dataclass
class Task:
    """What a data set needs: its recipe's settings, its splits and its model."""

    config: str
    load: Callable[[argparse.Namespace], tuple[dict[str, Any], Callable[[], Any]]]
    attribute: str
    headline: str = "worst_group_accuracy"


def settings_of(name: str) -> dict[str, Any]:
    """Return what a recipe's settings file says."""
    recipes, own = ROOT / "recipes" / "configs" / name, Path(__file__).parent / "configs" / name
    return yaml.safe_load((recipes if recipes.exists() else own).read_text(encoding="utf-8"))


@cache
def digits(name: str, minority: float) -> dict[str, ColoredDigits]:
    return load_colored_mnist(name, minority)


def colored_mnist(minority: float, uniform: bool = False) -> Callable[..., Any]:
    """Return the loader of Colored MNIST at a minority share; with `uniform`, all colours are equally common."""

    def load(arguments: argparse.Namespace) -> tuple[dict[str, Any], Callable[[], Any]]:
        data: dict[str, Any] = dict(digits(arguments.mnist, minority))
        if uniform:
            train = data["train"]
            colours = np.random.default_rng(0).integers(0, 10, len(train))
            data["train"] = ColoredDigits(train.digits.numpy(), train.labels, colours)
        config = MLPConfig(image_size=28, hidden_sizes=[100, 100], num_labels=10)
        return data, lambda: MLPForImageClassification(config)

    return load


@cache
def features(name: str, backbone: str) -> tuple[dict[str, WaterbirdFeatures], Callable[[], Any]]:
    import waterbirds as recipe

    mean, std = normalization(backbone)
    data = load_waterbirds(name, 96, mean, std, augment=False)
    return recipe.on_features(data, pretrained_image_model(backbone, waterbirds.LABELS, 96))


def frozen_waterbirds(*balanced: int) -> Callable[..., Any]:
    """Return the loader of features of Waterbirds, with the groups of some classes cut to equal size in training."""

    def load(arguments: argparse.Namespace) -> tuple[dict[str, Any], Callable[[], Any]]:
        found, make_model = features(arguments.waterbirds, arguments.backbone)
        data, train = dict(found), found["train"]
        rng, kept = np.random.default_rng(0), []
        for label in (0, 1):
            rows = [np.flatnonzero((train.labels == label) & (train.places == place)) for place in (0, 1)]
            size = min(map(len, rows))
            kept += [rng.choice(part, size, replace=False) for part in rows] if label in balanced else rows
        rows = np.sort(np.concatenate(kept))
        data["train"] = WaterbirdFeatures(train.features[rows].flatten(1), train.labels[rows], train.places[rows])
        return data, make_model

    return load


def fine_tuned_waterbirds(arguments: argparse.Namespace) -> tuple[dict[str, Any], Callable[[], Any]]:
    """Load the photographs and the backbone, of which the recipe's settings freeze some layers."""
    mean, std = normalization(arguments.backbone)
    data = load_waterbirds(arguments.waterbirds, 96, mean, std)
    frozen = settings_of("waterbirds_lite0.yaml")["frozen_layers"]

    def make_model() -> Any:
        model = pretrained_image_model(arguments.backbone, waterbirds.LABELS, 96)
        return freeze_batch_norm(freeze_layers(model, frozen))

    return data, make_model


def frozen_multinli(arguments: argparse.Namespace) -> tuple[dict[str, Any], Callable[[], Any]]:
    """Load the features of the pairs of sentences, and make a small head for them."""
    cache = Path(arguments.output_dir) / "multinli_sentences.pt"
    data: dict[str, Any] = dict(pair_features(load_multinli(arguments.multinli), arguments.minilm, cache))
    width = data["train"].features.shape[1]
    config = MLPConfig(image_size=1, num_channels=width, hidden_sizes=[256], **label_maps(multinli.LABELS))
    return data, lambda: MLPForImageClassification(config)


GBA = "group_balanced_accuracy"
TASKS = {
    "C-MNIST 0.5 %": Task("colored_mnist.yaml", colored_mnist(0.5), "colour", GBA),
    "C-MNIST 1 %": Task("colored_mnist_1.yaml", colored_mnist(1.0), "colour", GBA),
    "C-MNIST 2 %": Task("colored_mnist_2.yaml", colored_mnist(2.0), "colour", GBA),
    "C-MNIST 5 %": Task("colored_mnist_5.yaml", colored_mnist(5.0), "colour", GBA),
    "MNIST, uniform colours": Task("colored_mnist_5.yaml", colored_mnist(5.0, uniform=True), "colour", GBA),
    "Waterbirds, frozen": Task("waterbirds_lite0_frozen.yaml", frozen_waterbirds(), "place"),
    "Waterbirds one-sided, frozen": Task("waterbirds_lite0_frozen.yaml", frozen_waterbirds(0), "place"),
    "Waterbirds balanced, frozen": Task("waterbirds_lite0_frozen.yaml", frozen_waterbirds(0, 1), "place"),
    "Waterbirds, fine-tuned": Task("waterbirds_lite0.yaml", fine_tuned_waterbirds, "place"),
    "MultiNLI, frozen": Task("multinli_minilm_frozen.yaml", frozen_multinli, "negation"),
}


def trainer_of(settings: dict[str, Any], data: dict[str, Any], make_model: Callable[[], Any]) -> GerneTrainer:
    """Return a trainer with the fields of the config and the optimizer of the recipes, SGD with momentum."""
    (config,) = HfArgumentParser(GerneConfig).parse_dict(settings)
    config = replace(config)
    sgd = {"lr": config.learning_rate, "momentum": 0.9, "weight_decay": config.weight_decay}
    return GerneTrainer(
        model_init=make_model,
        args=config,
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        optimizer_cls_and_kwargs=(torch.optim.SGD, sgd),
    )


def run(task: Task, method: str, seed: int, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one method once and return its figures on the test set, which is read once, after training."""
    given = settings_of(task.config)
    own = given.pop("method_settings", {})
    names = GerneConfig.__dataclass_fields__
    settings = {name: value for name, value in given.items() if name in names}
    paper = {name: settings.pop(name, None) for name in PAPERS_OWN}
    if method in ("paper", "paper_best"):
        settings.update(paper)
    if method == "paper_best":
        settings.update(own.get("pseudo", {}))
    if method == "erm":
        settings.update(own.get("erm", {}))
    if arguments.epochs:
        settings["num_train_epochs"] = arguments.epochs
    settings.update((METHODS | TRIED)[method][1], seed=seed, output_dir=str(folder), report_to=[], disable_tqdm=True)
    settings["pseudo_attributes_dir"] = str(folder.parent / f"biased-models-seed{seed}")
    data, make_model = task.load(arguments)
    begin = time.process_time()
    trainer = trainer_of(settings, data, make_model)
    trainer.train()
    seconds = time.process_time() - begin
    output = trainer.predict(data["test"], metric_key_prefix="test")
    logits = np.asarray(output.predictions)
    truth = np.asarray(data["test"][task.attribute])
    values = sorted(set(truth.tolist()))
    attributes = np.array([values.index(value) for value in truth])
    result = group_metrics(logits.argmax(axis=1), np.asarray(output.label_ids), attributes)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    found = classes = None
    if trainer.inferred is not None and trainer.pseudo is not None:
        found = trainer.pseudo.found_among(np.asarray(data["train"][task.attribute]), trainer.inferred.hard)
        classes = [[split.name, split.rows, split.hard, split.reason] for split in trainer.inferred.classes]
    names = ("worst_group_accuracy", "group_balanced_accuracy", "accuracy", "class_balanced_accuracy")
    return {
        **{name: result[name] for name in names},
        "seconds": seconds,
        "train_seconds": trainer.run_record().run.seconds,
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "found": found,
        "classes": classes,
        "warnings": list(trainer.guard_warnings),
        "validation": {
            name: value for name, value in trainer.group_results.get("eval", {}).items() if name.endswith("accuracy")
        },
    }


def cell(values: list[float | None]) -> str:
    """Return mean and deviation in per cent."""
    known = [100 * value for value in values if value is not None]
    if not known:
        return "-"
    deviation = f"±{statistics.stdev(known):.1f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.1f}{deviation}"


def table(results: dict[str, dict[str, list[dict[str, Any]]]]) -> str:
    """Return the table of all runs, a line for each data set and method."""
    lines = []
    for name, by_method in results.items():
        headline = TASKS[name].headline
        means = {m: statistics.fmean(r[headline] for r in runs) for m, runs in by_method.items()}
        for method, runs in by_method.items():
            closed = "-"
            if method not in ("erm", "class_balanced", "known") and {"class_balanced", "known"} <= set(means):
                gap = means["known"] - means["class_balanced"]
                if gap > 0.02:
                    closed = f"{100 * (means[method] - means['class_balanced']) / gap:.0f}"
            found = [run["found"] or {} for run in runs]
            lines.append(
                [
                    f"{name}: {(METHODS | TRIED)[method][0]}",
                    cell([run["worst_group_accuracy"] for run in runs]),
                    cell([run["group_balanced_accuracy"] for run in runs]),
                    cell([run["accuracy"] for run in runs]),
                    closed,
                    cell([part.get("precision") for part in found]),
                    cell([part.get("recall") for part in found]),
                    f"{statistics.fmean(run['seconds'] for run in runs):.0f}",
                    str(len(runs)),
                ]
            )
    header = ["data: method", "worst group", "balanced", "average", "gap closed", "precision", "recall"]
    header += ["CPU s", "seeds"]
    return format_table(header, lines)


def summary(results: dict[str, dict[str, list[dict[str, Any]]]]) -> str:
    """Return the table of headlines: the worst group, or on Colored MNIST the mean of all groups."""
    lines = []
    for name, by_method in results.items():
        headline = TASKS[name].headline
        cells = [cell([run[headline] for run in by_method.get(method, [])]) for method in METHODS]
        found = [run["found"] or {} for run in by_method.get("default", [])]
        seeds = sorted({len(runs) for runs in by_method.values()})
        counted = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        lines.append([name, *cells, *(cell([part.get(key) for part in found]) for key in ("precision", "recall"))])
        lines[-1].append(counted)
    short = ["ERM", "balanced ERM", "t = 0.01", "best t", "default", "with validation attributes", "known"]
    return format_table(["data", *short, "precision", "recall", "seeds"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", default="ylecun/mnist", help="Hub id or folder of MNIST")
    parser.add_argument("--waterbirds", default="grodino/waterbirds", help="Hub id or folder of Waterbirds")
    parser.add_argument("--backbone", default="outputs/lite0", help="folder that benchmarks/backbones.py wrote")
    parser.add_argument("--multinli", default="nyu-mll/multi_nli", help="Hub id or folder of MultiNLI")
    parser.add_argument("--minilm", default="sentence-transformers/all-MiniLM-L6-v2", help="a sentence encoder")
    parser.add_argument("--only", nargs="+", default=list(TASKS), help="data sets, by the beginnings of their names")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=float, default=0, help="epochs of each run; those of the settings if 0")
    parser.add_argument("--output_dir", default="outputs/unknown_attributes")
    arguments = parser.parse_args()
    root, wanted = Path(arguments.output_dir), arguments.only
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    for seed in seeds:
        for name, task in TASKS.items():
            if not name.startswith(tuple(wanted)):
                continue
            for method in arguments.methods.split(","):
                folder = root / name.replace(" ", "_").replace("%", "percent") / f"{method}-seed{seed}"
                if not (folder / "result.json").exists():
                    result = run(task, method, seed, folder, arguments)
                    write_json(result, str(folder / "result.json"))
                    print(f"{name}, {method}, seed {seed}: {result['seconds']:.0f} s", flush=True)
    results: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name in TASKS:
        for method in METHODS | TRIED:
            folder = root / name.replace(" ", "_").replace("%", "percent")
            files = sorted(folder.glob(f"{method}-seed*/result.json"))
            if files:
                runs = [json.loads(path.read_text(encoding="utf-8")) for path in files]
                results.setdefault(name, {})[method] = runs
    write_json({"machine": describe_machine(), "results": results}, str(root / "table.json"))
    print(f"\nTest set, per cent; {describe_machine()}\n{table(results)}\n\n{summary(results)}")


if __name__ == "__main__":
    main()
