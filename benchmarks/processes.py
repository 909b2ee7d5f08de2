r"""Rows a second of several processes, each pinned to a core, over those of as many runs that share nothing.

    python benchmarks/overhead.py --processes 2 --models bert

Each process takes the batch that the one takes alone, with DDP between them. All are started together and take turns
of a few steps: one alone, all with DDP, and as many that know nothing of each other. What these reach is what the
machine has to give, since virtual cores may share a real one, so it measures what DDP costs. Whatever else the
machine does slows all alike, and the ratio that is judged is the median over rounds of three turns. Run as a script
with arguments, this file is one of the processes.

With glibc's defaults, memory that a step frees goes back to the system, and its pages are cleared again in the next.
The processes here keep theirs (`KEEP_MEMORY`).
"""

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any, TextIO

import numpy as np
import torch
import transformers
from machine import describe_machine
from overhead import MODELS
from transformers import TrainerCallback

from gerne_hf import GerneConfig, GerneTrainer
from gerne_hf.utils import format_table

BOUND = 0.93  # of what runs that share nothing reach
STEPS, WARM_UP = 3, 2  # steps of a turn, rounds that are not counted
PATIENCE = 300  # seconds that a process may take to start, or for a turn
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
    "MALLOC_TOP_PAD_": "500000000",
}


class Player(TrainerCallback):
    """Waits for each turn, and tells when it is over."""

    def __init__(self, port: int, name: str, steps: int):
        self.steps = steps
        self.line = socket.create_connection(("127.0.0.1", port)).makefile("rw")
        self.tell(name)

    def tell(self, what: str) -> None:
        print(what, file=self.line, flush=True)

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step % self.steps == 0:
            if state.global_step:
                self.tell("done")
            self.line.readline()

    def on_train_end(self, args, state, control, **kwargs):
        self.tell("done")


def play(port: int, model: str, rows: int, steps: int, turns: int, core: int) -> None:
    """Train, on this core or that of the process's rank, when it is this process's turn."""
    rank, processes = (int(os.environ.get(name, default)) for name, default in (("RANK", core), ("WORLD_SIZE", 1)))
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    network, dataset = MODELS[model][1](1_000)
    with tempfile.TemporaryDirectory() as folder:
        args = GerneConfig(
            output_dir=folder,
            use_cpu=True,
            attribute_column="attribute",
            forward_mode="fused",
            per_device_train_batch_size=rows,
            max_steps=steps * turns,
            optim="sgd",
            learning_rate=1e-3,
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            ddp_find_unused_parameters=False,
        )
        trainer = GerneTrainer(model=network, args=args, train_dataset=dataset)
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.add_callback(Player(port, f"{'together' if processes > 1 else 'apart'} {rank}", steps))
        trainer.train()


@contextlib.contextmanager
def players(processes: int, model: str, rows: int, steps: int, rounds: int) -> Iterator[dict[str, TextIO]]:
    """The lines to all processes, by their names."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    environment = {**os.environ, **KEEP_MEMORY, "OMP_NUM_THREADS": "1"}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        server.settimeout(1)
        port, begun = server.getsockname()[1], time.monotonic()
        started = []
        for core in range(-1, processes):  # -1: those that DDP holds together
            turns = 2 * rounds if core == 0 else rounds
            settings = map(str, (port, model, rows, steps, turns, core))
            command = [sys.executable, *(launcher if core < 0 else []), __file__, *settings]
            errors = stack.enter_context(tempfile.TemporaryFile("w+"))
            one = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=errors)
            stack.callback(one.wait)
            stack.callback(one.terminate)
            started.append((one, errors))
        lines = {}
        while len(lines) < 2 * processes:
            for one, errors in started:
                if one.poll() is not None or time.monotonic() - begun > PATIENCE:
                    raise RuntimeError(f"a process of {model} did not start:\n{told(errors)}")
            with contextlib.suppress(TimeoutError):
                connection, _ = server.accept()
                connection.settimeout(PATIENCE)
                line = stack.enter_context(connection.makefile("rw"))
                lines[line.readline().strip()] = line
        try:
            yield lines
        except OSError as error:
            raise RuntimeError(
                f"a turn of {model} failed:\n{''.join(told(errors) for _, errors in started)}"
            ) from error


def told(errors: TextIO) -> str:
    """The end of what a process said."""
    errors.seek(0)
    return errors.read()[-4000:]


def turn(lines: list[TextIO], rows: int) -> float:
    """Rows a second of these processes in one turn of so many rows for each."""
    begun = time.perf_counter()
    for line in lines:
        print("go", file=line, flush=True)
    for line in lines:
        if line.readline().strip() != "done":
            raise ConnectionError("a process ended before its turn did")
    return len(lines) * rows / (time.perf_counter() - begun)


def measure(processes: int, model: str, rows: int, steps: int, rounds: int) -> np.ndarray:
    """Rows a second, by round, of one process alone, of all together and of all apart."""
    rates = []
    with players(processes, model, rows, steps, WARM_UP + rounds) as lines:
        together, apart = ([lines[f"{name} {rank}"] for rank in range(processes)] for name in ("together", "apart"))
        for _ in range(WARM_UP + rounds):
            rates.append([turn(of, steps * rows) for of in (apart[:1], together, apart)])
    return np.array(rates[WARM_UP:])


def judged(rates: np.ndarray, processes: int) -> dict[str, Any]:
    """The ratio that is judged, its quartiles over rounds, and what the machine gives.

    Args:
        rates (`np.ndarray` of shape `(rounds, 3)`): rows a second of one alone, of all together and of all apart.
        processes (`int`): how many these are.
    """
    one, together, apart = rates.T
    ratios = together / apart
    ratio = float(np.median(ratios))
    return {
        "ratio": ratio,
        "quartiles": [float(quarter) for quarter in np.quantile(ratios, (0.25, 0.75))],
        "met": ratio >= BOUND,
        "together_over_one": float(np.median(together / (processes * one))),
        "apart_over_one": float(np.median(apart / (processes * one))),
    }


def main(args: argparse.Namespace) -> int:
    """Print the table; 1 if a ratio is below the bound."""
    torch.set_num_threads(1)  # as the processes do
    cores = len(os.sched_getaffinity(0))
    if args.processes > cores:
        raise ValueError(f"--processes {args.processes} needs a core for each; this process may use {cores}")
    table, missed = [], False
    for name in args.models:
        rows = args.batch_size or MODELS[name][2]
        rates = measure(args.processes, name, rows, args.steps or STEPS, args.rounds)
        found = judged(rates, args.processes)
        missed |= not found["met"]
        quarters = " to ".join(f"{quarter:.3f}" for quarter in found["quartiles"])
        medians = [f"{float(value):,.1f}" for value in np.median(rates, axis=0)]
        ratios = [f"{found['ratio']:.3f}", quarters, f">= {BOUND}", "yes" if found["met"] else "no"]
        over_one = [f"{found[key]:.3f}" for key in ("together_over_one", "apart_over_one")]
        table.append([MODELS[name][0], str(rows), *medians, *ratios, *over_one])
    many = args.processes
    header = ["model", "rows a step and process", "1 process, rows/s", f"{many} processes", f"{many} runs apart"]
    header += [f"{many} processes over {many} runs apart", "quartiles", "bound", "met"]
    header += [f"{many} processes over {many} x one", f"{many} runs apart over {many} x one"]
    print(f"\n{describe_machine()}; {args.rounds} rounds\n\n{format_table(header, table)}")
    return int(missed)


if __name__ == "__main__":
    play(int(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:7]))
