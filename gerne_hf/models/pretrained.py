"""A pretrained classifier whose weights are read once, for many models that start from them with fresh heads.

Imports `hub/` and no other module of this room. [`images`](gerne_hf.models.images) and
[`texts`](gerne_hf.models.texts) say what is loaded.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import logging

from ..hub.repositories import found_by


class PretrainedOnce:
    """Make models with pretrained weights and a fresh head; files are read when the first one is made.

    Each call returns a new model, whose head depends on PyTorch's global random generator exactly as it does where
    the files are read anew. The weights are kept in memory once, beside those of the models. Quantized models are
    loaded from their files each time.

    Args:
        auto_class (`type`): a class of Transformers with `from_pretrained`, such as
            `AutoModelForImageClassification`.
        name (`str`): folder or Hub id of the backbone.
        settle (`Callable`): is given each new model, and changes its config in place.
        settings: further arguments of `from_pretrained`.

    Raises:
        OSError: when the first model is made, if there is no such backbone, or it cannot be read; a note says what to
            do.
    """

    def __init__(self, auto_class: Any, name: str, settle: Callable[[PreTrainedModel], None], **settings: Any):
        self.auto_class, self.name, self.settle, self.settings = auto_class, name, settle, settings
        self._kept: tuple[type[PreTrainedModel], Any, dict[str, torch.Tensor]] | None = None

    def __call__(self) -> PreTrainedModel:
        """Return a new model, in evaluation mode as `from_pretrained` leaves it."""
        model = self._loaded() if self._kept is None else self._made_again(*self._kept)
        self.settle(model)
        return model

    def _loaded(self) -> PreTrainedModel:
        with found_by("model_name_or_path", self.name):
            model, found = self.auto_class.from_pretrained(self.name, output_loading_info=True, **self.settings)
        if getattr(model.config, "quantization_config", None) is None:
            fresh = {*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])}
            weights = {key: value.clone() for key, value in model.state_dict().items() if key not in fresh}
            self._kept = type(model), copy.deepcopy(model.config), weights
        return model

    def _made_again(self, model_class: Any, config: Any, weights: dict[str, torch.Tensor]) -> PreTrainedModel:
        kept, dtype = copy.deepcopy(config), self.settings.get("dtype")
        with _quietly():  # which weights are fresh was told when the files were read
            # Copies, as Transformers makes the very tensors that it is given the model's parameters.
            own = {name: weight.clone() for name, weight in weights.items()}
            model = model_class.from_pretrained(None, config=kept, state_dict=own, dtype=dtype)
        model.config.name_or_path = model.name_or_path = config.name_or_path  # what cards call the base model
        return model


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep Transformers from warning and from showing progress inside the `with` block."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
