"""How a model was trained, for its card: data, attributes, method, selection."""

import json
import os
from typing import Any

from .card_names import set_name
from .files import format_table
from .search_space import PLANS_WITH_BETA
from .streaming.reservoir import ReservoirStream
from .studies import SEARCH_FILE

_PLANS = {
    "independent": "GERNE: a biased and a less biased batch, one extrapolated gradient",
    "shared": "GERNE with the rows common to both batches computed once",
    "collapsed": "rows drawn from GERNE's extrapolated distribution",
    "erm": "ERM",
    "resampling": "resampling: all groups of a class equally often",
    "reweighting": "reweighting: rows weighted to GERNE's extrapolated distribution",
}


def was_trained(trainer) -> bool:
    """Whether these weights come out of a training, and not just out of the model that was given."""
    return trainer.state.global_step > 0


def is_plain(trainer) -> bool:
    """Whether the training was ERM, which looks at no group."""
    return type(trainer).__name__ == "GerneTrainer" and trainer.args.plan == "erm"


def plan_text(trainer) -> str:
    """The method in words."""
    name = type(trainer).__name__
    return _PLANS[trainer.args.plan] if name == "GerneTrainer" else f"{name} on the plan {trainer.args.plan}"


def method_table(trainer, report: dict[str, Any]) -> str:
    method = report.get("method")
    if method is None or not was_trained(trainer):
        return "The model was not trained here."
    upper = method["beta_bounds"][1]
    rows = [["method", plan_text(trainer)]]
    if method["plan"] in PLANS_WITH_BETA:
        rows += [
            ["c, degree of bias reduction", f"{method['c']:g}"],
            ["beta, extrapolation factor", f"{method['beta']:g} ({method['beta_schedule']})"],
            ["bounds of beta", f"-1 to {upper:.3g}" if upper != float("inf") else "-1, no upper bound"],
        ]
    rows.append(["rows a step and device", _rows_text(method)])
    rows += [["training time", _training_time(trainer)]]
    return format_table(["", "value"], rows)


def _rows_text(method: dict[str, Any]) -> str:
    rows, share = method["rows_per_device"], method.get("biased_share")
    return str(rows) if share in (None, 0.5) else f"{rows}, {method['segments'][0]['rows']} of them biased"


def _training_time(trainer) -> str:
    seconds = next((e["train_runtime"] for e in reversed(trainer.state.log_history) if "train_runtime" in e), None)
    device = trainer.args.device.type
    if device == "cuda":
        import torch

        device = torch.cuda.get_device_name()
    devices = f"{trainer.args.world_size} x {device}"
    return f"{trainer.state.global_step} steps on {devices}" + (f", {seconds:.0f} s" if seconds else "")


def data_text(trainer, evaluations: dict[str, Any], given: dict[str, Any]) -> str:
    """Name, place, commit, rows and licence of the data, as far as they are known."""
    place = [f"`{tag}`" for tag in ([given["dataset_tags"]] if isinstance(given.get("dataset_tags"), str) else ())]
    place += [f"commit `{given['dataset_revision']}`"] if given.get("dataset_revision") else []
    name = given.get("dataset") or (place.pop(0) if place else "not named")
    named = name if isinstance(name, str) else ", ".join(name)
    rows = [] if trainer.groups is None else [f"{len(trainer.groups):,} training rows"]
    if isinstance(trainer.train_dataset, ReservoirStream):
        rows = [f"a stream of training rows, whose groups were counted in {len(trainer.groups):,} rows"]
    for prefix, result in evaluations.items():
        if prefix != "train" and not hasattr(trainer, "overlapping_columns"):  # else a row counts several times
            rows.append(f"{sum(g['count'] for g in result['groups']):,} rows in the {set_name(prefix)}")
    license = f" Licence of the data: {given['dataset_license']}." if given.get("dataset_license") else ""
    named += f" ({', '.join(place)})" if place else ""
    return f"Data: {', '.join([named, *rows])}.{license}"


def attributes_text(trainer, report: dict[str, Any], source: str | None = None) -> str:
    source = f": {source}." if source else "."
    if hasattr(trainer, "overlapping_columns"):
        judged = ", ".join(f"`{c}`" for c in trainer.overlapping_columns)
        source += (
            f" The groups of the tables overlap: a row counts in that of each of the columns {judged} that it has."
        )
    if "pseudo_attributes" in report:
        columns = ", ".join(f"`{c}`" for c in trainer.args.attribute_columns)
        known = f"The column {columns} was read for evaluation only" + source
        known = known if columns else "Nor does the evaluation: the groups of the tables are the classes."
        if report["pseudo_attributes"]["threshold"] is None:
            return f"Training used no attribute labels, but the errors of a biased model. {known}"
        return (
            "Training used no attribute labels: of each class the share "
            f"{report['pseudo_attributes']['threshold']:g} of rows that a biased model was least sure of formed one "
            f"pseudo-group, the rest the other. {known}"
        )
    columns = ", ".join(f"`{c}`" for c in trainer.args.attribute_columns)
    if not columns:
        return "No attribute labels were used: the groups of the tables are the classes."
    if is_plain(trainer):
        return f"Training used no attribute labels. The column {columns} was read for evaluation only{source}"
    return f"Attributes are those of the data set's column {columns}{source}"


_METRICS = {
    "worst_group_accuracy": "worst-group accuracy",
    "group_balanced_accuracy": "group-balanced accuracy",
    "worst_class_accuracy": "worst-class accuracy",
    "class_balanced_accuracy": "class-balanced accuracy",
}


def selection_text(trainer, report: dict[str, Any]) -> str:
    """Which step's weights these are, and how the method's settings were chosen."""
    if not was_trained(trainer):
        return "The weights are those that were given: nothing was trained here."
    chosen = report.get("selection")
    if chosen is None or trainer.eval_dataset is None:
        return "There was no evaluation set to select on: these are the weights of the last step."
    name, metric = selected_on(trainer, chosen["metric"])
    metric = f"the {set_name(name)}'s {_METRICS.get(metric, f'`{metric}`')}"
    settings = _search_text(trainer.args, metric)
    if not chosen["best_model_loaded"]:
        return f"The weights are those of the last step ({chosen['step']}); no step was selected. {settings}"
    return f"The weights are those of step {chosen['step']}, selected on {metric}. {settings}"


def selected_on(trainer, metric: str) -> tuple[str, str]:
    """The prefix of the evaluation that models are selected on, and the metric without the set's name."""
    named = trainer.eval_dataset if isinstance(trainer.eval_dataset, dict) else {}
    name = next((name for name in named if metric.startswith(f"{name}_")), None)
    return ("eval", metric) if name is None else (f"eval_{name}", metric.removeprefix(f"{name}_"))


def _search_text(args: Any, metric: str) -> str:
    given = "The method's settings were given, not searched for in this run."
    path = os.path.join(args.output_dir, "search", SEARCH_FILE)
    if not os.path.isfile(path):
        return given
    with open(path, encoding="utf-8") as file:
        search = json.load(file)
    found = search["best"]["params"]
    if any(getattr(args, name, None) != value for name, value in found.items()):
        return given  # that search was for an earlier run in this folder
    return f"{', '.join(found)} were chosen by {len(search['trials'])} trials, compared on {metric}."
