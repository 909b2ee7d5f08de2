"""The progress table of notebooks: it shows the summaries of an evaluation, and no columns for single groups.

Imports `evaluation/` only. [`EvaluatingTrainer`](gerne_hf.training.evaluating_trainer.EvaluatingTrainer) asks for it
before each evaluation, as callbacks may be added at any time.
"""

import functools
import sys
from collections.abc import Callable, Iterable
from typing import Any

from ..evaluation.logs import summaries

NOTEBOOKS = "transformers.utils.notebook"
"""The module of `NotebookProgressCallback`; it needs IPython, so it is looked for and never imported here."""


def show_summaries_alone(callbacks: Iterable[Any]) -> None:
    """Let each `NotebookProgressCallback` show the summaries of an evaluation alone; nothing else is changed.

    Args:
        callbacks (`Iterable`): the callbacks of a trainer.
    """
    module = sys.modules.get(NOTEBOOKS)
    if module is None:
        return
    for callback in callbacks:
        if isinstance(callback, module.NotebookProgressCallback) and "on_evaluate" not in vars(callback):
            vars(callback)["on_evaluate"] = functools.partial(_show_summaries, callback.on_evaluate)


def _show_summaries(on_evaluate: Callable, *state: Any, metrics: dict[str, Any] | None = None, **more: Any) -> Any:
    return on_evaluate(*state, metrics=None if metrics is None else summaries(metrics), **more)
