"""A run with checkpoints, and a copy of its folder for each test to spoil."""

import shutil

import pytest
from helpers import mlp, trainer, weights
from resumed_runs import SETTINGS


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run with checkpoints at the steps 2, 4 and 6, to be copied; and its final weights."""
    folder = tmp_path_factory.mktemp("saved")
    subject = trainer(folder, mlp(dropout=0.3), **SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gerne_hf.reports.plots.plot_training", lambda *args: None)
        subject.train()
    return folder, weights(subject.model)


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of that run's folder."""
    return shutil.copytree(saved[0], tmp_path / "run")
