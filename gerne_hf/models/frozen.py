"""Models of which only the head is trained: whether their features can be computed once, and training on these.

Imports [`heads`](gerne_hf.models.heads) of this room. The features are computed and kept in
[`features`](gerne_hf.data.features).
"""

import json
import types
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput

from ..utils.hashing import hash_value, mix
from .heads import ModelT, classification_head, head_inputs

FEATURE_DIMENSIONS = 2
"""Dimensions of a batch of features; one of images has four."""

_HEAD = "_gerne_hf_head"
_LABELS = ("id2label", "label2id", "label_names", "label_descriptions", "num_labels", "_name_or_path")


def trains_head_alone(model: PreTrainedModel) -> bool:
    """Return whether all weights of a model are frozen but those of its classification head.

    Args:
        model ([`~transformers.PreTrainedModel`]): an image classifier.
    """
    try:
        head = {id(parameter) for parameter in classification_head(model).parameters()}
    except ValueError:
        return False
    trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    return bool(trained) and trained <= head


def why_features_change(model: PreTrainedModel, pixel_values: torch.Tensor) -> str | None:
    """Return why the inputs of a model's head are not the same each time an image is seen in training.

    Args:
        model ([`~transformers.PreTrainedModel`]): a model that trains its head alone. It is left in evaluation mode.
        pixel_values (`torch.Tensor` of shape `(n, C, H, W)`): some images, on the model's device.

    Returns:
        `str`: the reason, to stand after "as"; None if there is none, so that features can be computed once.
    """
    head = classification_head(model)
    model.train()
    outside = [(name, module) for name, module in model.named_modules() if module is not head]
    norms = [name for name, module in outside if isinstance(module, _BatchNorm) and module.training]
    model.eval()
    if norms:
        return (
            f"{len(norms)} BatchNorm layers ({norms[0]} is the first) normalize by the batch in training; "
            "--freeze_batch_norm true keeps them as they are"
        )
    with torch.no_grad():
        features, logits = head_inputs(model, pixel_values)
        if features.ndim != FEATURE_DIMENSIONS:
            return f"the model's head sees inputs of shape {tuple(features.shape[1:])} for an image, not one vector"
        if not torch.allclose(head(features), logits, rtol=1e-4, atol=1e-5):
            return "the model's scores are not those of its last linear layer alone"
        model.train()
        try:
            in_training = head_inputs(model, pixel_values)[0]
        finally:
            model.eval()
    if not torch.allclose(in_training, features, rtol=1e-4, atol=1e-5):
        return "layers before the head act otherwise in training, as dropout does"
    return None


def train_on_features(model: ModelT) -> ModelT:
    """Let a model take the inputs of its head in place of images, and then run its head alone.

    `pixel_values` of shape `(n, D)` are features, others are images, as ever. Weights, config and what is saved stay
    those of the whole model.

    Args:
        model ([`~transformers.PreTrainedModel`]): an image classifier, changed in place.

    Returns:
        [`~transformers.PreTrainedModel`]: the same model.

    Raises:
        ValueError: if the model has no classification head.
    """
    whole: Any = model
    head = classification_head(whole)
    setattr(whole, _HEAD, next(name for name, module in whole.named_modules() if module is head))
    whole.forward = types.MethodType(_forward, whole)
    return model


def _forward(self: PreTrainedModel, pixel_values: Any = None, labels: torch.Tensor | None = None, **more: Any) -> Any:
    """Take the place of the forward of a model that is trained on features."""
    if pixel_values is None or pixel_values.ndim != FEATURE_DIMENSIONS:
        return type(self).forward(self, pixel_values=pixel_values, labels=labels, **more)
    head: nn.Module = self.get_submodule(getattr(self, _HEAD))
    logits = head(pixel_values)
    loss = None if labels is None else self.loss_function(labels, logits, self.config)
    return ImageClassifierOutput(loss=loss, logits=logits)


def backbone_checksum(model: PreTrainedModel) -> str:
    """Return a hash of all that decides on the inputs of a model's head: its class, config and weights.

    Args:
        model ([`~transformers.PreTrainedModel`]): an image classifier. Its head and the names of its classes do not
            count.

    Returns:
        `str`: 32 hexadecimal digits.
    """
    head = next(name for name, module in model.named_modules() if module is classification_head(model))
    weights = {
        name: value.detach().cpu() for name, value in model.state_dict().items() if not name.startswith(f"{head}.")
    }
    config = {key: value for key, value in model.config.to_dict().items() if key not in _LABELS}
    described = json.dumps([type(model).__qualname__, config], sort_keys=True, default=str)
    return mix(described, hash_value(weights).data).hex()
