"""Workers of the loaders of image recipes: as many as the machine has cores for, unless somebody says how many."""

import os

import pytest

from gerne_hf.recipes import ImageArguments, TextArguments, parse_arguments
from gerne_hf.utils.distributed import fitting_workers


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A machine of twelve cores, and a recipe with settings that say nothing of workers."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(12)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    (tmp_path / "configs").mkdir()
    for name in ("tiny", "tiny_demo"):
        (tmp_path / "configs" / f"{name}.yaml").write_text(
            f"output_dir: {tmp_path / 'out'}\nattribute_column: [place]\n"
        )
    return tmp_path / "tiny.py"


def workers(recipe, *argv, cls=ImageArguments):
    arguments, config = parse_arguments(cls, str(recipe), ["--use_cpu", "true", *argv])
    return config.dataloader_num_workers, getattr(arguments, "workers_given", None)


def test_cores_are_divided_among_processes(recipe, monkeypatch):
    assert [fitting_workers(n) for n in (1, 5, 12, 13)] == [12, 2, 1, 0]
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    assert fitting_workers(1) == 16
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert fitting_workers(2) == 4


def test_image_recipes_fit_the_machine(recipe, monkeypatch):
    assert workers(recipe) == (12, False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")  # one of four processes that torchrun has started here
    assert workers(recipe) == (3, False)


def test_what_is_given_stays(recipe, tmp_path):
    assert workers(recipe, "--dataloader_num_workers", "5") == (5, True)
    assert workers(recipe, "--dataloader_num_workers=0") == (0, True)
    settings = tmp_path / "configs" / "tiny.yaml"
    settings.write_text(settings.read_text() + "dataloader_num_workers: 7\n")
    assert workers(recipe) == (7, True)


def test_demos_and_texts_have_none(recipe):
    assert workers(recipe, "--demo") == (0, False)
    assert workers(recipe, cls=TextArguments) == (0, None)
