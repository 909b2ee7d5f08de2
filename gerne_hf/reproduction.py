"""How to train a model again, for its card: the command, the versions, the settings."""

import os
import platform
import re
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .files import format_table
from .settings import chosen_settings

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
