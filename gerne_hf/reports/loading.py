"""How a card says to load the model: what to install, code that runs as it stands, an example and its answer.

Imports the record of this room alone. [`build_card`](gerne_hf.reports.model_card.build_card) puts it on the card, and
[`model_facts`](gerne_hf.reports.facts.model_facts) finds out what the model is.
"""

import json
import os
from typing import Any

from huggingface_hub.constants import SAFETENSORS_SINGLE_FILE

from .record import RunRecord

EXAMPLE_TEXT = "This is an example."
"""The text that a card classifies if no other is given: rows of the data are nobody's to publish."""

EXAMPLE_SIDE = 224
"""Height and width of the white image that a card classifies."""

_AUTO = {
    "text-classification": "AutoModelForSequenceClassification",
    "image-classification": "AutoModelForImageClassification",
}


def literal(text: str) -> str:
    """Return a text as it stands in Python code, in double quotes and on one line.

    Args:
        text (`str`): any text.

    Example:

    ```python
    >>> print(literal('my "best" model'))
    "my \\"best\\" model"

    ```
    """
    return json.dumps(text, ensure_ascii=False)


def install_line(record: RunRecord, task: str | None) -> str:
    """Return the shell command that installs what the code of the card imports.

    Args:
        record ([`RunRecord`]): the run.
        task (`str`, *optional*): the task as pipelines call it.
    """
    model = record.model
    needed = ["torch", "transformers", *(["peft"] if model.adapter else []), *(["gerne_hf"] if model.own else [])]
    if task == "image-classification":
        needed += ["torchvision", "pillow", *(["timm"] if model.timm else [])]
    return "pip install " + " ".join(needed)


def loading_notes(record: RunRecord) -> list[str]:
    """Return what a reader must know before the code runs: sentences, none for most models.

    Args:
        record ([`RunRecord`]): the run.
    """
    notes = []
    if record.model.local_base:
        notes.append(
            "The base model of this adapter was a local folder and is not published with it. Whoever has that folder "
            "puts its path in the place of `FOLDER_OF_THE_BASE_MODEL`; without it the adapter cannot be used."
        )
    if record.model.task is not None and record.model.processor is None:
        notes.append(
            "No tokenizer and no image processor was saved with the model: prepare its inputs as in training."
        )
    return notes


def loading_code(record: RunRecord, folder: str, task: str | None, example: str | None = None) -> str:
    """Return Python code that loads the model, from the Hub if it is there, else from its folder, and calls it.

    Args:
        record ([`RunRecord`]): the run.
        folder (`str`): the run's folder, whose last part stands in the code.
        task (`str`, *optional*): the task as pipelines call it; without one the model alone is loaded.
        example (`str`, *optional*): the text to classify; that of the record if not given.
    """
    model, revision = record.model, record.run.hub_revision if record.run.hub_id else None
    name = record.run.hub_id or os.path.basename(os.path.abspath(folder))
    place = literal(name)
    at = f"{place}, revision={literal(revision)}" if revision else place
    own = [f"from gerne_hf.models import {model.name}  # registers its class"] if model.own else []
    if task not in _AUTO:
        return "\n".join([*own, "from transformers import AutoModel\n", f"model = AutoModel.from_pretrained({at})"])
    if model.adapter:
        return "\n".join([*_adapter_code(record, at, task), *_call(record, task, example)])
    if model.processor is None:
        lines = [f"from transformers import {_AUTO[task]}\n", f"model = {_AUTO[task]}.from_pretrained({at})"]
        return "\n".join([*own, *lines])
    image = ["from PIL import Image"] if task == "image-classification" else []
    lines = [*own, *image, "from transformers import pipeline\n", f"classify = pipeline({literal(task)}, model={at})"]
    lines += _call(record, task, example)
    return "\n".join([*lines, *(_timm_code(name, revision, at, record) if model.timm else [])])


def _call(record: RunRecord, task: str, example: str | None) -> list[str]:
    """Return the lines that classify an example and, where it is known, the answer as a comment."""
    if record.model.processor is None:
        return []
    found = record.example or {}
    given = example or found.get("input") or EXAMPLE_TEXT
    if task == "image-classification":
        side = f"({EXAMPLE_SIDE}, {EXAMPLE_SIDE})"
        lines = [f'image = Image.new("RGB", {side}, "white")  # or Image.open("photo.jpg")', "classify(image)"]
    else:
        lines = [f"classify({literal(given)})"]
    answer = found.get("output") if task == "image-classification" or given == found.get("input") else None
    if answer is not None:
        lines.append(f"# {literal(answer['label'])}, with the probability {answer['score']:.2f}")
    return lines


def _adapter_code(record: RunRecord, at: str, task: str) -> list[str]:
    """Return the lines that load an adapter: its base model has other classes, or none."""
    text, auto = task == "text-classification", _AUTO[task]
    tool = "AutoTokenizer" if text else "AutoImageProcessor"
    known = record.model.processor is not None
    image = ["from PIL import Image"] if known and not text else []
    peft = ["from peft import PeftModel"] if record.model.local_base else []
    names = ", ".join(map(literal, record.model.labels))
    lines = [
        *(image + peft if not text else peft + image),
        f"from transformers import {auto}{f', {tool}, pipeline' if known else ''}\n",
        f"labels = [{names}]",
        "names = dict(id2label=dict(enumerate(labels)), label2id={name: i for i, name in enumerate(labels)})",
    ]
    more = "**names, ignore_mismatched_sizes=True)  # the base model has other classes"
    if record.model.local_base:
        lines += [
            f'base = {auto}.from_pretrained("FOLDER_OF_THE_BASE_MODEL", {more}',
            f"model = PeftModel.from_pretrained(base, {at})",
        ]
    else:
        lines.append(f"model = {auto}.from_pretrained({at}, {more}")
    if known:
        argument = "tokenizer" if text else "image_processor"
        lines.append(f"{argument} = {tool}.from_pretrained({at})")
        lines.append(f"classify = pipeline({literal(task)}, model=model, {argument}={argument})")
    return lines


def _timm_code(name: str, revision: str | None, at: str, record: RunRecord) -> list[str]:
    """Return the lines that load a model of timm without a pipeline, and without Transformers."""
    if record.run.hub_id:
        where = literal(f"hf-hub:{name}" + (f"@{revision}" if revision else ""))
        network = [f"network = timm.create_model({where}, pretrained=True).eval()"]
    else:  # pretrained=True would have torch.load read the safetensors file, which not every torch does
        network = [
            f"network = timm.create_model({literal('local-dir:' + name)}).eval()",
            f"timm.models.load_checkpoint(network, {literal(name + '/' + SAFETENSORS_SINGLE_FILE)})",
        ]
    return [
        "\n# or the model alone, in Transformers",
        "from transformers import AutoImageProcessor, AutoModelForImageClassification",
        f"\nprocessor = AutoImageProcessor.from_pretrained({at})",
        f"model = AutoModelForImageClassification.from_pretrained({at})",
        "\n# or without Transformers: the same logits",
        "import timm\n",
        *network,
        "settings = timm.data.resolve_model_data_config(network)",
        "transform = timm.data.create_transform(**settings, is_training=False)",
    ]


def widget(record: RunRecord, task: str | None, example: str | None = None) -> list[dict[str, Any]] | None:
    """Return the examples that the Hub offers to try a model of texts on; None for others.

    Args:
        record ([`RunRecord`]): the run.
        task (`str`, *optional*): the task as pipelines call it.
        example (`str`, *optional*): the text; that of the record if not given.
    """
    if task != "text-classification" or record.model.processor is None:
        return None
    return [{"text": example or (record.example or {}).get("input") or EXAMPLE_TEXT, "example_title": "Example"}]
