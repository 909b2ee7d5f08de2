r"""Accuracy at an equal budget of rows: the plans, and splits of the rows between the paper's two batches.

    python benchmarks/equal_rows.py colored_mnist --shares 0.5,0.333 --jobs 2 -- --dataset_name ylecun/mnist

Every method trains on the same number of rows in batches of the same size, both batches together: the epochs of the
recipe's settings times each of `--budgets`. What follows `--` goes to the recipe. A process runs one seed on one
thread; runs that ended before are not repeated. Prints one Markdown table of the test set's figures and writes it as
`equal_rows.json`.
"""

import argparse
import itertools
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml
from machine import describe_machine
from recipe_runs import ROOT, recipe_results

from gerne_hf.utils import format_table, write_json

FIGURES = {"group_balanced_accuracy": "GBA %", "worst_group_accuracy": "WGA %"}
PLANS = ("resampling", "collapsed", "shared")
"""Methods beside `independent`, which is run once for each share."""


def run(arguments: argparse.Namespace, epochs: float, budget: float, share: float, methods: str, seed: int) -> dict:
    """The results of one process by method."""
    folder = Path(arguments.output_dir) / f"{arguments.recipe}-rows{budget:g}-share{share:g}-seed{seed}"
    options = ["--config", str(arguments.config), "--num_train_epochs", f"{budget * epochs:g}", "--seeds", str(seed)]
    options += ["--plan", "independent", "--biased_share", str(share), "--compare", methods]
    results = recipe_results(arguments.recipe, folder, *arguments.options, *options)
    print(f"rows x {budget:g}, share {share:g}, seed {seed}: done", flush=True)
    return results


def make_parser() -> argparse.ArgumentParser:
    usage = "equal_rows.py RECIPE [OPTIONS] [-- OPTIONS OF THE RECIPE]"
    parser = argparse.ArgumentParser(
        usage=usage, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", help="name of a recipe")
    parser.add_argument("--config", help="settings of all runs; the recipe's own if not given")
    parser.add_argument("--budgets", default="1,0.25", help="parts of the settings' epochs")
    parser.add_argument("--shares", default="0.5", help="biased batch's shares of the rows of plan independent")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    parser.add_argument("--output_dir", default="outputs/equal_rows")
    return parser


def main(arguments: argparse.Namespace) -> None:
    arguments.config = arguments.config or ROOT / "recipes" / "configs" / f"{arguments.recipe}.yaml"
    with open(arguments.config, encoding="utf-8") as file:
        epochs = float(yaml.safe_load(file)["num_train_epochs"])
    budgets, shares = ([float(part) for part in text.split(",")] for text in (arguments.budgets, arguments.shares))
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        jobs = {}
        for seed, budget, (number, share) in itertools.product(seeds, budgets, enumerate(shares)):
            methods = "none" if number else ",".join(PLANS)
            jobs[budget, share, seed] = pool.submit(run, arguments, epochs, budget, share, methods, seed)
    found: dict[tuple[float, str], dict[int, dict]] = {}
    for (budget, share, seed), job in jobs.items():
        for method, (result,) in job.result().items():
            name = f"{method}, {share:g} of the rows biased" if method == "GERNE" else method
            found.setdefault((budget, name), {})[seed] = result

    table, figures = [], []
    for (budget, name), results in found.items():
        values = {key: [100 * results[seed][key] for seed in seeds] for key in FIGURES}
        figures.append({"budget": budget, "method": name, "seeds": seeds, **values})
        table.append([f"{budget:g}", name, *(summary(values[key]) for key in FIGURES)])
    write_json(figures, str(Path(arguments.output_dir) / "equal_rows.json"))
    print(f"\n{describe_machine()}\nTest set, seeds {arguments.seeds}: mean and standard deviation\n")
    print(format_table(["part of the rows", "method", *FIGURES.values()], table))


def summary(values: list[float]) -> str:
    deviation = f"±{statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{deviation}"


if __name__ == "__main__":
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parsed = make_parser().parse_args(sys.argv[1:end])
    parsed.options = sys.argv[end + 1 :]
    main(parsed)
