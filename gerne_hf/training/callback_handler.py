"""The handler that calls a trainer's callbacks: it hands them loaders that yield what the model takes.

Imports Transformers alone. [`ResumableTrainer`](gerne_hf.training.resumable_trainer.ResumableTrainer) puts it in the
place of the handler that `Trainer` made.
"""

from collections.abc import Callable
from typing import Any

from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import CallbackHandler


class TrainersCallbackHandler(CallbackHandler):
    """Calls callbacks as `CallbackHandler` does, tells the trainer first of the end, and chooses their loaders.

    Callbacks of the trainer's own could do both, but each of them would be called at every step, for nothing.

    Args:
        handler ([`~transformers.trainer_callback.CallbackHandler`]): the handler in whose place it is used.
        before_train_end (`Callable`): called without arguments when training ends, before any callback hears of it.
        loader_for_callbacks (`Callable`): takes a loader of the trainer's own loops and returns the one that callbacks
            are given in its place.
    """

    def __init__(
        self,
        handler: CallbackHandler,
        before_train_end: Callable[[], None],
        loader_for_callbacks: Callable[[Any], Any],
    ):
        self._before_train_end = before_train_end
        self._loader_for_callbacks = loader_for_callbacks
        for name, value in vars(handler).items():
            setattr(self, name, value)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> Any:
        """Tell the trainer that training ends, and then the callbacks."""
        self._before_train_end()
        return super().on_train_end(args, state, control, **more)

    @property
    def train_dataloader(self) -> Any:
        """The loader of the training rows, as callbacks are given it."""
        return self._train_loader

    @train_dataloader.setter
    def train_dataloader(self, loader: Any) -> None:
        self._train_loader = self._loader_for_callbacks(loader)

    @property
    def eval_dataloader(self) -> Any:
        """The loader of the last evaluation, as callbacks are given it."""
        return self._eval_loader

    @eval_dataloader.setter
    def eval_dataloader(self, loader: Any) -> None:
        self._eval_loader = self._loader_for_callbacks(loader)
