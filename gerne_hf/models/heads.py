"""What is done to any classifier: finding its head, freezing layers, naming classes, reading frozen features.

Imports nothing of this package. Models that recipes start from are in [`images`](gerne_hf.models.images) and
[`texts`](gerne_hf.models.texts).
"""

import difflib
import types
from collections.abc import Sequence
from typing import Any, TypeVar, cast

import torch
from accelerate.utils import tqdm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, default_data_collator

ALL_BUT_HEAD = "all_but_head"
"""Among the names of layers to freeze, stands for all of the model but its classification head."""

ModelT = TypeVar("ModelT", bound=nn.Module)
"""The class of a model, which functions that return the model that they were given keep."""


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


def classification_head(model: PreTrainedModel) -> nn.Linear:
    """Return the layer that turns features into class scores: the last linear layer with an output for each class.

    Args:
        model ([`~transformers.PreTrainedModel`]): a classifier, whose config says how many classes there are.

    Returns:
        `nn.Linear`

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
    """Compute the features of each row: what the model gives to its classification head.

    Args:
        model ([`~transformers.PreTrainedModel`]): an image classifier. It is put into evaluation mode, and nothing of
            it is trained.
        dataset: a map-style data set of rows with `pixel_values`.
        batch_size (`int`, defaults to `128`): rows of a forward.
        description (`str`): text of the progress bar.

    Returns:
        `torch.Tensor` of shape `(N, D)`, float32, on the CPU: D features for each of the N rows.

    Raises:
        ValueError: if the model has no classification head.
    """
    model.eval()
    batches = tqdm(DataLoader(dataset, batch_size, collate_fn=default_data_collator), desc=description)
    parts = [head_inputs(model, batch["pixel_values"].to(model.device))[0].float().cpu() for batch in batches]
    return torch.cat(parts)


def head_inputs(model: PreTrainedModel, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the model gives to its classification head for a batch of images, and its logits.

    Args:
        model ([`~transformers.PreTrainedModel`]): an image classifier, in the mode in which it shall run.
        pixel_values (`torch.Tensor` of shape `(n, C, H, W)`): the images, on the model's device.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: the inputs of the head, of shape `(n, D)` for most models, and the
        logits, of shape `(n, K)`.

    Raises:
        ValueError: if the model has no classification head.
    """
    seen: list[torch.Tensor] = []
    hook = classification_head(model).register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        logits = model(pixel_values=pixel_values).logits
    finally:
        hook.remove()
    return seen[-1], logits


def freeze_batch_norm(model: ModelT) -> ModelT:
    """Keep the running mean and variance of all BatchNorm layers as they are, during training too.

    The layers stay in evaluation mode whatever mode the model is put into. Their scale and shift are trained as ever.

    Args:
        model (`nn.Module`): changed in place.

    Returns:
        `nn.Module`: the same model.

    Example:

    ```python
    >>> model = freeze_batch_norm(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))).train()
    >>> [module.training for module in model]
    [True, False]

    ```
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
            module.train = types.MethodType(_stay, module)  # type: ignore[method-assign]  # of this layer alone
    return model


def freeze_layers(model: ModelT, layers: Sequence[str]) -> ModelT:
    """Keep the weights of some layers as they are: they get no gradient and no update.

    Args:
        model (`nn.Module`): changed in place.
        layers (`Sequence[str]`): names of modules, as in `model.named_modules()`. The modules inside of them are
            frozen too. `"all_but_head"` stands for all of the model but its classification head.

    Returns:
        `nn.Module`: the same model.

    Raises:
        ValueError: for a name that is no module of the model, with the nearest names; and if nothing is left to train.

    Example:

    ```python
    >>> model = freeze_layers(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), ["0"])
    >>> [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    ['1.weight', '1.bias']

    ```
    """
    modules = dict(model.named_modules())
    for name in layers:
        if name == ALL_BUT_HEAD and name not in modules:
            trained = [parameter.requires_grad for parameter in classification_head(cast(Any, model)).parameters()]
            model.requires_grad_(False)
            for parameter, was in zip(classification_head(cast(Any, model)).parameters(), trained, strict=True):
                parameter.requires_grad_(was)
            continue
        if name not in modules or not name:
            near = difflib.get_close_matches(name, modules, n=3) or list(dict(model.named_children()))
            raise ValueError(
                f"the model has no layer {name!r} to freeze; did you mean {', '.join(near)}? "
                f"{ALL_BUT_HEAD} stands for all of the model but its classification head"
            )
        modules[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"freezing {', '.join(layers)} leaves nothing to train; name fewer layers")
    return model


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    """Take the place of `module.train` and leave the module in the mode in which it is."""
    return module


def label_maps(names: Sequence[str]) -> dict[str, Any]:
    """Return the names of the classes in the form in which the config of a model holds them.

    Args:
        names (`Sequence[str]`): the classes in the order of their ids.

    Returns:
        `dict[str, dict]`: `id2label` and `label2id`, for the constructor of a config.

    Example:

    ```python
    >>> label_maps(["cat", "dog"])
    {'id2label': {0: 'cat', 1: 'dog'}, 'label2id': {'cat': 0, 'dog': 1}}

    ```
    """
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
