"""Kill runs with SIGKILL at random moments, resume them, and compare the final weights with those of a whole run.

    python benchmarks/kill_resume.py --kills 50

A run is killed at a random time, or at a random file operation while it saves a checkpoint, up to three times in a
row, each time resumed from its newest whole checkpoint, and at last left to end. Prints one table; exit status 1 if
any weights differ. Runs are forked from this process, which has the libraries imported; it needs Linux or macOS.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from pathlib import Path

from kill_resume_runs import SETTINGS, Setting, digest, train  # first: it sets the environment

import optuna  # isort: skip
import torch  # isort: skip
from transformers import set_seed  # isort: skip

from gerne_hf.utils import format_table  # isort: skip

MOST_KILLS_IN_A_ROW = 3
LONGEST_RUN = 120.0  # seconds; a run that takes longer hangs


# ---- processes ----------------------------------------------------------------------------------------------------


class SaveWatch:
    """Counts the file operations in checkpoints, and kills its process at one of them."""

    def __init__(self, kill_at: int | None):
        self.kill_at, self.count = kill_at, 0
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple) -> None:
        if event not in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"):
            return
        if "checkpoint-" in str(arguments[0]):
            self.count += 1
            if self.count == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)


def fork_run(setting: Setting, folder: Path, port: int, kill_at: int | None = None) -> list[int]:
    """Start the processes of a run, each the leader of a group of its own with its workers; their ids. `kill_at` is
    the file operation at which the first one kills itself."""
    children = []
    for rank in range(setting.processes):
        child = os.fork()
        if child:
            with contextlib.suppress(OSError):
                os.setpgid(child, child)
            children.append(child)
            continue
        status = 1
        try:
            os.setpgid(0, 0)
            log = os.open(folder / f"log{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            if setting.processes > 1:
                os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(setting.processes))
                os.environ.update(LOCAL_WORLD_SIZE=str(setting.processes), MASTER_ADDR="127.0.0.1")
                os.environ.update(MASTER_PORT=str(port), ACCELERATE_USE_CPU="true")
            torch.set_num_threads(1)
            set_seed(int.from_bytes(os.urandom(4), "little"))  # nothing may depend on what the process drew before
            watch = SaveWatch(kill_at if rank == 0 else None)
            weights = train(setting, folder)
            done = {"sha256": digest(weights), "operations": watch.count}
            partial = folder / f"done{rank}.partial"
            partial.write_text(json.dumps(done))
            partial.rename(folder / f"done{rank}.json")
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return children


def kill(children: list[int]) -> None:
    """SIGKILL for all that is left of a run, workers included."""
    for child in children:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)


def run_once(setting: Setting, folder: Path, after: float | None = None, kill_at: int | None = None) -> str:
    """Run to the end or to the kill; "ended" or "killed".

    Args:
        setting ([`Setting`]): the run.
        folder (`Path`): where it stands.
        after (`float`, *optional*): seconds after which all processes are killed.
        kill_at (`int`, *optional*): file operation at which the first process kills itself.

    Raises:
        RuntimeError: for a run that fails or hangs; with the end of its log.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    begin = time.monotonic()
    children = fork_run(setting, folder, port, kill_at)
    left, statuses = set(children), {}
    limit = LONGEST_RUN if after is None else after
    while left and time.monotonic() - begin < limit:
        for child in list(left):
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                left.discard(child)
                statuses[child] = status
        if any(statuses.values()):  # one has died: as a launcher does, end the others
            break
        time.sleep(0.005)
    kill(children)
    for child in left:
        statuses[child] = os.waitpid(child, 0)[1]
    codes = [os.waitstatus_to_exitcode(statuses[child]) for child in children]
    if codes[0] == 1 or 1 in codes and -signal.SIGKILL not in codes or (left and after is None and kill_at is None):
        log = "\n".join((folder / f"log{rank}.txt").read_text()[-3000:] for rank in range(setting.processes))
        raise RuntimeError(f"{setting.name}: exit codes {codes}\n{log}")
    return "ended" if not any(codes) else "killed"


# ---- the experiment -----------------------------------------------------------------------------------------------


def whole_run(setting: Setting, root: Path) -> tuple[list[str], float, int]:
    """An uninterrupted run: its weights' hashes, its seconds, and its number of file operations."""
    folder = root / "whole"
    folder.mkdir(parents=True)
    begin = time.monotonic()
    run_once(setting, folder)
    done = results(setting, folder)
    return [entry["sha256"] for entry in done], time.monotonic() - begin, done[0]["operations"]


def results(setting: Setting, folder: Path) -> list[dict]:
    """What the processes of an ended run left behind."""
    return [json.loads((folder / f"done{rank}.json").read_text()) for rank in range(setting.processes)]


def killed_run(setting: Setting, folder: Path, kills: int, seconds: float, operations: int, seed: int) -> tuple:
    """Kill a run up to `kills` times, then let it end; its hashes, and the kills that reached it."""
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    reached = 0
    for _ in range(kills):
        if rng.random() < 0.5 and operations:
            state = run_once(setting, folder, kill_at=rng.randint(1, operations))
        else:
            state = run_once(setting, folder, after=rng.uniform(0.2, 1.0) * seconds)
        if state == "ended":
            break
        reached += 1
    else:
        run_once(setting, folder)
    return [entry["sha256"] for entry in results(setting, folder)], reached


def experiment(settings: list[Setting], kills: int, seed: int, root: Path) -> bool:
    """Kill runs of all settings in turn until `kills` have reached one; print the table. Whether all were equal."""
    whole = {}
    table = {setting.name: [0, 0, 0, []] for setting in settings}
    total, number = 0, 0
    while total < kills:
        setting = settings[number % len(settings)]
        entry = table[setting.name]
        if setting.name not in whole:
            whole[setting.name] = whole_run(setting, root / f"{number}-whole")
        expected, seconds, operations = whole[setting.name]
        this_seed = seed * 100_000 + number
        wanted = min(1 + number % MOST_KILLS_IN_A_ROW, kills - total)
        folder = root / f"{number}-killed"
        found, reached = killed_run(setting, folder, wanted, seconds, operations, this_seed)
        same = found == expected
        total, number = total + reached, number + 1
        entry[0], entry[1], entry[2] = entry[0] + 1, entry[1] + reached, entry[2] + same
        entry[3].append(this_seed)
        print(f"{total:3d} of {kills} kills; {setting.name}: {'equal' if same else 'DIFFERENT'}", flush=True)
        if same:
            shutil.rmtree(folder)
    lines = [
        [name, runs, killed, f"{equal} of {runs}", " ".join(map(str, seeds))]
        for name, (runs, killed, equal, seeds) in table.items()
        if runs
    ]
    print(f"\nseed {seed}, {total} SIGKILLs\n")
    print(format_table(["setting", "runs", "kills", "bit-equal", "seeds"], lines))
    return all(entry[0] == entry[2] for entry in table.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="SIGKILLs in all")
    parser.add_argument("--seed", type=int, default=0, help="decides when each run is killed")
    parser.add_argument("--only", help="settings whose name has this in it")
    parser.add_argument("--keep", help="folder for the runs, which is kept")
    arguments = parser.parse_args()
    settings = [setting for setting in SETTINGS if arguments.only is None or arguments.only in setting.name]
    if not settings:
        parser.error(f"no setting has {arguments.only!r} in its name: {'; '.join(s.name for s in SETTINGS)}")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        same = experiment(settings, arguments.kills, arguments.seed, Path(arguments.keep or temporary))
    print(f"\n{time.monotonic() - begin:.0f} seconds")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
