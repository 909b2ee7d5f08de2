"""One run at a time in an `output_dir`, and checkpoints that say which run they are of."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import assert_same, launch_two, mlp, table, trainer, weights
from places import python_path
from resumed_runs import SETTINGS, again
from transformers import TrainerCallback

from gerne_hf.checkpoints.seals import read_seal, seal
from gerne_hf.utils import locks
from gerne_hf.utils.locks import LOCK_FILE, FolderInUseError

pytestmark = pytest.mark.usefixtures("without_pictures")

HOLD = """
import sys, time
from gerne_hf.utils.locks import locked
with locked(sys.argv[1], "training", ""):
    print("held", flush=True)
    time.sleep(100)
"""


@pytest.fixture
def other(tmp_path, monkeypatch):
    """Another process that trains in the folder, until it is killed."""
    monkeypatch.setattr(locks, "PATIENCE", 0.2)
    environment = {**os.environ, "PYTHONPATH": python_path()}
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, env=environment)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_run_is_refused_until_the_first_is_killed(tmp_path, other):
    for wanted in (None, True):
        subject = trainer(tmp_path, **SETTINGS)
        message = rf"process {other.pid} on .* has been training there since .*Wait for its end, or choose another out"
        with pytest.raises(FolderInUseError, match=message):
            subject.train(resume_from_checkpoint=wanted)
        assert subject.state.global_step == 0
    assert set(subject.evaluate(table(seed=3)))  # what writes no checkpoints goes on
    other.kill()
    other.wait()
    subject.train()
    assert subject.state.global_step == 6 and not (tmp_path / LOCK_FILE).exists()
    again(tmp_path, max_steps=8).train(resume_from_checkpoint=True)


class Within(TrainerCallback):
    """Calls a function in the third step, and keeps what it raised."""

    def __init__(self, call):
        self.call, self.raised = call, None

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3:
            try:
                self.call()
            except Exception as error:
                self.raised = error


def test_trainers_of_one_process(tmp_path):
    """One after the other, and in each other's sub-folders: yes. One within the other: no."""
    within = Within(lambda: trainer(tmp_path, **SETTINGS).train())
    subject = trainer(tmp_path, callbacks=[within], **SETTINGS)
    subject.train()
    assert isinstance(within.raised, FolderInUseError) and "which is this one" in str(within.raised)
    within.call, within.raised = lambda: trainer(tmp_path / "pseudo", **SETTINGS).train(), None
    subject.train()
    trainer(tmp_path, **SETTINGS).train()
    assert within.raised is None and not (tmp_path / LOCK_FILE).exists()


def test_a_run_that_fails_leaves_the_folder(tmp_path):
    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, callbacks=[Within(fail)], **SETTINGS).train()
    assert not (tmp_path / LOCK_FILE).exists()
    again(tmp_path).train(resume_from_checkpoint=True)


def test_a_seal_names_its_run(tmp_path):
    trainer(tmp_path, mlp(dropout=0.3), **{**SETTINGS, "max_steps": 4}).train()
    first, second = (read_seal(str(tmp_path / f"checkpoint-{step}")) for step in (2, 4))
    assert first["run_id"] == second["run_id"] and len(first["run_id"]) == 12
    assert first["process"] == second["process"]
    assert (first["process"]["pid"], first["process"]["host"]) == (os.getpid(), socket.gethostname())
    again(tmp_path).train(resume_from_checkpoint=True)
    assert read_seal(str(tmp_path / "checkpoint-6"))["run_id"] == first["run_id"]
    again(tmp_path).train()
    assert read_seal(str(tmp_path / "checkpoint-6"))["run_id"] != first["run_id"]


BEST = dict(eval_strategy="steps", eval_steps=2, load_best_model_at_end=True)


@pytest.mark.parametrize("other", ["0123456789ab", None])
def test_the_best_model_of_another_run_is_not_taken(tmp_path, other):
    """As one that wrote into the folder from a machine where no lock holds. Earlier versions named no run."""
    subject = trainer(tmp_path, mlp(), eval_dataset=table(seed=3), **SETTINGS, **BEST)
    load = subject._load_best_model

    def replace_and_load():
        best = Path(subject.state.best_model_checkpoint)
        record = json.loads((best / "checkpoint.json").read_text())
        kept = {name: record[name] for name in ("step", "run", "process")}
        seal(str(best), {**kept, **({"run_id": other} if other else {})})
        load()

    subject._load_best_model = replace_and_load
    if other is None:
        subject.train()
        return
    with pytest.raises(ValueError, match=rf"is of another run, that of process {os.getpid()} on .* since 20"):
        subject.train()


def test_a_resumed_run_takes_its_best_model_from_before(tmp_path):
    settings = {**SETTINGS, **BEST, "eval_dataset": table(seed=3), "learning_rate": 1.0}
    settings |= {"metric_for_best_model": "loss", "greater_is_better": False}
    whole = trainer(tmp_path / "whole", mlp(dropout=0.3), **settings)
    whole.train()
    trainer(tmp_path / "run", mlp(dropout=0.3), **{**settings, "max_steps": 4}).train()
    subject = again(tmp_path / "run", **settings)
    subject.train(resume_from_checkpoint=True)
    assert_same(weights(subject.model), weights(whole.model))
    assert subject.state.best_global_step == whole.state.best_global_step < 6


TWO = """
import sys
from helpers import trainer
from gerne_hf.utils import locks
locks.PATIENCE = 0.2
try:
    trainer(sys.argv[1], per_device_train_batch_size=4, max_steps=2).train()
    print("trained")
except locks.FolderInUseError:
    print("refused")
"""


@pytest.mark.slow
def test_the_processes_of_a_run_share_its_folder_and_are_refused_together(tmp_path, other):
    """The main process alone holds the lock, and none waits for another that was refused."""
    script = tmp_path / "two.py"
    script.write_text(TWO)
    assert launch_two(script, tmp_path).split().count("refused") == 2
    assert launch_two(script, tmp_path / "free").split().count("trained") == 2
