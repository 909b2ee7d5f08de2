"""The benchmarks that measure with several processes end with their table."""

import os
import subprocess
import sys

import pytest
from places import ROOT, python_path

pytestmark = pytest.mark.slow


def overhead(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "benchmarks/overhead.py", *arguments]
    settings = {**os.environ, "PYTHONPATH": python_path(), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=240)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two processes, each on a core of its own")
def test_two_processes_take_turns():
    done = overhead("--processes", "2", "--models", "bert", "--batch_size", "4", "--steps", "4", "--rounds", "5")
    assert done.returncode in (0, 1), done.stderr[-4000:]  # 1: the bound is missed, which four rows will do
    *_, row = done.stdout.splitlines()
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    alone, together, apart = (float(cell.replace(",", "")) for cell in cells[2:5])
    assert cells[:2] == ["BERT, 4 layers, 128 wide, 64 tokens", "4"]
    assert min(alone, together, apart) > 0 and 0 < float(cells[5]) < 2


def test_more_processes_than_cores_are_refused():
    done = overhead("--processes", str(len(os.sched_getaffinity(0)) + 1), "--models", "bert")
    assert done.returncode != 0 and "needs a core for each" in done.stderr
