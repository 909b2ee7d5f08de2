"""The documentation site, built once for the tests that look at it, and what its pages hold."""

import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from places import ROOT

DOCS = ROOT / "docs"


def build(folder: Path) -> subprocess.CompletedProcess:
    """Build the site as `make docs` does, but without running the notebooks, which test_notebooks.py does.

    Args:
        folder (`Path`): where the pages go.
    """
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", f"{folder}.trees"]
    command += ["-D", "nb_execution_mode=off", str(DOCS), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280)


class Page(HTMLParser):
    """The links, the marks that links lead to, and everything that is loaded by a page.

    Args:
        path (`Path`): the page.
    """

    def __init__(self, path: Path):
        super().__init__()
        self.path, self.links, self.marks, self.loads = path, [], set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag says.

        Args:
            tag (`str`): the tag.
            attrs (`list`): its attributes.
        """
        given = dict(attrs)
        self.marks |= {given[key] for key in ("id", "name") if given.get(key)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        loaded = (
            given.get("href") if tag == "link" and given.get("rel") in ("stylesheet", "icon") else given.get("src")
        )
        self.loads += [loaded] if loaded else []


def pages(folder: Path) -> dict[Path, Page]:
    """Read all pages of a site.

    Args:
        folder (`Path`): the site.
    """
    found = [path.resolve() for path in folder.rglob("*.html") if "_static" not in path.parts]
    return {path: Page(path) for path in sorted(found)}


def dead_links(site: dict[Path, Page]) -> Iterator[str]:
    """Yield the links that lead to no page, file or mark of the site. Links to other hosts are not followed.

    Args:
        site (`dict`): the pages.
    """
    for path, page in site.items():
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link.startswith("//"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                yield f"{path.name}: {link} leads to no file"
            elif parts.fragment and target in site and unquote(parts.fragment) not in site[target].marks:
                yield f"{path.name}: {link} leads to no heading"
