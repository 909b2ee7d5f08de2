"""The texts and tables of a model card, from a trainer and its report."""

import json
import os
from typing import Any

from huggingface_hub import ModelCardData
from transformers.trainer_utils import unwrap_peft_model
from transformers.utils import SAFE_WEIGHTS_NAME

from ..evaluation.metrics import MAX_TABLE_GROUPS
from ..evaluation.selection import selected_on
from ..method.plans import _PLANS, PLANS_WITH_BETA
from ..models.timm_checkpoints import is_timm
from ..streaming.reservoir import ReservoirStream
from ..utils.markdown import escaped, format_table, plain
from .record import (
    COMPARISON_FILE,
    COMPARISON_PICTURE_FILE,
    GROUP_METRICS_FILE,
    SEARCH_FILE,
    TRAINING_PICTURE_FILE,
    _is_own,
)
from .tables import format_comparison, set_name

SMALL_GROUP = 50
"""Groups with fewer evaluation rows than this are named as too small to judge."""


def summary(trainer, data: ModelCardData) -> str:
    model = trainer.accelerator.unwrap_model(trainer.model)
    inner = unwrap_peft_model(model)
    name = f"`{type(inner).__name__}`" if inner is model else f"PEFT adapter of a `{type(inner).__name__}`"
    base = f", fine-tuned from `{data.base_model}`" if data.base_model else ""
    if not was_trained(trainer):
        return f"A {name}{base}, which was not trained here."
    if is_plain(trainer):
        return f"A {name}{base}, trained with `gerne_hf`. Method: ERM, which does nothing for minority groups."
    purpose = f"trained with `gerne_hf` so that it does not fail on minority groups. Method: {plan_text(trainer)}."
    return f"A {name}{base}, {purpose}"


def as_markdown(text: str) -> str:
    """A table and the lines below it, parted by a blank line: Markdown would take them for rows."""
    lines = escaped(text).splitlines()
    rows = sum(line.startswith("|") for line in lines)
    return "\n".join([*lines[:rows], "", *lines[rows:]]).rstrip()


def table_title(trainer, prefix: str, report: dict[str, Any]) -> str:
    more, chosen = "", report.get("selection", {})
    if chosen.get("best_model_loaded") and selected_on(trainer, chosen["metric"])[0] == prefix:
        more = ", which the step was selected on"
    elif prefix == "train":
        more = ", rows as training saw them (for comparison: the model was fitted to these rows)"
    return f"Accuracy of each group, {set_name(prefix)}{more}:"


def has_attributes(trainer) -> bool:
    """Whether groups are more than classes in the evaluations."""
    return bool(trainer.args.attribute_columns) or hasattr(trainer, "overlapping_columns")


def worst_group(trainer, evaluations: dict[str, Any]) -> dict[str, Any] | None:
    if not evaluations:
        return None
    prefix, result = next(iter(evaluations.items()))
    group = min((g for g in result["groups"] if g["count"]), key=lambda g: g["accuracy"])
    groups = has_attributes(trainer)
    return {
        "kind": "group" if groups else "class",
        "name": plain(f"{group['label']}, {group['attribute']}" if groups else group["label"]),
        "accuracy": f"{100 * group['accuracy']:.1f}",
        "count": f"{group['count']:,}",
        "interval": f"{100 * group['ci_low']:.1f} to {100 * group['ci_high']:.1f}",
        "split": set_name(prefix),
        "few": group["count"] < SMALL_GROUP,
    }


def intended_use(trainer, report: dict[str, Any]) -> str:
    names = report.get("train_groups", {}).get("label_names")
    if names is None:
        result = next(iter(report["evaluations"].values()), {"groups": []})
        names = list(dict.fromkeys(str(group["label"]) for group in result["groups"]))
    more = f" and {len(names) - MAX_TABLE_GROUPS} more" if len(names) > MAX_TABLE_GROUPS else ""
    classes = f"{len(names)} classes ({', '.join(map(plain, names[:MAX_TABLE_GROUPS]))}{more})" if names else "classes"
    purpose = ", where a spurious attribute must not decide"
    purpose = purpose if was_trained(trainer) and not is_plain(trainer) else ""
    judged = "It was judged on the groups below and on no others" if report["evaluations"] else "It was not judged"
    judged += ": evaluate it on your own groups before you rely on it."
    return f"Choosing one of {classes} for inputs like those it was trained on{purpose}. {judged}"


def training_picture(trainer) -> dict[str, str] | None:
    if not os.path.isfile(os.path.join(trainer.args.output_dir, TRAINING_PICTURE_FILE)):
        return None
    return {"file": TRAINING_PICTURE_FILE, "alt": "Losses and accuracies over training"}


def comparison_part(directory: str) -> dict[str, Any] | None:

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


def known_limits(evaluations: dict[str, Any], report: dict[str, Any]) -> list[str]:
    limits = []
    for prefix, result in evaluations.items():
        if prefix == "train":
            continue
        small = [g for g in result["groups"] if 0 < g["count"] < SMALL_GROUP]
        if small:
            limits.append(
                f"Groups too small to judge in the {set_name(prefix)} (rows): "
                f"{_named(small, 'count')}. Read their intervals."
            )
        absent = [g for g in result["groups"] if not g["count"]]
        if absent:
            limits.append(f"Groups not judged, without rows in the {set_name(prefix)}: {_named(absent)}.")
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
    names = [plain(f"{g['label']}, {g['attribute']}") + (f" ({g[count]})" if count else "") for g in groups]
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
    if trainer.hub_model_id:
        network = [f'network = timm.create_model("hf-hub:{place}", pretrained=True).eval()']
    else:  # pretrained=True would have torch.load read the safetensors file, which not every torch does
        network = [
            f'network = timm.create_model("local-dir:{place}").eval()',
            f'timm.models.load_checkpoint(network, "{place}/{SAFE_WEIGHTS_NAME}")',
        ]
    return "\n".join(
        [
            code,
            "\n# or the model alone, in Transformers",
            "from transformers import AutoImageProcessor, AutoModelForImageClassification",
            f'\nprocessor = AutoImageProcessor.from_pretrained("{place}")',
            f'model = AutoModelForImageClassification.from_pretrained("{place}")',
            "\n# or without Transformers: the same logits",
            "import timm\n",
            *network,
            "settings = timm.data.resolve_model_data_config(network)",
            "transform = timm.data.create_transform(**settings, is_training=False)",
        ]
    )


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
