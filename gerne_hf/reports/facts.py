"""What a record says of a model, read from the live model.

Apart from [`record`](gerne_hf.reports.record), so that reports about a run that has ended need neither torch nor
Transformers.
"""

from functools import lru_cache
from typing import Any

import torch
from huggingface_hub import ModelCard, hf_hub_download, try_to_load_from_cache
from transformers import ImageProcessingMixin, PreTrainedTokenizerBase
from transformers.trainer_utils import unwrap_peft_model

from ..hub.ids import hub_id
from ..models.adapters import base_of_adapter
from ..models.timm_checkpoints import is_timm
from .loading import EXAMPLE_SIDE, EXAMPLE_TEXT
from .record import ModelFacts

_TASKS = {"ForSequenceClassification": "text-classification", "ForImageClassification": "image-classification"}


def model_facts(model: Any, processor: Any = None, online: bool = False) -> ModelFacts:
    """Return what cards say of a model.

    Args:
        model ([`~torch.nn.Module`]): the model, unwrapped from what Accelerate put around it.
        processor (`Any`, *optional*): the tokenizer or image processor that is saved with it.
        online (`bool`): whether the card of the base model may be asked for on the Hub, if it is not in the cache.
    """
    inner = unwrap_peft_model(model)
    name = type(model).__name__
    config = getattr(inner, "config", None)
    labels = getattr(config, "id2label", None) or {}
    origin = base_of_adapter(model) if inner is not model else getattr(config, "_name_or_path", None)
    base = hub_id(origin)
    return ModelFacts(
        name=type(inner).__name__,
        task=next((task for ending, task in _TASKS.items() if name.endswith(ending)), None),
        base=base,
        adapter=inner is not model,
        timm=is_timm(model),
        own=type(model).__module__.startswith("gerne_hf"),
        processor=_kind(processor),
        labels=[str(labels[i]) for i in sorted(labels)],
        local_base=inner is not model and base is None,
        base_license={} if base is None else dict(_license(base, online)),
    )


def _kind(processor: Any) -> str | None:
    """Return "tokenizer" or "image_processor", or None for what pipelines cannot use."""
    if isinstance(processor, PreTrainedTokenizerBase):
        return "tokenizer"
    return "image_processor" if isinstance(processor, ImageProcessingMixin) else None


@lru_cache
def _license(base: str, online: bool) -> tuple[tuple[str, str], ...]:
    """Return the licence that a model's card names, from the cache or, with `online`, the Hub; empty if none is known.

    Nothing depends on it but a line of the card, so that no failure is an error.
    """
    path = try_to_load_from_cache(base, "README.md")
    try:
        if not isinstance(path, str):
            if not online:
                return ()
            path = hf_hub_download(base, "README.md", etag_timeout=5)
        data = ModelCard.load(path, ignore_metadata_errors=True).data
    except Exception:  # no such repository, no network, no rights, a card that cannot be read
        return ()
    names = ("license", "license_name", "license_link")
    return tuple((name, value) for name in names if isinstance(value := data.get(name), str))


def answer(model: Any, processor: Any, example: str | None = None) -> dict[str, Any] | None:
    """Return a model's answer to an example, as a pipeline gives it.

    Args:
        model ([`~torch.nn.Module`]): the model, unwrapped; its mode is left as it was.
        processor (`Any`): its tokenizer or image processor.
        example (`str`, *optional*): the text; a model of images is asked about a white image.

    Returns:
        `dict`: `input` (None for an image) and `output`, with `label` and `score`; None if the model or its processor
        are of another kind, or cannot be called so.
    """
    facts = model_facts(model, processor)
    if facts.task is None or facts.processor is None:
        return None
    text = (example or EXAMPLE_TEXT) if facts.task == "text-classification" else None
    training = model.training
    model.eval()
    try:
        if text is not None:
            inputs = processor(text, return_tensors="pt", truncation=True)
        else:
            from PIL import Image

            inputs = processor(images=Image.new("RGB", (EXAMPLE_SIDE,) * 2, "white"), return_tensors="pt")
        with torch.no_grad():
            scores = model(**{name: value.to(model.device) for name, value in inputs.items()}).logits[0].softmax(-1)
    except (TypeError, ValueError, KeyError, RuntimeError, ImportError):  # the card shows the call alone
        return None
    finally:
        model.train(training)
    best = int(scores.argmax())
    label = facts.labels[best] if best < len(facts.labels) else str(best)
    return {"input": text, "output": {"label": label, "score": round(float(scores[best]), 4)}}
