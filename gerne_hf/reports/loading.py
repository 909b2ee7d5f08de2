"""The code on a card that loads the model.

Imports the record of this room alone. [`build_card`](gerne_hf.reports.model_card.build_card) puts it on the card.
"""

import json
import os

from huggingface_hub.constants import SAFETENSORS_SINGLE_FILE

from .record import RunRecord


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


def loading_code(record: RunRecord, folder: str, task: str | None) -> str:
    """Return Python code that loads the model, from the Hub if it is there, else from its folder.

    Args:
        record ([`RunRecord`]): the run.
        folder (`str`): the run's folder, whose last part stands in the code.
        task (`str`, *optional*): the task as pipelines call it; without one the model alone is loaded.
    """
    name = record.run.hub_id or os.path.basename(os.path.abspath(folder))
    branch = record.run.hub_revision if record.run.hub_id else None
    place = literal(name) + (f", revision={literal(branch)}" if branch else "")
    if task is None:
        return f"from transformers import AutoModel\n\nmodel = AutoModel.from_pretrained({place})"
    own = f"from gerne_hf.models import {record.model.name}  # registers its class\n" if record.model.own else ""
    lines = f'{own}from transformers import pipeline\n\nclassify = pipeline("{task}", model={place})'
    if not record.model.timm:
        return lines
    if record.run.hub_id:
        address = f"hf-hub:{name}@{branch}" if branch else f"hf-hub:{name}"
        network = [f"network = timm.create_model({literal(address)}, pretrained=True).eval()"]
    else:  # pretrained=True would have torch.load read the safetensors file, which not every torch does
        network = [
            f"network = timm.create_model({literal('local-dir:' + name)}).eval()",
            f"timm.models.load_checkpoint(network, {literal(name + '/' + SAFETENSORS_SINGLE_FILE)})",
        ]
    return "\n".join(
        [
            lines,
            "\n# or the model alone, in Transformers",
            "from transformers import AutoImageProcessor, AutoModelForImageClassification",
            f"\nprocessor = AutoImageProcessor.from_pretrained({place})",
            f"model = AutoModelForImageClassification.from_pretrained({place})",
            "\n# or without Transformers: the same logits",
            "import timm\n",
            *network,
            "settings = timm.data.resolve_model_data_config(network)",
            "transform = timm.data.create_transform(**settings, is_training=False)",
        ]
    )
