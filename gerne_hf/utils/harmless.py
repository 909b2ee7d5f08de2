"""What may be told of a run's settings: values that are known to be harmless, and `...` in place of all others.

A command line and a config may hold keys, passwords and addresses with both, under any name. So nothing is shown
because it looks innocent: numbers, switches and choices of declared fields are shown, and those texts that `WORDS`
names. Imports nothing of this package. Who tells: `gerne_hf/reports/`.
"""

import dataclasses
import json
import os
import re
import types
import typing
from collections.abc import Iterable
from enum import Enum
from typing import Any

HIDDEN = "..."
"""What is shown in place of a value that nobody knows to be harmless."""

WORDS = {
    *("output_dir", "config", "dataset_name", "dataset_config", "train_split", "validation_split", "test_split"),
    *("model_name_or_path", "biased_model", "pseudo_attributes_dir", "attribute_column", "label_column"),
    *("overlapping_columns", "text_columns", "image_column", "share", "grouping", "compare", "seeds"),
    *("metric_for_best_model", "resume_with_changes", "resume_from_checkpoint", "optim_target_modules", "fsdp"),
    *("fsdp_config", "deepspeed", "torch_compile_backend", "torch_compile_mode", "include_for_metrics"),
    *("include_num_input_tokens_seen", "label_names", "length_column_name", "report_to", "hub_model_id"),
    *("hub_revision", "logging_dir", "attribute_source", "dtype", "extra_metrics"),
}
"""Names of settings whose texts are shown, without folders and without what gives access: they name columns, data
sets, models and files."""

_SECRET = re.compile(
    r"token(?!s)|secret|passw|passphrase|pwd|credential|cookie|bearer|storage_option|dsn|signature|"
    r"(?<![a-z])(key|keys|apikey|accesskey|privatekey|auth|authorization|sig|pw|pass|pin(?!_memory))(?![a-z])",
    re.IGNORECASE,
)
"""Names of settings whose values are never shown, whatever these are."""

_ACCESS = re.compile(
    r"hf_[A-Za-z0-9]{16,}|\bsk-[\w-]{12,}|\bgh[pousr]_\w{16,}|github_pat_|glpat-|xox[abprs]-|AKIA[0-9A-Z]{12,}|"
    r"AIza[\w-]{20,}|eyJ[\w-]{8,}\.|-----BEGIN|(?<!:)//[^/\s]*@|[^\s/]+:[^\s/]+@|"
    r"(token|key|secret|passw\w*|pwd|sig|signature|credentials?|auth)\W{0,3}[=:]",
    re.IGNORECASE,
)
"""Parts of a text that give access to something."""

_declared: dict[str, list[Any]] = {}
"""By the name of a field, the types that it may have and the texts that it may be."""


def declare(settings: type) -> None:
    """Make the fields of a dataclass known: their numbers, switches and choices may be shown from now on.

    Args:
        settings (`type`): the dataclass of a config or of a script's arguments.
    """
    if settings in _seen:
        return
    _seen.add(settings)
    try:
        hints = typing.get_type_hints(settings)
    except (NameError, TypeError, AttributeError):  # an annotation that only its own module can read
        hints = {}
    for field in dataclasses.fields(settings):
        if field.init:
            _declared.setdefault(field.name, []).extend([*_kinds(hints.get(field.name)), *_choices(field)])


_seen: set[type] = set()


def _kinds(hint: Any) -> list[Any]:
    """Return the types that a value may have by an annotation."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return [kind for part in typing.get_args(hint) for kind in _kinds(part)]
    return [hint]


def _choices(field: dataclasses.Field[Any]) -> list[str]:
    """Return the texts among which a field's value is chosen, none if it is free."""
    return [str(choice) for choice in field.metadata.get("choices") or ()]


def is_secret(name: str) -> bool:
    """Return whether the name of a setting says that its value is a key, a password or the like.

    Args:
        name (`str`): the name, with or without dashes before it.

    Example:

    ```python
    >>> [is_secret(name) for name in ("api_key", "hub_token", "--db-password", "max_tokens", "monkey", "c")]
    [True, True, True, False, False, False]

    ```
    """
    return _SECRET.search(name) is not None


def shown(name: str, value: Any) -> Any:
    """Return a setting's value as it may be told, or `...` in its place.

    Args:
        name (`str`): the setting's name.
        value: its value, or the text of it on a command line.

    Returns:
        What JSON knows: of lists and dictionaries each part; of a path the last part; of an address no credentials.

    Example:

    ```python
    >>> shown("dataset_name", "https://me:secret@example.org/birds?sig=1"), shown("anything", "secret")
    ('https://example.org/birds', '...')

    ```
    """
    if value is None:
        return None
    if is_secret(name):
        return HIDDEN
    if isinstance(value, Enum):
        value = value.value
    kinds = _declared.get(name, [])
    if isinstance(value, dict):
        return {str(key): _part(str(key), item) for key, item in value.items()} if kinds else HIDDEN
    if name == "method_settings":
        return _by_method(value)
    if isinstance(value, (list, tuple)):
        return [shown(name, item) for item in value]
    if _is_number(value, kinds) or _is_chosen(value, kinds):
        return value
    if isinstance(value, str):
        if name in WORDS:
            return harmless_text(value)
        if any(kind is dict or typing.get_origin(kind) is dict for kind in kinds):
            return _object(value)
    return HIDDEN


def _is_number(value: Any, kinds: Iterable[Any]) -> bool:
    """Return whether a value is a number or a switch, in a field of such a type."""
    if isinstance(value, (bool, int, float)):
        return any(kind in (bool, int, float) for kind in kinds)
    if not isinstance(value, str):
        return False
    switch = bool in kinds and value.lower() in ("true", "false", "yes", "no", "1", "0", "t", "f", "y", "n")
    return switch or (any(kind in (int, float) for kind in kinds) and _NUMBER.fullmatch(value) is not None)


_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")


def _is_chosen(value: Any, kinds: Iterable[Any]) -> bool:
    """Return whether a value is one of those among which a field's value is chosen."""
    enums = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum)]
    return isinstance(value, str) and (
        any(kind == value for kind in kinds if isinstance(kind, str))
        or any(value == member.value for kind in enums for member in kind)
    )


def _part(name: str, value: Any) -> Any:
    """Return a part of a dictionary: numbers and switches as they are."""
    if isinstance(value, dict) and not is_secret(name):
        return {str(key): _part(str(key), item) for key, item in value.items()}
    known = value is None or (isinstance(value, (bool, int, float)) and not is_secret(name))
    return value if known else HIDDEN


def _by_method(value: Any) -> Any:
    """Return settings of single methods, by method, or the JSON of these."""
    try:
        parts = json.loads(value) if isinstance(value, str) else value
        told = {method: {name: shown(name, item) for name, item in own.items()} for method, own in parts.items()}
    except (ValueError, AttributeError):
        return HIDDEN
    return json.dumps(told) if isinstance(value, str) else told


def _object(text: str) -> str:
    """Return a dictionary that was given as JSON, each part of it as it may be told."""
    try:
        value = json.loads(text)
    except ValueError:
        return HIDDEN
    return json.dumps(_part("", value)) if isinstance(value, dict) else HIDDEN


def harmless_text(text: str) -> str:
    """Return a text without folders of this machine and without what gives access, or `...` if nothing is left.

    Args:
        text (`str`): a word, a path or an address.

    Example:

    ```python
    >>> harmless_text("/home/me/birds/"), harmless_text("postgresql://me:pw@host/db"), harmless_text("me:pw@host")
    ('birds', 'postgresql://host/db', '...')

    ```
    """
    if "://" in text:
        text = re.sub(r"[?#].*", "", re.sub(r"://.*@", "://", text, flags=re.DOTALL), flags=re.DOTALL)
    if _is_place(text):
        text = os.path.basename(os.path.normpath(text))
    return text if is_harmless(text) else HIDDEN


def is_harmless(text: str) -> bool:
    """Return whether a text is on one line and has no part that looks like a key, or like a password in an address.

    Args:
        text (`str`): any text.
    """
    return text.isprintable() and not _ACCESS.search(text)


def _is_place(text: str) -> bool:
    """Return whether a text is the path of a file or a folder, rather than a Hub id or a word."""
    return os.path.isabs(text) or text.startswith(("~", ".", "file:")) or ("/" in text and os.path.exists(text))
