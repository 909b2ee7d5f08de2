"""The settings of a run, for reports that others read: no tokens, and nothing that says where it ran."""

import os
from dataclasses import MISSING, Field, fields
from enum import Enum
from typing import Any

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
