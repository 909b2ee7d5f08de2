"""Turns docstrings in the form of Hugging Face (Markdown, `Args:` and its kin) into the reStructuredText of autodoc.

`to_rst` is all that others need. Nothing here imports Sphinx; `api_pages.py` hands it to autodoc.
"""

import re
from collections.abc import Callable

SECTIONS = {"Args": "Parameters", "Returns": "Returns", "Raises": "Raises", "Yields": "Yields"}
"""Headings of a docstring whose contents are indented, and what the site calls them."""

_INLINE = re.compile(
    r"\[(?P<text>`[^`]+`|[^\[\]`]+)\]\((?P<target>[^()\s]*)\)"
    r"|\[`(?P<short>[^`]+)`\]"
    r"|(?P<ticks>`+)(?P<code>.+?)(?P=ticks)"
    r"|\*\*(?P<bold>[^*]+)\*\*"
    r"|(?<![\w*])\*(?P<emphasis>[^*\s][^*]*)\*(?![\w*])",
    flags=re.DOTALL,
)
_ITEM = re.compile(r"^(?P<names>\*{0,2}\w[\w.*]*(?:, ?\*{0,2}\w[\w.*]*)*)(?= \(|:)")
_LIST = re.compile(r"^(?:[-*] |\d+\. )")

Resolve = Callable[[str], str | None]
"""Takes the target of a link or the name in one, and returns the full name of what the site documents, if it does."""


def to_rst(lines: list[str], resolve: Resolve) -> list[str]:
    """Return a docstring as reStructuredText.

    Args:
        lines (`list[str]`): the docstring without its common indent.
        resolve (`Callable`): what a link leads to.
    """
    out: list[str] = []
    body: list[str] = []
    at = 0
    while at < len(lines):
        heading = re.fullmatch(r"(\w+):", lines[at])
        if heading and heading[1] in SECTIONS:
            out += blocks(body, resolve)
            body = []
            end = at + 1
            while end < len(lines) and (not lines[end].strip() or lines[end].startswith(" ")):
                end += 1
            content = dedented(lines[at + 1 : end])
            rendered = items(content, resolve) if heading[1] in ("Args", "Raises") else blocks(content, resolve)
            out += ["", f":{SECTIONS[heading[1]]}:", "", *indented(rendered), ""]
            at = end
            continue
        body.append(lines[at])
        at += 1
    return [*out, *blocks(body, resolve)]


def items(lines: list[str], resolve: Resolve) -> list[str]:
    """Return the entries of `Args` or `Raises`, `name (type): text`, as a definition list.

    Args:
        lines (`list[str]`): the section without its indent.
        resolve (`Callable`): what a link leads to.
    """
    out: list[str] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if not line.strip():
            continue
        if line.startswith("> "):
            out += ["", f"**{line[2:].strip()}**", ""]
            continue
        while at < len(lines) and line.rstrip().endswith(",") and _item(line) is None and lines[at].strip():
            line = f"{line.rstrip()} {lines[at].strip()}"
            at += 1
        more = []
        while at < len(lines) and (not lines[at].strip() or lines[at].startswith(" ")):
            more.append(lines[at])
            at += 1
        entry = _item(line)
        if entry is None:
            out += ["", *blocks([line, *dedented(more)], resolve), ""]
            continue
        names, kind, text = entry
        term = ", ".join(f"**{_escape(name.strip())}**" for name in names.split(","))
        term += f" ({inline(kind, resolve)})" if kind else ""
        out += ["", term, *(indented(_trimmed(blocks([text, *dedented(more)], resolve))) or ["    \\"])]
    return out


def blocks(lines: list[str], resolve: Resolve) -> list[str]:
    """Return paragraphs, lists, fenced and indented code of Markdown as reStructuredText.

    Args:
        lines (`list[str]`): the text.
        resolve (`Callable`): what a link leads to.
    """
    out: list[str] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        if not line.strip():
            at += 1
        elif line.lstrip().startswith("```"):
            indent = len(line) - len(line.lstrip())
            end = next(i for i in range(at + 1, len(lines)) if lines[i].strip() == "```")
            code = [one[indent:] for one in lines[at + 1 : end]]
            language = line.strip("` ") or "text"
            out += _code(_trimmed(code), "pycon" if any(one.startswith(">>>") for one in code) else language)
            at = end + 1
        elif line.startswith("    "):
            end = at
            while end < len(lines) and (not lines[end].strip() or lines[end].startswith("    ")):
                end += 1
            out += _code(_trimmed(dedented(lines[at:end])), "text")
            at = end
        elif line.startswith("|"):
            end = at
            while end < len(lines) and lines[end].startswith("|"):
                end += 1
            out += _table(lines[at:end], resolve)
            at = end
        elif _LIST.match(line):
            mark = _LIST.match(line)[0]
            end = at + 1
            while end < len(lines) and lines[end].startswith(" " * 2):
                end += 1
            text = " ".join([line[len(mark) :], *(one.strip() for one in lines[at + 1 : end])])
            out += ["", ("#. " if mark[0].isdigit() else "- ") + inline(text, resolve), ""]
            at = end
        else:
            end = at + 1
            while end < len(lines) and lines[end].strip() and not _LIST.match(lines[end]) and "```" not in lines[end]:
                end += 1
            text = " ".join(one.strip() for one in lines[at:end])
            out += ["", ".. rubric:: Example", ""] if text == "Example:" else ["", inline(text, resolve), ""]
            at = end
    return out


def inline(text: str, resolve: Resolve) -> str:
    """Return a paragraph of Markdown as one of reStructuredText.

    Args:
        text (`str`): the paragraph.
        resolve (`Callable`): what a link leads to.
    """
    out, end = "", 0
    for found in _INLINE.finditer(text):
        out += _escape(text[end : found.start()])
        markup = _markup(found, resolve)
        if found.start() and not re.match(r"[\s'\"(\[{<\-/:]", text[found.start() - 1]):
            markup = r"\ " + markup
        end = found.end()
        if end < len(text) and not re.match(r"[\s'\")\]}>\-/:.,;!?]", text[end]):
            markup += r"\ "
        out += markup
    return out + _escape(text[end:])


def indented(lines: list[str]) -> list[str]:
    """Return lines further in by four places.

    Args:
        lines (`list[str]`): the lines.
    """
    return [f"    {line}" if line else "" for line in lines]


def dedented(lines: list[str]) -> list[str]:
    """Return lines without the indent that all of them have.

    Args:
        lines (`list[str]`): the lines.
    """
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return [line[indent:] for line in lines]


def _markup(found: re.Match, resolve: Resolve) -> str:
    if found["bold"]:
        return f"**{_escape(found['bold'])}**"
    if found["emphasis"]:
        return f"*{_escape(found['emphasis'])}*"
    if found["code"]:
        return _literal(found["code"])
    shown = found["short"] or found["text"]
    target = found["target"] if found["target"] is not None else found["short"].lstrip("~")
    if target.startswith("https://"):
        return f"`{_escape(shown)} <{target}>`__"
    full = resolve(target)
    name = shown.strip("`")
    if full is None:
        name = name.rpartition(".")[2] if name.startswith("~") else name
        return _literal(name) if found["short"] or shown.startswith("`") else _escape(shown)
    return f":py:obj:`{_escape(name.lstrip('~'))} <{full}>`"


def _item(line: str) -> tuple[str, str, str] | None:
    """Return names, type and text of an entry's first line, or None if it is no such line."""
    found = _ITEM.match(line)
    if found is None:
        return None
    rest = line[found.end() :]
    if rest.startswith(":"):
        return found["names"], "", rest[1:].strip()
    depth = 0
    for at, letter in enumerate(rest):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == ")" and depth == 0:
            kind, after = rest[2:at], rest[at + 1 :]
            return (found["names"], kind, after[1:].strip()) if after.startswith(":") else None
    return None


def _code(lines: list[str], language: str) -> list[str]:
    return ["", f".. code-block:: {language}", "", *indented(lines), ""]


def _table(lines: list[str], resolve: Resolve) -> list[str]:
    """Return a table whose first line is its head and whose second are the dashes below it."""
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))] for line in lines]
    out = ["", ".. list-table::", "    :header-rows: 1", ""]
    for cells in (rows[0], *rows[2:]):
        for at, cell in enumerate(cells):
            out.append(("    * - " if at == 0 else "      - ") + inline(cell, resolve))
    return [*out, ""]


def _trimmed(lines: list[str]) -> list[str]:
    """Return lines without empty ones at the ends."""
    filled = [i for i, line in enumerate(lines) if line.strip()]
    return lines[filled[0] : filled[-1] + 1] if filled else []


def _literal(code: str) -> str:
    return f"``{' '.join(code.split())}``"


def _escape(text: str) -> str:
    return re.sub(r"_(?=\W|$)", r"\\_", re.sub(r"([\\*`|])", r"\\\1", text))
