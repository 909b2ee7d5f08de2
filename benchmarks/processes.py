r"""Rows a second of several processes, each pinned to a core, over as many times those of one process on one core.

    python benchmarks/overhead.py --processes 2 --models bert

Each process takes the batch that the one takes alone, with DDP between them. In a round all settings run in turn, and
the ratio that is judged is the median over rounds. As many runs at once that know nothing of each other show what the
machine has to give: virtual cores may share a real one. Run as a script with arguments, this file is one of the
processes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import transformers
from machine import describe_machine
from overhead import MODELS, WARM_UP
from transformers import TrainerCallback

from gerne_hf import GerneConfig, GerneTrainer
from gerne_hf.reports import format_table

BOUND = 0.9


class Stopwatch(TrainerCallback):
    """Seconds from the end of the warm-up to the end of the training."""

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == WARM_UP:
            self.begun = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.ended = time.perf_counter()


def work(model: str, rows: int, steps: int, result: str) -> None:
    """Train on this process's core, and leave the rows a second of all processes in the file `result`."""
    rank, processes = (int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    network, dataset = MODELS[model][1](1_000)
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        args = GerneConfig(
            output_dir=folder,
            use_cpu=True,
            attribute_column="attribute",
            forward_mode="fused",
            per_device_train_batch_size=rows,
            max_steps=WARM_UP + steps,
            optim="sgd",
            learning_rate=1e-3,
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            ddp_find_unused_parameters=False,
        )
        GerneTrainer(model=network, args=args, train_dataset=dataset, callbacks=[watch]).train()
    if rank == 0:
        Path(result).write_text(json.dumps(processes * rows * steps / (watch.ended - watch.begun)))


def start(processes: int, model: str, rows: int, steps: int, core: int | None = None) -> float:
    """Rows a second of so many processes; of one, on `core` if given."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    pinned = [] if core is None else ["taskset", "--cpu-list", str(core)]
    with tempfile.NamedTemporaryFile() as result:
        command = [*pinned, sys.executable, *(launcher if processes > 1 else []), __file__]
        command += [model, str(rows), str(steps), result.name]
        done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{processes} processes of {model} failed:\n{done.stderr[-4000:]}")
        return json.loads(Path(result.name).read_text())


def start_apart(processes: int, model: str, rows: int, steps: int) -> float:
    """Rows a second of so many runs at once that know nothing of each other: the most that the machine gives."""
    cores = sorted(os.sched_getaffinity(0))[:processes]
    with ThreadPoolExecutor(processes) as pool:
        return sum(pool.map(lambda core: start(1, model, rows, steps, core), cores))


def main(args: argparse.Namespace) -> int:
    """Print the table; 1 if a ratio is below the bound."""
    torch.set_num_threads(1)  # as the processes do
    cores = len(os.sched_getaffinity(0))
    if args.processes > cores:
        raise ValueError(f"--processes {args.processes} needs a core for each; this process may use {cores}")
    table, missed = [], False
    for name in args.models:
        label, _, rows, steps = MODELS[name]
        rows, steps = args.batch_size or rows, args.steps or steps
        found = []
        for _ in range(args.rounds):
            found.append([start(1, name, rows, steps), start(args.processes, name, rows, steps)])
            found[-1].append(start_apart(args.processes, name, rows, steps))
        rates = [f"{float(np.median(values)):,.1f}" for values in zip(*found, strict=True)]
        ratios = [many / (args.processes * one) for one, many, _ in found]
        most = float(np.median([apart / (args.processes * one) for one, _, apart in found]))
        ratio = float(np.median(ratios))
        missed |= ratio < BOUND
        judged = [f"{ratio:.3f}", f"{min(ratios):.3f} to {max(ratios):.3f}", f"{most:.3f}"]
        table.append([label, str(rows), *rates, *judged, f"{BOUND}", "no" if ratio < BOUND else "yes"])
    many = args.processes
    header = ["model", "rows a step and process", "1 process, rows/s", f"{many} processes", f"{many} runs apart"]
    header += [f"{many} processes over {many} x one", "over rounds", f"{many} runs apart over {many} x one"]
    print(f"\n{describe_machine()}\n\n{format_table([*header, 'bound', 'met'], table)}")
    return int(missed)


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
