"""What a run leaves behind for people: the group table, `group_metrics.json`, the picture of the training."""

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from transformers.utils import logging

from .metrics import SUMMARY_METRICS

if TYPE_CHECKING:
    from .trainer import GerneTrainer

logger = logging.get_logger(__name__)

GROUP_METRICS_FILE = "group_metrics.json"
TRAINING_PICTURE_FILE = "training.png"
MAX_TABLE_GROUPS = 24


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up; the first column is flush left, the others flush right."""
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]
    lines = ["| " + " | ".join(_pad(row, widths)) + " |" for row in [header, *rows]]
    rule = "|" + "|".join("-" * (width + 2) if i == 0 else "-" * (width + 1) + ":" for i, width in enumerate(widths))
    return "\n".join([lines[0], rule + "|", *lines[1:]])


def _pad(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    cells = [str(cell) for cell in row]
    return [cells[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))]


def format_group_table(result: dict[str, Any]) -> str:
    """The group table of a result of [`group_metrics`]: accuracies in per cent with their 95 % intervals.

    Args:
        result (`dict`): what [`group_metrics`] returned.

    Returns:
        `str`: a Markdown table of the groups (the 24 worst, where there are more), and a line of summaries.
    """
    trained = any("train_count" in group for group in result["groups"])
    header = ["group", *(["train rows"] if trained else []), "rows", "accuracy", "95 % interval"]
    rows = []
    shown, hidden = worst_groups(result["groups"])
    for group in (result["groups"][i] for i in shown):
        name = f"{group['label']}, {group['attribute']}"
        judged = group["accuracy"] is not None
        rows.append(
            [
                name,
                *([f"{group['train_count']:,}"] if trained else []),
                f"{group['count']:,}",
                f"{100 * group['accuracy']:.1f}" if judged else "-",
                f"{100 * group['ci_low']:.1f} to {100 * group['ci_high']:.1f}" if judged else "-",
            ]
        )
    figures = (f"{name.replace('_', ' ')} {100 * result[name]:.1f}" for name in SUMMARY_METRICS if name in result)
    more = f"{hidden} groups with higher accuracy are in {GROUP_METRICS_FILE}.\n" if hidden else ""
    return f"{format_table(header, rows)}\n{more}{', '.join(figures)} (worst group: {result['worst_group']})"


def worst_groups(groups: list[dict[str, Any]], most: int = MAX_TABLE_GROUPS) -> tuple[list[int], int]:
    """Positions of the groups that a table shows, in their order, and how many it leaves out: the better ones."""
    if len(groups) <= most:
        return list(range(len(groups))), 0
    judged = [i for i, group in enumerate(groups) if group["count"]]
    worst = sorted(judged, key=lambda i: groups[i]["accuracy"])[:most]
    return sorted(worst), len(groups) - len(worst)


def group_report(trainer: "GerneTrainer") -> dict[str, Any]:
    """What `group_metrics.json` holds: the plan, the training groups, and the latest result of each evaluation."""
    groups, args = trainer.groups, trainer.args
    report: dict[str, Any] = {"evaluations": trainer.group_results}
    if groups is not None:
        report["method"] = {
            "plan": args.plan,
            "c": args.c,
            "beta": args.beta,
            "beta_schedule": args.beta_schedule,
            "beta_bounds": list(trainer.beta_bounds),
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
            "attribute_columns": [] if args.pseudo_attributes else list(args.attribute_columns),
            "counts": groups.counts.tolist(),
        }
        report["selection"] = {
            "metric": trainer.selection_metric(),
            "best_model_loaded": bool(args.load_best_model_at_end),
            "step": trainer.state.best_global_step if args.load_best_model_at_end else trainer.state.global_step,
        }
    if trainer.pseudo is not None:
        report["pseudo_attributes"] = {
            "threshold": args.threshold,
            "biased_model_class_balanced_accuracy": trainer.pseudo.record.get("class_balanced_accuracy"),
            "fingerprint": trainer.pseudo.fingerprint,
        }
    return report


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


def write_json(value: Any, path: str) -> None:
    """Write strict JSON; a failure leaves the file that was there."""
    partial = path + ".partial"
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(_finite(value), file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")
    os.replace(partial, path)


def _finite(value: Any) -> Any:
    """JSON has no infinity: an unbounded beta is written as null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def report_training(trainer: "GerneTrainer") -> None:
    """At the end of training: the group table of each evaluation set, `group_metrics.json`, and the picture."""
    if trainer.eval_dataset is not None:
        _evaluate_if_stale(trainer)
    if not trainer.is_world_process_zero():
        return
    for prefix, result in trainer.group_results.items():
        print(
            f"\nGroups of the evaluation set ({prefix}, step {result['step']})\n{format_group_table(result)}\n",
            flush=True,
        )
    if trainer.groups is not None:
        path = save_group_metrics(trainer)
        logger.info(f"Group metrics saved to {path}")
    try:
        from .plots import plot_training
    except ImportError:
        logger.warning_once(
            "No picture of the training was drawn: matplotlib is not installed. `pip install gerne_hf[plots]` adds it."
        )
        return
    if trainer.args.should_save:
        plot_training(trainer.state.log_history, os.path.join(trainer.args.output_dir, TRAINING_PICTURE_FILE))


def _evaluate_if_stale(trainer: "GerneTrainer") -> None:
    """Evaluate unless the last result belongs to the model at hand: the last one, or the best if that was loaded."""
    step = trainer.state.global_step
    if trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint is not None:
        step = trainer.state.best_global_step
    named = trainer.eval_dataset if isinstance(trainer.eval_dataset, dict) else {"": None}
    prefixes = [f"eval_{name}".rstrip("_") for name in named]
    results = trainer.group_results
    if any(prefix not in results or results[prefix]["step"] != step for prefix in prefixes):
        trainer.evaluate()
        for prefix in prefixes:
            if prefix in results:
                results[prefix]["step"] = step
