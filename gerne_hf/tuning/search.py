"""A search of c, beta and the rule: what is refused at once, how trials are compared, what it leaves behind.

Everything here takes values; [`GerneTrainer.hyperparameter_search`](gerne_hf.trainer.GerneTrainer) runs the trials.
The space lies in [`space`](gerne_hf.tuning.space), Optuna's studies in [`studies`](gerne_hf.tuning.studies).
"""

import json
import math
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers.trainer_utils import BestRun
from transformers.utils import logging

from ..config import GerneConfig
from ..method.plans import PLANS_WITH_BETA
from ..reports.record import SEARCH_FILE, SEARCH_FOLDER, SEARCH_PICTURE_FILE
from ..reports.tables import NO_BETTER_METHOD, format_search_table
from ..reports.terminal import show
from ..utils.files import write_json
from .space import CLASS_BALANCED
from .studies import MADE_WITH, STUDY_NAME, default_pruner, default_sampler, open_study, trial_records

if TYPE_CHECKING:
    import optuna

logger = logging.get_logger(__name__)


def check_optuna() -> None:
    """Raise an `ImportError` that says what to install if Optuna is not there."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise ImportError("a search needs Optuna, which is not installed: `pip install gerne_hf[hpo]`") from error


def check_search(
    args: GerneConfig,
    *,
    has_model_init: bool,
    has_both_sets: bool,
    own_space: bool,
    own_objective: bool,
    direction: str | Sequence[str],
    stock: bool,
    metric: str,
) -> None:
    """Refuse, before any trial, a search that no trial could pass.

    Args:
        args ([`GerneConfig`]): settings of the trainer.
        has_model_init, has_both_sets (`bool`): whether the trainer has a `model_init`, and a training and an
            evaluation set.
        own_space, own_objective (`bool`): whether an `hp_space` and a `compute_objective` are given.
        direction (`str` or `Sequence[str]`): "maximize" or "minimize", or several.
        stock (`bool`): whether the search is that of `Trainer`, with another library or several objectives.
        metric (`str`): the metric that models are selected on.

    Raises:
        RuntimeError: without a `model_init`.
        ValueError: without data, for a plan without beta and no `hp_space`, and for a direction that the metric does
            not have.
    """
    if not has_model_init:
        raise RuntimeError(
            "a search needs a fresh model for each trial: pass model_init, a function that makes the model, and "
            "no model"
        )
    if not has_both_sets:
        raise ValueError("a search needs a train_dataset, and an eval_dataset on which trials are compared")
    if not own_space and stock:
        raise ValueError("the default space is for Optuna and one objective; pass hp_space for this search")
    if not own_space and args.plan not in PLANS_WITH_BETA:
        raise ValueError(
            f"the default space is c and beta, and plan {args.plan!r} has no beta. Pass an hp_space, or choose "
            f"one of the plans {', '.join(PLANS_WITH_BETA)}"
        )
    if own_objective:
        return
    if isinstance(direction, list):
        raise ValueError("several directions need a compute_objective that returns a value for each")
    greater_is_better = True if args.greater_is_better is None else args.greater_is_better
    if greater_is_better != (direction == "maximize"):
        better = "maximize" if greater_is_better else "minimize"
        raise ValueError(
            f"trials are compared by {metric!r}, for which the direction is {better!r}; found {direction!r}"
        )


def trial_value(metrics: dict[str, float], name: str, direction: str, best_kept: float | None) -> float:
    """Return the value of a trial: its last evaluation, or its best one if that one's model was kept.

    Args:
        metrics (`dict[str, float]`): the last evaluation.
        name (`str`): the metric, without the prefix `eval_`.
        direction (`str`): "maximize" or "minimize".
        best_kept (`float`, *optional*): the best evaluation's value, if the trial ends with that model.

    Returns:
        `float`: NaN for a model that diverged.

    Raises:
        KeyError: if the evaluation lacks the metric; names those it has.

    Example:

    ```python
    >>> trial_value({"eval_accuracy": 0.5}, "accuracy", "maximize", best_kept=0.75)
    0.75

    ```
    """
    if f"eval_{name}" not in metrics:
        raise KeyError(f"trials are compared by eval_{name}, and the evaluation has only {', '.join(metrics)}")
    values = [metrics[f"eval_{name}"], *([] if best_kept is None else [best_kept])]
    values = [value for value in values if math.isfinite(value)]
    return (max if direction == "maximize" else min)(values, default=math.nan)


def training_steps(args: GerneConfig, rows: int, batch_rows: int) -> int:
    """Return the optimizer steps of a training.

    Args:
        args ([`GerneConfig`]): the settings.
        rows (`int`): rows of the training set.
        batch_rows (`int`): rows of a batch on a device.
    """
    if args.max_steps > 0:
        return args.max_steps
    batches = math.ceil(rows / (batch_rows * args.world_size))
    return math.ceil(args.num_train_epochs * math.ceil(batches / args.gradient_accumulation_steps))


def open_search(
    args: GerneConfig,
    counts: np.ndarray,
    steps: int,
    batch_rows: int,
    objective: str,
    direction: str,
    space: dict[str, Any],
    depends_on: dict[str, Any],
    arguments: dict[str, Any],
) -> tuple["optuna.Study", dict[str, Any]]:
    """Open the study of a search in `output_dir/search`, or load the one that is there.

    Args:
        args ([`GerneConfig`]): settings of the trainer.
        counts (`np.ndarray` of shape `(K, A)`): training rows of each group.
        steps (`int`): optimizer steps of a trial.
        batch_rows (`int`): rows of a batch on a device.
        objective, direction (`str`): what trials are compared by.
        space (`dict`): `space`, its name, and what else settings are drawn from.
        depends_on (`dict`): what else trials depend on, from
            [`trials_depend_on`](gerne_hf.tuning.depends_on.trials_depend_on).
        arguments (`dict`): the user's arguments of `optuna.create_study`, and others.

    Returns:
        `tuple`: the study, and the arguments with a sampler and a pruner.

    Raises:
        ValueError: if the study of a given name or storage was made with other data or settings.
    """
    made_with = {
        **depends_on,
        "objective": objective,
        **space,
        "plan": args.plan,
        "pseudo_attributes": args.pseudo_attributes,
        "train_rows": int(counts.sum()),
        "train_counts": (counts.sum(axis=1) if args.pseudo_attributes else counts).tolist(),
        "training_steps": steps,
        "rows_per_step": batch_rows * args.world_size * args.gradient_accumulation_steps,
        "learning_rate": args.learning_rate,
        "weight_decay": args.weight_decay,
        "load_best_model_at_end": args.load_best_model_at_end,
    }
    made_with = json.loads(json.dumps(made_with))  # as a study gives it back
    study, arguments = open_study(os.path.join(args.folder, SEARCH_FOLDER), direction, made_with, arguments)
    arguments.setdefault("sampler", default_sampler(args.seed))
    arguments.setdefault("pruner", default_pruner(steps))
    return study, arguments


def trial_folder(name: Callable[[Any], str] | None, trial: Any, study: str) -> str:
    """Return the folder of a trial below `output_dir`: `search/run-<number>`, or what the user's `hp_name` says.

    Args:
        name (`Callable`, *optional*): the user's `hp_name`.
        trial: the trial.
        study (`str`): name of its study; those after the first have a folder in `search`, as trials count from 0.
    """
    own = name(trial) if name is not None else f"run-{trial.number}"
    return os.path.join(SEARCH_FOLDER, study if study.startswith(f"{STUDY_NAME}-") else "", own)


def report_search(study: "optuna.Study", objective: str, output_dir: str) -> BestRun | None:
    """Print the table of the trials, and write `search.json` and, with matplotlib, `search.png`.

    Where class-balanced ERM is among the trials and no other is better, it is the best one, and table and file say so.

    Args:
        study (`optuna.Study`): the study, after its trials.
        objective (`str`): what trials are compared by.
        output_dir (`str`): the run's folder.

    Returns:
        [`~transformers.trainer_utils.BestRun`]: the best trial; None if none completed.
    """
    records = trial_records(study)
    verdict = None
    best = next((record for record in records if record["state"] == "complete"), None)
    if best is not None:
        as_good = [r for r in records if r["state"] == "complete" and r["value"] == best["value"]]
        balanced = next((record for record in as_good if record.get("start") == CLASS_BALANCED), None)
        if balanced is not None:
            best, verdict = balanced, NO_BETTER_METHOD
            records = [best, *(record for record in records if record is not best)]
    table = format_search_table(records, objective)
    said = f"\n\n{verdict}." if verdict else ""
    show(f"\nTrials, compared on the evaluation set\n{table}{said}\n")
    folder = os.path.join(output_dir, SEARCH_FOLDER)
    os.makedirs(folder, exist_ok=True)
    report = {
        "objective": objective,
        "direction": study.direction.name.lower(),
        "study": study.study_name,
        "made_with": study.user_attrs[MADE_WITH],
        "verdict": verdict,
        "best": best,
        "trials": records,
    }
    write_json(report, os.path.join(folder, SEARCH_FILE))
    if best is None:
        return None
    if {"c", "beta"} <= best["params"].keys():
        draw_search(records, os.path.join(folder, SEARCH_PICTURE_FILE), objective)
    return BestRun(str(best["number"]), best["value"], dict(best["params"]))


def draw_search(records: list[dict[str, Any]], path: str, objective: str) -> None:
    """Draw the trials over c and beta; say what to install if matplotlib is not there.

    Args:
        records (`list[dict]`): the trials, as [`trial_records`](gerne_hf.tuning.studies.trial_records) gives them.
        path (`str`): the picture's file.
        objective (`str`): what trials are compared by.
    """
    try:
        from ..reports.plots import plot_search
    except ImportError:
        logger.warning_once(
            "No picture of the search was drawn: matplotlib is not installed. `pip install gerne_hf[plots]` adds it."
        )
        return
    if not all("threshold" in record["params"] for record in records):  # its panel needs one of every trial
        records = [
            {**r, "params": {name: value for name, value in r["params"].items() if name != "threshold"}}
            for r in records
        ]
    plot_search(records, path, objective)
