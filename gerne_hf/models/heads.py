"""Heads of classifiers: finding and freezing layers, names of classes, features of frozen backbones."""

import difflib
import types
from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils import tqdm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, default_data_collator


def name_labels(model: Any, names: Sequence[str] | None) -> None:
    """Give a model the names of its classes, unless it has names already.

    Args:
        model ([`~torch.nn.Module`]): its config is changed in place, if it has names of classes.
        names (`Sequence[str]`, *optional*): the classes in the order of their ids; None changes nothing.
    """
    config = getattr(model, "config", None)
    if names is None or config is None or not hasattr(config, "id2label"):
        return
    by_id = dict(enumerate(names))
    unnamed = {i: f"LABEL_{i}" for i in by_id}
    if dict(config.id2label or {}) == unnamed and by_id != {i: str(i) for i in by_id}:
        config.id2label, config.label2id = by_id, {name: i for i, name in by_id.items()}


def classification_head(model: nn.Module) -> nn.Linear:
    """The layer that turns features into class scores: the last linear layer with an output a class.

    Raises:
        ValueError: if the model has none.
    """
    classes = model.config.num_labels
    heads = [module for module in model.modules() if isinstance(module, nn.Linear) and module.out_features == classes]
    if not heads:
        raise ValueError(
            f"{type(model).__name__} has no linear layer with {classes} outputs, so no head to replace or fit anew"
        )
    return heads[-1]


@torch.no_grad()
def frozen_features(
    model: PreTrainedModel, dataset: Any, batch_size: int = 128, description: str = "Computing features"
) -> torch.Tensor:
    """What the classification head of a model sees of each row, the model being frozen.

    Args:
        model ([`~transformers.PreTrainedModel`]): an image classifier; put into evaluation mode.
        dataset: a map-style data set of rows with `pixel_values`.
        batch_size (`int`, defaults to `128`): rows of a forward.
        description (`str`): text of the progress bar.

    Returns:
        `torch.Tensor` of shape `(N, D)`, float32, on the CPU.
    """
    model.eval()
    parts: list[torch.Tensor] = []
    hook = classification_head(model).register_forward_pre_hook(
        lambda module, inputs: parts.append(inputs[0].float().cpu())
    )
    try:
        for batch in tqdm(DataLoader(dataset, batch_size, collate_fn=default_data_collator), desc=description):
            model(pixel_values=batch["pixel_values"].to(model.device))
    finally:
        hook.remove()
    return torch.cat(parts)


def freeze_batch_norm(model: nn.Module) -> nn.Module:
    """Keep the statistics of a model's BatchNorm layers as they are, in training too; their scale and shift train."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
            module.train = types.MethodType(_stay, module)
    return model


def freeze_layers(model: nn.Module, layers: Sequence[str]) -> nn.Module:
    """Keep the weights of some layers as they are: no gradient, no update.

    Args:
        model (`nn.Module`): changed in place.
        layers (`Sequence[str]`): names of modules, as in `model.named_modules()`; all that is below them is frozen.

    Raises:
        ValueError: for a name that is no module of the model, with the nearest ones; and if nothing is left to train.
    """
    modules = dict(model.named_modules())
    for name in layers:
        if name not in modules or not name:
            near = difflib.get_close_matches(name, modules, n=3) or list(dict(model.named_children()))
            raise ValueError(f"the model has no layer {name!r} to freeze; did you mean {', '.join(near)}?")
        modules[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"freezing {', '.join(layers)} leaves nothing to train; name fewer layers")
    return model


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    return module


def label_maps(names: Sequence[str]) -> dict[str, dict]:
    """The names of the classes as a model's config holds them."""
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
