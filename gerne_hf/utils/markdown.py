"""Markdown: tables whose columns line up, and names that Markdown shows as they are.

Imports nothing of this package and no torch. The tables of a run are laid out in `gerne_hf/reports/`.
"""

import re
from collections.abc import Sequence
from typing import Any


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a Markdown table: the first column flush left, the others flush right.

    Cells may hold any name of a class or an attribute: a bar is escaped, and a line break becomes a space.

    Args:
        header (`Sequence[str]`): the titles of the columns.
        rows (`Sequence[Sequence[str]]`): the cells of each row, one for each column.

    Returns:
        `str`: the lines of the table, without a line break at the end.

    Example:

    ```python
    >>> print(format_table(["group", "rows"], [["(landbird, land)", "3498"], ["(landbird, water)", "184"]]))
    | group             | rows |
    |-------------------|-----:|
    | (landbird, land)  | 3498 |
    | (landbird, water) |  184 |

    ```
    """
    table = [[_in_cell(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    lines = ["| " + " | ".join(_pad(row, widths)) + " |" for row in table]
    rule = "|" + "|".join("-" * (width + 2) if i == 0 else "-" * (width + 1) + ":" for i, width in enumerate(widths))
    return "\n".join([lines[0], rule + "|", *lines[1:]])


def _pad(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Return the cells of a row with spaces added up to the widths of their columns."""
    return [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]


def _in_cell(cell: Any) -> str:
    """Return a cell's text without what would end the cell: line breaks and bars."""
    return " ".join(str(cell).split("\n")).replace("\r", " ").replace("|", "\\|")


def plain(name: Any) -> str:
    """Return a name on one line, escaped so that Markdown makes no tag, link or emphasis of it.

    Args:
        name: a text, or anything that `str` turns into one.

    Returns:
        `str`

    Example:

    ```python
    >>> print(plain("a *bold*\\n<b>name</b>"))
    a \\*bold\\* \\<b>name\\</b>

    ```
    """
    return escaped(" ".join(str(name).split()))


def escaped(text: str) -> str:
    """Return a text in which the signs that begin tags, links, code and emphasis in Markdown are escaped.

    Args:
        text (`str`): any text; its line breaks stay.

    Returns:
        `str`

    Example:

    ```python
    >>> print(escaped("[see] `x`"))
    \\[see] \\`x\\`

    ```
    """
    return re.sub(r"([<*`\[])", r"\\\1", text)
