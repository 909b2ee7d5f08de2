"""Whether inferred groups help at all: methods are judged against class-balanced ERM on the validation set.

Imports `evaluation/` and trainers. [`comparing`](gerne_hf.comparison.comparing) keeps the validation rows of each run
in the run's folder, so that an interrupted comparison is judged as one that was not.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..evaluation.accumulator import GroupAccumulator
from ..evaluation.gate import GATE_TOLERANCE
from ..evaluation.metrics import group_metrics
from ..groups.sources import only_iterated
from ..reports.record import EXAMPLES_FOLDER, RECOVERY_PICTURE_FILE
from ..reports.tables import NO_BETTER_METHOD
from ..trainer import GerneTrainer
from .kept_rows import TEST_ROWS_FILE, noted_accumulators
from .methods import METHODS
from .progress import RUN_FILE

INFERRED, BALANCED = "pseudo", "class_balanced"
"""The method that is judged, and the one that it must be better than."""

GATE_FIGURES = ("worst_group_accuracy", "class_balanced_accuracy")
"""What the gate compares, each of the run and of class-balanced ERM."""

ROWS_FILE = "validation_rows.npz"
"""File in the folder of a run with what its model makes of each row of the validation set."""


def with_class_balanced(methods: Sequence[str]) -> list[str]:
    """Return the methods, with class-balanced ERM before GERNE with unknown attributes if that is among them.

    Args:
        methods (`Sequence[str]`): names of methods.

    Example:

    ```python
    >>> with_class_balanced(["erm", "pseudo"]), with_class_balanced(["pseudo", "class_balanced", "independent"])
    (['erm', 'class_balanced', 'pseudo'], ['pseudo', 'class_balanced', 'independent'])

    ```
    """
    names = list(methods)
    if INFERRED in names and BALANCED not in names:
        names.insert(names.index(INFERRED), BALANCED)
    return names


def in_order(methods: Sequence[str]) -> list[str]:
    """Return the methods in the order of training: class-balanced ERM before those that are judged against it.

    Args:
        methods (`Sequence[str]`): names of methods.
    """
    if INFERRED not in methods:
        return list(methods)
    return sorted(methods, key=lambda name: name not in ("erm", BALANCED))


def save_validation_rows(trainer: GerneTrainer, folder: str) -> None:
    """Write what a model makes of the validation set to the run's folder; all processes call this.

    The file has `labels` and `predicted` of all rows, `worst`, the accuracy of the worst group where the set has
    attributes, and for a run with inferred groups `whole`, whether it is class-balanced ERM itself since no class was
    split or beta is -1, and `attributes`, the inferred ones of the rows where the set has none.

    Args:
        trainer ([`GerneTrainer`]): after training.
        folder (`str`): the run's folder.
    """
    path = os.path.join(folder, ROWS_FILE)
    if trainer.args.should_save and os.path.exists(path):
        os.remove(path)  # of an earlier model
    sets = trainer.eval_dataset
    data = next(iter(sets.values()), None) if isinstance(sets, dict) else sets
    if data is None or only_iterated(data):
        return
    accumulator = _evaluated(trainer, data)
    labels, groups, predicted = accumulator.columns()
    if not np.array_equal(groups, accumulator.index.codes):
        return  # rows out of order cannot be told apart
    rows: dict[str, Any] = {"labels": labels, "predicted": predicted}
    if accumulator.index.num_attributes > 1:
        rows["worst"] = accumulator.result()["worst_group_accuracy"]
    inferred = trainer.inferred if trainer.args.pseudo_attributes else None
    if inferred is not None:
        rows["whole"] = inferred.whole or trainer.args.beta == -1.0  # as a search leaves it that found nothing better
        if inferred.evaluation is not None:
            rows["attributes"] = inferred.evaluation.codes.astype(np.int64) % inferred.evaluation.num_attributes
    if trainer.args.should_save:
        with open(path + ".partial", "wb") as file:
            np.savez(file, **rows)
        os.replace(path + ".partial", path)


def _evaluated(trainer: GerneTrainer, data: Any) -> GroupAccumulator:
    """Evaluate the model on a data set and return what collected its rows; no figure of the run is changed."""
    prefix = "judged"
    with noted_accumulators(trainer) as made:
        try:
            trainer.predict(data, metric_key_prefix=prefix)
        finally:
            trainer.group_results.pop(prefix, None)
            trainer.worst_rows.pop(prefix, None)
    return made[-1]


def judged(folder: str, inferred_folder: str, balanced_folder: str) -> dict[str, Any] | None:
    """Return whether a run is better than class-balanced ERM on the validation set.

    It is if the accuracy of its worst group is higher, and its class-balanced accuracy not more than `GATE_TOLERANCE`
    below. Where the validation set has no attributes, both runs are judged over the same inferred groups. A run that
    is class-balanced ERM itself, since no class was split or beta is -1, is no better.

    Args:
        folder, balanced_folder (`str`): folders of the run and of class-balanced ERM.
        inferred_folder (`str`): folder of the run that inferred the groups, which may be the same as `folder`.

    Returns:
        `dict`: `better`, and of the run and of class-balanced ERM, in this order, `worst_group_accuracy` and
        `class_balanced_accuracy`; None where files are missing or nobody knows the groups.
    """
    run, inferred, balanced = (_rows(path) for path in (folder, inferred_folder, balanced_folder))
    if run is None or inferred is None or balanced is None:
        return None
    worst, accuracy = [], []
    for rows in (run, balanced):
        attributes = inferred.get("attributes")
        if len(rows["labels"]) != len(inferred["labels"]) or ("worst" not in rows and attributes is None):
            return None
        known = attributes if attributes is not None else np.zeros_like(rows["labels"])
        result = group_metrics(rows["predicted"], rows["labels"], known)
        worst.append(float(rows["worst"]) if "worst" in rows else result["worst_group_accuracy"])
        accuracy.append(result["class_balanced_accuracy"])
    whole = bool(run.get("whole", False))
    better = not whole and worst[0] > worst[1] and accuracy[0] >= accuracy[1] - GATE_TOLERANCE
    return {"better": better, "worst_group_accuracy": worst, "class_balanced_accuracy": accuracy}


def verdict(folders: Mapping[str, str]) -> str | None:
    """Return what is said where GERNE with unknown attributes is no better than class-balanced ERM; None where it is.

    Args:
        folders (`Mapping[str, str]`): by method, the folder of its run, all of the same seed.

    Returns:
        `str`, *optional*: that no method is better, or only that this one is not, where another of the methods is.
        Also None where nobody knows, as without a validation set.
    """
    if INFERRED not in folders or BALANCED not in folders:
        return None
    inferred, balanced = folders[INFERRED], folders[BALANCED]
    found = judged(inferred, inferred, balanced)
    if found is None or found["better"]:
        return None
    others = [folder for name, folder in folders.items() if name not in (INFERRED, BALANCED, "erm")]
    if any((judged(folder, inferred, balanced) or {"better": False})["better"] for folder in others):
        return f"{METHODS[INFERRED].title}: no better than class-balanced ERM here"
    return NO_BETTER_METHOD


def gate_lines(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Return, for each seed, a sentence with the figures that the gate has decided by.

    Args:
        runs (`Sequence[dict]`): the results of GERNE with unknown attributes, with `seed` and perhaps `gate`.
    """
    lines = []
    for run in runs:
        if "gate" not in run:
            continue
        gate = run["gate"]
        worst, accuracy = ([f"{100 * value:.1f}" for value in gate[key]] for key in GATE_FIGURES)
        lines.append(
            f"Validation set, seed {run['seed']}: with inferred groups {worst[0]} % right in the worst group and "
            f"{accuracy[0]} % over balanced classes, with class-balanced ERM {worst[1]} % and {accuracy[1]} %."
        )
    return lines


def _rows(folder: str) -> dict[str, np.ndarray] | None:
    path = os.path.join(folder, ROWS_FILE)
    if not os.path.isfile(path):
        return None
    with np.load(path) as file:
        return dict(file)


def put_in_place(source: str, folder: str, aside: str) -> None:
    """Put the model and the reports of one run in the place of those of another; on the main process only.

    Args:
        source (`str`): folder of the run whose files are copied.
        folder (`str`): where they are put. Its checkpoints stay, so that the run there can still go on.
        aside (`str`): where the picture that only the run in `folder` has is moved.
    """
    picture = os.path.join(folder, RECOVERY_PICTURE_FILE)
    if os.path.isfile(picture):
        os.replace(picture, os.path.join(aside, RECOVERY_PICTURE_FILE))
    examples = os.path.join(folder, EXAMPLES_FOLDER)
    shutil.rmtree(examples, ignore_errors=True)
    if os.path.isdir(os.path.join(source, EXAMPLES_FOLDER)):
        shutil.copytree(os.path.join(source, EXAMPLES_FOLDER), examples)
    for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
        if entry.is_file() and entry.name not in (RUN_FILE, ROWS_FILE, TEST_ROWS_FILE):
            shutil.copy2(entry.path, os.path.join(folder, entry.name))
