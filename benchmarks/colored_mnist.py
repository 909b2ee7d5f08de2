"""The Colored MNIST table: known and unknown attributes, each minority share and seed, beside the paper's figures.

    python benchmarks/colored_mnist.py --dataset_name ylecun/mnist --seeds 0,1,2 --jobs 2

Runs recipes/colored_mnist.py with the settings in recipes/configs, a process for each share and seed, `--jobs` of them
at once and one thread each. Runs that are complete already are not repeated.
"""

import argparse
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from recipe_runs import ROOT, recipe_results

from gerne_hf.utils import format_table, write_json

PAPER = {  # group-balanced test accuracy, per cent
    "0.5": {"ERM": 35.19, "Group DRO": 63.12, "JTT, GERNE's biased model": 53.03, "resampling": 77.68}
    | {"GERNE, unknown attributes": 77.25, "GERNE": 77.79},
    "1": {"resampling": 84.36, "GERNE, unknown attributes": 83.98, "GERNE": 84.47},
    "2": {"resampling": 88.15, "GERNE, unknown attributes": 87.41, "GERNE": 88.30},
    "5": {"resampling": 91.98, "GERNE, unknown attributes": 90.98, "GERNE": 92.16},
}
METHODS = {"0.5": "erm,group_dro,jtt_biased_model,resampling,pseudo"}
"""Methods beside GERNE, by share; for the others unknown attributes alone."""


def run(share: str, seed: int, arguments: argparse.Namespace) -> dict:
    """One run of the recipe; its comparison.json."""
    folder = Path(arguments.output_dir) / f"share{share}-seed{seed}"
    methods = METHODS.get(share, "pseudo")
    config = "colored_mnist.yaml" if share == "0.5" else f"colored_mnist_{share}.yaml"
    options = ["--config", str(ROOT / "recipes" / "configs" / config), "--dataset_name", arguments.dataset_name]
    results = recipe_results("colored_mnist", folder, *options, "--compare", methods, "--seeds", str(seed))
    print(f"share {share} %, seed {seed}: done", flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset_name", default="ylecun/mnist", help="Hub id or folder of MNIST")
    parser.add_argument("--shares", default="0.5,1,2,5", help="minority shares, per cent")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--output_dir", default="outputs/colored_mnist_table")
    arguments = parser.parse_args()
    shares, seeds = arguments.shares.split(","), [int(seed) for seed in arguments.seeds.split(",")]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        runs = {(share, seed): pool.submit(run, share, seed, arguments) for seed in seeds for share in shares}
    results = {key: future.result() for key, future in runs.items()}

    rows, figures = [], []
    for share in shares:
        for method in results[share, seeds[0]]:
            values = [100 * results[share, s][method][0]["group_balanced_accuracy"] for s in seeds]
            seconds = statistics.fmean(results[share, s][method][0]["train_seconds"] for s in seeds)
            deviation = statistics.stdev(values) if len(values) > 1 else None
            paper = PAPER[share].get(method)
            figures.append(
                {"share": share, "method": method, "values": values, "paper": paper, "train_seconds": seconds}
            )
            mean = f"{statistics.fmean(values):.2f}" + (f"±{deviation:.2f}" if deviation is not None else "")
            rows.append([f"{share} %, {method}", "-" if paper is None else f"{paper:.2f}", mean, f"{seconds:.0f}"])
    write_json(figures, str(Path(arguments.output_dir) / "table.json"))
    header = ["minority, method", "paper, GBA %", "ours, GBA %", "training, s"]
    print(f"\nGroup-balanced test accuracy, seeds {arguments.seeds}\n{format_table(header, rows)}")


if __name__ == "__main__":
    main()
