"""Markdown: tables whose columns line up, and names that Markdown shows as they are."""

import re
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


def plain(name: Any) -> str:
    """A name that Markdown shows as it is: on one line, no tag, link or emphasis made of it."""
    return escaped(" ".join(str(name).split()))


def escaped(text: str) -> str:
    """The text with what Markdown takes for tags, links, code and emphasis marked as meant literally."""
    return re.sub(r"([<*`\[])", r"\\\1", text)
