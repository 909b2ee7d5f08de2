"""Model cards that tell who a model works for: group tables, how the attributes were obtained, how it was selected."""

import os
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..hub.repositories import hub_origin
from ..trainer import GerneTrainer
from .card_paragraphs import (
    as_markdown,
    attributes_text,
    comparison_part,
    data_text,
    has_attributes,
    intended_use,
    known_limits,
    loading_code,
    method_table,
    selection_text,
    summary,
    table_title,
    training_picture,
    worst_group,
)
from .record import _is_adapter, _origin, _task, group_report, named_evaluations
from .reproduction import reproduction_command, settings_table, versions_text
from .tables import format_group_table, format_recovery

TAGS = ("gerne", "group-robustness", "debiasing", "spurious-correlations")

_CARD_METRICS = {
    "worst_group_accuracy": "Worst-group accuracy",
    "group_balanced_accuracy": "Group-balanced accuracy",
    "accuracy": "Accuracy",
}

_CLASS_METRICS = {
    "worst_class_accuracy": "Worst-class accuracy",
    "class_balanced_accuracy": "Class-balanced accuracy",
    "accuracy": "Accuracy",
}
"""Without attributes: the groups are the classes then, and their worst must not be taken for a worst group."""


def build_card(trainer: "GerneTrainer", **given: Any) -> ModelCard:
    """The card of a trained model.

    Args:
        trainer ([`GerneTrainer`]): after training; every evaluation it has run is on the card, "test" first.
        given: what [`~transformers.Trainer.create_model_card`] takes: `language`, `license`, `tags`, `model_name`,
            `finetuned_from`, `tasks`, `dataset_tags`, `dataset`, `dataset_args`; besides, `dataset_revision`,
            `dataset_license`, `attribute_source`, `other_settings`.

    Returns:
        `huggingface_hub.ModelCard`
    """
    report = group_report(trainer)
    order = {"test": 0, "train": 2}
    evaluations = dict(sorted(named_evaluations(report).items(), key=lambda item: (order.get(item[0], 1), item[0])))
    given = _with_origin(trainer, given)
    name = given.get("model_name") or os.path.basename(os.path.abspath(trainer.args.output_dir))
    data = _card_data(trainer, name, evaluations, given)
    context = {
        "title": name,
        "summary": summary(trainer, data),
        "worst": worst_group(trainer, evaluations),
        "intended_use": intended_use(trainer, report),
        "group_tables": [
            {"title": table_title(trainer, k, report), "text": as_markdown(format_group_table(v))}
            for k, v in evaluations.items()
        ],
        "picture": training_picture(trainer),
        "comparison": comparison_part(trainer.args.output_dir),
        "method_table": method_table(trainer, report),
        "data": data_text(trainer, evaluations, given),
        "attributes": attributes_text(trainer, report, given.get("attribute_source")),
        "selection": selection_text(trainer, report),
        "recovery": format_recovery(report.get("pseudo_attributes", {}).get("recovery") or []) or None,
        "limits": known_limits(evaluations, report),
        "loading": loading_code(trainer, data.pipeline_tag),
        "command": reproduction_command(sys.argv, trainer.args.world_size),
        "versions": versions_text(trainer),
        "settings_table": settings_table(trainer.args, given.get("other_settings")),
    }
    if not report.get("pseudo_attributes", {}).get("recovery"):
        context["recovery"] = None
    return ModelCard.from_template(data, template_str=template(), **context)


def template() -> str:
    """The card's Jinja template, `model_cards/template.md`: part of the wheel, or of the repository."""
    packaged = files("gerne_hf") / "model_cards" / "template.md"
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    return (Path(__file__).parent.parent / "model_cards" / "template.md").read_text(encoding="utf-8")


def _card_data(trainer, name: str, evaluations: dict[str, Any], given: dict[str, Any]) -> ModelCardData:
    task = _task(trainer, given)
    data_set = _list(given.get("dataset")) or [os.path.basename(str(given.get("dataset_tags") or "")) or "custom"]
    metrics = _CARD_METRICS if has_attributes(trainer) else _CLASS_METRICS
    results = [
        EvalResult(
            task_type=task or "other",
            dataset_type=_first(given.get("dataset_tags")) or data_set[0],
            dataset_name=data_set[0],
            dataset_split={"eval": "validation"}.get(prefix, prefix.removeprefix("eval_")),
            dataset_revision=given.get("dataset_revision"),
            metric_type=key,
            metric_name=title,
            metric_value=round(result[key], 4),
        )
        for prefix, result in evaluations.items()
        if prefix != "train"  # figures of rows that the model has seen are no results
        for key, title in metrics.items()
        if key in result
    ]
    origin = given.get("finetuned_from") or _origin(trainer)
    return ModelCardData(
        model_name=name,
        eval_results=results or None,
        language=given.get("language"),
        license=given.get("license"),
        library_name="peft" if _is_adapter(trainer) else "transformers",
        pipeline_tag=task,
        base_model=origin,
        datasets=_list(given.get("dataset_tags")) or None,
        metrics=[*metrics],
        tags=sorted({*TAGS, *(_list(given.get("tags")))}),
    )


def _with_origin(trainer, given: dict[str, Any]) -> dict[str, Any]:
    """`given`, with the Hub's data set and its commit where they are not given and the data tells them."""
    named = trainer.eval_dataset
    held_out = list(named.values()) if isinstance(named, dict) else [named]
    origins = {hub_origin(data) for data in (*held_out, trainer.train_dataset)} - {None}
    if len(origins) != 1:
        return given
    [(name, revision)] = origins
    tags = _list(given.get("dataset_tags")) or [name]
    if tags != [name]:
        return given
    return {**given, "dataset_tags": tags, "dataset_revision": given.get("dataset_revision") or revision}


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])


def _first(value: Any) -> str | None:
    return next(iter(_list(value)), None)
