"""A card's metadata, by which the Hub finds and shows a model: licence, base model, data sets, results.

Imports `evaluation/`, and the other modules of this room. Next:
[`build_card`](gerne_hf.reports.model_card.build_card), which puts the text below it.
"""

import csv
import os
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ..evaluation.names import CLASS_RESULT_TITLES, RESULT_TITLES, split_name
from .loading import widget
from .reader_notes import HUB
from .record import GROUP_METRICS_FILE, RunRecord

TAGS = ("gerne", "group-robustness", "debiasing", "spurious-correlations")
"""Tags of every card, by which the models are found on the Hub."""

EMISSIONS_FILE = "emissions.csv"
"""What CodeCarbon, where it is installed, leaves in the folder of a run."""


def card_data(
    record: RunRecord, name: str, evaluations: dict[str, dict[str, Any]], given: dict[str, Any], folder: str
) -> ModelCardData:
    """Return the metadata of a model's card.

    Args:
        record ([`RunRecord`]): the run.
        name (`str`): the model's name.
        evaluations (`dict[str, dict]`): the evaluations on the card.
        given (`dict`): as for [`build_card`](gerne_hf.reports.model_card.build_card).
        folder (`str`): the run's folder.
    """
    task = _first(given.get("tasks")) or record.model.task
    data_set = listed(given.get("dataset")) or [os.path.basename(str(given.get("dataset_tags") or "")) or "custom"]
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
            **_source(record),
        )
        for prefix, result in evaluations.items()
        if prefix != "train"  # figures of rows that the model has seen are no results
        for key, title in metrics.items()
        if key in result
    ]
    base = given.get("finetuned_from") or record.model.base
    relation = None if base is None or not record.run.trained else "adapter" if record.model.adapter else "finetune"
    trained = ["generated_from_trainer"] if record.run.trained else []
    more: dict[str, Any] = {
        "base_model_relation": relation,
        "widget": widget(record, task, given.get("example")),
        "co2_eq_emissions": _emissions(folder),
    }
    return ModelCardData(
        model_name=name,
        eval_results=results or None,
        language=given.get("language"),
        **_license(record, given),
        library_name="peft" if record.model.adapter else "transformers",
        pipeline_tag=task,
        base_model=base,
        datasets=listed(given.get("dataset_tags")) or None,
        metrics=[*metrics],
        tags=sorted({*TAGS, *trained, *listed(given.get("tags"))}),
        **{key: value for key, value in more.items() if value is not None},
    )


def _license(record: RunRecord, given: dict[str, Any]) -> dict[str, Any]:
    """Return the licence that is given, or that of the base model; name and address go along with "other"."""
    names = ("license", "license_name", "license_link")
    found = given if given.get("license") else record.model.base_license
    return {name: found.get(name) for name in names[: 3 if found.get("license") == "other" else 1]}


def _source(record: RunRecord) -> dict[str, Any]:
    """Return where a result can be looked up: the file in the repository that it stands in."""
    if record.run.hub_id is None:
        return {}
    place = f"{HUB}/{record.run.hub_id}/blob/{record.run.hub_revision or 'main'}/{GROUP_METRICS_FILE}"
    return {"source_name": GROUP_METRICS_FILE, "source_url": place}


def _emissions(folder: str) -> dict[str, Any] | None:
    """Return the CO2 of the training as CodeCarbon has measured it; None without its file."""
    path = os.path.join(folder, EMISSIONS_FILE)
    if not os.path.isfile(path):
        return None
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    try:
        grams = round(1000 * float(rows[-1]["emissions"]), 2)
    except (IndexError, KeyError, TypeError, ValueError):  # a file of something else
        return None
    where = {"geographical_location": rows[-1].get("country_name"), "hardware_used": rows[-1].get("gpu_model")}
    told = {"emissions": grams, "source": "CodeCarbon", "training_type": "fine-tuning", **where}
    return {key: value for key, value in told.items() if value}


def listed(value: Any) -> list[str]:
    """Return one or several strings, or None, as a list.

    Args:
        value (`str` or `list[str]`, *optional*): what was given.
    """
    return [value] if isinstance(value, str) else list(value or [])


def _first(value: Any) -> str | None:
    """Return the first of one or several strings, or None without any."""
    return next(iter(listed(value)), None)
