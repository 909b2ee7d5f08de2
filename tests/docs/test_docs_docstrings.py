"""Docstrings of our form become what Sphinx reads: sections, code, links, lists and tables."""

import inspect
import re

import pytest
from api_pages import documented, resolve, rooms, thing
from docstrings import blocks, inline, items, to_rst

NAMES = {"GroupIndex": "pack.GroupIndex", "pack.low.f": "pack.f"}


def rst(text: str) -> str:
    """A docstring converted, without empty lines."""
    return "\n".join(line for line in to_rst(text.splitlines(), NAMES.get) if line)


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("rows `(N, A)` of x", "rows ``(N, A)`` of x"),
        ("a [`GroupIndex`] of rows", "a :py:obj:`GroupIndex <pack.GroupIndex>` of rows"),
        ("see [`f`](pack.low.f).", "see :py:obj:`f <pack.f>`."),
        ("[the bounds](pack.low.f)", ":py:obj:`the bounds <pack.f>`"),
        ("a [`~torch.nn.Module`], or [`elsewhere`](pack.low.private)", "a ``Module``, or ``elsewhere``"),
        ("[arXiv](https://arxiv.org/abs/1)", "`arXiv <https://arxiv.org/abs/1>`__"),
        ("**not** *optional*, 2 * 3 | 4, p_b, name_", r"**not** *optional*, 2 \* 3 \| 4, p_b, name\_"),
        ("`GroupIndex`s are `a`", r"``GroupIndex``\ s are ``a``"),
        ("`dict[str, list]`, and `(K,)`-shaped", "``dict[str, list]``, and ``(K,)``-shaped"),
    ],
)
def test_a_paragraph(markdown, expected):
    assert inline(markdown, NAMES.get) == expected


def test_a_whole_docstring():
    text = """Return rows.

Args:
    c (`float`, *optional*, defaults to `0.5`): in (0, 1],
        as in the paper.
    others, more: as for [`GroupIndex`].

Returns:
    `dict`: the rows.

Raises:
    TypeError, ValueError: if not.

Example:

```python
>>> f(1)
2

```
"""
    assert rst(text).splitlines() == [
        *("Return rows.", ":Parameters:"),
        *("    **c** (``float``, *optional*, defaults to ``0.5``)", "        in (0, 1], as in the paper."),
        *("    **others**, **more**", "        as for :py:obj:`GroupIndex <pack.GroupIndex>`."),
        *(":Returns:", "    ``dict``: the rows.", ":Raises:", "    **TypeError**, **ValueError**", "        if not."),
        *(".. rubric:: Example", ".. code-block:: pycon", "    >>> f(1)", "    2"),
    ]


def test_headings_and_long_lists_of_names():
    found = items(["> Method", "", "a, b,", "c: as there.", "d (`tuple(int, ...)`):", "    one (1)."], NAMES.get)
    assert [line for line in found if line] == [
        *("**Method**", "**a**, **b**, **c**", "    as there.", "**d** (``tuple(int, ...)``)", "    one (1)."),
    ]


def test_lists_tables_and_code():
    text = ["- one", "  more", "- two", "", "| a | b |", "|---|---|", "| `x` | y |", "", "    L = 1"]
    found = blocks(text, NAMES.get)
    assert [line for line in found if line] == [
        *("- one more", "- two", ".. list-table::", "    :header-rows: 1", "    * - a", "      - b"),
        *("    * - ``x``", "      - y", ".. code-block:: text", "    L = 1"),
    ]


def test_every_export_is_documented_once_and_links_find_it():
    names = documented()
    assert len(names) > 150 and len(set(names.values())) == len(names) and "gerne_hf.method" in rooms()
    assert all(resolve(defined) == shown for defined, shown in names.items())
    assert resolve("group_metrics") == "gerne_hf.evaluation.group_metrics"
    assert resolve("GerneTrainer.get_beta") == "gerne_hf.training.PlanTrainer.get_beta"
    assert resolve("gerne_hf.hub.contents.left_out") is None and resolve("torch.nn.Module") is None


def test_no_markdown_is_left_in_any_docstring():
    for shown in documented().values():
        value = thing(shown)
        documents = [value, *vars(value).values()] if isinstance(value, type) else [value]
        for one in documents:
            text = getattr(one, "__doc__", None) if callable(one) or isinstance(one, property) else None
            if not text or not str(getattr(one, "__module__", shown)).startswith("gerne_hf"):
                continue
            lines = [line for line in to_rst(inspect.cleandoc(text).splitlines(), resolve)]
            prose = re.sub(r"``.*?``|:py:obj:`.*?`", "", "\n".join(lines))
            assert "](" not in prose and "```" not in prose and not re.search(r"^Args:", prose, re.MULTILINE), shown
