"""What a process of several says when it fails: the same message on all of them, and in the launcher's summary."""

import atexit
import functools
import sys
from collections.abc import Callable

import torch.distributed as dist
from torch.distributed.distributed_c10d import _get_default_store
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

_KEY = "gerne_hf/first_failure"

_TOLD = "_told_by_gerne_hf"


def tells_the_others(method: Callable) -> Callable:
    """Let an exception that leaves a trainer's `method` in one process of several be known to all of them.

    The first process that fails leaves its message in the store through which the processes found each other, and
    where `torchrun` and `accelerate launch` look for it: they print it in their summary, and end all processes as soon
    as one has ended. The others fail for want of it, in what they wanted to exchange ("connection closed by peer"),
    and raise its message instead. Trials of a search are left alone: there an exception may be a verdict.

    Raises:
        RuntimeError: in place of one that follows the failure of another process.
    """

    @functools.wraps(method)
    def wrapper(self, *args, **kwargs):
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

    return wrapper


def _other_failure(mine: str) -> str | None:
    """The message of the process that failed before this one; else None, and this one leaves its own."""
    try:
        first = _get_default_store().compare_set(_KEY, "", mine).decode()
    except (RuntimeError, ValueError):  # the store has ended with the process that kept it
        return None
    return None if first == mine else first


def leave_processes_at_exit() -> None:
    """Have a script that ends well leave its process group: torch may abort one that ends with the group's threads
    still running ("terminate called without an active exception"). One that fails ends at once, waiting for nobody."""

    def leave() -> None:
        if dist.is_available() and dist.is_initialized() and getattr(sys, "last_value", None) is None:
            dist.destroy_process_group()

    atexit.register(leave)
