"""How to train a model again: the command, the versions, and the settings that differ from their defaults.

Imports `utils/` alone. [`RunRecord`](gerne_hf.reports.record.RunRecord) keeps the settings;
[`build_card`](gerne_hf.reports.model_card.build_card) writes all three on the card.
"""

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

from ..utils.markdown import code, format_table, plain

_TOKEN = re.compile(r"hf_[A-Za-z0-9]{20,}")


def reproduction_command(arguments: list[str], processes: int = 1) -> str | None:
    """Return the command line that starts a script again, without tokens and without the places of this machine.

    Of an absolute path the last part is kept; of one below the script's folder, what follows that folder's parent.

    Args:
        arguments (`list[str]`): the script and its arguments, as in `sys.argv`.
        processes (`int`, defaults to `1`): number of processes of the run.

    Returns:
        `str`: None where no script was run, as in a notebook.

    Example:

    ```python
    >>> reproduction_command(["recipes/mine.py", "--beta", "1", "--output_dir", "/home/me/out"], processes=2)
    'accelerate launch --num_processes 2 recipes/mine.py --beta 1 --output_dir out'

    ```
    """
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


def versions_text(seed: int) -> str:
    """Return the seed of a run and the versions of Python and of the libraries at hand, as one sentence.

    Args:
        seed (`int`): the run's seed.
    """
    found = [f"Python {platform.python_version()}"]
    used = ("timm",) if "timm" in sys.modules else ()
    for package in ("gerne_hf", "torch", "transformers", "datasets", "accelerate", *used):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return f"Seed {seed}; {', '.join(found)}."


def settings_table(settings: dict[str, Any], others: dict[str, Any] | None = None) -> str:
    """Return settings as a Markdown table, or "none" if there are none.

    Args:
        settings (`dict`): by name, as [`chosen_settings`] returns them.
        others (`dict`, *optional*): by name, settings that are shown above those; one that is in both has the value
            that is in `settings`.

    Example:

    ```python
    >>> print(settings_table({"c": 0.5}, {"image_size": 96}))
    | setting      | value |
    |--------------|------:|
    | `image_size` |    96 |
    | `c`          |   0.5 |

    ```
    """
    rows = [[code(name), plain(value)] for name, value in {**(others or {}), **settings}.items()]
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
"""Settings that say where a run lies, by the beginnings of their names."""

_SETTLED = ("do_eval", "greater_is_better", "dataloader_pin_memory", "disable_tqdm", "report_to", "log_level")
"""Settings that the Trainer settles by itself, or that concern the screen."""


def chosen_settings(args: Any) -> dict[str, Any]:
    """Return the settings that differ from their defaults.

    Args:
        args ([`~transformers.TrainingArguments`]): a dataclass.

    Returns:
        `dict`: by name, numbers, strings, booleans, lists and dictionaries. Tokens and places are left out; of paths
        only the last part is kept.

    Example:

    ```python
    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Settings:
    ...     c: float = 0.5
    ...     beta: float = 1.0
    ...     hub_token: str = ""
    >>> chosen_settings(Settings(beta=2.0, hub_token="secret"))
    {'beta': 2.0}

    ```
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
    """Return whether a setting's value must not be shown: a token, or a place of this machine."""
    return name.startswith(("_", *_PLACES)) or "token" in name.lower()


def _default(field: Field[Any]) -> Any:
    """Return the default of a field, or None if it has none."""
    if field.default_factory is not MISSING:
        return field.default_factory()
    return None if field.default is MISSING else field.default


def _plain(value: Any) -> Any:
    """Return a value as JSON's types, or None if it has no text of its own."""
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
    """Return whether a text is the path of a file or a folder, rather than a Hub id or a word."""
    return os.path.isabs(text) or text.startswith(("~", ".", "file:")) or ("/" in text and os.path.exists(text))
