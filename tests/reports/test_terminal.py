"""Tables on a terminal: lines that meet, names as they are, in any script; Markdown where nobody looks."""

import io

from rich.cells import cell_len

from gerne_hf.reports.terminal import as_text, cells_of, parts_of, show, table_of
from gerne_hf.utils.markdown import format_table

TABLE = format_table(["group", "rows"], [["(鸟, 海)", "3"], ["(a|b, [red]c)", "1,000"]])


def test_a_file_gets_markdown_and_a_terminal_a_drawing():
    plain, drawn = io.StringIO(), io.StringIO()
    show(f"Groups\n{TABLE}\nthe end", plain)
    show(f"Groups\n{TABLE}\nthe end", drawn, terminal=True)
    assert plain.getvalue() == f"Groups\n{TABLE}\nthe end\n"
    text = drawn.getvalue()
    assert (
        "Groups" in text and "the end" in text and "(a|b, [red]c)" in text and "\\|" not in text and "|--" not in text
    )


def test_columns_line_up_in_any_script():
    lines = as_text(table_of(TABLE.split("\n"))).split("\n")
    ends = {cell_len(line.rstrip()) for line in lines if "3" in line or "1,000" in line or "rows" in line}
    assert len(ends) == 1


def test_text_without_a_table_stays():
    for text in ("", "a\nb", "|", "a | b", "the end|"):
        assert parts_of(text) == [text]
        out = io.StringIO()
        show(text, out, terminal=True)
        assert out.getvalue().strip() == text.strip()


def test_cells():
    assert cells_of(r"| a\|b | |") == ["a|b", ""]
    tables = [part for part in parts_of(f"{TABLE}\n\n{TABLE}") if isinstance(part, list)]
    assert len(tables) == 2 and tables[0] == tables[1] == TABLE.split("\n")
