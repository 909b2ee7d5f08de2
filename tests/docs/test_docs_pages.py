"""What the site is made of besides its pages: files of the repository as pages, and pictures."""

import ast
import re
import tomllib
from xml.etree import ElementTree

import pytest
from borrowed import PAGES, as_page
from places import ROOT


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("[bench](../benchmarks/README.md#cost)", "[bench](measured.md#cost)"),
        ("[top](../README.md#results)", "[top](../index.md)"),
        ("[short](../docs/results.md#cost)", "[short](../results.md#cost)"),
        ("![picture](assets/a.png)", "![picture](../../recipes/assets/a.png)"),
        ("[code](paper.py)", "[code](https://host/us/it/blob/main/recipes/paper.py)"),
        ("[here](#below), [there](https://example.org)", "[here](#below), [there](https://example.org)"),
        ("```\n[x](paper.py)\n```", "```\n[x](paper.py)\n```"),
    ],
)
def test_links_of_a_borrowed_file_lead_to_pages(link, expected):
    assert as_page(link, "recipes/README.md", "repository/recipes.md", "https://host/us/it") == expected


def test_without_a_repository_a_link_to_a_file_is_its_text():
    assert as_page("see [code](paper.py).", "recipes/README.md", "repository/recipes.md", "") == "see code."


def test_borrowed_files_exist_and_are_in_the_menu():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert all((ROOT / path).is_file() for path in PAGES)
    assert all(page.removesuffix(".md") in index for page in PAGES.values() if page != "index.md")


def test_pictures_are_drawn_for_light_and_dark_pages_and_are_shown(tmp_path):
    pytest.importorskip("matplotlib")
    import pictures

    pictures.draw(tmp_path)
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {f"{name}-{theme}.svg" for name in pictures.PICTURES for theme in ("light", "dark")}
    assert all(ElementTree.parse(tmp_path / name).getroot().tag.endswith("svg") for name in drawn)
    pages = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("method.md", "architecture.md"))
    assert set(re.findall(r"_pictures/(\S+\.svg)", pages)) == drawn


def test_messages_in_the_table_of_troubles_are_those_of_the_package():
    said = "\n".join(spoken(path.read_text(encoding="utf-8")) for path in (ROOT / "gerne_hf").rglob("*.py"))
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    table = page.split("## Messages")[1].split("\n\n")[1]
    messages = re.findall(r"^\| `(.+?)` \|", table, flags=re.MULTILINE)
    assert len(messages) > 10
    lacking = [(m, part) for m in messages for part in m.split("...") if part.strip() and part not in said]
    assert not lacking


def spoken(code: str) -> str:
    """The texts in a module, each on a line of its own, with nothing where values come."""
    texts = []
    for node in ast.walk(ast.parse(code)):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        texts.append("\0".join(p.value for p in parts if isinstance(p, ast.Constant) and isinstance(p.value, str)))
    return "\n".join(texts)


def test_the_page_of_the_installation_names_every_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    table = (ROOT / "docs" / "install.md").read_text(encoding="utf-8").split("| extra |")[1].split("\n\n")[0]
    named = re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines()[1:]))
    assert sorted(named) == sorted(project["optional-dependencies"])


PAGES_OF_SITE = [path for path in (ROOT / "docs").rglob("*.md") if not {"_build", "repository"} & {*path.parts}]


@pytest.mark.parametrize("path", PAGES_OF_SITE, ids=[str(path.relative_to(ROOT / "docs")) for path in PAGES_OF_SITE])
def test_links_can_be_followed_in_the_repository_too(path):
    prose = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\[([^\]]*)\]\(([^)\s]+)\)", prose)
    assert not [link for text, link in links if not text]
    targets = [link.partition("#")[0] for _, link in links if "://" not in link]
    assert not [target for target in targets if target and not (path.parent / target).is_file()]


def test_links_of_the_pages_lead_to_pages():
    text = "[add](../../CONTRIBUTING.md#adding-a-plan), [all](../options.md)"
    expected = "[add](../repository/contributing.md#adding-a-plan), [all](../options.md)"
    assert as_page(text, "docs/how_to/a.md", "how_to/a.md", "") == expected
