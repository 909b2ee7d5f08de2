"""Code on the documentation site runs as it stands, and its commands exist.

The blocks of Python of a page are run in order, in one namespace and an empty folder, as a reader would type them in.
Commands in blocks of bash are parsed: their scripts, options, targets and extras are there.
"""

import doctest
import importlib.util
import re
import shlex
import sys
import tomllib

import house
import pytest
import typer
from places import ROOT
from test_documents import options, options_of

from gerne_hf.cli.app import app, main

DOCS = ROOT / "docs"
MADE = {"_build", "repository"}
SITE = {str(path.relative_to(DOCS)): path for path in sorted(DOCS.rglob("*.md")) if not MADE & {*path.parts}}
TRAININGS = {f"quickstart/{name}.md" for name in ("text", "images", "no_attributes")} | {
    "how_to/hidden_groups.md",
    "how_to/compare_and_tune.md",
}
"""Pages whose code trains for more than a few seconds."""

RUN_ELSEWHERE = {"how_to/other_trainers.md"}
"""Pages of whole programs, one a section, which test_other_trainers.py runs and judges."""


def blocks(text: str, *languages: str) -> list[tuple[str, str]]:
    """The fenced blocks of some languages, each with its language, in their order."""
    found = re.findall(r"^ *```(\w+)\n(.*?)^ *```$", text, flags=re.MULTILINE | re.DOTALL)
    return [(language, block) for language, block in found if language in languages]


def pages(*languages: str) -> list:
    """The pages that have blocks of a language."""
    having = [name for name, path in SITE.items() if blocks(path.read_text(encoding="utf-8"), *languages)]
    return [pytest.param(name, marks=[pytest.mark.slow] if name in TRAININGS else []) for name in having]


@pytest.mark.parametrize("page", [one for one in pages("python", "pycon") if one.values[0] not in RUN_ELSEWHERE])
def test_the_code_of_a_page_runs_as_it_stands(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "page"}
    found = blocks(SITE[page].read_text(encoding="utf-8"), "python", "pycon", "diff", "bash")
    for number, (language, block) in enumerate(found, 1):
        name = f"{page}, block {number}"
        if language == "bash":  # what the files of the page are for
            for words in commands(block):
                if words[:3] == ["gerne-hf", "evaluate", "--predictions"]:
                    assert main(words[1:]) == 0, name
            continue
        if language == "diff":  # as it is afterwards
            language, block = "python", "".join(f"{line[1:]}\n" for line in block.splitlines() if line[:1] != "-")
        if language == "python":
            exec(compile(block, name, "exec"), namespace)  # the text is ours, and a reader's script
            continue
        example = doctest.DocTestParser().get_doctest(block, namespace, name, page, 0)
        runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
        runner.run(example, clear_globs=False)
        namespace |= example.globs
        assert runner.failures == 0, name
    if "worst" in namespace:  # the page says that the second of two trainings fails nobody as the first one does
        assert namespace["worst"]["erm"] + 0.2 < namespace["worst"]["independent"]


@pytest.mark.parametrize("page", [name for name in SITE if "import" in SITE[name].read_text(encoding="utf-8")])
def test_pages_import_from_rooms(source, page):
    found = blocks(SITE[page].read_text(encoding="utf-8"), "python")
    assert not [line for _, block in found for line in house.imports_from_inside(source, block)]


@pytest.fixture(scope="module")
def source():
    """The package, read."""
    return house.read_house(ROOT / "gerne_hf")


def lines_of(page: str) -> list[list[str]]:
    """The words of every command in the blocks of bash of a page."""
    found = blocks(SITE[page].read_text(encoding="utf-8"), "bash")
    return [words for _, block in found for words in commands(block)]


def commands(block: str) -> list[list[str]]:
    """The words of every command in a block of bash."""
    words = [shlex.split(line, comments=True) for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in words if line]


@pytest.mark.parametrize("page", [one.values[0] for one in pages("bash")])
def test_the_commands_of_a_page_exist(page, monkeypatch, capsys):
    assert lines_of(page)
    for words in lines_of(page):
        while "=" in words[0] and words[0].split("=")[0].isupper():
            words = words[1:]  # variables of the environment
        check_command(words, monkeypatch, capsys)


def check_command(words: list[str], monkeypatch, capsys) -> None:
    """Fail unless a command is one of the project's, with options that it has, or one of a few that everybody has."""
    script = next((at for at, word in enumerate(words) if word.endswith(".py")), None)
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert set(words[1:]) <= set(targets), words
    elif words[:2] == ["pip", "install"]:
        extras = re.findall(r"\[([\w,]+)\]", " ".join(words))
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        known = project["optional-dependencies"]
        assert {name for part in extras for name in part.split(",")} <= set(known), words
    elif words[0] == "gerne-hf":
        check_gerne_hf(words[1:], monkeypatch, capsys)
    elif words[0] == "gerne-report":
        assert not options(words), words
    elif script is not None and words[0] in ("python", "accelerate"):
        assert (ROOT / words[script]).is_file() or words[script] == "my_script.py", words
        if (ROOT / words[script]).is_file():
            check_script(words[script:], monkeypatch, capsys)
    else:
        assert words[0] in ("cd", "git", "hf", "sbatch", "python") or words[0].startswith("recipes/launch/"), words
        assert words[:2] != ["python", "-m"] or importlib.util.find_spec(words[2]), words


def check_script(words: list[str], monkeypatch, capsys) -> None:
    """Fail unless a script has the options, and the files of settings are there."""
    assert all((ROOT / word).is_file() for word in words if word.startswith("recipes/configs/")), words
    own = words[1 : words.index("--")] if "--" in words else words[1:]
    taken_out = {name for name, module in sys.modules.items() if module is None}
    assert options(own) <= options_of(ROOT / words[0], monkeypatch, capsys), words
    for name in [name for name, module in sys.modules.items() if module is None and name not in taken_out]:
        del sys.modules[name]  # a benchmark takes the pictures away, for its own process


def check_gerne_hf(words: list[str], monkeypatch, capsys) -> None:
    """Fail unless `gerne-hf` has the command and its options, and the recipe takes those that are passed on."""
    if words == ["--help"]:
        return
    command = typer.main.get_command(app).commands[words[0]]
    command.make_context(words[0], words[1:])  # parses, and runs nothing
    if words[0] in ("train", "compare"):
        script = ROOT / "recipes" / f"{words[1]}.py"
        assert script.is_file(), words
        assert options(words) - {"--num_processes"} <= options_of(script, monkeypatch, capsys), words
