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

from ..utils.harmless import HIDDEN, WORDS, declare, harmless_text, is_harmless, is_secret, shown
from ..utils.markdown import code, format_table, plain


def reproduction_command(arguments: list[str], processes: int = 1) -> str | None:
    """Return the command line that starts a script again, without secrets and without the places of this machine.

    Values are shown of options that the config or the recipe knows to be harmless, see
    [`shown`](gerne_hf.utils.harmless.shown); `...` is in place of all others, and options for tokens are left out. Of
    an absolute path the last part is kept; of one below the script's folder, what follows that folder's parent.

    Args:
        arguments (`list[str]`): the script and its arguments, as in `sys.argv`.
        processes (`int`, defaults to `1`): number of processes of the run.

    Returns:
        `str`: None where no script was run, as in a notebook.

    Example:

    ```python
    >>> from gerne_hf import GerneConfig  # whose fields are known from here on
    >>> line = ["recipes/mine.py", "--beta", "1", "--api_key", "secret", "--output_dir", "/home/me/out"]
    >>> reproduction_command(line, processes=2)
    'accelerate launch --num_processes 2 recipes/mine.py --beta 1 --api_key ... --output_dir out'

    ```
    """
    if not arguments or not arguments[0].endswith(".py") or not arguments[0].isprintable():
        return None
    folder = Path(os.path.abspath(arguments[0])).parent
    kept = [os.path.join(*Path(arguments[0]).parts[-2:])]
    name: str | None = None  # of the option whose value may come next
    secret_next = False
    for argument in arguments[1:]:
        option, equals, value = argument.partition("=")
        if not secret_next and _OPTION.fullmatch(option) and is_harmless(option):
            name = option.lstrip("-").replace("-", "_")
            kept.append(f"{option}={_value(name, value, folder)}" if equals else option)
            secret_next = is_secret(name) and not equals
        else:  # a password may look like an option
            kept.append(_value(name, argument, folder))
            secret_next = False
    shown_once = [part for i, part in enumerate(kept) if part != HIDDEN or kept[i - 1] != HIDDEN]
    launch = "accelerate launch " + (f"--num_processes {processes} " if processes > 1 else "")
    return launch + shlex.join(_without_tokens(shown_once))


_OPTION = re.compile(r"-[A-Za-z]|--[a-z][a-z0-9_-]{0,40}")


def _value(name: str | None, value: str, folder: Path) -> str:
    """Return an option's value as it may be told; `folder` is that of the script."""
    if name is None or is_secret(name):
        return HIDDEN
    if name not in WORDS or "://" in value:
        return str(shown(name, value))
    if os.path.isabs(value):
        path = Path(os.path.normpath(value))
        value = path.relative_to(folder.parent).as_posix() if path.is_relative_to(folder) else path.name
    return value if is_harmless(value) and not value.startswith(("~", "file:")) else HIDDEN


def _without_tokens(parts: list[str]) -> list[str]:
    """Return the words of a command without options for tokens: who runs it again has another one."""
    kept, hidden = list[str](), False
    for part in parts:
        is_token = part.startswith("--") and "token" in part.partition("=")[0]
        if not is_token and not (hidden and part == HIDDEN):
            kept.append(part)
        hidden = is_token
    return kept


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
            that is in `settings`. Secrets are hidden by their names, and credentials taken out of texts.

    Example:

    ```python
    >>> print(settings_table({"c": 0.5}, {"image_size": 96}))
    | setting      | value |
    |--------------|------:|
    | `image_size` |    96 |
    | `c`          |   0.5 |

    ```
    """
    given = {name: _given(name, value) for name, value in (others or {}).items()}
    rows = [[code(name), plain(value)] for name, value in {**given, **settings}.items()]
    return format_table(["setting", "value"], rows) if rows else "none"


def _given(name: str, value: Any) -> Any:
    """Return a setting that the author tells, without what gives access."""
    if is_secret(name):
        return HIDDEN
    if isinstance(value, (list, tuple)):
        return [_given(name, item) for item in value]
    if isinstance(value, dict):
        return {key: _given(str(key), item) for key, item in value.items()}
    return harmless_text(value) if isinstance(value, str) else value


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

_SETTLED = (
    *("do_eval", "greater_is_better", "dataloader_pin_memory", "dataloader_num_workers", "disable_tqdm", "report_to"),
    "log_level",
)
"""Settings that the Trainer settles by itself, or that concern the screen or the machine."""


def chosen_settings(args: Any) -> dict[str, Any]:
    """Return the settings that differ from their defaults.

    Args:
        args ([`~transformers.TrainingArguments`]): a dataclass.

    Returns:
        `dict`: by name, numbers, strings, booleans, lists and dictionaries. Tokens and places are left out; `...` is
        in place of texts that nobody knows to be harmless; of paths only the last part is kept.

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
    declare(type(args))
    chosen = {}
    for field in fields(args):
        value = _plain(getattr(args, field.name, None))
        if _is_private(field.name) or field.name in _SETTLED or value in (None, "", [], {}):
            continue
        default = _plain(_default(field))
        if value != default and not (value is False and default is None):
            chosen[field.name] = shown(field.name, value)
    return chosen


def _is_private(name: str) -> bool:
    """Return whether a setting is not mentioned: a token, or a place of this machine."""
    return name.startswith(("_", *_PLACES)) or (is_secret(name) and "token" in name.lower())


def _default(field: Field[Any]) -> Any:
    """Return the default of a field, or None if it has none."""
    if field.default_factory is not MISSING:
        return field.default_factory()
    return None if field.default is MISSING else field.default


def _plain(value: Any) -> Any:
    """Return a value as JSON's types, or None if it has no text of its own."""
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return None
