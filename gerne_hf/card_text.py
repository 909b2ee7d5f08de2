"""The texts and tables of a model card, from a trainer and its report."""

import json
import os
from typing import Any

from huggingface_hub import ModelCardData

from .files import format_table
from .reports import GROUP_METRICS_FILE, MAX_TABLE_GROUPS, TRAINING_PICTURE_FILE
from .search_space import PLANS_WITH_BETA
from .studies import SEARCH_FILE
from .timm_checkpoints import is_timm

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


_SETS = {"eval": "validation set", "test": "test set", "train": "training set"}


def table_title(prefix: str, report: dict[str, Any]) -> str:
    more = ""
    if prefix == "eval" and report.get("selection", {}).get("best_model_loaded"):
        more = ", which the step was selected on"
    elif prefix == "train":
        more = ", rows as training saw them (for comparison: the model was fitted to these rows)"
    return f"Accuracy of each group, {_SETS.get(prefix, prefix)}{more}:"


def worst_group(evaluations: dict[str, Any]) -> dict[str, Any] | None:
    if not evaluations:
        return None
    prefix, result = next(iter(evaluations.items()))
    group = min((g for g in result["groups"] if g["count"]), key=lambda g: g["accuracy"])
    return {
        "name": f"{group['label']}, {group['attribute']}",
        "accuracy": f"{100 * group['accuracy']:.1f}",
        "count": f"{group['count']:,}",
        "interval": f"{100 * group['ci_low']:.1f} to {100 * group['ci_high']:.1f}",
        "split": _SETS.get(prefix, prefix),
        "few": group["count"] < SMALL_GROUP,
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
    seeds = [str(run["seed"]) for run in next(iter(results.values()))]
    runs = f"one run of each method, with the seed {seeds[0]}"
    if len(seeds) > 1:
        runs = f"mean ± deviation over runs with the seeds {', '.join(seeds)}"
    has_picture = os.path.isfile(os.path.join(directory, COMPARISON_PICTURE_FILE))
    return {
        "note": f"On the same test set; {runs}.",
        "text": as_markdown(format_comparison(results)),
        "picture": COMPARISON_PICTURE_FILE if has_picture else None,
    }


def method_table(trainer, report: dict[str, Any]) -> str:
    method = report.get("method")
    if method is None:
        return "The model was not trained here."
    upper = method["beta_bounds"][1]
    rows = [["method", _plan_text(trainer)]]
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
    for prefix, result in evaluations.items():
        if prefix != "train" and not hasattr(trainer, "overlapping_columns"):  # else a row counts several times
            rows.append(f"{sum(g['count'] for g in result['groups']):,} rows in the {_SETS.get(prefix, prefix)}")
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
        known = known if columns else "No attribute labels were used."
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
    return f"Attributes are those of the data set's column {', '.join(f'`{c}`' for c in columns)}{source}"


_METRICS = {
    "worst_group_accuracy": "worst-group accuracy",
    "group_balanced_accuracy": "group-balanced accuracy",
    "worst_class_accuracy": "worst-class accuracy",
    "class_balanced_accuracy": "class-balanced accuracy",
}


def selection_text(trainer, report: dict[str, Any]) -> str:
    """Which step's weights these are, and how the method's settings were chosen."""
    chosen = report.get("selection")
    if chosen is None or trainer.eval_dataset is None:
        return "There was no evaluation set to select on: these are the weights of the last step."
    metric = _METRICS.get(chosen["metric"], f"`{chosen['metric']}`")
    settings = _search_text(trainer.args.output_dir, metric)
    if not chosen["best_model_loaded"]:
        return f"The weights are those of the last step ({chosen['step']}); no step was selected. {settings}"
    return f"The weights are those of step {chosen['step']}, selected on the validation set's {metric}. {settings}"


def _search_text(directory: str, metric: str) -> str:
    path = os.path.join(directory, "search", SEARCH_FILE)
    if not os.path.isfile(path):
        return "The method's settings were given, not searched for in this run."
    with open(path, encoding="utf-8") as file:
        search = json.load(file)
    names = ", ".join(search["best"]["params"])
    return f"{names} were chosen by {len(search['trials'])} trials, compared on the validation set's {metric}."


def known_limits(evaluations: dict[str, Any], report: dict[str, Any]) -> list[str]:
    limits = []
    for prefix, result in evaluations.items():
        if prefix == "train":
            continue
        small = [g for g in result["groups"] if 0 < g["count"] < SMALL_GROUP]
        if small:
            limits.append(
                f"Groups too small to judge in the {_SETS.get(prefix, prefix)} (rows): "
                f"{_named(small, 'count')}. Read their intervals."
            )
        absent = [g for g in result["groups"] if not g["count"]]
        if absent:
            limits.append(f"Groups not judged, without rows in the {_SETS.get(prefix, prefix)}: {_named(absent)}.")
        unseen = [g for g in result["groups"] if g["count"] and g.get("train_count") == 0]
        if unseen:
            limits.append(f"Groups without training rows: {_named(unseen)}.")
    first = next(iter(evaluations.values()), {"groups": []})
    few = [g for g in first["groups"] if 0 < g.get("train_count", 0) < SMALL_GROUP]
    if few:
        limits.append(f"Groups with few training rows to learn from: {_named(few, 'train_count')}.")
    limits.append("Attributes other than those in the tables were not looked at; the model may fail on their groups.")
    limits.append("An accuracy on this data says little about data from elsewhere.")
    return limits


def _named(groups: list[dict[str, Any]], count: str | None = None) -> str:
    names = [f"{g['label']}, {g['attribute']}" + (f" ({g[count]})" if count else "") for g in groups]
    hidden = len(names) - MAX_TABLE_GROUPS
    more = [f"and {hidden} more, which are in {GROUP_METRICS_FILE}"] if hidden > 0 else []
    return "; ".join([*names[:MAX_TABLE_GROUPS], *more])


def loading_code(trainer, task: str | None) -> str:
    place = trainer.hub_model_id or os.path.basename(os.path.abspath(trainer.args.output_dir))
    if task is None:
        return f'from transformers import AutoModel\n\nmodel = AutoModel.from_pretrained("{place}")'
    own = "import gerne_hf.models  # registers the model's class\n" if _is_own(trainer) else ""
    code = f'{own}from transformers import pipeline\n\nclassify = pipeline("{task}", model="{place}")'
    if not is_timm(trainer.accelerator.unwrap_model(trainer.model)):
        return code
    source = "hf-hub" if trainer.hub_model_id else "local-dir"
    return "\n".join(
        [
            code,
            "\n# or the model alone, in Transformers",
            "from transformers import AutoImageProcessor, AutoModelForImageClassification",
            f'\nprocessor = AutoImageProcessor.from_pretrained("{place}")',
            f'model = AutoModelForImageClassification.from_pretrained("{place}")',
            "\n# or without Transformers: the same logits",
            "import timm",
            f'\nnetwork = timm.create_model("{source}:{place}", pretrained=True).eval()',
            "settings = timm.data.resolve_model_data_config(network)",
            "transform = timm.data.create_transform(**settings, is_training=False)",
        ]
    )


def _is_own(trainer) -> bool:
    return type(trainer.accelerator.unwrap_model(trainer.model)).__module__.startswith("gerne_hf")
