"""Model cards that tell who a model works for: group tables, origin of the attributes, how the step was selected.

Imports `evaluation/`, and the other modules of this room. Next: [`card_paragraphs`](gerne_hf.reports.card_paragraphs)
for the sentences, `templates/model_card.md` for their order, and `GerneTrainer.create_model_card`, which makes the
record and saves the card.
"""

import os
import sys
from importlib.resources import files
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..evaluation.names import CLASS_RESULT_TITLES, RESULT_TITLES, split_name
from ..utils.markdown import plain
from .card_paragraphs import (
    Evaluations,
    as_markdown,
    attributes_text,
    comparison_part,
    data_text,
    intended_use,
    known_limits,
    method_table,
    selection_text,
    summary,
    table_title,
    training_picture,
    worst_group,
)
from .loading import loading_code
from .record import RunRecord
from .reproduction import reproduction_command, settings_table, versions_text
from .tables import format_group_table, format_recovery

TAGS = ("gerne", "group-robustness", "debiasing", "spurious-correlations")
"""Tags of every card, by which the models are found on the Hub."""


def build_card(record: RunRecord, folder: str, **given: Any) -> ModelCard:
    """Return the card of a model.

    Args:
        record ([`RunRecord`]): the run; every evaluation in it is on the card, that of the test set first.
        folder (`str`): the run's `output_dir`, where its pictures and `comparison.json` lie. Its name is the title,
            unless `model_name` is given.
        given: what [`~transformers.Trainer.create_model_card`] takes: `language`, `license`, `tags`, `model_name`,
            `finetuned_from`, `tasks`, `dataset_tags`, `dataset`, `dataset_args`; besides, `dataset_revision`,
            `dataset_license`, `attribute_source`, `other_settings`.

    Returns:
        `huggingface_hub.ModelCard`
    """
    order = {"test": 0, "train": 2}
    evaluations = dict(sorted(record.named_evaluations.items(), key=lambda item: (order.get(item[0], 1), item[0])))
    given = _with_origin(record, given)
    name = given.get("model_name") or os.path.basename(os.path.abspath(folder))
    data = _card_data(record, name, evaluations, given)
    context: dict[str, Any] = {
        "title": plain(name),
        "summary": summary(record, data.base_model),
        "worst": worst_group(record, evaluations),
        "intended_use": intended_use(record),
        "group_tables": [
            {"title": table_title(record, prefix), "text": as_markdown(format_group_table(result, plain))}
            for prefix, result in evaluations.items()
        ],
        "picture": training_picture(folder),
        "comparison": comparison_part(folder),
        "method_table": method_table(record),
        "data": data_text(record, evaluations, given),
        "attributes": attributes_text(record, given.get("attribute_source")),
        "selection": selection_text(record),
        "recovery": format_recovery(record.recovery) if record.recovery else None,
        "limits": known_limits(evaluations),
        "loading": loading_code(record, folder, data.pipeline_tag),
        "command": reproduction_command(sys.argv, record.run.processes),
        "versions": versions_text(record.settings["seed"]),
        "settings_table": settings_table(_without_seed(record.settings), given.get("other_settings")),
    }
    return ModelCard.from_template(data, template_str=template(), **context)


def write_card(record: RunRecord, folder: str, **given: Any) -> None:
    """Write the card of a model to `README.md` in the run's folder.

    Args:
        record, folder, given: as for [`build_card`].
    """
    build_card(record, folder, **given).save(os.path.join(folder, "README.md"))


def template() -> str:
    """Return the card's Jinja template, `templates/model_card.md`."""
    return (files("gerne_hf.reports") / "templates" / "model_card.md").read_text(encoding="utf-8")


def _without_seed(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings but for the seed, which the sentence above their table says."""
    return {name: value for name, value in settings.items() if name != "seed"}


def _card_data(record: RunRecord, name: str, evaluations: Evaluations, given: dict[str, Any]) -> ModelCardData:
    """Return the card's metadata, by which the Hub finds and shows the model."""
    task = _first(given.get("tasks")) or record.model.task
    data_set = _list(given.get("dataset")) or [os.path.basename(str(given.get("dataset_tags") or "")) or "custom"]
    metrics = RESULT_TITLES if record.run.has_attributes else CLASS_RESULT_TITLES
    results = [
        EvalResult(
            task_type=task or "other",
            dataset_type=_first(given.get("dataset_tags")) or data_set[0],
            dataset_name=data_set[0],
            dataset_split=split_name(prefix),
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
    return ModelCardData(
        model_name=name,
        eval_results=results or None,
        language=given.get("language"),
        license=given.get("license"),
        library_name="peft" if record.model.adapter else "transformers",
        pipeline_tag=task,
        base_model=given.get("finetuned_from") or record.model.base,
        datasets=_list(given.get("dataset_tags")) or None,
        metrics=[*metrics],
        tags=sorted({*TAGS, *(_list(given.get("tags")))}),
    )


def _with_origin(record: RunRecord, given: dict[str, Any]) -> dict[str, Any]:
    """Return `given` with the data set's Hub id and commit where they are not given and the record has them."""
    if record.run.data_origin is None:
        return given
    name, revision = record.run.data_origin
    tags = _list(given.get("dataset_tags")) or [name]
    if tags != [name]:
        return given
    return {**given, "dataset_tags": tags, "dataset_revision": given.get("dataset_revision") or revision}


def _list(value: Any) -> list[str]:
    """Return one or several strings, or None, as a list."""
    return [value] if isinstance(value, str) else list(value or [])


def _first(value: Any) -> str | None:
    """Return the first of one or several strings, or None without any."""
    return next(iter(_list(value)), None)
