"""Runs of several processes: all of them report the failure of the first one, and all leave in good order.

Imports [`locks`](gerne_hf.utils.locks). Which part of the data each process reads:
[`sharing`](gerne_hf.groups.sharing).
"""

import atexit
import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import torch.distributed as dist
from accelerate.utils import broadcast_object_list
from torch.distributed.distributed_c10d import _get_default_store
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from .locks import FolderInUseError, locked

_Method = TypeVar("_Method", bound=Callable[..., Any])

_KEY = "gerne_hf/first_failure"

_TOLD = "_told_by_gerne_hf"


def tells_the_others(method: _Method) -> _Method:
    """Make an exception that leaves a trainer's method in one process known to all processes of the run.

    Where one process fails, the others fail too, because it no longer answers them; their own message is of no help
    ("connection closed by peer"). So the first process that fails leaves its message in the store through which the
    processes found each other, and the others raise that message in place of their own. It also leaves its error where
    `torchrun` and `accelerate launch` look for it: they print it in their summary and end all processes once one has
    ended.

    Nothing changes in a run of one process, nor in a trial of a hyperparameter search, where an exception may be a
    verdict on the trial.

    Args:
        method (`Callable`): a method of a trainer.

    Returns:
        `Callable`: the method, which raises as said below.

    Raises:
        RuntimeError: with the message of the process that failed first, in place of an error of another process that
            followed from it.
    """

    @functools.wraps(method)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            if not dist.is_initialized() or dist.get_world_size() < 2 or hasattr(error, _TOLD):
                raise
            if getattr(self, "hp_search_backend", None) is not None:
                raise
            setattr(error, _TOLD, True)
            other = _other_failure(f"process {dist.get_rank()} failed with {type(error).__name__}: {error}")
            if other is None:
                get_error_handler().record_exception(error)
            elif type(error) is RuntimeError or isinstance(error, dist.DistError):
                error = RuntimeError(other)
                setattr(error, _TOLD, True)
                raise error from None
            raise

    return cast(_Method, wrapper)


def _other_failure(mine: str) -> str | None:
    """Return the message of the process that failed before this one; without one, leave `mine` and return None."""
    try:
        first = _get_default_store().compare_set(_KEY, "", mine).decode()
    except (RuntimeError, ValueError):  # the store has ended with the process that kept it
        return None
    return None if first == mine else first


@contextlib.contextmanager
def locked_by_main(folder: str, purpose: str, way_out: str, is_main: bool, processes: int) -> Iterator[None]:
    """Keep other runs from a folder, inside a `with` block that all processes of this run enter.

    Args:
        folder, purpose, way_out (`str`): as for [`locked`](gerne_hf.utils.locks.locked).
        is_main (`bool`): whether this is the main process, which holds the lock.
        processes (`int`): processes of the run.

    Raises:
        FolderInUseError: on every process, if another run is in the folder.
    """
    message = None
    with contextlib.ExitStack() as until_the_end:
        if is_main:
            try:
                until_the_end.enter_context(locked(folder, purpose, way_out))
            except FolderInUseError as error:
                message = str(error)
        if processes > 1:
            (message,) = broadcast_object_list([message])
        if message is not None:
            raise FolderInUseError(message)
        yield


def fitting_workers(local_processes: int, most: int = 16) -> int:
    """Return how many workers a process's loader may have so that all of this machine's cores have work.

    Args:
        local_processes (`int`): processes of the run on this machine.
        most (`int`, *optional*, defaults to `16`): most workers of a process.

    Returns:
        `int`: the cores that this process may run on, divided among the processes.

    Example:

    ```python
    >>> import os
    >>> fitting_workers(1, most=10**6) == len(os.sched_getaffinity(0))
    True

    ```
    """
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return min(cores // max(local_processes, 1), most)


def leave_processes_at_exit() -> None:
    """Have a script that ends well leave its process group when Python exits.

    Without this, torch may abort a process that ends while the threads of its group still run ("terminate called
    without an active exception"). A script that ends with an exception does not leave the group, so that it ends at
    once and waits for no other process.
    """

    def leave() -> None:
        if dist.is_available() and dist.is_initialized() and getattr(sys, "last_value", None) is None:
            dist.destroy_process_group()

    atexit.register(leave)
