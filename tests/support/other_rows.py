"""What test_other_rows.py runs on 2 forked processes: each shuffles one of its sets by itself."""

import json
import sys
from pathlib import Path

import accelerate
from helpers import Rows, mlp, table, trainer

import gerne_hf.reports.plots


def attempt(folder: str, name: str, rank: int) -> str:
    """What a trainer says whose training, evaluation or later set differs between the processes."""

    def shuffled():
        return table().shuffle(seed=rank)

    settings = dict(use_cpu=True, max_steps=1, eval_dataset=table(), train=table())
    if name == "training":
        settings["train"] = shuffled()
    elif name == "evaluation":
        settings["eval_dataset"] = {"first": table(), "second": shuffled()}
    elif name == "plain rows":
        settings["train"] = Rows(shuffled())
    elif name == "inputs alone":
        settings["eval_dataset"] = table().map(lambda row: {"inputs": [value + rank for value in row["inputs"]]})
    try:
        subject = trainer(f"{folder}/{name}", mlp(), **settings)
        subject.evaluate(shuffled() if name == "later" else table())
        subject.train()
    except ValueError as error:
        return str(error)
    return "no error"


def run(folder: str) -> None:
    """Leave `RANK.json` in `folder`."""
    gerne_hf.reports.plots.plot_training = lambda *args: None
    rank = accelerate.PartialState(cpu=True).process_index
    names = ("the same", "training", "evaluation", "plain rows", "inputs alone", "later")
    seen = {name: attempt(folder, name, rank) for name in names}
    (Path(folder) / f"{rank}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    accelerate.debug_launcher(run, (sys.argv[1],), num_processes=2)
