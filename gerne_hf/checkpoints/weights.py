"""Weights as `save_pretrained` writes them, read back into the model that the Trainer holds."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion


@contextlib.contextmanager
def read_back(model: Any, folder: str) -> Iterator[None]:
    """While it is open, `model.load_state_dict` takes the weights of a checkpoint under the names it was saved with.

    `save_pretrained` writes the names and layouts of the Hub's checkpoints, which for some architectures (ViT among
    them) are not those of the model in memory. The Trainer loads them without a conversion and with a mere warning
    leaves the weights it does not find as they are, after a resume as for the best model
    (huggingface/transformers#43701, #48805).

    Args:
        model: the model to load into; any that is no [`~transformers.PreTrainedModel`] is left alone.
        folder (`str`): the checkpoint.
    """
    if not isinstance(model, PreTrainedModel):
        yield
        return
    handle = model.register_load_state_dict_pre_hook(functools.partial(_use_own_names, folder))
    try:
        yield
    finally:
        handle.remove()


def _use_own_names(folder: str, model: PreTrainedModel, state_dict: dict[str, torch.Tensor], prefix: str, *_) -> None:
    own = dict(model.state_dict())
    if prefix or state_dict.keys() <= own.keys():
        return
    names = {id(tensor): name for name, tensor in own.items()}
    renamed = {saved: names.get(id(tensor)) for saved, tensor in revert_weight_conversion(model, own).items()}
    if None not in renamed.values():
        loaded = {renamed.get(name, name): tensor for name, tensor in state_dict.items()}
    else:  # tensors were split or merged, too
        loaded = type(model).from_pretrained(folder, dtype=model.dtype).state_dict()
    state_dict.clear()
    state_dict.update(loaded)
