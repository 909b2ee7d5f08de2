"""Train several methods on the same data for several seeds, and lay their group metrics side by side."""

import copy
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from accelerate import PartialState

from .config import GerneConfig
from .reports import format_table, save_group_metrics, worst_groups, write_json
from .trainer import GerneTrainer

METHOD_NAMES = {
    "independent": "GERNE",
    "shared": "GERNE (shared rows)",
    "collapsed": "GERNE (collapsed)",
    "erm": "ERM",
    "resampling": "resampling",
    "reweighting": "reweighting",
}
"""What tables call the plans."""

COMPARISON_FILE = "comparison.json"
COMPARISON_PICTURE_FILE = "comparison.png"
_SUMMARIES = {
    "average": "accuracy",
    "average, groups as in training": "adjusted_accuracy",
    "group-balanced": "group_balanced_accuracy",
    "worst group": "worst_group_accuracy",
}


def compare(
    methods: Sequence[str],
    config: GerneConfig,
    make_trainer: Callable[[GerneConfig], GerneTrainer],
    test_dataset: Any,
    seeds: Sequence[int] = (0,),
) -> dict[str, list[dict[str, Any]]]:
    """Train each method for each seed, evaluate it once on the test set, print one table and save it.

    The run of the last method with the first seed goes to `config.output_dir`, every other to a folder of its own
    below it. There, too, lie `comparison.json` and, with matplotlib, `comparison.png`.

    Args:
        methods (`Sequence[str]`): plans; the last one is the main one.
        config ([`GerneConfig`]): settings of all runs; `plan`, `seed` and `output_dir` are set for each.
        make_trainer (`Callable`): makes a trainer with a fresh model from a config.
        test_dataset: the data set of the table's figures; read once a run, after training.
        seeds (`Sequence[int]`): a run for each.

    Returns:
        `dict[str, list[dict]]`: by method, the test result of [`group_metrics`] of each seed, with the `seed` and the
        `train_seconds` of the run.
    """
    results: dict[str, list[dict[str, Any]]] = {}
    for method in methods:
        for seed in seeds:
            main = method == methods[-1] and seed == seeds[0]
            run = copy.copy(config)
            run.plan, run.seed = method, seed
            run.output_dir = config.output_dir if main else os.path.join(config.output_dir, f"{method}-seed{seed}")
            PartialState().print(f"\n=== {METHOD_NAMES[method]}, seed {seed}", flush=True)
            trainer = make_trainer(run)
            start = time.perf_counter()
            trainer.train()
            seconds = time.perf_counter() - start
            trainer.evaluate(test_dataset, metric_key_prefix="test")
            save_group_metrics(trainer)
            result = {**trainer.group_results["test"], "seed": seed, "train_seconds": round(seconds, 1)}
            results.setdefault(METHOD_NAMES[method], []).append(result)
            if main and config.should_save:
                trainer.save_model()
    if PartialState().is_main_process:
        print(f"\nTest set, {_seed_note(seeds)}\n{format_comparison(results)}\n", flush=True)
        _save(results, config.output_dir)
    return results


def format_comparison(results: dict[str, list[dict[str, Any]]]) -> str:
    """One Markdown table: a column a method, a row a summary or a group; per cent, with the deviation over seeds."""
    first = next(iter(results.values()))[0]
    main, main_runs = list(results.items())[-1]
    summaries = {name: key for name, key in _SUMMARIES.items() if key in first}
    rows = [[name, *(_cell([r[key] for r in runs]) for runs in results.values())] for name, key in summaries.items()]
    shown, hidden = worst_groups(main_runs[0]["groups"])
    for i in shown:
        group = first["groups"][i]
        if not group["count"]:
            continue
        trained = f" ({group['train_count']:,} train rows)" if "train_count" in group else ""
        cells = [_cell([run["groups"][i]["accuracy"] for run in runs]) for runs in results.values()]
        rows.append([f"{group['label']}, {group['attribute']}{trained}", *cells])
    rows.append(["training time, s", *(_mean([r["train_seconds"] for r in runs]) for runs in results.values())])
    table = format_table(["accuracy, %", *results], rows)
    return table + (f"\n{hidden} groups in which {main} does better are in {COMPARISON_FILE}." if hidden else "")


def _cell(values: list[float]) -> str:
    """Mean, and the sample deviation where there is more than one run, in per cent."""
    mean = f"{100 * statistics.fmean(values):.1f}"
    return mean if len(values) == 1 else f"{mean}±{100 * statistics.stdev(values):.1f}"


def _mean(values: list[float]) -> str:
    return f"{statistics.fmean(values):.0f}"


def _seed_note(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    return f"mean ± deviation over the seeds {', '.join(map(str, seeds))}"


def _save(results: dict[str, list[dict[str, Any]]], directory: str) -> None:
    os.makedirs(directory, exist_ok=True)
    write_json(results, os.path.join(directory, COMPARISON_FILE))
    try:
        from .plots import plot_comparison
    except ImportError:  # report_training has said so
        return
    first = {method: runs[0] for method, runs in results.items()}
    plot_comparison(first, os.path.join(directory, COMPARISON_PICTURE_FILE))
