"""The README and its kin say what the code does: first example, blocks, commands and links."""

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import mlp, table
from places import ROOT

from gerne_hf.reports.ended import fault_sentences

DOCUMENTS = [ROOT / name for name in ("README.md", "benchmarks/README.md", "recipes/README.md")]
BIN = Path(sys.executable).parent
DOCUMENT = pytest.mark.parametrize("path", DOCUMENTS, ids=[path.parent.name or "top" for path in DOCUMENTS])


def test_the_readme_is_short():
    assert DOCUMENTS[0].read_text(encoding="utf-8").count("\n") <= 150


@pytest.mark.slow
def test_every_block_of_the_readme_runs_as_it_stands(tmp_path, monkeypatch, capfd, without_pictures):
    """Blocks of Python in one namespace; commands of `gerne-hf` by a shell. `make` and `pip` are tried in a clone."""
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    blocks = re.findall(r"^```(python|bash)\n(.*?)^```$", DOCUMENTS[0].read_text(encoding="utf-8"), re.M | re.S)
    ran: list[str] = []
    reports: list[dict] = []
    for kind, code in blocks:
        if kind == "python":
            exec(code, scope)  # the text is ours, and a reader's script
            reports.append(scope["trainer"].group_results)
            ran.append(kind)
        elif "gerne-hf evaluate" in code:
            subprocess.run(
                ["bash", "-ec", code], check=True, env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
            )
            ran.append(kind)
    said = capfd.readouterr().out
    assert ran.count("python") == 2 and "bash" in ran and "Groups inferred by the rule 'validation_shift'" in said
    assert scope["trainer"].args.pseudo_attributes and (tmp_path / "birds" / "_report.html").is_file()
    assert reports[0]["test"]["worst_group_accuracy"] > 0.5 and "eval" in reports[1]


def test_the_first_example_runs_as_written(tmp_path, monkeypatch):
    section = DOCUMENTS[0].read_text(encoding="utf-8").split("```diff\n")[1].split("```")[0]
    code = "\n".join(line[1:] for line in section.splitlines() if not line.startswith("-"))
    monkeypatch.chdir(tmp_path)
    scope = {"model": mlp(), "ds": {split: table() for split in ("train", "validation", "test")}}
    exec(code, scope)  # the text is ours, and a reader's script
    history = scope["trainer"].state.log_history
    evaluations = [e["eval_worst_group_accuracy"] for e in history if "eval_worst_group_accuracy" in e]
    assert len(evaluations) == 3  # an epoch each
    assert scope["trainer"].state.best_metric == max(evaluations)
    assert sum("test_worst_group_accuracy" in entry for entry in history) == 1


@DOCUMENT
def test_links_lead_to_files_and_headings(path):
    text = path.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert links
    for link in links:
        if link.startswith("https://"):
            continue
        name, _, heading = link.partition("#")
        target = path.parent / name if name else path
        assert target.is_file(), link
        if heading:
            titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert heading in [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles], link


def commands(path: Path) -> list[list[str]]:
    """The words of every command for a recipe or a benchmark in the blocks of a document, placeholders included."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line for line in words if any(word.endswith(".py") for word in line)]


def options_of(script: Path, monkeypatch, capsys) -> set[str]:
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    monkeypatch.syspath_prepend(str(script.parent))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 0
    return set(re.findall(r"--\w+", capsys.readouterr().out))


@DOCUMENT
def test_commands_name_scripts_files_and_options_that_exist(path, monkeypatch, capsys):
    found = commands(path)
    assert found
    known = {}
    for words in found:
        at = next(i for i, word in enumerate(words) if word.endswith(".py"))
        script = ROOT / words[at]
        if script.stem == "NAME":
            continue
        assert script.is_file(), words
        if script not in known:
            known[script] = options_of(script, monkeypatch, capsys)
        own = words[at + 1 :]
        files = [word for word in own if word.startswith("recipes/configs/")]
        assert all((ROOT / name).is_file() for name in files), words
        if "--" in own:  # what follows is for the recipe that comes first
            recipe = ROOT / "recipes" / f"{own[0]}.py"
            known[recipe] = known.get(recipe) or options_of(recipe, monkeypatch, capsys)
            assert options(own[own.index("--") + 1 :]) <= known[recipe], words
            own = own[: own.index("--")]
        assert options(own) <= known[script], words


def options(words: list[str]) -> set[str]:
    return {word.split("=")[0] for word in words if word.startswith("--")}


WENT_WRONG = {"collapse": {"value": 0.0, "at": 0, "best": 1.0}, "guess": {"loss": 0.69, "classes": 2}}


@pytest.mark.parametrize("card", sorted((ROOT / "model_cards").glob("*/README.md")), ids=lambda path: path.parent.name)
def test_no_card_that_is_shown_is_of_a_run_that_went_wrong(card):
    """A training that fell by more than 10 points after the selected step, or that ends as a guess, says so."""
    said = ("Training longer did harm", "that of a guess among")
    for words, sentence in zip(said, fault_sentences(WENT_WRONG), strict=True):
        assert words in sentence and words not in card.read_text(encoding="utf-8")
