"""Tables in Markdown, as they are printed and stand on cards."""

from gerne_hf.utils.markdown import format_table


def test_columns_line_up():
    printed = format_table(["group", "n", "accuracy"], [["a longer name", "7", "1.0"], ["b", "1,234", "-"]])
    assert printed.splitlines() == [
        "| group         |     n | accuracy |",
        "|---------------|------:|---------:|",
        "| a longer name |     7 |      1.0 |",
        "| b             | 1,234 |        - |",
    ]


def test_a_table_without_rows_is_its_header():
    assert format_table(["group", "n"], []).splitlines() == ["| group | n |", "|-------|--:|"]


def test_bars_and_line_breaks_stay_in_their_cell():
    lines = format_table(["group", "rows"], [["a|b\nc\r\nd", 3]]).splitlines()
    assert lines[2] == "| a\\|b c  d |    3 |" and len({len(line) for line in lines}) == 1
