"""What a run leaves behind for people: the group table, `group_metrics.json`, the picture of the training."""

import os
from typing import Any

import numpy as np
from huggingface_hub.utils import HFValidationError, validate_repo_id
from transformers.trainer_utils import unwrap_peft_model
from transformers.utils import logging

from ..groups.sources import column_names
from ..method.pseudo_groups import smallest_threshold
from ..trainer import GerneTrainer
from ..utils.files import write_json
from .model_card import _first
from .reproduction import chosen_settings
from .tables import format_group_table, format_recovery

SEARCH_FOLDER = "search"

SEARCH_PICTURE_FILE = "search.png"

SEARCH_FILE = "search.json"

COMPARISON_FILE = "comparison.json"

COMPARISON_PICTURE_FILE = "comparison.png"

logger = logging.get_logger(__name__)

GROUP_METRICS_FILE = "group_metrics.json"

TRAINING_PICTURE_FILE = "training.png"

RECOVERY_PICTURE_FILE = "pseudo_attributes.png"

RECOVERY_THRESHOLDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


def named_evaluations(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The evaluations of a report by prefix; one of other rows than `eval_dataset` is "other", whatever its prefix."""
    return {
        prefix if result.get("of_eval_dataset", True) else "other": result
        for prefix, result in report["evaluations"].items()
    }


def group_report(trainer: "GerneTrainer") -> dict[str, Any]:
    """What `group_metrics.json` holds: plan, training groups, settings, and the latest result of each evaluation."""
    groups, args = trainer.groups, trainer.args
    report: dict[str, Any] = {"evaluations": trainer.group_results}
    report["settings"] = {"seed": args.seed, **chosen_settings(args)}
    if groups is not None:
        report["method"] = {
            "plan": args.plan,
            "c": args.c,
            "beta": args.beta,
            "beta_schedule": args.beta_schedule,
            "beta_bounds": list(trainer.beta_bounds),
            "biased_share": args.biased_share if args.plan == "independent" else None,
            "class_balanced": args.class_balanced,
            "empty_groups": args.empty_groups,
            "rows_per_device": trainer.plan.rows,
            "segments": [
                {"name": segment.name, "rows": segment.rows, "coefficient": segment.coefficient}
                for segment in trainer.plan.segments
            ],
        }
        report["train_groups"] = {
            "label_names": list(groups.label_names),
            "attribute_names": list(groups.attribute_names),
            "attribute_columns": list(args.attribute_columns) if groups is trainer.reference_groups else [],
            "counts": groups.counts.tolist(),
        }
        report["selection"] = {
            "metric": trainer.selection_metric(),
            "best_model_loaded": bool(args.load_best_model_at_end),
            "step": trainer.state.best_global_step if args.load_best_model_at_end else trainer.state.global_step,
        }
    if trainer.pseudo is not None:
        report["pseudo_attributes"] = {
            "recovery": recovery_of(trainer),
            "threshold": args.threshold,
            "biased_model_class_balanced_accuracy": trainer.pseudo.record.get("class_balanced_accuracy"),
            "fingerprint": trainer.pseudo.fingerprint,
        }
    return report


def recovery_of(trainer: "GerneTrainer") -> list[dict[str, float]]:
    """How well pseudo-attributes recover the minority over the threshold, for a trainer that has fitted a biased model
    and whose training set has the true attributes, which are used for nothing else; empty for others."""
    reference = trainer.reference_groups
    if trainer.pseudo is None or not trainer.args.pseudo_attributes or reference.num_attributes < 2:
        return []
    counts = reference.counts.sum(axis=1)
    thresholds = [t for t in RECOVERY_THRESHOLDS if t >= smallest_threshold(counts)]
    attributes = (reference.codes % reference.num_attributes).astype(np.int64)
    return trainer.pseudo.recovery(attributes, sorted({*thresholds, trainer.args.threshold}))


def save_group_metrics(trainer: "GerneTrainer", directory: str | None = None) -> str | None:
    """Write `group_metrics.json` to `directory` (the trainer's `output_dir` if not given); main process only.

    Returns:
        `str`: the file's path, or None on the other processes.
    """
    if not trainer.args.should_save:
        return None
    directory = directory or trainer.args.output_dir
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, GROUP_METRICS_FILE)
    write_json(group_report(trainer), path)
    return path


def evaluate_training_rows(trainer: "GerneTrainer") -> None:
    """Judge the model on the rows that it was trained on, as the evaluation "train", if their attributes are known."""
    rows = trainer.train_dataset
    needed = getattr(trainer, "overlapping_columns", trainer.args.attribute_columns)
    if needed and set(needed) <= set(column_names(rows)):
        trainer.predict(rows, metric_key_prefix="train")  # evaluate() would log train_runtime, training's own figure


def report_training(trainer: "GerneTrainer", ignore_keys: list[str] | None = None) -> None:
    """At the end of training: the group table of each evaluation set, `group_metrics.json`, and the picture.

    Args:
        trainer ([`GerneTrainer`]): has been trained.
        ignore_keys (`list[str]`, *optional*): outputs of the model that an evaluation leaves out.
    """
    if trainer.eval_dataset is not None:
        _evaluate_if_stale(trainer, ignore_keys)
    if not trainer.is_world_process_zero():
        return
    if trainer.args.load_best_model_at_end and trainer.state.best_metric is not None:
        metric, step = trainer.args.metric_for_best_model.removeprefix("eval_"), trainer.state.best_global_step
        print(f"\nModel of step {step}, selected on {metric} ({trainer.state.best_metric:.4g})", flush=True)
    for prefix, result in trainer.group_results.items():
        print(
            f"\nGroups of the evaluation set ({prefix}, step {result['step']})\n{format_group_table(result)}\n",
            flush=True,
        )
    recovery = recovery_of(trainer)
    if recovery:
        print(f"\nMinority rows among the hard ones of the training set\n{format_recovery(recovery)}\n", flush=True)
    if trainer.groups is not None:
        path = save_group_metrics(trainer)
        logger.info(f"Group metrics saved to {path}")
    try:
        from .plots import plot_pseudo_attributes, plot_training
    except ImportError:
        logger.warning_once(
            "No picture of the training was drawn: matplotlib is not installed. `pip install gerne_hf[plots]` adds it."
        )
        return
    if trainer.args.should_save:
        plot_training(trainer.state.log_history, os.path.join(trainer.args.output_dir, TRAINING_PICTURE_FILE))
        if recovery:
            plot_pseudo_attributes(recovery, os.path.join(trainer.args.output_dir, RECOVERY_PICTURE_FILE))


def evaluation_prefixes(trainer: "GerneTrainer") -> list[str]:
    """Under which prefixes `trainer.evaluate()` leaves its results: one for each set."""
    named = trainer.eval_dataset
    return [f"eval_{name}" for name in named] if isinstance(named, dict) else ["eval"]


def _evaluate_if_stale(trainer: "GerneTrainer", ignore_keys: list[str] | None) -> None:
    """Evaluate unless the last result belongs to the model at hand: the last one, or the best if that was loaded."""
    step = trainer.state.global_step
    if trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint is not None:
        step = trainer.state.best_global_step
    prefixes, results = evaluation_prefixes(trainer), trainer.group_results
    if all(prefix in results and results[prefix]["step"] == step for prefix in prefixes):
        return
    trainer.is_in_train = True  # else bf16_full_eval and fp16_full_eval would cast the model for good
    try:
        trainer.evaluate(ignore_keys=ignore_keys)
    finally:
        trainer.is_in_train = False
    for prefix in prefixes:
        if prefix in results:
            results[prefix]["step"] = step


_TASKS = {"ForSequenceClassification": "text-classification", "ForImageClassification": "image-classification"}


def _task(trainer, given: dict[str, Any]) -> str | None:
    if given.get("tasks"):
        return _first(given["tasks"])
    name = type(trainer.accelerator.unwrap_model(trainer.model)).__name__
    return next((task for ending, task in _TASKS.items() if name.endswith(ending)), None)


def _origin(trainer) -> str | None:
    origin = getattr(getattr(trainer.model, "config", None), "_name_or_path", "") or ""
    if not origin or os.path.exists(origin):
        return None
    try:
        validate_repo_id(origin)
    except HFValidationError:  # a folder that is gone, or of another machine
        return None
    return origin


def _is_adapter(trainer) -> bool:
    model = trainer.accelerator.unwrap_model(trainer.model)
    return unwrap_peft_model(model) is not model


def _is_own(trainer) -> bool:
    return type(trainer.accelerator.unwrap_model(trainer.model)).__module__.startswith("gerne_hf")
