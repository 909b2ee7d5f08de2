"""Results as text: Markdown tables and strict JSON."""

import json
import os
from collections.abc import Sequence
from typing import Any


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up; the first column is flush left, the others flush right.

    Names of classes and attributes are anybody's: a bar or a line break in a cell does not end it.
    """
    header, *rows = [[_in_cell(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = ["| " + " | ".join(_pad(row, widths)) + " |" for row in [header, *rows]]
    rule = "|" + "|".join("-" * (width + 2) if i == 0 else "-" * (width + 1) + ":" for i, width in enumerate(widths))
    return "\n".join([lines[0], rule + "|", *lines[1:]])


def _pad(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]


def _in_cell(cell: Any) -> str:
    return " ".join(str(cell).split("\n")).replace("\r", " ").replace("|", "\\|")


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
