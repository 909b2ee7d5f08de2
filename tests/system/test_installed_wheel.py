"""The package as it is installed: `gerne-hf` in an empty folder, with the recipes that travel in the wheel."""

import os
import subprocess
import sys
import time
import venv
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from places import ROOT

from gerne_hf.models import small_text_model, word_tokenizer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Build the wheel, install it in a new environment that sees the libraries of this one; return its command."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, check=True, cwd=ROOT, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    place = folder / "venv" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(place)]
    subprocess.run([*install, str(wheel)], check=True)
    (place / "libraries.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    empty = folder / "empty"
    empty.mkdir()

    script = ("-c", "import sys; from gerne_hf.cli import main; sys.exit(main())")

    def run(*arguments: str, timeout: float = 280, start: tuple[str, ...] = script) -> subprocess.CompletedProcess:
        python = folder / "venv" / "bin" / "python"
        paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path != str(ROOT)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}
        return subprocess.run(
            [str(python), *start, *arguments],
            cwd=empty,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    run.folder = empty
    return run


def test_it_is_the_installed_package(command):
    found = command("env")
    assert found.returncode == 0, found.stderr
    listed = command("train")
    assert "multinli" in listed.stdout and str(ROOT) not in listed.stdout


def test_a_million_predictions(command):
    """Under five seconds, the start of Python included; a second on an idle machine."""
    rng, rows = np.random.default_rng(0), 1_000_000
    names = np.array(["cat", "dog", "bird"])
    label = rng.integers(0, 3, rows)
    found = np.where(rng.random(rows) < 0.9, label, (label + 1) % 3)
    data = {"prediction": names[found], "label": names[label], "place": rng.integers(0, 4, rows)}
    pd.DataFrame(data).to_csv(command.folder / "found.csv", index=False)
    begin = time.perf_counter()
    done = command("evaluate", "--predictions", "found.csv", "--attribute_column", "place", "--output_dir", "out")
    seconds = time.perf_counter() - begin
    assert done.returncode == 0, done.stderr
    assert "(bird, 0)" in done.stdout and (command.folder / "out" / "_report.html").is_file()
    assert seconds < 5 * max(1.0, os.getloadavg()[0] / 2)
    assert command("report", "out").returncode == 0


QUICK = ["--max_steps", "4", "--eval_steps", "2", "--use_cpu", "true", "--compare", "none"]


def test_a_recipe_trains(command):
    quick = [*QUICK, "--output_dir", "run"]
    done = command("train", "multinli", "--demo", *quick, "--num_processes", "1", "--eval_strategy", "steps")
    assert done.returncode == 0, done.stderr
    assert "worst group" in done.stdout and Path(command.folder, "run", "group_metrics.json").is_file()


def test_accelerate_launches_a_recipe_as_a_module(command):
    start = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", "-m")
    quick = [*QUICK, "--eval_strategy", "steps", "--output_dir", "launched"]
    done = command("gerne_hf.recipe_scripts.multinli", "--demo", *quick, start=start)
    assert done.returncode == 0, done.stderr
    assert "worst group" in done.stdout and Path(command.folder, "launched", "group_metrics.json").is_file()


def test_hidden_groups(command):
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 200)
    rows = datasets.Dataset.from_dict(
        {"text": [f"{'good' if a else 'bad'} {rng.integers(9)}" for a in label], "label": label}
    )
    rows.to_csv(str(command.folder / "rows.csv"))
    tokenizer = word_tokenizer(rows["text"][:])
    torch.manual_seed(0)
    small_text_model(tokenizer, ["0", "1"]).save_pretrained(command.folder / "model")
    tokenizer.save_pretrained(command.folder / "model")
    done = command("groups", "--dataset", "rows.csv", "--text_column", "text", "--model", "model", "--epochs", "1")
    assert done.returncode == 0, done.stderr
    assert Path(command.folder, "outputs", "groups", "inferred_groups.json").is_file()
