"""Which c and beta serve without tuning: known attributes, c (beta + 1) swept, beside resampling at equal rows.

    python benchmarks/backbones.py efficientnet_lite0 outputs/lite0
    python benchmarks/defaults.py --waterbirds grodino/waterbirds --backbone outputs/lite0 \
        --multinli nyu-mll/multi_nli --minilm FOLDER --mnist ylecun/mnist --seeds 0,1,2

All else is as in the settings of a data set (recipes/configs, benchmarks/configs), the same for every line; a step has
as many rows for resampling as for both batches of GERNE together. "product" is c (beta + 1): 1 has the expectation of
resampling, more over-represents minorities. A model is selected on the validation set where the settings say so, and
judged once on the test set; which line is best is to be read from the validation columns. Runs that are complete are
not repeated.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from machine import describe_machine
from unknown_attributes import PAPERS_OWN, TASKS, Task, cell, settings_of, trainer_of

from gerne_hf import GerneConfig, beta_bounds
from gerne_hf.utils import format_table, write_json

PRODUCTS = (1.0, 1.1, 1.2, 1.3)
C_VALUES = (0.5, 1.0)
NAMES = ("C-MNIST 0.5 %", "Waterbirds, frozen", "Waterbirds, fine-tuned", "MultiNLI, frozen")


def lines_of(products: list[float]) -> dict[str, dict[str, Any]]:
    """Return the settings of each line by its name."""
    lines: dict[str, dict[str, Any]] = {"resampling": {"plan": "resampling"}}
    for product in products:
        for c in C_VALUES:
            own = {"plan": "independent", "c": c, "beta": round(product / c - 1, 6)}
            lines[f"c = {c:g}, product {product:g}"] = own
        lines[f"collapsed, product {product:g}"] = {"plan": "collapsed", "c": 1.0, "beta": round(product - 1, 6)}
    return lines


def run(task: Task, own: dict[str, Any], seed: int, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one line once, and return its figures on the validation and test sets."""
    given = settings_of(task.config)
    given.pop("method_settings", None)
    names = GerneConfig.__dataclass_fields__
    settings = {name: value for name, value in given.items() if name in names and name not in PAPERS_OWN}
    settings.update(own, seed=seed, output_dir=str(folder), report_to=[], disable_tqdm=True)
    data, make_model = task.load(arguments)
    begin = time.perf_counter()
    trainer = trainer_of(settings, data, make_model)
    config = trainer.args
    if config.plan == "independent" and config.beta > beta_bounds(trainer.groups.alpha, config.c)[1]:
        return {"out_of_bounds": True}
    trainer.train()
    seconds = time.perf_counter() - begin
    trainer.evaluate_if_stale()
    trainer.evaluate(data["test"], metric_key_prefix="test")
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "validation": {name: trainer.group_results["eval"][name] for name in FIGURES},
        "test": {name: trainer.group_results["test"][name] for name in FIGURES},
        "seconds": seconds,
        "first_loss": losses[0],
        "last_loss": losses[-1],
    }


FIGURES = ("worst_group_accuracy", "group_balanced_accuracy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", default="ylecun/mnist", help="Hub id or folder of MNIST")
    parser.add_argument("--waterbirds", default="grodino/waterbirds", help="Hub id or folder of Waterbirds")
    parser.add_argument("--backbone", default="outputs/lite0", help="folder that benchmarks/backbones.py wrote")
    parser.add_argument("--multinli", default="nyu-mll/multi_nli", help="Hub id or folder of MultiNLI")
    parser.add_argument("--minilm", default="sentence-transformers/all-MiniLM-L6-v2", help="a sentence encoder")
    parser.add_argument("--only", nargs="+", default=list(NAMES), help="data sets, by the beginnings of their names")
    parser.add_argument("--products", default=",".join(map(str, PRODUCTS)), help="values of c (beta + 1)")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--output_dir", default="outputs/defaults")
    arguments = parser.parse_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    products = [float(product) for product in arguments.products.split(",")]
    rows, results = [], {}
    for name in (name for name in NAMES if name.startswith(tuple(arguments.only))):
        for line, own in lines_of(products).items():
            runs = []
            for seed in seeds:
                part = f"{name} {line}".replace(" ", "_").replace("%", "percent")
                folder = Path(arguments.output_dir) / part / f"seed{seed}"
                if not (folder / "result.json").exists():
                    folder.mkdir(parents=True, exist_ok=True)
                    write_json(run(TASKS[name], own, seed, folder, arguments), str(folder / "result.json"))
                runs.append(json.loads((folder / "result.json").read_text(encoding="utf-8")))
            runs = [one for one in runs if "out_of_bounds" not in one]
            results[f"{name}: {line}"] = runs
            figures = [cell([one[part][key] for one in runs]) for part in ("validation", "test") for key in FIGURES]
            losses = f"{statistics.fmean(one['last_loss'] for one in runs):.3f}" if runs else "beta out of its bounds"
            rows.append([f"{name}: {line}", *figures, losses, str(len(runs))])
            print(" | ".join(rows[-1]), flush=True)
    columns = [f"{part}, {key}" for part in ("validation", "test") for key in ("worst group", "balanced")]
    table = format_table(["data: line", *columns, "last loss", "seeds"], rows)
    write_json({"machine": describe_machine(), "results": results}, str(Path(arguments.output_dir) / "table.json"))
    print(f"\nPer cent; {describe_machine()}\n{table}")


if __name__ == "__main__":
    main()
