"""A run of two processes in which one fails: all end, at once, with its message."""

import re
from pathlib import Path

import pytest
from helpers import launch

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.parametrize(
    "where, rank, message",
    [("row", 1, r"OSError: row \d+ cannot be read"), ("construction", 0, r"NotADirectoryError: .*Not a directory")],
)
def test_all_processes_end_with_the_message_of_the_one_that_failed(where, rank, message, tmp_path):
    done = launch(HERE / "failing.py", tmp_path, where)
    assert done.returncode == 1
    first, other = ((tmp_path / f"{r}.txt").read_text().split("\n", 1) for r in (rank, 1 - rank))
    assert re.match(message, first[1])
    assert re.match(f"RuntimeError: process {rank} failed with {message}", other[1])
    assert float(other[0]) < 60  # the processes' own time-out is half an hour
    summary = done.stderr.rsplit("Root Cause (first observed failure)", 1)[1]
    assert re.search(rf"rank +: {rank}\b", summary) and re.search(message, summary), summary
