"""Markdown: tables whose columns line up, and names that Markdown shows as they are.

Imports nothing of this package and no torch. The tables of a run are laid out in `gerne_hf/reports/`.
"""

import re
import unicodedata
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
    """Return a name on one line, escaped so that Markdown and HTML show it letter by letter.

    Nothing in it becomes a tag, an entity, a link, a formula, emphasis or code. Control characters, and those that
    turn the direction of writing, are shown by their numbers.

    Args:
        name: a text, or anything that `str` turns into one.

    Returns:
        `str`: for running text, headings and cells of tables; a bar is left to [`format_table`].

    Example:

    ```python
    >>> print(plain("a *bold*\\n<b>name</b> & \\\\"))
    a \\*bold\\* &lt;b>name&lt;/b> &amp; &#92;

    ```
    """
    text = "".join(_visible(character) for character in " ".join(str(name).split()))
    text = text.replace("&", "&amp;").replace("\\", "&#92;").replace("<", "&lt;")
    text = re.sub(r"([*`\[\]~$])", r"\\\1", text)
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # one inside a word stays
    text = re.sub(r"(^|(?<= ))([#>+-]|\d+[.)](?= ))", lambda found: _entities(found[0][0]) + found[0][1:], text)
    return re.sub(r"(?<=\w):(?=//)|(?<=\bwww)\.|@(?=\w)", lambda found: _entities(found[0]), text, flags=re.I)


def _visible(character: str) -> str:
    """Return a character, or its number in place of one that is not seen but changes what is."""
    if unicodedata.category(character) in ("Cc", "Cs") or character in _TURNING:
        return f"(U+{ord(character):04X})"
    return character


_TURNING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Characters that turn the direction of the text after them."""


def _entities(text: str) -> str:
    """Return each character of a text as its number in HTML."""
    return "".join(f"&#{ord(character)};" for character in text)


def code(name: Any) -> str:
    """Return a name as code in Markdown, or as plain text if it has signs that end code or a cell of a table.

    Args:
        name: a text, or anything that `str` turns into one.

    Example:

    ```python
    >>> print(code("place"), code("`x` <b>"))
    `place` \\`x\\` &lt;b>

    ```
    """
    text = str(name)
    fits = text.strip() == text != "" and text.isprintable() and not set("`|\\\n") & set(text)
    return f"`{text}`" if fits else plain(text)


def prose(text: Any) -> str:
    """Return a sentence of the author's on one line: its Markdown, links for one, stays, and tags become text.

    Args:
        text: a text, or anything that `str` turns into one.

    Example:

    ```python
    >>> print(prose("as [they](https://example.org) say\\n<b>there</b>"))
    as [they](https://example.org) say &lt;b>there&lt;/b>

    ```
    """
    return " ".join(str(text).split()).replace("<", "&lt;")
