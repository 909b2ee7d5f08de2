"""Tables on a terminal and in a notebook: drawn by rich, in columns that fit any script; plain Markdown elsewhere.

Imports nothing of this package. Who makes the tables: [`tables`](gerne_hf.reports.tables).
"""

import re
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.table import Table

_BETWEEN = re.compile(r"(?<!\\)\|")
"""A bar that ends a cell of a Markdown table; one that belongs to a name has a backslash before it."""


def show(text: str, file: TextIO | None = None, terminal: bool | None = None) -> None:
    """Print a text; on a terminal the Markdown tables in it are drawn with lines, elsewhere they stay Markdown.

    Args:
        text (`str`): paragraphs and tables, as [`format_table`](gerne_hf.utils.markdown.format_table) makes them.
        file (*optional*): where to print; stdout if not given.
        terminal (`bool`, *optional*): whether `file` is a terminal; asked of it if not given.
    """
    file = sys.stdout if file is None else file
    if not (file.isatty() if terminal is None else terminal):
        print(text, file=file, flush=True)
        return
    from rich.console import Console

    console = Console(file=file, highlight=False)
    for part in parts_of(text):
        console.print(table_of(part) if isinstance(part, list) else part, markup=False)


def parts_of(text: str) -> list[str | list[str]]:
    """Take a text apart into paragraphs and the lines of Markdown tables.

    Args:
        text (`str`): the text.

    Returns:
        `list`: texts, and for each table the list of its lines.

    Example:

    ```python
    >>> parts_of("Groups\\n| a |\\n|---|\\n| 1 |\\nthe end")
    ['Groups', ['| a |', '|---|', '| 1 |'], 'the end']

    ```
    """
    found: list[str | list[str]] = []
    for line in text.split("\n"):
        last = found[-1] if found else None
        if line.startswith("|") and line.endswith("|") and len(line) > 1:
            if isinstance(last, list):
                last.append(line)
            else:
                found.append([line])
        elif isinstance(last, str):
            found[-1] = f"{last}\n{line}"
        else:
            found.append(line)
    return found


def cells_of(line: str) -> list[str]:
    """Return the cells of a line of a Markdown table as people read them.

    Args:
        line (`str`): the line, with a bar at both ends.

    Example:

    ```python
    >>> cells_of("| (a\\\\|b, c) |  3 |")
    ['(a|b, c)', '3']

    ```
    """
    return [cell.strip().replace("\\|", "|") for cell in _BETWEEN.split(line)[1:-1]]


def table_of(lines: list[str], title: str | None = None) -> "Table":
    """Return a rich table of the lines of a Markdown table.

    Args:
        lines (`list[str]`): header, rule and rows. The rule says which columns are flush right.
        title (`str`, *optional*): written above the table.

    Returns:
        [`~rich.table.Table`]
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=None if title is None else Text(title), title_justify="left")
    for name, rule in zip(cells_of(lines[0]), cells_of(lines[1]), strict=True):
        right = rule.endswith(":")
        table.add_column(Text(name), justify="right" if right else "left", no_wrap=right, overflow="fold")
    for line in lines[2:]:
        table.add_row(*(Text(cell) for cell in cells_of(line)))
    return table


def as_text(renderable: Any, width: int | None = None) -> str:
    """Return what rich draws as plain text, without colours.

    Args:
        renderable: a table or another thing that rich can draw.
        width (`int`, *optional*): columns of characters; as many as are needed, up to 200, if not given.
    """
    import io

    from rich.console import Console

    buffer = io.StringIO()
    console = Console(file=buffer, width=width or 200, color_system=None, force_terminal=False)
    console.print(renderable, markup=False)
    return "\n".join(line.rstrip() for line in buffer.getvalue().strip("\n").split("\n"))
