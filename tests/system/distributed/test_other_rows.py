"""Processes whose rows differ, as after a shuffle without a seed on each, are refused; results would be of neither."""

import json
import os
import subprocess
import sys

import pytest
from places import SUPPORT, python_path

pytestmark = pytest.mark.slow  # two processes


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What both processes saw."""
    folder = tmp_path_factory.mktemp("other_rows")
    environment = {**os.environ, "PYTHONPATH": python_path(), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SUPPORT / "other_rows.py"), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


NAMES = {
    "training": "training",
    "evaluation": "evaluation 2",
    "plain rows": "training",
    "inputs alone": "evaluation 1",
    "later": "evaluation",
}


@pytest.mark.parametrize("name", NAMES)
def test_other_rows_are_refused_on_both(ranks, name):
    for seen in ranks:
        assert f"the {NAMES[name]} set of process 1 has other rows" in seen[name] and "shuffle(seed=0)" in seen[name]


def test_the_same_rows_are_not(ranks):
    assert [seen["the same"] for seen in ranks] == ["no error", "no error"]
