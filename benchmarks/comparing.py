r"""Wall time of a comparison over the sum of its trainings: what tables, test sets, cards and models cost.

    python benchmarks/comparing.py                                   # the demos of two recipes
    python benchmarks/comparing.py --recipes multinli --options --num_train_epochs 2

Each recipe is run on its demo's data in this process, with the methods and seeds that are given. The clock of the
comparison runs from the first line of `compare` to its last, reading the test set, the card's evaluations, pictures
and models included; a training is `trainer.train()`, with what `eval_strategy` evaluates within it. A method that
takes over the model of another one counts by what it adds. Ends with 1 if a ratio is above the bound.
"""

import argparse
import contextlib
import importlib
import io
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import describe_machine

import gerne_hf.recipes.run as running
from gerne_hf.comparison import METHODS
from gerne_hf.recipes import ImageArguments, parse_arguments
from gerne_hf.utils import format_table

BOUND = 1.15
RECIPES = Path(__file__).parents[1] / "recipes"
sys.path.insert(0, str(RECIPES))


def measure(recipe: str, compare: str, seeds: str, options: list[str]) -> dict[str, float]:
    """Return `runs`, `trainings` (seconds), `comparison` (seconds) and `lines` of a recipe's comparison."""
    clock: dict[str, float] = {}
    original = running.compare

    def timed(*given: Any, **named: Any) -> Any:
        begin = time.perf_counter()
        try:
            return original(*given, **named)
        finally:
            clock["comparison"] = time.perf_counter() - begin

    path = str(RECIPES / f"{recipe}.py")
    module = importlib.import_module(recipe)
    arguments_class = getattr(module, "Arguments", None) or ImageArguments
    with tempfile.TemporaryDirectory() as folder:
        argv = [
            "--demo",
            "--compare",
            compare,
            "--seeds",
            seeds,
            "--output_dir",
            folder,
            "--use_cpu",
            "true",
            *options,
        ]
        arguments, config = parse_arguments(arguments_class, path, argv)
        said = io.StringIO()
        running.compare = timed  # type: ignore[assignment]
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                module.main(arguments, config)
        finally:
            running.compare = original
        saved = json.loads((Path(folder) / "comparison.json").read_text(encoding="utf-8"))
    results = {title: runs for title, runs in saved.items() if isinstance(runs, list)}
    seconds = {(title, run["seed"]): run["train_seconds"] for title, runs in results.items() for run in runs}
    starts = {method.title: METHODS[method.start].title for method in METHODS.values() if method.start is not None}
    trainings = sum(
        value - seconds.get((starts.get(title, ""), seed), 0.0) for (title, seed), value in seconds.items()
    )
    lines = sum(bool(line.strip()) for line in said.getvalue().splitlines())
    return {"runs": len(seconds), "trainings": trainings, "comparison": clock["comparison"], "lines": lines}


def main() -> int:
    """Print the table; 1 if a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", default="multinli,colored_mnist")
    parser.add_argument("--compare", default="erm,resampling,group_dro,dfr")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="Further options of the recipes.")
    given = parser.parse_args()
    rows, worst = [], 0.0
    for recipe in given.recipes.split(","):
        found = measure(recipe, given.compare, given.seeds, given.options)
        ratio = found["comparison"] / found["trainings"]
        worst = max(worst, ratio)
        cells = [f"{found[name]:.0f}" for name in ("runs", "trainings", "comparison")]
        rows.append([recipe, *cells, f"{ratio:.2f}", f"{found['lines']:.0f}"])
        print(f"{recipe}: {ratio:.3f}", flush=True)
    print(describe_machine())
    header = ["recipe, demo", "runs", "trainings, s", "comparison, s", f"ratio (bound {BOUND})", "lines of log"]
    print(format_table(header, rows))
    return int(worst > BOUND)


if __name__ == "__main__":
    sys.exit(main())
