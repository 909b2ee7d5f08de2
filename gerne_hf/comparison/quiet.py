"""What a comparison of many runs says while they run: a line a run, and each warning once.

Imports trainers. On a terminal there are progress bars; elsewhere, as in the log of a job, the dictionaries of losses
and evaluations, the bars and the group tables of single runs are left out, as the log of 14 runs had thousands of
lines of them. They are all in the run's folder: `group_metrics.json`, `training.png`, and what trackers have.
"""

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from transformers import PrinterCallback, ProgressCallback
from transformers.utils import logging as transformers_logging

from ..trainer import GerneTrainer
from ..utils.quiet import be_quiet


class _Once(logging.Filter):
    """Lets each warning of a logger through once."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[Any, ...]] = set()
        self.again = 0

    def is_new(self, *what: Any) -> bool:
        """Return whether this is said for the first time."""
        if what in self.seen:
            self.again += 1
            return False
        self.seen.add(what)
        return True

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is handled: several handlers may get it."""
        if not logging.WARNING <= record.levelno < logging.ERROR:
            return True
        known = vars(record).get("is_said_first")
        if known is None:
            known = vars(record)["is_said_first"] = self.is_new(record.name, record.levelno, record.getMessage())
        return bool(known)


_active: list[_Once] = []


@contextlib.contextmanager
def warnings_once() -> Iterator[None]:
    """Show each warning once while the context lasts, of Python's `warnings` and of loggers; errors always.

    Within another such context it does nothing. At the end a line says how many were left out. Elsewhere than on a
    terminal there are no bars of files that are read and written, either.
    """
    if _active:
        yield
        return
    once, show = _Once(), warnings.showwarning

    def show_once(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
        if once.is_new(category, str(message)):
            show(message, category, *where, **more)

    handlers, bars = {*_handlers()}, transformers_logging.is_progress_bar_enabled() and not on_a_terminal()
    if bars:
        transformers_logging.disable_progress_bar()
    for handler in handlers:
        handler.addFilter(once)
    warnings.showwarning = show_once
    _active.append(once)
    try:
        yield
    finally:
        _active.clear()
        be_quiet(False)
        warnings.showwarning = show
        for handler in handlers:
            handler.removeFilter(once)
        if bars:
            transformers_logging.enable_progress_bar()
        if once.again:
            print(f"Warnings that had been said before and were left out: {once.again}.", flush=True)


def _handlers() -> Iterator[logging.Handler]:
    """Return what writes records: of the root, of the last resort, and of the loggers of libraries."""
    yield from logging.root.handlers
    if logging.lastResort is not None:
        yield logging.lastResort
    for name in ("transformers", "accelerate", "datasets", "gerne_hf"):
        yield from logging.getLogger(name).handlers


def on_a_terminal() -> bool:
    """Return whether somebody looks at a terminal, where lines may be overwritten."""
    return sys.stdout.isatty() and sys.stderr.isatty()


def hush(trainer: GerneTrainer) -> None:
    """Take from a trainer what it prints of itself: progress, dictionaries of figures, group tables.

    Args:
        trainer ([`GerneTrainer`]): a trainer that was just made.
    """
    be_quiet(True)  # and so are the trainers that it makes
    trainer.tells = False
    for callback in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(callback)


def heading(title: str, seed: int, number: int, runs: int, seconds: Sequence[float], left: int) -> str:
    """Return the line before a run.

    Args:
        title (`str`): the method's title.
        seed (`int`): the run's seed.
        number (`int`): the run's place, from 1.
        runs (`int`): all runs.
        seconds (`Sequence[float]`): what runs have taken so far that were trained.
        left (`int`): how many runs are still to be trained, this one included.

    Example:

    ```python
    >>> heading("GERNE", 0, number=3, runs=14, seconds=[50.0, 70.0], left=12)
    '=== GERNE, seed 0: run 3 of 14, about 12 minutes left'

    ```
    """
    return f"=== {title}, seed {seed}: run {number} of {runs}{_time_left(seconds, left)}"


def _time_left(seconds: Sequence[float], left: int) -> str:
    if not seconds or not left:
        return ""
    expected = left * sum(seconds) / len(seconds)
    if expected < 90:
        return f", about {max(1, round(expected))} second{'s' if round(expected) > 1 else ''} left"
    minutes = round(expected / 60)
    return f", about {minutes} minutes left" if minutes < 120 else f", about {round(expected / 3600)} hours left"
