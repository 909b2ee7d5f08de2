"""Locks on folders: of two processes that would write into one folder, the second is told who is there.

Imports no other module of this package and no torch. Who locks: a run its `output_dir`
([`ResumableTrainer`](gerne_hf.training.resumable_trainer.ResumableTrainer)), a search its study, the writer of a
partition its folder.
"""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

from transformers.utils import logging

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

logger = logging.get_logger(__name__)

LOCK_FILE = "_lock.json"
"""The file in a folder that is locked. It says which process is there: `pid`, `host`, `started`, `purpose`. `Trainer`
pushes no file whose name begins with an underscore."""

PATIENCE = 3.0
"""Seconds to wait for a process that is just ending, as one that was killed a moment ago."""

_held: dict[int, int] = {}
"""By file descriptor of each lock that this process holds, the process."""


class FolderInUseError(RuntimeError):
    """Raised if another process is writing into a folder, or this one is already."""


def this_process() -> dict[str, Any]:
    """Return what names this process to people: `pid`, `host`, and `started`, the present time in UTC."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "started": now}


@contextlib.contextmanager
def locked(folder: str, purpose: str, way_out: str, name: str = LOCK_FILE) -> Iterator[None]:
    """Keep other processes from a folder, inside a `with` block.

    The operating system holds the lock (`flock`), so it ends with the process however that ends, and a process that
    is started after a kill finds the folder free; the file that is left is taken over. Processes that are forked
    inside the block, such as workers of a DataLoader, do not hold it. On network file systems the lock holds between
    machines where the file system passes locks on, as NFS does. Where it has none at all, only a process that still
    runs on the same machine is noticed, and a warning says so.

    Args:
        folder (`str`): the folder, made if there is none.
        purpose (`str`): what this process does there, for the message of the other one ("training").
        way_out (`str`): what the other one can do, as the end of a sentence.
        name (`str`, *optional*, defaults to `"_lock.json"`): name of the file.

    Raises:
        FolderInUseError: if another process, or this one already, is there; names it and the file to delete where the
            process's machine was lost and a server still keeps its lock.
        OSError: if the folder cannot be written to.

    Example:

    ```python
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with locked(folder, "training", "choose another folder"):
    ...     try:
    ...         with locked(folder, "training", "choose another folder"):
    ...             pass
    ...     except FolderInUseError as error:
    ...         print(str(error).split(": ")[1].split(" ")[0])
    process

    ```
    """
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, name)
    handle = _acquire(path, folder, way_out)
    try:
        record = {**this_process(), "ticks": _ticks(os.getpid()), "purpose": purpose}
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, json.dumps(record).encode())
        yield
    finally:
        _release(handle, path)


def _acquire(path: str, folder: str, way_out: str) -> int:
    """Return the open file, locked."""
    end = time.monotonic() + PATIENCE
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            by_system = _lock(handle)
            holder = _read(handle)
            if not by_system and _runs_here(holder):
                raise BlockingIOError
            if not _is_at(handle, path):  # the one that held it has ended, and deleted it
                os.close(handle)
                continue
        except BlockingIOError:
            holder = _read(handle)
            os.close(handle)
            here = holder.get("pid") == os.getpid() and holder.get("host") == socket.gethostname()
            if here or time.monotonic() > end:
                raise FolderInUseError(_in_use(holder, here, folder, path, way_out)) from None
            time.sleep(0.1)
            continue
        except BaseException:
            os.close(handle)
            raise
        _held[handle] = os.getpid()
        _tell_of_the_last(holder, by_system, folder)
        return handle


def _lock(handle: int) -> bool:
    """Lock an open file; return False where there are no locks, raise BlockingIOError if another one holds it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise BlockingIOError from None
    except OSError:  # ENOSYS, ENOLCK, EOPNOTSUPP, ...
        return False
    return True


def _release(handle: int, path: str) -> None:
    """Delete the file and end the lock, unless this is a process that was forked from the one that holds it."""
    if _held.pop(handle, None) != os.getpid():
        return
    with contextlib.suppress(OSError):
        if _is_at(handle, path):
            os.unlink(path)  # while it is locked: whoever opened it sees that it is gone
    os.close(handle)


def _leave_to_parent() -> None:
    """Close the locks in a process that was just forked, which would else outlive the one that took them."""
    for handle in _held:
        with contextlib.suppress(OSError):
            os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


def _is_at(handle: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _read(handle: int) -> dict[str, Any]:
    """Return what the file says of the process that wrote it; nothing if it says nothing."""
    try:
        os.lseek(handle, 0, os.SEEK_SET)
        record = json.loads(os.read(handle, 4096))
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _ticks(pid: Any) -> str | None:
    """Return when a process of this machine began, in ticks of its clock, which tells it from a later one of the same
    number; None if there is none, or nobody can say."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _runs_here(holder: dict[str, Any]) -> bool:
    ticks = holder.get("ticks")
    return holder.get("host") == socket.gethostname() and ticks is not None and _ticks(holder.get("pid")) == ticks


def _in_use(holder: dict[str, Any], here: bool, folder: str, path: str, way_out: str) -> str:
    who = f"process {holder.get('pid', 'unknown')} on {holder.get('host', 'an unknown machine')}"
    doing = f"has been {holder.get('purpose', 'writing')} there since {holder.get('started', 'an unknown time')}"
    if here:
        return f"{folder} is in use: {who}, which is this one, {doing}. {way_out}"
    gone = f"If that process is gone, as its machine was lost, delete {path}"
    return f"{folder} is in use: {who} {doing}. {way_out}. {gone}"


def _tell_of_the_last(holder: dict[str, Any], by_system: bool, folder: str) -> None:
    """Say whose file was taken over, and where locks do not hold."""
    if not by_system:
        logger.warning(
            f"The file system of {folder} has no locks: a second process that writes there from another machine would "
            "not be noticed. See to it that there is none."
        )
    if holder:
        elsewhere = holder.get("host") != socket.gethostname()
        (logger.warning if elsewhere else logger.info)(
            f"{folder} was last used by process {holder.get('pid')} on {holder.get('host')}, since "
            f"{holder.get('started')}, which did not end in good order. Its lock is free and was taken over."
        )
