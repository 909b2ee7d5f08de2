"""Names of classes and attribute values that try to become more than names, and Markdown rendered as the Hub does."""

from html.parser import HTMLParser

from markdown_it import MarkdownIt

IMAGE = "<img src=x onerror=alert(1)>"
HOSTILE = [
    IMAGE,
    f"\\{IMAGE}",
    f"\\\\{IMAGE}",
    f"\\\\\\{IMAGE}",
    "<script>alert(1)</script>",
    "\\<script>alert(1)</script>",
    "</td></tr></table><script>alert(1)</script>",
    "<svg/onload=alert(1)>",
    "<iframe src=javascript:alert(1)>",
    "<!-- a comment",
    "--><b>x</b>",
    "<![CDATA[<b>x</b>]]>",
    "<?php echo 1 ?>",
    "<details open ontoggle=alert(1)>",
    "<a href='javascript:alert(1)'>x</a>",
    "<https://evil.example>",
    "<somebody@evil.example>",
    "https://evil.example/x",
    "www.evil.example",
    "somebody@evil.example",
    "[x](javascript:alert(1))",
    "[x](https://evil.example)",
    "![x](https://evil.example/x.png)",
    "\\[x](https://evil.example)",
    "[x]: https://evil.example",
    "[x][y]",
    "&lt;img src=x&gt;",
    "&#60;script&#62;",
    "&amp;lt;",
    "&quot; onmouseover=alert(1)",
    "a|b",
    "a\\|b",
    "a\\\\|b",
    "|---|",
    "| a | b |",
    "`code`",
    "``a`b``",
    "`<b>`",
    "*bold* **bold** _it_ __b__ ~~gone~~",
    "# a heading #",
    "> quoted",
    "- one",
    "1. one",
    "---",
    "a\n\n# heading\n\n<b>x</b>",
    "a\r\n| x | y |",
    "$$x^2$$ \\(y\\)",
    "a\x00b\x1b[31m",
    "\u202egnp.exe\u202c",
    "{{ 7 * 7 }} {% raw %} \"quoted\" 'x'",
]


class Rendered(HTMLParser):
    """The tags of rendered Markdown with their attributes, its text, and the cells of each table's rows."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.text, self.tables, self._cell = [], "", [], False
        self.feed(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text))
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._cell = True

    def handle_endtag(self, tag):
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data):
        self.text += data
        if self._cell:
            self.tables[-1][-1][-1] += data


def seen(name: str) -> str:
    """What a reader sees of a name: on one line, control characters by their numbers."""
    turning = "\x00\x1b\u202e\u202c"
    return "".join(f"(U+{ord(c):04X})" if c in turning else c for c in " ".join(name.split()))
