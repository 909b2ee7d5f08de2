"""Model cards that tell who a model works for: group tables, origin of the attributes, how the step was selected.

Imports `evaluation/`, and the other modules of this room. Next: [`card_paragraphs`](gerne_hf.reports.card_paragraphs)
for the sentences, [`metadata`](gerne_hf.reports.metadata) for what the Hub reads, `templates/model_card.md` for the
order, and `GerneTrainer.create_model_card`, which makes the record and saves the card.
"""

import os
import sys
from importlib.resources import files
from typing import Any

from huggingface_hub import ModelCard

from ..utils.markdown import plain
from .card_paragraphs import (
    attributes_text,
    comparison_part,
    data_text,
    group_text,
    intended_use,
    known_limits,
    method_table,
    selection_text,
    summary,
    table_title,
    training_picture,
    worst_group,
)
from .loading import install_line, loading_code, loading_notes
from .metadata import card_data, listed
from .reader_notes import contact, links, out_of_scope, words
from .record import RunRecord
from .reproduction import reproduction_command, settings_table, versions_text
from .tables import format_recovery


def build_card(record: RunRecord, folder: str, **given: Any) -> ModelCard:
    """Return the card of a model.

    Args:
        record ([`RunRecord`]): the run; every evaluation in it is on the card, that of the test set first.
        folder (`str`): the run's `output_dir`, where its pictures and `comparison.json` lie. Its name is the title,
            unless `model_name` is given.
        given: what [`~transformers.Trainer.create_model_card`] takes: `language`, `license`, `tags`, `model_name`,
            `finetuned_from`, `tasks`, `dataset_tags`, `dataset`, `dataset_args`; besides, `dataset_revision`,
            `dataset_license`, `attribute_source`, `other_settings`, `license_name`, `license_link` and `example`.

    Returns:
        `huggingface_hub.ModelCard`
    """
    order = {"test": 0, "train": 2}
    evaluations = dict(sorted(record.named_evaluations.items(), key=lambda item: (order.get(item[0], 1), item[0])))
    given = _with_origin(record, given)
    name = given.get("model_name") or os.path.basename(os.path.abspath(folder))
    data = card_data(record, name, evaluations, given, folder)
    context: dict[str, Any] = {
        "title": plain(name),
        "summary": summary(record, data.base_model),
        "worst": worst_group(record, evaluations),
        "intended_use": intended_use(record),
        "group_tables": [
            {"title": table_title(record, prefix), "text": group_text(result)}
            for prefix, result in evaluations.items()
        ],
        "training_left_out": record.run.training_accuracies_left_out,
        "picture": training_picture(folder),
        "comparison": comparison_part(folder),
        "method_table": method_table(record),
        "data": data_text(record, evaluations, given),
        "attributes": attributes_text(record, given.get("attribute_source") or record.run.attribute_source),
        "selection": selection_text(record),
        "recovery": format_recovery(record.recovery) if record.recovery else None,
        "limits": known_limits(evaluations),
        "install": install_line(record, data.pipeline_tag),
        "loading": loading_code(record, folder, data.pipeline_tag, given.get("example")),
        "loading_notes": loading_notes(record),
        "words": words(record, evaluations),
        "out_of_scope": out_of_scope(record, evaluations),
        "links": links(record, data.base_model, listed(given.get("dataset_tags"))),
        "contact": contact(record),
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


def _with_origin(record: RunRecord, given: dict[str, Any]) -> dict[str, Any]:
    """Return `given` with the data set's Hub id and commit where they are not given and the record has them."""
    if record.run.data_origin is None:
        return given
    name, revision = record.run.data_origin
    tags = listed(given.get("dataset_tags")) or [name]
    if tags != [name]:
        return given
    return {**given, "dataset_tags": tags, "dataset_revision": given.get("dataset_revision") or revision}
