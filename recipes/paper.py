"""The experiments of the GERNE paper (ICCV 2025), one command each.

    accelerate launch recipes/paper.py table_1 --demo
    accelerate launch recipes/paper.py table_1 --recipes colored_mnist --seeds 0,1,2
    accelerate launch recipes/paper.py figure_2 --dataset_name ylecun/mnist --values -1,0,0.5,1,1.2

Experiments: table_1, table_2, figure_2, figure_3, appendix_b, appendix_g; recipes/README.md says what each needs. All
other arguments are those of the recipes that an experiment runs. `--demo` runs it on the data that the recipe makes
itself, which shows that it works and is no result of the paper. The outcome is printed as a table, beside the paper's
figures where it has any, and saved as JSON in `--output_dir`.
"""

import argparse
import importlib
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import PartialState

from gerne_hf.data import minority_accuracy
from gerne_hf.recipes import (
    ImageArguments,
    RecipeArguments,
    TextArguments,
    compare_noise,
    parse_arguments,
    sweep_beta,
    sweep_threshold,
    validation_folds,
)
from gerne_hf.utils import format_table, write_json

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

SHARES = ("0.5", "1", "2", "5")
"""Minority shares of Table 1, in per cent."""

_C_MNIST = {
    "Group DRO": (63.12, 68.78, 76.30, 84.20),
    "resampling": (77.68, 84.36, 88.15, 91.98),
    "GERNE": (77.79, 84.47, 88.30, 92.16),
    "ERM": (35.19, 52.09, 65.86, 82.17),
    "JTT": (53.03, 62.90, 74.23, 84.03),
    "GERNE, unknown attributes": (77.25, 83.98, 87.41, 90.98),
}
_C_CIFAR_10 = {
    "Group DRO": (33.44, 38.30, 45.81, 57.32),
    "resampling": (45.10, 50.08, 54.85, 62.16),
    "GERNE": (45.34, 50.84, 55.51, 62.40),
    "ERM": (23.08, 28.52, 30.06, 39.42),
    "JTT": (24.73, 26.90, 33.40, 42.20),
    "GERNE, unknown attributes": (39.90, 45.60, 50.19, 56.53),
}
_BFFHQ = {
    "resampling": (72.13,),
    "GERNE": (85.20,),
    "ERM": (56.70,),
    "JTT": (65.30,),
    "GERNE, unknown attributes": (76.80,),
}
TABLE_1 = {"colored_mnist": _C_MNIST, "corrupted_cifar10": _C_CIFAR_10, "bffhq": _BFFHQ}
"""By recipe and method: group-balanced test accuracy at each share, %; for bFFHQ that of its minority groups."""

TABLE_2 = {
    "waterbirds": {
        "ERM": (69.1, 69.1, 69.1),
        "Group DRO": (78.6, 73.1, 73.1),
        "resampling": (77.7, 70.0, 70.0),
        "DFR": (91.0, 89.0, 89.0),
        "GERNE": (90.20, 90.21, 89.88),
    },
    "celeba": {
        "ERM": (62.6, 57.6, 57.6),
        "Group DRO": (89.0, 78.5, 68.3),
        "resampling": (87.4, 82.2, 74.1),
        "DFR": (90.4, 86.3, 73.7),
        "GERNE": (91.98, 86.28, 74.24),
    },
    "civilcomments": {
        "ERM": (63.7, 63.2, 63.2),
        "Group DRO": (70.6, 69.5, 61.5),
        "resampling": (73.3, 68.2, 61.0),
        "DFR": (69.6, 63.9, 64.4),
        "GERNE": (74.65, 71.00, 63.10),
    },
}
"""By recipe and method: worst-group test accuracy, %, by where attributes are known, in the order of [`KNOWN_IN`]."""

KNOWN_IN = ("train and validation", "validation", "nowhere")
_KNOWN = ["--compare", "erm,group_dro,resampling,dfr"]
_UNKNOWN = ["--compare", "erm", "--pseudo_attributes", "true"]
_NOWHERE = ["--pseudo_rule", "confident_mistakes", "--metric_for_best_model", "worst_class_accuracy"]
WAYS = dict(zip(KNOWN_IN, (_KNOWN, _UNKNOWN, [*_UNKNOWN, *_NOWHERE]), strict=True))
"""By where attributes are known: the arguments of the recipe."""


def settings_file(recipe: str, demo: bool) -> list[str]:
    """Return the arguments that name the settings of a recipe: its own demo's, or the paper's."""
    if demo:
        return ["--demo"]
    own = HERE / "configs" / f"{recipe}_paper.yaml"
    return ["--config", str(own if own.exists() else HERE / "configs" / f"{recipe}.yaml")]


def run_one(recipe: str, arguments: list[str], run: Callable | None = None) -> Any:
    """Run a recipe with some arguments, or another experiment with the recipe's data and models."""
    module = importlib.import_module(recipe)
    own = getattr(module, "Arguments", None) or (TextArguments if recipe == "civilcomments" else ImageArguments)
    parsed: tuple[RecipeArguments, Any] = parse_arguments(own, module.__file__, arguments)
    return module.main(*parsed) if run is None else module.main(*parsed, run=run)


def table_1(options: argparse.Namespace, others: list[str]) -> tuple[dict[str, Any], str]:
    """Train the methods of Table 1 at each minority share."""
    results: dict[str, Any] = {}
    rows = []
    for recipe in options.recipes or list(TABLE_1):
        shares = SHARES if recipe != "bffhq" else ("0.5",)
        for i, share in enumerate(shares):
            own = ["--minority", share] if recipe != "bffhq" else []
            folder = os.path.join(options.output_dir, recipe, f"{share}_percent")
            compared = ["--compare", "erm,group_dro,resampling,jtt,pseudo"]
            found = run_one(
                recipe, [*settings_file(recipe, options.demo), *compared, *own, *folder_of(folder), *others]
            )
            results[f"{recipe}, {share} %"] = found
            for method, runs in found.items():
                values = [
                    minority_accuracy(one) if recipe == "bffhq" else one["group_balanced_accuracy"] for one in runs
                ]
                paper = TABLE_1[recipe].get(method)
                rows.append([recipe, f"{share} %", method, per_cent(values), f"{paper[i]:.2f}" if paper else "-"])
            if options.demo:
                break  # the demo's data have one share
    return results, format_table(["recipe", "minority share", "method", "here", "paper"], rows)


def table_2(options: argparse.Namespace, others: list[str]) -> tuple[dict[str, Any], str]:
    """Train the methods of Table 2, with attributes known in training and validation, in validation, and nowhere."""
    results: dict[str, Any] = {}
    rows = []
    for recipe in options.recipes or list(TABLE_2):
        for i, (known, own) in enumerate(WAYS.items()):
            folder = os.path.join(options.output_dir, recipe, known.replace(" ", "_"))
            found = run_one(recipe, [*settings_file(recipe, options.demo), *own, *folder_of(folder), *others])
            results[f"{recipe}, {known}"] = found
            for method, runs in found.items():
                paper = TABLE_2[recipe].get(method.removesuffix(", unknown attributes"))
                here = per_cent([one["worst_group_accuracy"] for one in runs])
                rows.append([recipe, known, method, here, f"{paper[i]:.2f}" if paper else "-"])
    return results, format_table(["recipe", "attributes known in", "method", "here", "paper"], rows)


def figure_2(options: argparse.Namespace, others: list[str]) -> tuple[Any, str]:
    """Train GERNE at several values of beta; draw the curves of minority and majority."""
    betas = options.values or [-1.0, 0.0, 0.5, 1.0, 1.2]
    rows = experiment(options, others, lambda seeds: sweep_beta(betas, seeds))
    draw_curves(rows, os.path.join(options.output_dir, "figure_2.png"))
    lines = []
    for row in rows:
        last = {point["set"]: point for point in row["curves"]}
        both = [last.get(name, {}).get(f"{which} accuracy") for name in ("training", "validation") for which in SIDES]
        lines.append([f"{row['beta']:g}", str(row["seed"]), *(per_cent([x]) for x in both), *worst_and_balanced(row)])
    sides = [f"{which}, {name}" for name in ("training", "validation") for which in SIDES]
    return rows, format_table(["beta", "seed", *sides, "worst group, test", "balanced, test"], lines)


SIDES = ("minority", "majority")


def figure_3(options: argparse.Namespace, others: list[str]) -> tuple[Any, str]:
    """Train GERNE with unknown attributes at several shares t of hard rows, with the best beta of each."""
    thresholds = options.values or [0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05]
    rows = experiment(options, others, lambda seeds: sweep_threshold(thresholds, options.betas, seeds))
    lines = []
    for threshold in thresholds:
        chosen = [row for row in rows if row["threshold"] == threshold and row["chosen"]]
        found = [row["found"] or {} for row in chosen]
        figures = [per_cent([one.get(name) for one in found]) for name in ("precision", "recall")]
        tests = [per_cent([row["test"].get(name) for row in chosen]) for name in SUMMARIES]
        lines.append([f"{threshold:g}", f"{chosen[0]['beta']:g}", *figures, *tests])
    return rows, format_table(["t", "best beta", "precision", "recall", "worst group", "balanced"], lines)


SUMMARIES = ("worst_group_accuracy", "group_balanced_accuracy")


def appendix_b(options: argparse.Namespace, others: list[str]) -> tuple[Any, str]:
    """Train GERNE and SW, which samples as B_lb does and weights, and take the variance of their gradients."""
    methods = options.methods or ["independent", "sampling_weighting", "collapsed"]
    rows = experiment(options, others, lambda seeds: compare_noise(methods, seeds, options.batches))
    lines = []
    for method in methods:
        runs = [row for row in rows if row["method"] == method]
        variance = f"{statistics.fmean(row['variance'] for row in runs):.4g}"
        lines.append([method, variance, *(per_cent([row["test"].get(name) for row in runs]) for name in SUMMARIES)])
    return rows, format_table(["method", "variance of the gradient", "worst group", "balanced"], lines)


def appendix_g(options: argparse.Namespace, others: list[str]) -> tuple[Any, str]:
    """Train GERNE on CelebA's validation set alone, selected in three folds. The paper: 88.63; DFR 86.30."""
    rows = experiment(options, others, validation_folds, default="celeba")
    lines = [[str(row["fold"]), str(row["seed"]), *worst_and_balanced(row)] for row in rows]
    means = [per_cent([row["test"].get(name) for row in rows]) for name in SUMMARIES]
    return rows, format_table(["fold", "seed", "worst group", "balanced"], [*lines, ["all", "all", *means]])


EXPERIMENTS = {one.__name__: one for one in (table_1, table_2, figure_2, figure_3, appendix_b, appendix_g)}


def experiment(
    options: argparse.Namespace, others: list[str], make: Callable, default: str = "colored_mnist"
) -> list[dict[str, Any]]:
    """Run an experiment on one recipe, Colored MNIST if no other is named, and return its rows."""

    def run(arguments: RecipeArguments, config: Any, make_trainer: Any, test: Any, *rest: Any) -> list[dict[str, Any]]:
        return make(arguments.seed_list(config.seed))(arguments, config, make_trainer, test)

    (recipe,) = options.recipes or [default]
    return run_one(recipe, [*settings_file(recipe, options.demo), *folder_of(options.output_dir), *others], run)


def folder_of(folder: str) -> list[str]:
    """Return the argument of a recipe that names its folder."""
    return ["--output_dir", folder]


def worst_and_balanced(row: dict[str, Any]) -> list[str]:
    """Return the cells of the two figures of the test set."""
    return [per_cent([row["test"].get(name)]) for name in SUMMARIES]


def per_cent(values: list[float | None]) -> str:
    """Return mean and deviation in per cent."""
    known = [100 * value for value in values if value is not None]
    if not known:
        return "-"
    spread = f"±{statistics.stdev(known):.2f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.2f}{spread}"


def draw_curves(rows: list[dict[str, Any]], path: str) -> None:
    """Draw loss and accuracy of minority and majority over the steps, a column for each beta, of the first seed."""
    if not PartialState().is_main_process:
        return
    try:
        from matplotlib import pyplot as plt
    except ImportError:
        print("matplotlib is not installed, so there is no picture: pip install 'gerne_hf[plots]'", flush=True)
        return
    shown = [row for row in rows if row["seed"] == rows[0]["seed"]]
    size = (3 * len(shown) + 1, 6)
    figure, axes = plt.subplots(
        2, len(shown), figsize=size, sharex=True, sharey="row", layout="constrained", squeeze=False
    )
    for column, row in enumerate(shown):
        axes[0][column].set_title(f"beta = {row['beta']:g}")
        for name, line in (("training", "-"), ("validation", "--")):
            points = [point for point in row["curves"] if point["set"] == name]
            for which, colour in zip(SIDES, ("#D55E00", "#0072B2"), strict=True):
                for axis, what in zip(axes[:, column], ("loss", "accuracy"), strict=True):
                    values = [(p["step"], p[f"{which} {what}"]) for p in points if f"{which} {what}" in p]
                    axis.plot(*zip(*values, strict=True), line, color=colour, label=f"{which}, {name}")
    for axis, what in zip(axes[:, 0], ("loss", "accuracy"), strict=True):
        axis.set_ylabel(what)
    for axis in axes[1]:
        axis.set_xlabel("optimizer step")
    axes[0][0].legend(fontsize=7)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def numbers(text: str) -> list[float]:
    """Return the numbers of a text such as "0,0.5,1"."""
    return [float(part) for part in text.split(",")]


def main(argv: list[str] | None = None) -> None:
    """Run one experiment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("experiment", choices=list(EXPERIMENTS))
    parser.add_argument(
        "--recipes", type=lambda text: text.split(","), help="recipes, those of the paper if not given"
    )
    parser.add_argument("--values", type=numbers, help="values of beta (figure_2) or of t (figure_3): 0,0.5,1")
    parser.add_argument("--betas", type=numbers, default=[0.5, 1.0, 1.5, 2.0], help="betas tried at each t (figure_3)")
    parser.add_argument("--methods", type=lambda text: text.split(","), help="methods (appendix_b)")
    parser.add_argument("--batches", type=int, default=200, help="batches for the variance (appendix_b)")
    parser.add_argument("--demo", action="store_true", help="small data that the recipe makes itself")
    parser.add_argument("--output_dir", help="folder of everything; outputs/paper/EXPERIMENT if not given")
    options, others = parser.parse_known_args(argv)
    options.output_dir = options.output_dir or os.path.join("outputs", "paper", options.experiment)
    found, table = EXPERIMENTS[options.experiment](options, others)
    if PartialState().is_main_process:
        path = os.path.join(options.output_dir, f"{options.experiment}.json")
        os.makedirs(options.output_dir, exist_ok=True)
        write_json({"demo": options.demo, "results": found}, path)
        where = " on the recipe's own small data: no figures of the paper's data" if options.demo else ", test set, %"
        print(f"\n{options.experiment}{where}\n{table}\n\nSaved in {path}", flush=True)


if __name__ == "__main__":
    main()
