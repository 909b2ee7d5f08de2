"""Results as text: Markdown tables and strict JSON."""

import json
import os
from typing import Any


def write_json(value: Any, path: str) -> None:
    """Write strict JSON; a failure leaves the file that was there."""
    partial = path + ".partial"
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(_finite(value), file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")
    os.replace(partial, path)


def _finite(value: Any) -> Any:
    """JSON has no infinity: an unbounded beta is written as null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
