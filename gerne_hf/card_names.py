"""Names on a model card: evaluation sets in words, and names of classes and attributes as Markdown leaves them."""

import re
from typing import Any

_SETS = {"eval": "validation set", "test": "test set", "train": "training set", "other": "set given to `evaluate`"}


def set_name(prefix: str) -> str:
    """What a reader calls the set that was evaluated under a prefix."""
    return _SETS.get(prefix) or f"evaluation set “{plain(prefix.removeprefix('eval_'))}”"


def plain(name: Any) -> str:
    """A name that Markdown shows as it is: on one line, no tag, link or emphasis made of it."""
    return escaped(" ".join(str(name).split()))


def escaped(text: str) -> str:
    """The text with what Markdown takes for tags, links, code and emphasis marked as meant literally."""
    return re.sub(r"([<*`\[])", r"\\\1", text)
