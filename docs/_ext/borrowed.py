"""Makes pages of Markdown files of the repository, so that nothing is said twice, and sets their links right.

The pages lie in `docs/repository/`, are made at every build, and are not committed. A link to another file that is a
page leads there; one to a file that is not leads to the repository, if `pyproject.toml` says where that is. Links of
the site's own pages to such files are set right, too, so that they can be followed in the repository.
"""

import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGES = {
    "benchmarks/README.md": "repository/measured.md",
    "recipes/README.md": "repository/recipes.md",
    "CONTRIBUTING.md": "repository/contributing.md",
    "CHANGELOG.md": "repository/changelog.md",
    "README.md": "index.md",
}
"""Files of the repository and the pages that stand for them, from `docs/`. The README has no page of its own."""

_FENCE = re.compile(r"^(```.*?^```)$", flags=re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


def as_page(text: str, source: str, page: str, repository: str) -> str:
    """Return the text of a file of the repository as that of a page.

    Args:
        text (`str`): the text, Markdown.
        source (`str`): the file's path in the repository.
        page (`str`): the page's path, from `docs/`.
        repository (`str`): address of the repository, or nothing.
    """

    def link(found: re.Match) -> str:
        target, _, heading = found["target"].partition("#")
        if "://" in target or not target:
            return found[0]
        path = os.path.normpath(os.path.join(os.path.dirname(source), target))
        anchor = f"#{heading}" if heading else ""
        of_site = path.startswith("docs/") and path != "docs/README.md"
        place = PAGES.get(path) or (path.removeprefix("docs/") if of_site else None)
        if found["image"]:
            place, anchor = os.path.join("..", path), ""
        if place is not None:
            anchor = "" if place == "index.md" else anchor
            return f"{found['image']}[{found['text']}]({os.path.relpath(place, os.path.dirname(page))}{anchor})"
        return f"[{found['text']}]({repository}/blob/main/{path}{anchor})" if repository else found["text"]

    parts = _FENCE.split(text)
    return "".join(part if at % 2 else _LINK.sub(link, part) for at, part in enumerate(parts))


def write_pages(folder: Path, repository: str) -> None:
    """Write the pages, those that have changed.

    Args:
        folder (`Path`): `docs/`.
        repository (`str`): address of the repository, or nothing.
    """
    for source, page in PAGES.items():
        if page == "index.md":
            continue
        text = as_page((ROOT / source).read_text(encoding="utf-8"), source, page, repository)
        path = folder / page
        path.parent.mkdir(exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _read_page(app: Any, name: str, text: list[str]) -> None:
    """Set the links of the site's own pages right, which are written for those who read them in the repository."""
    if (Path(app.srcdir) / f"{name}.md").is_file():
        text[0] = as_page(text[0], f"docs/{name}.md", f"{name}.md", app.config.repository)


def setup(app: Any) -> dict[str, bool]:
    """Let Sphinx call the functions above.

    Args:
        app (`sphinx.application.Sphinx`): the application.
    """
    app.add_config_value("repository", "", "env")
    app.connect("source-read", _read_page)
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir), app.config.repository))
    return {"parallel_read_safe": True}
