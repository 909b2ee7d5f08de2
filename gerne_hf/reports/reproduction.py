"""How to train a model again, for its card: the command, the versions, the settings."""

import os
import platform
import re
import shlex
import sys
from dataclasses import MISSING, Field, fields
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..utils.markdown import format_table

_TOKEN = re.compile(r"hf_[A-Za-z0-9]{20,}")


def reproduction_command(arguments: list[str], processes: int = 1) -> str | None:
    """The command line of a script, without tokens, and of absolute paths the last part only, or from the script's
    folder on for what lies below it: the rest is nobody's business. None without a script, as in a notebook."""
    if not arguments or not arguments[0].endswith(".py"):
        return None
    folder = Path(os.path.abspath(arguments[0])).parent
    kept, hidden = [os.path.join(*Path(arguments[0]).parts[-2:])], False
    for argument in arguments[1:]:
        if hidden:
            hidden = False
            continue
        if argument.startswith("--") and "token" in argument.lower():
            hidden = "=" not in argument
            continue
        if _TOKEN.search(argument):  # under a name of the script's own, or without one
            continue
        option, equals, value = argument.rpartition("=")
        if os.path.isabs(value):
            path = Path(os.path.normpath(value))
            value = path.relative_to(folder.parent).as_posix() if path.is_relative_to(folder) else path.name
        kept.append(f"{option}{equals}{value}")
    launch = "accelerate launch " + (f"--num_processes {processes} " if processes > 1 else "")
    return launch + shlex.join(kept)


def versions_text(trainer) -> str:
    found = [f"Python {platform.python_version()}"]
    used = ("timm",) if "timm" in sys.modules else ()
    for package in ("gerne_hf", "torch", "transformers", "datasets", "accelerate", *used):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return f"Seed {trainer.args.seed}; {', '.join(found)}."


def settings_table(args: Any, others: dict[str, Any] | None = None) -> str:
    """Settings that were chosen, `others` first: no paths, no tokens, nothing that says where a run lies."""
    chosen = {**(others or {}), **chosen_settings(args)}
    rows = [[f"`{name}`", str(value)] for name, value in chosen.items()]
    return format_table(["setting", "value"], rows) if rows else "none"


_PLACES = (
    "output_dir",
    "logging_dir",
    "run_name",
    "config",
    "dataset_name",
    "pseudo_attributes_dir",
    "hub_",
    "push_to",
    "resume_from_checkpoint",
)

_SETTLED = ("do_eval", "greater_is_better", "dataloader_pin_memory", "disable_tqdm", "report_to", "log_level")
"""What the Trainer settles by itself, or what concerns the screen."""


def chosen_settings(args: Any) -> dict[str, Any]:
    """The settings that differ from their defaults.

    Args:
        args ([`~transformers.TrainingArguments`]): a dataclass.

    Returns:
        `dict`: by name, numbers, strings, booleans, lists and dictionaries. Tokens and places are left out; of paths
        only the last part is kept.
    """
    chosen = {}
    for field in fields(args):
        value = _plain(getattr(args, field.name, None))
        if _is_private(field.name) or field.name in _SETTLED or value in (None, "", [], {}):
            continue
        default = _plain(_default(field))
        if value != default and not (value is False and default is None):
            chosen[field.name] = value
    return chosen


def _is_private(name: str) -> bool:
    return name.startswith(("_", *_PLACES)) or "token" in name.lower()


def _default(field: Field) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return None if field.default is MISSING else field.default


def _plain(value: Any) -> Any:
    """JSON's types; None for what has no text of its own."""
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, str):
        return os.path.basename(os.path.normpath(value)) if _is_place(value) else value
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items() if not _is_private(str(key))}
    return None


def _is_place(text: str) -> bool:
    return os.path.isabs(text) or text.startswith(("~", ".", "file:")) or ("/" in text and os.path.exists(text))
