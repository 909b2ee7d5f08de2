"""Columns that a model does not take are left out as by Transformers' collator, only faster."""

import pytest
import torch
from helpers import Rows, mlp, own_loader, table, trainer
from transformers import DefaultDataCollator, default_data_collator
from transformers.trainer_utils import RemoveColumnsCollator
from transformers.utils import logging

from gerne_hf.groups.batches import UniformRowsCollator

ROWS = {
    "the same keys": [{"inputs": 1, "labels": 0, "place": "sea"}, {"inputs": 2, "labels": 1, "place": "land"}],
    "nothing to leave out": [{"inputs": 1, "labels": 0}, {"labels": 1, "inputs": 2}],
    "other keys in the second": [{"inputs": 1, "labels": 0}, {"inputs": 2, "labels": 1, "place": "land"}],
    "a key less in the second": [{"inputs": 1, "labels": 0, "place": "sea"}, {"inputs": 2, "labels": 1}],
    "no dictionaries": [(1, 0), (2, 1)],
    "a dictionary first": [{"inputs": 1, "place": "sea"}, (2, 1)],
}


class Logger:
    def __init__(self):
        self.lines = []

    def info(self, line):
        self.lines.append(line)


@pytest.mark.parametrize("name", ROWS)
def test_the_rows_are_those_of_the_parent(name):
    loggers = Logger(), Logger()
    parent, fast = (RemoveColumnsCollator(list, ["inputs", "labels"], logger, "MLP", "training") for logger in loggers)
    fast = UniformRowsCollator(fast)
    given = [dict(row) if isinstance(row, dict) else row for row in ROWS[name]]
    for _ in range(2):
        assert fast(given) == parent(ROWS[name])
    assert given == ROWS[name]  # nobody's rows are changed
    assert loggers[0].lines == loggers[1].lines and len(loggers[1].lines) <= 1


@pytest.mark.parametrize("collator", [default_data_collator, DefaultDataCollator()], ids=["function", "class"])
@pytest.mark.parametrize("name", ["the same keys", "nothing to leave out", "other keys in the second"])
def test_batches_of_the_default_collator_are_those_of_the_parent(name, collator):
    parent = RemoveColumnsCollator(collator, ["inputs", "labels"])
    fast = UniformRowsCollator(parent)
    given = [dict(row) for row in ROWS[name]]
    expected, found = parent(ROWS[name]), fast(given)
    assert list(found) == list(expected) == list(k for k in given[0] if k != "place")
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert given == ROWS[name]  # nobody's rows are changed


def test_the_trainer_takes_it_for_rows_of_any_data_set(tmp_path):
    subject = trainer(tmp_path, mlp(), Rows(table()))
    loader = own_loader(subject)
    assert isinstance(loader.collate_fn.collator, UniformRowsCollator)
    assert set(next(iter(loader))) == {"inputs", "labels", "row", "gerne_group_ids"}  # no "place"
    kept = own_loader(trainer(tmp_path, mlp(), Rows(table()), remove_unused_columns=False))
    assert not isinstance(kept.collate_fn.collator, RemoveColumnsCollator)


def test_what_is_left_out_is_told_as_the_parent_tells_it(tmp_path):
    lines = []
    logger = logging.get_logger("transformers.trainer")
    subject = trainer(tmp_path, mlp(), Rows(table()))
    collator = subject._get_collator_with_removed_columns(subject.data_collator, "training")
    assert collator.logger is logger
    collator.logger = type("Lines", (), {"info": staticmethod(lines.append)})
    rows = [Rows(table())[i] for i in range(4)]
    collator(rows)
    collator(rows)
    assert len(lines) == 1 and "have been ignored" in lines[0]
