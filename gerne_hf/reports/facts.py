"""What a record says of a model, read from the live model.

Apart from [`record`](gerne_hf.reports.record), so that reports about a run that has ended need neither torch nor
Transformers.
"""

import os
from typing import Any

from huggingface_hub.utils import HFValidationError, validate_repo_id
from transformers.trainer_utils import unwrap_peft_model

from ..models.timm_checkpoints import is_timm
from .record import ModelFacts

_TASKS = {"ForSequenceClassification": "text-classification", "ForImageClassification": "image-classification"}


def model_facts(model: Any) -> ModelFacts:
    """Return what cards say of a model.

    Args:
        model ([`~torch.nn.Module`]): the model, unwrapped from what Accelerate put around it.
    """
    inner = unwrap_peft_model(model)
    name = type(model).__name__
    return ModelFacts(
        name=type(inner).__name__,
        task=next((task for ending, task in _TASKS.items() if name.endswith(ending)), None),
        base=_base_model(model),
        adapter=inner is not model,
        timm=is_timm(model),
        own=type(model).__module__.startswith("gerne_hf"),
    )


def _base_model(model: Any) -> str | None:
    """Return the Hub id that a model was loaded from, or None if it was a folder, or was loaded from nowhere."""
    origin = getattr(getattr(model, "config", None), "_name_or_path", "") or ""
    if not origin or os.path.exists(origin):
        return None
    try:
        validate_repo_id(origin)
    except HFValidationError:  # a folder that is gone, or of another machine
        return None
    return origin
