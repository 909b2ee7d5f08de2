"""What test_same_batches.py runs on 2 and 4 processes, forked so that the libraries are loaded once: the rows and
gradients of each plan, and evaluations of sets that the processes cannot share evenly."""

import json
import sys
from pathlib import Path

import accelerate
import numpy as np
import torch
from helpers import Gradients, mlp, table, trainer, watch_batches

import gerne_hf.reports.plots
from gerne_hf.method.plans import PLANS

ROWS, ACCUMULATED, STEPS = 8, 4, 3
"""Rows a batch, batches an optimizer step over all processes, optimizer steps: an epoch of 96 rows."""

COUNTS = [[44, 8], [12, 32]]
TRAIN, HELD_OUT = table(COUNTS), table([[20, 10], [9, 11]], seed=5)
MODES = ("fused", "separate")
PLAIN = "plain ERM"
"""Every row once, in place of a plan's name."""
SIZES = (1, 3, 8, 15, 17)
"""Rows of evaluation sets; with 4 rows a batch 2 processes take 8 at once, and 4 processes 16."""


def build(output_dir, plan="independent", mode="fused", processes=1, dtype=torch.float64, **settings):
    """A trainer whose optimizer step takes the same rows on any number of processes."""
    if plan == PLAIN:
        plan, settings = "erm", dict(settings, class_balanced=False)
    settings = dict(max_steps=STEPS, per_device_train_batch_size=ROWS, per_device_eval_batch_size=4) | settings
    settings |= dict(plan=plan, forward_mode=mode, gradient_accumulation_steps=ACCUMULATED // processes, beta=0.8)
    return trainer(output_dir, mlp(dtype=dtype), TRAIN, max_grad_norm=0.0, **settings)


def steps_of(subject) -> dict:
    """Train; the rows of each batch and the gradient of each optimizer step."""
    gradients = Gradients()
    subject.add_callback(gradients)
    batches = watch_batches(subject)
    subject.train()
    named = [{name.removeprefix("module."): value for name, value in step.items()} for step in gradients.steps]
    return {"rows": [batch["row"].tolist() for batch in batches], "gradients": named}


def evaluations(output_dir) -> dict:
    """Predictions, labels and group metrics of sets of every size, in both ways of computing metrics."""
    seen = {}
    for batched in (False, True):
        subject = build(output_dir, batch_eval_metrics=batched)
        for size in SIZES:
            output = subject.predict(HELD_OUT.select(range(size)))
            metrics = {k: v for k, v in output.metrics.items() if "group" in k or "class" in k or "accuracy" in k}
            labels, logits = (output.label_ids, output.predictions) if not batched else ([], [])
            seen[f"{size} {batched}"] = [np.asarray(labels).tolist(), np.asarray(logits).tolist(), metrics]
    return seen


def run(folder: str, processes: int) -> None:
    """Leave `PROCESSES-RANK.json` and `PROCESSES-RANK.pt` in `folder`."""
    torch.set_num_threads(1)
    gerne_hf.reports.plots.plot_training = lambda *args: None  # takes longer than the runs, and nobody looks at it
    seen, gradients = {}, {}
    for plan in (*PLANS, PLAIN):
        for mode in MODES:
            steps = steps_of(build(f"{folder}/{processes}", plan, mode, processes))
            seen[f"{plan} {mode}"], gradients[f"{plan} {mode}"] = steps["rows"], steps["gradients"]
    subject = build(f"{folder}/{processes}", processes=processes)
    assert subject.args.world_size == processes
    seen["evaluations"] = evaluations(f"{folder}/{processes}")
    rank = subject.args.process_index
    torch.save(gradients, Path(folder) / f"{processes}-{rank}.pt")
    (Path(folder) / f"{processes}-{rank}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    for count in map(int, sys.argv[2:]):
        accelerate.debug_launcher(run, (sys.argv[1], count), num_processes=count)
