"""The documentation site builds without a warning, no link within it is dead, and it needs no other host.

Looked at in a browser, too, where Chromium is installed: pages fit a phone, and the search finds them.
"""

import functools
import http.server
import json
import re
import shutil
import subprocess
import threading

import pytest
from built_site import DOCS, build, dead_links, pages

pytest.importorskip("sphinx", reason='the site is built with the extra "docs": pip install "gerne_hf[docs]"')
pytestmark = pytest.mark.slow

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
BROWSER = pytest.mark.skipif(CHROMIUM is None, reason="looks at pages with Chromium: apt-get install chromium")
"""Tests that need a browser."""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The built site, and what the build said."""
    folder = tmp_path_factory.mktemp("site") / "html"
    return folder, build(folder)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line for each."""

    def log_message(self, *args):
        """Say nothing."""


@pytest.fixture(scope="module")
def address(built):
    """The address of the site, served on this machine, as scripts of pages read no files."""
    handler = functools.partial(Quiet, directory=str(built[0]))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_it_builds_without_a_warning(built):
    folder, done = built
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr[-3000:]
    names = {
        str(path.relative_to(DOCS).with_suffix(".html")) for path in DOCS.rglob("*.md") if "_build" not in path.parts
    }
    missing = [name for name in names - {"README.html"} if not (folder / name).is_file()]
    assert not missing and len(names) > 25


def test_no_link_within_it_is_dead(built):
    site = pages(built[0])
    assert len(site) > 40
    assert not list(dead_links(site))


def test_a_dead_link_is_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html#x"></a><a href="c.html">c</a><a href="https://example.org">e</a>'
    )
    (tmp_path / "b.html").write_text('<p id="y">')
    assert [line.split(": ")[1] for line in dead_links(pages(tmp_path))] == [
        "b.html#x leads to no heading",
        "c.html leads to no file",
    ]


def test_pages_load_nothing_from_other_hosts(built):
    loads = [(path.name, one) for path, page in pages(built[0]).items() for one in page.loads]
    assert len(loads) > 100 and not [one for one in loads if "//" in one[1]]


def test_names_of_the_api_have_a_place(built):
    page = (built[0] / "api" / "gerne_hf.html").read_text(encoding="utf-8")
    assert 'id="gerne_hf.GerneTrainer"' in page and 'id="gerne_hf.GerneTrainer.train"' in page
    assert 'href="gerne_hf.evaluation.html#gerne_hf.evaluation.group_metrics"' in page
    everything = "".join(path.read_text(encoding="utf-8") for path in (built[0] / "api").glob("*.html"))
    assert "](gerne_hf" not in everything and "[`" not in everything and "<p>Args:" not in everything


def test_the_search_index_has_the_words(built):
    text = (built[0] / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(re.fullmatch(r"Search\.setIndex\((.*)\)", text, flags=re.DOTALL)[1])
    words = set(index["terms"]) | set(index["titleterms"])
    assert {"bound", "worst", "threshold", "batchnorm", "fsdp", "waterbird", "predict", "memori"} <= words
    assert "quickstart/predictions" in index["docnames"]


def browse(*arguments: str) -> str:
    """Run Chromium without a window; returns what it printed."""
    alone = ["--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]  # it asks its makers
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", *alone, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120).stdout


WIDTHS = """<body><script>
const names = NAMES, found = [];
function next() {
  if (!names.length) { document.body.textContent = JSON.stringify(found); return; }
  const frame = document.createElement('iframe'), name = names.pop();
  frame.width = WIDTH; frame.height = 800; frame.src = name;
  frame.onload = () => {
    const root = frame.contentDocument.documentElement;
    found.push([name, root.scrollWidth, frame.contentDocument.querySelectorAll('nav, aside').length]);
    frame.remove(); next();
  };
  document.body.append(frame);
}
next();
</script>"""
"""A page that loads others in a frame of some width, and says how wide they are."""


@BROWSER
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_are_no_wider_than_the_window(built, address, width):
    names = sorted(str(path.relative_to(built[0].resolve())) for path in pages(built[0]))
    page = built[0] / f"_widths_{width}.html"
    page.write_text(WIDTHS.replace("NAMES", json.dumps(names)).replace("WIDTH", str(width)), encoding="utf-8")
    told = browse("--virtual-time-budget=60000", "--dump-dom", f"{address}/{page.name}")
    page.unlink()
    found = json.loads(re.search(r"<body>(\[.*\])</body>", told, flags=re.DOTALL)[1])
    assert len(found) == len(names)
    assert not [(name, wide) for name, wide, _ in found if wide > width]


@BROWSER
def test_the_search_finds_a_page(address):
    told = browse("--virtual-time-budget=8000", "--dump-dom", f"{address}/search.html?q=out+of+memory")
    assert "troubleshooting.html" in told and "search-summary" in told


@BROWSER
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pictures_fit_the_theme(built, address, theme):
    page = (built[0] / "method.html").read_text(encoding="utf-8")
    script = 'document.body.dataset.theme = localStorage.getItem("theme") || "auto";'
    assert script in page
    tell = "<script>onload = () => {document.title = [...document.querySelectorAll('.only-light, .only-dark')]"
    tell += ".filter(one => one.offsetWidth).map(one => one.classList.contains('only-dark') ? 'dark' : 'light')"
    tell += ".join()}</script>"
    changed = page.replace(script, f'document.body.dataset.theme = "{theme}";').replace("</body>", f"{tell}</body>")
    (built[0] / f"_{theme}.html").write_text(changed, encoding="utf-8")
    told = browse("--virtual-time-budget=8000", "--dump-dom", f"{address}/_{theme}.html")
    (built[0] / f"_{theme}.html").unlink()
    assert set(re.search(r"<title>(.*?)</title>", told)[1].split(",")) == {theme}
