"""Seals of checkpoints: the file that is written last and shows that a checkpoint is whole.

Imports [`files`](gerne_hf.utils.files). Whether a whole checkpoint belongs to the present run is checked in
[`identity`](gerne_hf.checkpoints.identity).
"""

import json
import os
from pathlib import Path
from typing import Any

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from ..utils.files import write_json

logger = logging.get_logger(__name__)

CHECKPOINT_FILE = "checkpoint.json"
"""The file name of a seal. It holds the facts of the run that the checkpoint belongs to, and the size of each of the
checkpoint's files in bytes."""


def seal(folder: str, record: dict[str, Any], durable: bool = True) -> None:
    """Write the seal of a checkpoint; call it after all files of the checkpoint are written.

    Args:
        folder (`str`): the checkpoint's folder.
        record (`dict[str, Any]`): the facts that the seal keeps beside the sizes of the files, such as "step" and
            "run"; without a key "files".
        durable (`bool`, *optional*, defaults to `True`): whether the files are flushed to the disk before the seal is
            written, so that what a seal says is also true after a loss of power.

    Example:

    ```python
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "weights.bin").write_bytes(b"12345")
    ...     seal(folder, {"step": 20})
    ...     read_seal(folder)
    {'step': 20, 'files': {'weights.bin': 5}}

    ```
    """
    root = Path(folder)
    files = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}
    files.pop(CHECKPOINT_FILE, None)
    if durable:
        for path in files.values():
            _flush(path)
    sizes = {name: path.stat().st_size for name, path in files.items()}
    write_json({**record, "files": sizes}, str(root / CHECKPOINT_FILE))
    if durable:
        for path in (root / CHECKPOINT_FILE, root, root.parent):
            _flush(path)


def unseal(folder: str) -> None:
    """Delete the seal of a checkpoint that is about to be overwritten.

    Args:
        folder (`str`): the checkpoint's folder; it need not have a seal, nor exist.
    """
    Path(folder, CHECKPOINT_FILE).unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Wait until a file or a folder is on the disk; Windows cannot do so for folders."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_seal(folder: str) -> dict[str, Any]:
    """Return what the seal of a checkpoint holds, if the checkpoint is whole.

    Args:
        folder (`str`): the checkpoint's folder.

    Returns:
        `dict[str, Any]`: the record given to [`seal`], and "files": the size of each file in bytes.

    Raises:
        ValueError: if the checkpoint is not whole; says what is missing, as a clause that begins with "it" or "its".
    """
    path = Path(folder, CHECKPOINT_FILE)
    if not path.is_file():
        raise ValueError(f"it has no {CHECKPOINT_FILE}, which is written last")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        sizes = record["files"].items()
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"its {CHECKPOINT_FILE} cannot be read ({error})") from None
    for name, size in sizes:
        file = path.parent / name
        if not file.is_file():
            raise ValueError(f"its file {name} is missing")
        if file.stat().st_size != size:
            raise ValueError(f"its file {name} has {file.stat().st_size:,} of {size:,} bytes")
    return record


def newest_whole(directory: str) -> tuple[str | None, dict[str, str]]:
    """Return the whole checkpoint of a run that has the most steps.

    Args:
        directory (`str`): the output folder of the run; need not exist.

    Returns:
        `tuple[str | None, dict[str, str]]`: the checkpoint's folder, or None if no checkpoint is whole; and
        the folders of the checkpoints with more steps, none of which is whole, each with the reason.
    """
    prefix, damaged = f"{PREFIX_CHECKPOINT_DIR}-", {}
    names = os.listdir(directory) if os.path.isdir(directory) else []
    steps = [int(name.removeprefix(prefix)) for name in names if name.removeprefix(prefix).isdecimal()]
    for step in sorted(steps, reverse=True):
        folder = os.path.join(directory, f"{prefix}{step}")
        if not os.path.isdir(folder):
            continue
        try:
            read_seal(folder)
        except ValueError as error:
            damaged[folder] = str(error)
            continue
        return folder, damaged
    return None, damaged


def checkpoint_to_resume(directory: str) -> str | None:
    """Return the whole checkpoint of a run that has the most steps, and warn of newer ones that are not whole.

    Args:
        directory (`str`): the output folder of the run; need not exist.

    Returns:
        `str`: the checkpoint's folder; None if there is none, so that training starts anew.
    """
    folder, damaged = newest_whole(directory)
    for path, reason in damaged.items():
        instead = f"{folder} is used instead" if folder else "there is none before it, so training starts anew"
        logger.warning(f"The checkpoint {path} is not whole: {reason}. It was cut off; {instead}.")
    return folder
