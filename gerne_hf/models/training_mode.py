"""Spares a model that is in training mode throughout from being put into it again, which `Trainer` does at every step.

Imports torch alone. [`PlanTrainer`](gerne_hf.training.plan_trainer.PlanTrainer) uses it around the step of `Trainer`.
"""

from typing import Any

from torch import nn


class training_mode_kept:  # a class costs each step less than a generator function under contextlib.contextmanager
    """Let the first call of `model.train()` in a block do nothing, if every module is in training mode already.

    To see that a model is in training mode takes less time than to put it into it again. A model that is in evaluation
    mode, as a whole or in parts, is put into training mode as ever, and so is one whose class has its own `train`.

    Args:
        model ([`~torch.nn.Module`]): the model.

    Example:

    ```python
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    >>> with training_mode_kept(model):
    ...     model.train() is model, "train" in vars(model)
    (True, False)

    ```
    """

    def __init__(self, model: nn.Module):
        self._model = model

    def __enter__(self) -> None:
        model = self._model
        if type(model).train is nn.Module.train and all(module.training for module in model.modules()):
            vars(model).setdefault("train", self._train)

    def _train(self, mode: bool = True) -> nn.Module:
        """Take the place of `model.train` for one call; the model itself has no such attribute when it is run."""
        self._leave()
        return self._model.train(mode) if not mode else self._model

    def __exit__(self, *exception: Any) -> None:
        self._leave()

    def _leave(self) -> None:
        if vars(self._model).get("train") == self._train:
            del vars(self._model)["train"]
