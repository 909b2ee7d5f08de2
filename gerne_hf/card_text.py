"""The texts and tables of a model card, from a trainer and its report."""

import json
import os
import platform
import shlex
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from .files import format_table
from .reports import TRAINING_PICTURE_FILE

SMALL_GROUP = 50
"""Groups with fewer evaluation rows than this are named as too small to judge."""

_PLANS = {
    "independent": "GERNE: a biased and a less biased batch, one extrapolated gradient",
    "shared": "GERNE with the rows common to both batches computed once",
    "collapsed": "rows drawn from GERNE's extrapolated distribution",
    "erm": "ERM",
    "resampling": "resampling: all groups of a class equally often",
    "reweighting": "reweighting: rows weighted to GERNE's extrapolated distribution",
}
_PLACES = (
    "output_dir",
    "logging_dir",
    "run_name",
    "config",
    "dataset_name",
    "pseudo_attributes_dir",
    "hub_",
    "push_to",
)


def reproduction_command(arguments: list[str]) -> str | None:
    """The command line of a script, tokens left out; None where there is no script (a notebook, say)."""
    if not arguments or not arguments[0].endswith(".py"):
        return None
    kept, hidden = [os.path.join(*Path(arguments[0]).parts[-2:])], False
    for argument in arguments[1:]:
        if hidden:
            hidden = False
            continue
        if argument.startswith("--") and "token" in argument.lower():
            hidden = "=" not in argument
            continue
        kept.append(argument)
    return "accelerate launch " + shlex.join(kept)


def summary(trainer, data: ModelCardData) -> str:
    model = type(trainer.accelerator.unwrap_model(trainer.model)).__name__
    base = f", fine-tuned from `{data.base_model}`" if data.base_model else ""
    purpose = f"trained with `gerne_hf` so that it does not fail on minority groups. Method: {_plan_text(trainer)}."
    return f"A `{model}`{base}, {purpose}"


def _plan_text(trainer) -> str:
    name = type(trainer).__name__
    return _PLANS[trainer.args.plan] if name == "GerneTrainer" else f"{name} on the plan {trainer.args.plan}"


def as_markdown(text: str) -> str:
    """A table and the lines below it, parted by a blank line: Markdown would take them for rows."""
    lines = text.splitlines()
    rows = [line for line in lines if line.startswith("|")]
    return "\n".join([*rows, "", *lines[len(rows) :]]).rstrip()


def table_title(prefix: str) -> str:
    names = {"eval": "validation set, on which settings and step were selected", "test": "test set"}
    return f"Accuracy of each group, {names.get(prefix, prefix)}:"


def worst_group(evaluations: dict[str, Any]) -> dict[str, Any]:
    if not evaluations:
        return {"name": "not evaluated", "accuracy": "-", "count": 0, "interval": "-", "split": "no evaluation"}
    prefix, result = next(iter(evaluations.items()))
    group = min((g for g in result["groups"] if g["count"]), key=lambda g: g["accuracy"])
    return {
        "name": f"{group['label']}, {group['attribute']}",
        "accuracy": f"{100 * group['accuracy']:.1f}",
        "count": f"{group['count']:,}",
        "interval": f"{100 * group['ci_low']:.1f} to {100 * group['ci_high']:.1f}",
        "split": {"eval": "validation set", "test": "test set"}.get(prefix, prefix),
    }


def intended_use(report: dict[str, Any]) -> str:
    groups = report.get("train_groups", {})
    classes = ", ".join(groups.get("label_names", [])) or "the classes of its configuration"
    return (
        f"Choosing one of {len(groups.get('label_names', []))} classes ({classes}) for inputs like those it was "
        "trained on, where a spurious attribute must not decide. It was judged on the groups below and on no others: "
        "evaluate it on your own groups before you rely on it."
    )


def training_picture(trainer) -> dict[str, str] | None:
    if not os.path.isfile(os.path.join(trainer.args.output_dir, TRAINING_PICTURE_FILE)):
        return None
    return {"file": TRAINING_PICTURE_FILE, "alt": "Losses and accuracies over training"}


def comparison_part(directory: str) -> dict[str, Any] | None:
    from .comparison import COMPARISON_FILE, COMPARISON_PICTURE_FILE, format_comparison

    path = os.path.join(directory, COMPARISON_FILE)
    if not os.path.isfile(path):
        return None
    with open(path, encoding="utf-8") as file:
        results = json.load(file)
    if len(results) < 2:
        return None
    seeds = ", ".join(str(run["seed"]) for run in next(iter(results.values())))
    has_picture = os.path.isfile(os.path.join(directory, COMPARISON_PICTURE_FILE))
    return {
        "note": f"Test set; runs with the seeds {seeds}, mean ± deviation where there are several.",
        "text": as_markdown(format_comparison(results)),
        "picture": COMPARISON_PICTURE_FILE if has_picture else None,
    }


def method_table(trainer, report: dict[str, Any]) -> str:
    method = report.get("method")
    if method is None:
        return "The model was not trained here."
    upper = method["beta_bounds"][1]
    rows = [["method", _plan_text(trainer)]]
    if method["plan"] in ("independent", "shared", "collapsed", "reweighting"):
        rows += [
            ["c, degree of bias reduction", f"{method['c']:g}"],
            ["beta, extrapolation factor", f"{method['beta']:g} ({method['beta_schedule']})"],
            ["bounds of beta", f"-1 to {upper:.3g}" if upper != float("inf") else "-1, no upper bound"],
        ]
    rows += [["rows a step and device", str(method["rows_per_device"])], ["training time", _training_time(trainer)]]
    return format_table(["", "value"], rows)


def _training_time(trainer) -> str:
    seconds = next((e["train_runtime"] for e in reversed(trainer.state.log_history) if "train_runtime" in e), None)
    device = trainer.args.device.type
    if device == "cuda":
        import torch

        device = torch.cuda.get_device_name()
    devices = f"{trainer.args.world_size} x {device}"
    return f"{trainer.state.global_step} steps on {devices}" + (f", {seconds:.0f} s" if seconds else "")


def attributes_text(trainer, report: dict[str, Any]) -> str:
    if "pseudo_attributes" in report:
        columns = ", ".join(f"`{c}`" for c in trainer.args.attribute_columns)
        known = f"The column {columns} was read for evaluation only." if columns else "No attribute labels were used."
        if report["pseudo_attributes"]["threshold"] is None:
            return f"Training used no attribute labels, but the errors of a biased model. {known}"
        return (
            "Training used no attribute labels: of each class the share "
            f"{report['pseudo_attributes']['threshold']:g} of rows that a biased model was least sure of formed one "
            f"pseudo-group, the rest the other. {known}"
        )
    columns = report.get("train_groups", {}).get("attribute_columns") or []
    if not columns:
        return "No attribute labels were used."
    return f"Attributes are those of the data set's column {', '.join(f'`{c}`' for c in columns)}."


def selection_text(trainer, report: dict[str, Any]) -> str:
    chosen = report.get("selection")
    if chosen is None or trainer.eval_dataset is None:
        return "There was no evaluation set to select on: these are the weights of the last step."
    if not chosen["best_model_loaded"]:
        return f"The weights are those of the last step ({chosen['step']}); no step was selected."
    return f"The weights are those of step {chosen['step']}, selected on the validation set's {chosen['metric']}."


def known_limits(evaluations: dict[str, Any], report: dict[str, Any]) -> list[str]:
    limits = []
    for prefix, result in evaluations.items():
        small = [g for g in result["groups"] if 0 < g["count"] < SMALL_GROUP]
        if small:
            names = ", ".join(f"{g['label']}, {g['attribute']} ({g['count']})" for g in small[:12])
            more = f" and {len(small) - 12} more" if len(small) > 12 else ""
            limits.append(
                f"Groups too small to judge in the {prefix} evaluation: {names}{more}. Read their intervals."
            )
        unseen = [g for g in result["groups"] if g["count"] and g.get("train_count") == 0]
        if unseen:
            limits.append(
                "Groups without training rows: " + ", ".join(f"{g['label']}, {g['attribute']}" for g in unseen)
            )
    limits.append("Attributes other than those in the tables were not looked at; the model may fail on their groups.")
    limits.append("An accuracy on this data says little about data from elsewhere.")
    return limits


def loading_code(trainer, task: str | None) -> str:
    place = trainer.hub_model_id or os.path.basename(os.path.abspath(trainer.args.output_dir))
    if task is None:
        return f'from transformers import AutoModel\n\nmodel = AutoModel.from_pretrained("{place}")'
    own = "import gerne_hf.models  # registers the model's class\n" if _is_own(trainer) else ""
    return f'{own}from transformers import pipeline\n\nclassify = pipeline("{task}", model="{place}")'


def _is_own(trainer) -> bool:
    return type(trainer.accelerator.unwrap_model(trainer.model)).__module__.startswith("gerne_hf")


def versions_text(trainer) -> str:
    found = [f"Python {platform.python_version()}"]
    for package in ("gerne_hf", "torch", "transformers", "datasets", "accelerate"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return f"Seed {trainer.args.seed}; {', '.join(found)}."


def settings_table(args: Any) -> str:
    """Settings that were chosen: no paths, no tokens, nothing that says where a run lies."""
    default = type(args)(output_dir=args.output_dir)
    rows = []
    for field in fields(args):
        name, value = field.name, getattr(args, field.name, None)
        if name.startswith(_PLACES) or "token" in name or not isinstance(value, (int, float, str, bool, list, dict)):
            continue
        if value != getattr(default, name, None):
            rows.append([f"`{name}`", str(getattr(value, "value", value))])
    return format_table(["setting", "value"], rows) if rows else "none"
