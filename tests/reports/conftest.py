"""A run with everything that its page can show."""

import pytest
from report_pages import examples, picture, report, result, write


@pytest.fixture
def folder(tmp_path):
    """The folder of a run with everything in it."""
    run = tmp_path / "my run"
    run.mkdir()
    write(run / "group_metrics.json", report())
    other = {**result(), "seed": 0, "train_seconds": 12.0}
    runs = {"ERM": [other, {**other, "seed": 1}], "GERNE": [other, {**other, "seed": 1, "accuracy": 0.5}]}
    write(run / "comparison.json", runs)
    for name in ("training.png", "comparison.png", "pseudo_attributes.png", "_examples/test-17.png"):
        picture(run / name)
    write(run / "_examples" / "examples.json", examples())
    picture(run / "search" / "search.png")
    trial = {"number": 3, "state": "complete", "value": 0.8125, "params": {"c": 0.25, "beta": 2.0}}
    failed = {"number": 4, "state": "failed", "value": None, "params": {"c": 0.5}}
    search = {"objective": "worst_group_accuracy", "direction": "maximize", "trials": [trial, failed]}
    write(run / "search" / "search.json", search)
    return run
