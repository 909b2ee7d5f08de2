"""A run of two processes in which one fails: all end, at once, with its message."""

import re

import pytest
from helpers import launch
from places import SUPPORT


@pytest.mark.slow
@pytest.mark.parametrize(
    "where, rank, message",
    [("row", 1, r"OSError: row \d+ cannot be read"), ("construction", 0, r"NotADirectoryError: .*Not a directory")],
)
def test_all_processes_end_with_the_message_of_the_one_that_failed(where, rank, message, tmp_path):
    done = launch(SUPPORT / "failing.py", tmp_path, where)
    assert done.returncode == 1
    assert re.match(message, (tmp_path / f"{rank}.txt").read_text().split("\n", 1)[1])
    other = tmp_path / f"{1 - rank}.txt"
    if other.exists():  # else the launcher has ended that process before it could say so
        seconds, told = other.read_text().split("\n", 1)
        assert re.match(f"RuntimeError: process {rank} failed with {message}", told)
        assert float(seconds) < 60  # the processes' own time-out is half an hour
    summary = done.stderr.rsplit("Root Cause (first observed failure)", 1)[1]
    assert re.search(rf"rank +: {rank}\b", summary) and re.search(message, summary), summary
