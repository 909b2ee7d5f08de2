"""Processes that each read a part of the rows all get the index that one gets which reads them whole."""

import json
import os
import subprocess
import sys

import pytest
from places import SUPPORT, python_path
from shared_index import PROCESSES, build, cases, content, data

from gerne_hf import GroupIndex
from gerne_hf.groups.sources import ParquetColumns

NAMES = [*(f"{n} rows" for n in (1, 2, 3, 4, 50)), "text", "product", "no attribute", "class names", "many values"]
NAMES += ["shuffled", "reference", "plain rows", "parquet", "parquet, one"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def ranks(folder):
    """What each process saw."""
    environment = {**os.environ, "PYTHONPATH": python_path(), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(SUPPORT / "shared_index.py"), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(PROCESSES)]


@pytest.mark.parametrize("name", NAMES)
def test_every_process_has_the_whole_index(ranks, folder, name):
    alone = content(build(cases(folder)[name]))
    assert all(seen[name] == alone for seen in ranks)
    assert content(build(cases(folder)[name], in_shards=True)) == alone  # one process reads everything


def test_every_case_was_run(folder):
    assert set(NAMES) == set(cases(folder))


def test_a_trainer_of_several_processes_shares_the_reading(ranks):
    alone = content(GroupIndex.from_dataset(data(60, 2), "label", "text"))
    assert all(seen["trainer"] == alone and seen["joined"] == [60, 60] for seen in ranks)


@pytest.mark.parametrize(
    "name, message",
    [
        ("null", "ValueError: attribute column 'text' has null values, the first in row 47"),
        ("negative label", "ValueError: label column 'label' holds the class ids [-1]"),
        ("other lengths", "ValueError: the processes have data sets of different length: [50, 51, 52] rows"),
        ("no column", "ValueError: the data set has no attribute column 'colour'"),
    ],
)
def test_all_fail_with_the_message_of_the_one_that_found_the_fault(ranks, name, message):
    assert all(seen[name].startswith(message) for seen in ranks), [seen[name] for seen in ranks]


def test_only_row_groups_of_the_part_are_read(folder):
    cases(folder)
    columns = ParquetColumns(str(folder / "0.parquet"))  # 50 rows in groups of 9
    whole = columns.chunks("label")
    values = [value for chunk in whole for value in chunk.to_pylist()]
    part = list(columns.chunks("label", range(20, 30)))
    assert [value for chunk in part for value in chunk.to_pylist()] == values[20:30]
    assert [len(chunk) for chunk in part] == [7, 3]
