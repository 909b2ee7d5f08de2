"""What each run of a comparison got right of the test set, row by row, kept beside the run.

Imports `evaluation/` and trainers. [`telling_apart`](gerne_hf.comparison.telling_apart) compares methods by these
rows, and as they lie in the run's folder, a comparison that was interrupted compares the runs that had ended, too.
"""

import contextlib
import os
import zipfile
from collections.abc import Iterator

import numpy as np

from ..evaluation.accumulator import GroupAccumulator
from ..groups.index import GroupIndex
from ..trainer import GerneTrainer
from .telling_apart import Rows

TEST_ROWS_FILE = "test_rows.npz"
"""File in the folder of a run: which test rows its model gets right, a bit a row. It is never published."""


@contextlib.contextmanager
def noted_accumulators(trainer: GerneTrainer) -> Iterator[list[GroupAccumulator]]:
    """Note what collects the rows of evaluations while the context lasts; of streams nothing is noted.

    Args:
        trainer ([`GerneTrainer`]): the trainer that evaluates.
    """
    made: list[GroupAccumulator] = []
    make = trainer.make_accumulator

    def note(index: GroupIndex) -> GroupAccumulator:
        made.append(make(index))
        return made[-1]

    vars(trainer)["make_accumulator"] = note
    try:
        yield made
    finally:
        vars(trainer).pop("make_accumulator")


def save_test_rows(trainer: GerneTrainer, accumulators: list[GroupAccumulator], folder: str) -> None:
    """Write which rows a model gets right to the run's folder, on the main process; a file of an earlier run goes.

    Nothing is written for a stream, and where rows did not come in the order of the data set.

    Args:
        trainer ([`GerneTrainer`]): after its evaluation of the test set.
        accumulators (`list[GroupAccumulator]`): what was noted of this evaluation.
        folder (`str`): the run's folder.
    """
    if not trainer.args.should_save:
        return
    path = os.path.join(folder, TEST_ROWS_FILE)
    if os.path.exists(path):
        os.remove(path)
    if not accumulators:
        return
    accumulator = accumulators[-1]
    labels, cells, predicted = accumulator.columns()
    if not np.array_equal(cells, accumulator.index.codes):
        return
    smallest = np.min_scalar_type(max(accumulator.index.counts.size - 1, 0))
    os.makedirs(folder, exist_ok=True)
    with open(path + ".partial", "wb") as file:
        np.savez_compressed(
            file,
            correct=np.packbits(predicted == labels),
            cells=cells.astype(smallest),
            memberships=accumulator.memberships(),
        )
    os.replace(path + ".partial", path)


def load_test_rows(folder: str) -> Rows | None:
    """Return which test rows a run got right; None where they were not kept, or the file is damaged.

    Args:
        folder (`str`): the run's folder.
    """
    path = os.path.join(folder, TEST_ROWS_FILE)
    if not os.path.isfile(path):
        return None
    try:
        with np.load(path) as file:
            cells = file["cells"].astype(np.int64)
            correct = np.unpackbits(file["correct"], count=len(cells)).astype(bool)
            return Rows(correct, cells, file["memberships"].astype(bool))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
