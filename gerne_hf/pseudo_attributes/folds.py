"""Scores out of fold: each training row is scored by a biased model that was not trained on it.

A model that can memorize is sure of every row it was trained on, so its scores of them tell little. One fit in one
fold is the paper's biased model, which scores the rows that it was trained on. Fits run by
[`biased_model`](gerne_hf.pseudo_attributes.biased_model); [`rules`](gerne_hf.pseudo_attributes.rules) use the scores.
"""

import copy
import os
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers.utils import logging

from ..groups.index import GroupIndex
from ..groups.sources import rows_of
from .biased_model import BiasedFit, BiasedScores, scored
from .rules import ScoredEvaluation, ScoredRows
from .saved_scores import DamagedScoresError, read_arrays, write_arrays

logger = logging.get_logger(__name__)

FOLD_FILE = "scores.npz"
"""File in the folder of a fold that holds its scores; it is written last, when the fold is complete."""

_IN_SAMPLE_ROWS = 1000


@dataclass(frozen=True)
class FoldedScores:
    """What all folds say.

    Args:
        rows ([`ScoredRows`]): the training rows.
        evaluation ([`ScoredEvaluation`], *optional*): the validation rows; None without a validation set.
        label_names (`tuple[str, ...]`): the K classes.
        in_sample_accuracy (`float`): mean over the classes of the accuracy on rows that a model was trained on, up to
            1,000 of each fold.
        out_of_fold_accuracy (`float`): the same for the rows that it was not trained on; with one fold, of all rows.
        class_balanced_accuracy (`float`, *optional*): on the validation set, the mean over the models.
    """

    rows: ScoredRows
    evaluation: ScoredEvaluation | None
    label_names: tuple[str, ...]
    in_sample_accuracy: float
    out_of_fold_accuracy: float
    class_balanced_accuracy: float | None


def fold_numbers(labels: np.ndarray, label_names: tuple[str, ...], folds: int, seed: int) -> np.ndarray:
    """Deal the rows of each class out to folds of equal size, at random.

    Args:
        labels (int array of shape `(N,)`): class ids.
        label_names (`tuple[str, ...]`): the K classes, for the message.
        folds (`int`): number of folds; 1 puts all rows into one.
        seed (`int`): decides which rows are in which fold.

    Returns:
        `np.ndarray` of shape `(N,)`, int64: the fold of each row, from 0.

    Raises:
        ValueError: if a class has fewer than two rows for each fold, naming it.

    Example:

    ```python
    >>> np.bincount(fold_numbers(np.array([0, 0, 0, 0, 0, 1, 1, 1, 1]), ("cat", "dog"), 2, seed=0)).tolist()
    [5, 4]

    ```
    """
    numbers = np.zeros(len(labels), dtype=np.int64)
    if folds == 1:
        return numbers
    counts = np.bincount(labels, minlength=len(label_names))
    smallest = int(counts.argmin())
    if counts[smallest] < 2 * folds:
        most = max(int(counts[smallest]) // 2, 1)
        raise ValueError(
            f"class {label_names[smallest]} has {counts[smallest]} training rows, too few for biased_folds={folds}: "
            f"each fold needs at least 2. Choose biased_folds of at most {most}, or leave the class out"
        )
    rng = np.random.default_rng(seed)
    for label in range(len(label_names)):
        rows = np.flatnonzero(labels == label)
        numbers[rng.permutation(rows)] = np.arange(len(rows)) % folds
    return numbers


def run_folds(fit: BiasedFit, folds: int) -> FoldedScores:
    """Train a biased model for each fold on the other folds' rows, and score its own rows and the validation rows.

    A fold that is complete is read and not repeated; one that was interrupted goes on from its last checkpoint. On
    several processes all call this, and all get all scores.

    Args:
        fit ([`BiasedFit`]): the fit over all rows.
        folds (`int`): number of folds; 1 trains on all rows and scores the same.

    Returns:
        [`FoldedScores`]

    Raises:
        ValueError: if a class has too few rows for the folds.
    """
    index = GroupIndex.from_dataset(fit.train_dataset, fit.config.label_column)
    labels = index.codes.astype(np.int64)
    numbers = fold_numbers(labels, index.label_names, folds, fit.config.seed)
    parts, begin = [], time.perf_counter()
    for number in range(folds):
        if folds > 1:
            left = (time.perf_counter() - begin) / number * (folds - number) if number else None
            hint = "" if left is None else f", about {left:.0f} s left for all folds"
            PartialState().print(
                f"Biased model {number + 1} of {folds}, on the rows of the other folds{hint}", flush=True
            )
        parts.append(_run_fold(fit, number, numbers, folds))
    return _together(parts, labels, numbers, index.label_names)


Arrays = dict[str, np.ndarray]


def _run_fold(fit: BiasedFit, number: int, numbers: np.ndarray, folds: int) -> Arrays:
    """Train the model of one fold and return its scores, or read them if the fold is complete."""
    folder = fit.directory if folds == 1 else os.path.join(fit.directory, f"fold-{number}")
    path = os.path.join(folder, FOLD_FILE)
    kept = _kept(path)
    (done,) = broadcast_object_list([kept is not None])
    if done:
        return read_arrays(path) if kept is None else kept
    trained = np.flatnonzero(numbers != number) if folds > 1 else np.arange(len(numbers))
    config = copy.copy(fit.config)
    config.output_dir = folder
    if folds > 1 and config.max_steps > 0:
        config.max_steps = max(1, round(config.max_steps * len(trained) / len(numbers)))
    data = rows_of(fit.train_dataset, trained) if folds > 1 else fit.train_dataset
    one = replace(fit, model=copy.deepcopy(fit.model), config=config, train_dataset=data)
    trainer, reader = one.run()
    own = rows_of(fit.train_dataset, np.flatnonzero(numbers == number)) if folds > 1 else fit.train_dataset
    arrays = _named(scored(trainer, reader, own, "own"), "own_")
    if folds > 1:
        rows = np.random.default_rng(fit.config.seed).permutation(trained)[:_IN_SAMPLE_ROWS]
        in_sample = scored(trainer, reader, rows_of(fit.train_dataset, np.sort(rows)), "seen")
        arrays["in_sample_accuracy"] = np.array(_balanced(in_sample.probabilities, in_sample.labels))
    if fit.eval_dataset is not None:
        arrays.update(_named(scored(trainer, reader, fit.eval_dataset, "validation"), "evaluation_"))
    if config.should_save:
        write_arrays(arrays, path)
    PartialState().wait_for_everyone()
    return arrays


def _kept(path: str) -> Arrays | None:
    """Return the scores of a fold that is complete; None, and a warning, if their file is damaged."""
    if not os.path.isfile(path):
        return None
    try:
        return read_arrays(path)
    except DamagedScoresError as error:
        logger.warning(f"{error}. This fold is trained and scored again.")
        return None


def _named(found: BiasedScores, prefix: str) -> Arrays:
    arrays = {prefix + "probabilities": found.probabilities, prefix + "labels": found.labels}
    return arrays if found.features is None else {**arrays, prefix + "features": found.features}


def _balanced(probabilities: np.ndarray, labels: np.ndarray) -> float:
    right = probabilities.argmax(axis=-1) == labels
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


def _together(parts: list[Arrays], labels: np.ndarray, numbers: np.ndarray, names: tuple[str, ...]) -> FoldedScores:
    def in_order(name: str) -> Any:
        if name not in parts[0]:
            return None
        values = np.zeros((len(labels), *parts[0][name].shape[1:]), dtype=parts[0][name].dtype)
        for number, part in enumerate(parts):
            values[numbers == number] = part[name]
        return values

    rows = ScoredRows(in_order("own_probabilities"), labels, numbers, in_order("own_features"))
    out_of_fold = _balanced(rows.probabilities, labels)
    evaluation = accuracy = None
    if "evaluation_labels" in parts[0]:
        of_evaluation = parts[0]["evaluation_labels"]
        features = [part["evaluation_features"] for part in parts] if "evaluation_features" in parts[0] else None
        probabilities = np.stack([part["evaluation_probabilities"] for part in parts])
        evaluation = ScoredEvaluation(probabilities, of_evaluation, None if features is None else np.stack(features))
        accuracy = float(np.mean([_balanced(part, of_evaluation) for part in probabilities]))
    seen = [float(part["in_sample_accuracy"]) for part in parts if "in_sample_accuracy" in part]
    return FoldedScores(rows, evaluation, names, float(np.mean(seen)) if seen else out_of_fold, out_of_fold, accuracy)
