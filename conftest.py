"""Doctests: examples in the docstrings of `gerne_hf` are tests; under tests/ lie scripts, which are not imported."""

from collections.abc import Generator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent / "gerne_hf"

collect_ignore = [
    "gerne_hf/evaluate_modules/group_accuracy/app.py",  # needs gradio, which only a Space has
    "gerne_hf/evaluate_modules/group_accuracy/group_accuracy.py",  # test_group_accuracy_card.py runs its example
]


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Of files outside the package leave the collectors of doctests out."""
    found = yield
    if PACKAGE in file_path.parents:
        return found
    return [collector for collector in found if type(collector).__name__ != "DoctestModule"]
