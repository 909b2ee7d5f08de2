"""One search at a time in an `output_dir`, and a study that is damaged."""

import os
import subprocess
import sys

import pytest
from places import python_path
from searches import searching, the_search

from gerne_hf.utils import locks
from gerne_hf.utils.locks import FolderInUseError

pytestmark = pytest.mark.usefixtures("quick_and_quiet")

HOLD = """
import sys, time
from gerne_hf.utils.locks import locked
with locked(sys.argv[1], "searching", ""):
    print("held", flush=True)
    time.sleep(100)
"""


def test_a_second_search_is_refused_and_ends_no_trial_of_the_first(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.2)
    searching(tmp_path).hyperparameter_search(n_trials=1)
    before = (tmp_path / "search" / "study.db").read_bytes()
    command = [sys.executable, "-c", HOLD, str(tmp_path / "search")]
    environment = {**os.environ, "PYTHONPATH": python_path()}
    other = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    try:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(FolderInUseError, match=rf"process {other.pid} on .* has been searching there since"):
            searching(tmp_path).hyperparameter_search(n_trials=2)
        assert (tmp_path / "search" / "study.db").read_bytes() == before
        searching(tmp_path).hyperparameter_search(n_trials=1, storage=None)  # a study elsewhere is none in the folder
    finally:
        other.kill()
        other.wait()
    searching(tmp_path).hyperparameter_search(n_trials=2)  # after a kill
    assert len(the_search(tmp_path)["trials"]) == 2


def overwritten(file, old):
    file.write_bytes(b"nonsense" * 1000)


def zeroed_page(file, old):
    file.write_bytes(old[:4096] + bytes(len(old) - 4096))


def cut_off(file, old):
    file.write_bytes(old[: len(old) // 2])


@pytest.mark.parametrize("damage", [overwritten, zeroed_page, cut_off])
def test_a_damaged_study_is_one_clear_sentence(tmp_path, damage, study):
    file = tmp_path / "search" / "study.db"
    file.parent.mkdir()
    damage(file, study.read_bytes())
    with pytest.raises(
        ValueError, match=r"study.db cannot be read \(.+\): it is damaged.*or delete it to search anew"
    ):
        searching(tmp_path).hyperparameter_search(n_trials=2)
    file.unlink()
    searching(tmp_path).hyperparameter_search(n_trials=1)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The file of a study of one trial."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gerne_hf.reports.plots.plot_training", lambda *args: None)
        searching(folder).hyperparameter_search(lambda trial: {}, n_trials=1)
    return folder / "search" / "study.db"
