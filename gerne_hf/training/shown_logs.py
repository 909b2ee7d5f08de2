"""What is shown of an evaluation while a training runs: its summaries, on a terminal and in a notebook.

Figures of single groups go to logs and trackers, and stand in the table of groups at the end.

Imports `evaluation/` and Transformers.
[`EvaluatingTrainer`](gerne_hf.training.evaluating_trainer.EvaluatingTrainer) asks for it before each evaluation, as
callbacks may be added at any time.
"""

import functools
import sys
from collections.abc import Callable, Iterable
from typing import Any

from transformers import PrinterCallback, ProgressCallback

from ..evaluation.logs import summaries

NOTEBOOKS = "transformers.utils.notebook"
"""The module of `NotebookProgressCallback`; it needs IPython, so it is looked for and never imported here."""


TIMES = ("_runtime", "_samples_per_second", "_steps_per_second")
"""Ends of the keys that say how long an evaluation took; they are not printed."""


def show_summaries_alone(callbacks: Iterable[Any]) -> None:
    """Let the callbacks of Transformers that print logs, and that of notebooks, show the summaries of an evaluation
    alone; nothing else is changed, and trackers are given every figure.

    Args:
        callbacks (`Iterable`): the callbacks of a trainer.
    """
    callbacks = list(callbacks)
    for callback in callbacks:
        if type(callback) in (PrinterCallback, ProgressCallback) and "on_log" not in vars(callback):
            vars(callback)["on_log"] = functools.partial(_print_summaries, callback.on_log)
    module = sys.modules.get(NOTEBOOKS)
    if module is None:
        return
    for callback in callbacks:
        if isinstance(callback, module.NotebookProgressCallback) and "on_evaluate" not in vars(callback):
            vars(callback)["on_evaluate"] = functools.partial(_show_summaries, callback.on_evaluate)


def _print_summaries(on_log: Callable, *state: Any, logs: dict[str, Any] | None = None, **more: Any) -> Any:
    if logs is not None and any(key.endswith("worst_group_accuracy") for key in logs):
        logs = {key: value for key, value in summaries(logs).items() if not key.endswith(TIMES)}
    return on_log(*state, logs=logs, **more)


def _show_summaries(on_evaluate: Callable, *state: Any, metrics: dict[str, Any] | None = None, **more: Any) -> Any:
    return on_evaluate(*state, metrics=None if metrics is None else summaries(metrics), **more)
