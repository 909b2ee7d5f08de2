"""CONTRIBUTING.md is true: its worked examples run in a copy of the repository, and keep the rules of the house.

Each example is carried out as a contributor would: new files are written, diffs applied, its tests run, in one process
for all examples. A diff whose lines are no longer in the source fails here.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import house
import pytest
from places import ROOT
from test_house import DOCUMENTED, HOOKS, LAYERS, nothing

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = ("baseline", "plan", "data set", "metric")
COPIED = ("gerne_hf", "recipes", "tests/support", "tests/system/guard", "tests/conftest.py")
COPIED += ("pyproject.toml", "README.md")
CHECKS = {
    "imports upwards": lambda source: house.imports_upwards(source, LAYERS),
    "circles": house.circles,
    "private names": lambda source: house.private_names_elsewhere(source, {*HOOKS, *DOCUMENTED}),
    "docstrings": house.missing_docstrings,
    "types": house.missing_annotations,
    "stubs": house.wrong_stubs,
}


@dataclass
class Example:
    """What one worked example writes and changes, by the path of the file."""

    new: dict[str, str] = field(default_factory=dict)
    diffs: list[tuple[str, str]] = field(default_factory=list)

    @property
    def tests(self) -> list[str]:
        """The new files that are tests."""
        return [path for path in self.new if path.startswith("tests/")]


def read_example(text: str) -> Example:
    """Read the blocks of a section; each belongs to the files that the paragraph before it names, or as the last."""
    example, paths = Example(), []
    for part in re.split(r"^(```\w+\n.*?^```)$", text, flags=re.MULTILINE | re.DOTALL):
        if not part.startswith("```"):
            last = part.strip().split("\n\n")[-1]
            paths = re.findall(r"`([\w./]+/\w+\.(?:pyi?|yaml))`", last) or paths
            continue
        language, _, block = part[3:-3].partition("\n")
        for path in paths:
            if language == "diff":
                example.diffs.append((path, block))
            else:
                assert path not in example.new, f"two blocks for {path}"
                example.new[path] = block
    return example


def section(title: str) -> str:
    """The text under a heading."""
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, flags=re.MULTILINE | re.DOTALL)
    return found


def apply(diff: str, text: str) -> str:
    """The text with a diff's lines in place of those that it takes away; they must occur once."""
    lines = diff.splitlines()
    before = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("+"))
    after = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("-"))
    assert text.count(before) == 1, (
        f"CONTRIBUTING.md shows lines that are in the source {text.count(before)} times:\n{before}"
    )
    return text.replace(before, after)


READ = {name: read_example(section(f"Adding a {name}")) for name in EXAMPLES}


@dataclass
class Carried:
    """The copy of the repository in which all examples were carried out, and how their tests ended."""

    root: Path
    output: str


@pytest.fixture(scope="module")
def carried_out(tmp_path_factory) -> Carried:
    """Carry out all examples in a copy, and run their tests there."""
    root = tmp_path_factory.mktemp("copy")
    for name in COPIED:
        source, target = ROOT / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.png"))
        else:
            shutil.copy(source, target)
    for example in READ.values():
        for path, block in example.new.items():
            assert not (root / path).exists(), f"{path} is there already"
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(block, encoding="utf-8")
        for path, diff in example.diffs:
            (root / path).write_text(apply(diff, (root / path).read_text(encoding="utf-8")), encoding="utf-8")
    tests = [path for example in READ.values() for path in example.tests]
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *tests]
    # Coverage of the copy is none of the package's.
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("COV_", "COVERAGE_"))}
    done = subprocess.run(
        command,
        cwd=root,
        env={
            **settings,
            "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        timeout=240,
    )
    return Carried(root, done.stdout + done.stderr)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_tests_of_each_example_pass(carried_out, name):
    for path in READ[name].tests:
        defined = re.findall(r"^def (test_\w+)", READ[name].new[path], flags=re.MULTILINE)
        passed = re.findall(rf"^PASSED {re.escape(path)}::(test_\w+)", carried_out.output, flags=re.MULTILINE)
        assert defined and sorted(passed) == sorted(defined), carried_out.output[-6000:]


@pytest.mark.parametrize("rule", CHECKS)
def test_the_examples_keep_the_rules(carried_out, rule):
    check = CHECKS[rule]
    before, after = (check(house.read_house(root / "gerne_hf")) for root in (ROOT, carried_out.root))
    modules = [path[:-3].replace("/", ".") for example in READ.values() for path in example.new if path[-3:] == ".py"]
    nothing([line for line in after if line not in before or any(name in line for name in modules)])


@pytest.mark.skipif(importlib.util.find_spec("ruff") is None, reason="ruff comes with the extra dev")
@pytest.mark.parametrize("command", [["check"], ["format", "--check", "--diff"]], ids=["check", "format"])
def test_the_examples_are_in_style(carried_out, command):
    files = {path for example in READ.values() for path in [*example.new, *(path for path, _ in example.diffs)]}
    python = [path for path in sorted(files) if path.endswith(".py")]
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--no-cache", *python],
        cwd=carried_out.root,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_baseline_is_one_new_file_and_one_line():
    baseline = READ["baseline"]
    assert len(set(baseline.new) - set(baseline.tests)) == 1
    ((path, diff),) = baseline.diffs
    changed = [line for line in diff.splitlines() if line[:1] in "+-"]
    assert path == "gerne_hf/comparison/methods.py" and len(changed) == 1 and changed[0].startswith("+")
    assert len(re.findall(r"def _\w*[a-z]\(|\._[a-z]", next(iter(baseline.new.values())))) == 0  # nothing private


def test_the_table_of_rooms_has_the_layers_in_their_order():
    rows = re.findall(r"^\| `(\w+)` \|", section("The house in one page").split("### The ladder")[0], re.MULTILINE)
    assert tuple(rows) == LAYERS[:-1] and LAYERS[-1] == "__init__"


def test_every_example_is_in_the_list_at_the_top_and_is_read():
    assert re.findall(r"^## Adding a (.+)$", TEXT, flags=re.MULTILINE) == list(EXAMPLES)
    assert all(example.tests and (example.new or example.diffs) for example in READ.values())
    blocks = len(re.findall(r"^```\w+$", TEXT, flags=re.MULTILINE))
    assert (
        sum(len(example.new) + len(example.diffs) for example in READ.values()) == blocks + 1
    )  # one block, two files


def test_links_files_and_commands_exist():
    headings = re.findall(r"^#+ (.+)$", TEXT, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}
    links = re.findall(r"\]\(#([^)]+)\)", TEXT)
    assert links and set(links) <= anchors
    made = {path for example in READ.values() for path in example.new}
    files = re.findall(r"`/?((?:gerne_hf|tests|recipes|\.github)/[\w./]*\w\.\w+)`", TEXT)
    assert files and not [path for path in files if path not in made and not (ROOT / path).is_file()]
    targets = re.findall(r"`make ([\w-]+)`", TEXT)
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert targets and not [name for name in targets if f"\n{name}:" not in rules]


def test_examples_in_docstrings_are_tests(pytestconfig):
    """That they pass is told by `make test`, which collects them as tests of their own."""
    assert pytestconfig.getoption("doctestmodules") and "gerne_hf" in pytestconfig.getini("testpaths")
    shown = [path for path in (ROOT / "gerne_hf").rglob("*.py") if ">>> " in path.read_text(encoding="utf-8")]
    assert ROOT / "gerne_hf" / "evaluation" / "metrics.py" in shown and len(shown) > 20


def test_a_diff_must_fit():
    assert apply(" a\n-b\n+c\n", "a\nb\n") == "a\nc\n"
    with pytest.raises(AssertionError, match="0 times"):
        apply(" a\n+c\n", "b\n")
    with pytest.raises(AssertionError, match="2 times"):
        apply(" a\n+c\n", "a\na\n")
