"""Weights of a checkpoint, loaded into the model in memory under the names that `save_pretrained` gave them.

Imports nothing of this package. The trainer that needs it:
[`ResumableTrainer`](gerne_hf.training.resumable_trainer.ResumableTrainer).
"""

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


def warm_start(model: Any, folder: str) -> str | None:
    """Return the line of Python that makes a model with the weights of a checkpoint, whichever trainer wrote it.

    A run that starts so is a new one: it has neither the optimizer's state nor the number of steps.

    Args:
        model: a model of the same class.
        folder (`str`): the checkpoint's folder.

    Returns:
        `str`: None if there are no weights in the folder that a line could load.
    """
    name = type(model).__name__
    if hasattr(model, "peft_config") and os.path.isfile(os.path.join(folder, "adapter_model.safetensors")):
        return f"model = PeftModel.from_pretrained(base_model, {folder!r}, is_trainable=True)"
    if isinstance(model, PreTrainedModel):
        found = any(os.path.isfile(os.path.join(folder, file)) for file in _WEIGHTS)
        return f"model = {name}.from_pretrained({folder!r})" if found else None
    if os.path.isfile(os.path.join(folder, "model.safetensors")):
        return f"safetensors.torch.load_model(model, {os.path.join(folder, 'model.safetensors')!r})"
    return None


@contextlib.contextmanager
def read_back(model: Any, folder: str) -> Iterator[None]:
    """Let `model.load_state_dict` accept the weights of a checkpoint by their saved names, inside a `with` block.

    `save_pretrained` writes the names and layouts of the Hub's checkpoints. For some architectures (ViT is one) these
    differ from the names and layouts of the model in memory. `Trainer` loads the weights without converting them:
    those it does not find by name keep the values they have, and it only warns. This holds for a resume and for
    `load_best_model_at_end` (huggingface/transformers#43701, #48805).

    Args:
        model: the model to load into. Nothing is changed for one that is no [`~transformers.PreTrainedModel`].
        folder (`str`): the checkpoint's folder.
    """
    if not isinstance(model, PreTrainedModel):
        yield
        return
    handle = model.register_load_state_dict_pre_hook(functools.partial(_use_own_names, folder))
    try:
        yield
    finally:
        handle.remove()


def _use_own_names(
    folder: str, model: PreTrainedModel, state_dict: dict[str, torch.Tensor], prefix: str, *_: Any
) -> None:
    """Rename the weights in `state_dict`, in place, from the names of the checkpoint to those of the model.

    It is called as a pre-hook of `load_state_dict`, for the model (an empty prefix) and for each of its modules.
    """
    own = dict(model.state_dict())
    if prefix or state_dict.keys() <= own.keys():
        return
    names = {id(tensor): name for name, tensor in own.items()}
    converted = revert_weight_conversion(model, own)
    renamed = {saved: names[id(tensor)] for saved, tensor in converted.items() if id(tensor) in names}
    loaded: dict[str, Any]
    if len(renamed) == len(converted):
        loaded = {renamed.get(name, name): tensor for name, tensor in state_dict.items()}
    else:  # some tensors were split or merged as well, so that there is no one-to-one renaming
        loaded = type(model).from_pretrained(folder, dtype=model.dtype).state_dict()
    state_dict.clear()
    state_dict.update(loaded)
