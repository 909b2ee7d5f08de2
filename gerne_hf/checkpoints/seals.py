"""Checkpoints that are whole and belong to the run: how one is sealed, found again, and compared with the run."""

import json
import os
from pathlib import Path
from typing import Any

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from ..utils.files import write_json

logger = logging.get_logger(__name__)

CHECKPOINT_FILE = "checkpoint.json"
"""The seal of a checkpoint, written last: the run it belongs to, and its files with their sizes in bytes."""


def seal(folder: str, record: dict[str, Any], durable: bool = True) -> None:
    """Declare a checkpoint whole, after all its files are written.

    Args:
        folder (`str`): the checkpoint.
        record (`dict`): what is kept beside the files' sizes.
        durable (`bool`, defaults to `True`): whether the files are flushed to the disk first, so that the seal also
            holds after a loss of power.
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
    """Break the seal of a checkpoint that is about to be written over, if there is one."""
    Path(folder, CHECKPOINT_FILE).unlink(missing_ok=True)


def _flush(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_seal(folder: str) -> dict[str, Any]:
    """The record of a whole checkpoint.

    Raises:
        ValueError: for a checkpoint that is not whole; says what is missing.
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
    """The whole checkpoint with the most steps.

    Args:
        directory (`str`): the output folder of a run; need not exist.

    Returns:
        `tuple[str | None, dict[str, str]]`: its folder, or None; and the newer ones that are not whole, with the
        reasons.
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
    """[`newest_whole`], with a warning that names the checkpoints passed over and the one used instead."""
    folder, damaged = newest_whole(directory)
    for path, reason in damaged.items():
        instead = f"{folder} is used instead" if folder else "there is none before it, so training starts anew"
        logger.warning(f"The checkpoint {path} is not whole: {reason}. It was cut off; {instead}.")
    return folder
