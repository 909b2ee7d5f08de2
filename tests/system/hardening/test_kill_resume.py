"""Runs that are killed by SIGKILL and resumed end with the weights of the whole run; benchmarks/kill_resume.py, short.

By itself the benchmark takes a few minutes:  python benchmarks/kill_resume.py --kills 50
"""

import re
import subprocess
import sys

import pytest
from places import ROOT

BENCHMARK = ROOT / "benchmarks" / "kill_resume.py"


def killed(*arguments):
    command = [sys.executable, str(BENCHMARK), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900)


def test_killed_runs_end_with_the_same_weights():
    done = killed("--kills", 3, "--seed", 4, "--only", "mid-epoch")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "seed 4, 3 SIGKILLs" in done.stdout
    (row,) = re.findall(r"\| independent, mid-epoch +\| +(\d+) \| +(\d+) \| +(\d+) of (\d+) \|", done.stdout)
    assert row[1] == "3" and row[0] == row[2] == row[3]


@pytest.mark.slow
def test_killed_runs_of_all_settings_end_with_the_same_weights():
    done = killed("--kills", 30, "--seed", 5)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert done.stdout.count("\n| ") > 10
