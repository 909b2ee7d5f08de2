"""Seals of checkpoints: the file that is written last and shows that a checkpoint is whole.

Imports `utils/`. Whether a whole checkpoint belongs to the present run is checked in
[`identity`](gerne_hf.checkpoints.identity).
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from ..utils.checksums import checksum, checksum_of_json
from ..utils.files import finite, write_json

logger = logging.get_logger(__name__)

CHECKPOINT_FILE = "checkpoint.json"
"""The file name of a seal. It holds the facts of the run that the checkpoint belongs to, and the size in bytes and the
checksum of each of the checkpoint's files."""

UNFINISHED_FILE = "checkpoint-is-incomplete.txt"
"""A file that `Trainer` puts beside a checkpoint while it saves on SIGTERM (`enable_jit_checkpoint`), and takes away
when it has saved; no part of the checkpoint."""


def seal(folder: str, record: dict[str, Any], durable: bool = True) -> None:
    """Write the seal of a checkpoint; call it after all files of the checkpoint are written.

    Each file is read once, for its checksum: about 0.25 s for each GB, as the system still holds it in memory.

    Args:
        folder (`str`): the checkpoint's folder.
        record (`dict[str, Any]`): the facts that the seal keeps beside sizes and checksums of the files: "run", what
            the run depends on, and others such as "step"; without the keys "files", "checksums" and "checksum".
        durable (`bool`, *optional*, defaults to `True`): whether the files are flushed to the disk before the seal is
            written, so that what a seal says is also true after a loss of power.

    Example:

    ```python
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "weights.bin").write_bytes(b"12345")
    ...     seal(folder, {"step": 20, "run": {"seed": 3}})
    ...     record = read_seal(folder, contents=True)
    >>> record["step"], record["files"], record["checksums"]
    (20, {'weights.bin': 5}, {'weights.bin': '4af3da69f61e14cf26f4c14b6b6bfdb4'})

    ```
    """
    root = Path(folder)
    files = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}
    for name in (CHECKPOINT_FILE, UNFINISHED_FILE):
        files.pop(name, None)
    if durable:
        for path in files.values():
            _flush(path)
    record = json.loads(json.dumps(finite(record)))
    record["files"] = {name: path.stat().st_size for name, path in files.items()}
    record["checksums"] = {name: checksum(str(path)) for name, path in files.items()}
    write_json({**record, "checksum": checksum_of_json(record)}, str(root / CHECKPOINT_FILE))
    if durable:
        for path in (root / CHECKPOINT_FILE, root, root.parent):
            _flush(path)


def unseal(folder: str) -> None:
    """Delete what is left of a checkpoint that is about to be written anew, its seal first.

    Args:
        folder (`str`): the checkpoint's folder; it need not have a seal, nor exist.
    """
    Path(folder, CHECKPOINT_FILE).unlink(missing_ok=True)
    for path in Path(folder).iterdir() if os.path.isdir(folder) else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != UNFINISHED_FILE:
            path.unlink()


def _flush(path: Path) -> None:
    """Wait until a file or a folder is on the disk; Windows cannot do so for folders."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_seal(folder: str, contents: bool = False) -> dict[str, Any]:
    """Return what the seal of a checkpoint holds, if the checkpoint is whole.

    Args:
        folder (`str`): the checkpoint's folder.
        contents (`bool`, *optional*, defaults to `False`): whether all files are read, to compare their checksums. Of
            a checkpoint of an earlier version, whose seal has none, it is seen whether state and weights can be read.

    Returns:
        `dict[str, Any]`: the record given to [`seal`]; "files", the size of each file in bytes; and "checksums".

    Raises:
        ValueError: if the checkpoint is not whole; says what is missing, as a clause that begins with "it" or "its".
    """
    path = Path(folder, CHECKPOINT_FILE)
    if not path.is_file():
        raise ValueError(f"it has no {CHECKPOINT_FILE}, which is written last")
    try:
        record = _seal_of(path.read_text(encoding="utf-8"))
    except (ValueError, TypeError) as error:
        raise ValueError(f"its {CHECKPOINT_FILE} cannot be read ({error})") from None
    for name, size in record["files"].items():
        file = path.parent / name
        if not file.is_file():
            raise ValueError(f"its file {name} is missing")
        if file.stat().st_size != size:
            raise ValueError(f"its file {name} has {file.stat().st_size:,} of {size:,} bytes")
    if contents and "checksums" in record:
        for name, sealed in record["checksums"].items():
            found = checksum(str(path.parent / name))
            if found != sealed:
                raise ValueError(
                    f"its file {name} is damaged: its checksum is {found}, and was {sealed} when it was saved"
                )
    elif contents:
        _look_inside(path.parent, record["files"])
    return record


def _seal_of(text: str) -> dict[str, Any]:
    """Return the content of a seal; raise a ValueError for one that is damaged."""
    record = json.loads(text)
    if not isinstance(record, dict):
        raise ValueError("it holds no record")
    sealed = record.pop("checksum", None)  # earlier versions wrote none
    if sealed is not None and sealed != checksum_of_json(record):
        raise ValueError("it is damaged: its own checksum differs")
    for name, kind in (("files", int), ("checksums", str), ("run", object)):
        entry = record.get(name, {} if name == "checksums" and sealed is None else None)
        if not isinstance(entry, dict) or not all(isinstance(value, kind) for value in entry.values()):
            raise ValueError(f"its entry {name!r} is missing or damaged")
    return record


def _look_inside(folder: Path, files: dict[str, int]) -> None:
    """Raise a ValueError if state or weights of a checkpoint without checksums cannot be read."""
    for name in files:
        try:
            if name == TRAINER_STATE_NAME:
                state = json.loads((folder / name).read_text(encoding="utf-8"))
                if not isinstance(state, dict) or not isinstance(state.get("global_step"), int):
                    raise ValueError("it has no global_step")
            elif name.endswith(".safetensors"):
                with safe_open(folder / name, "pt"):
                    pass
        except (ValueError, OSError, SafetensorError) as error:
            raise ValueError(f"its file {name} cannot be read ({error})") from None


def newest_whole(directory: str, contents: bool = False) -> tuple[str | None, dict[str, str]]:
    """Return the whole checkpoint of a run that has the most steps.

    Args:
        directory (`str`): the output folder of the run; need not exist.
        contents (`bool`, *optional*, defaults to `False`): whether files are read, as for [`read_seal`].

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
            read_seal(folder, contents)
        except ValueError as error:
            damaged[folder] = str(error)
            continue
        return folder, damaged
    return None, damaged


def warn_of_damaged(folder: str | None, damaged: dict[str, str]) -> None:
    """Warn of checkpoints that are passed over.

    Args:
        folder (`str`, *optional*), damaged (`dict[str, str]`): what [`newest_whole`] returned.
    """
    for path, reason in damaged.items():
        instead = f"{folder} is used instead" if folder else "there is none before it, so training starts anew"
        logger.warning(f"The checkpoint {path} is not whole: {reason}. It was cut off or damaged; {instead}.")


def checkpoint_to_resume(directory: str) -> str | None:
    """Return the whole checkpoint of a run that has the most steps, and warn of newer ones that are not whole.

    The files of the checkpoint are read once, to compare their checksums.

    Args:
        directory (`str`): the output folder of the run; need not exist.

    Returns:
        `str`: the checkpoint's folder; None if there is none, so that training starts anew.
    """
    folder, damaged = newest_whole(directory, contents=True)
    warn_of_damaged(folder, damaged)
    return folder
