"""SIGTERM with `enable_jit_checkpoint`: a run that saves when it is told to end resumes as the stock Trainer does."""

import os
import signal
import time

import pytest
from helpers import assert_same, mlp, table, trainer, weights
from resumed_runs import SETTINGS, again
from transformers import EarlyStoppingCallback, TrainerCallback
from transformers.trainer_jit_checkpoint import JITCheckpointCallback

from gerne_hf.checkpoints.seals import UNFINISHED_FILE, read_seal

pytestmark = pytest.mark.usefixtures("without_pictures")

ALONE = {**SETTINGS, "save_strategy": "no", "save_steps": 500}


class Terminate(TrainerCallback):
    """Sends SIGTERM to this process at an event of step 3, and waits until the Trainer has taken note of it."""

    def __init__(self, event):
        setattr(self, event, self.send)

    def send(self, args, state, control, **kwargs):
        if state.global_step == 3 and not self.sent:
            self.sent = True
            os.kill(os.getpid(), signal.SIGTERM)
            while not self.manager.is_checkpoint_requested:
                time.sleep(0.01)

    sent = False


def terminated(folder, event, **settings):
    """A run that got SIGTERM in its third step or after it."""
    callback = Terminate(event)
    callbacks = [callback, *settings.pop("callbacks", [])]
    settings = {**ALONE, "enable_jit_checkpoint": True, **settings}
    subject = trainer(folder, mlp(dropout=0.3), callbacks=callbacks, **settings)
    (jit,) = [c for c in subject.callback_handler.callbacks if isinstance(c, JITCheckpointCallback)]
    jit.jit_manager.kill_wait, callback.manager = 0, jit.jit_manager
    subject.train()
    assert callback.sent and subject.state.global_step < 6
    return folder / "checkpoint-3"


@pytest.mark.parametrize("event", ["on_step_begin", "on_step_end"])
def test_it_resumes(tmp_path, event):
    whole = trainer(tmp_path / "whole", mlp(dropout=0.3), **ALONE)
    whole.train()
    saved = terminated(tmp_path / "run", event)
    files = read_seal(str(saved), contents=True)["files"]
    assert not (saved / UNFINISHED_FILE).exists() and UNFINISHED_FILE not in files
    subject = again(tmp_path / "run", **ALONE)
    subject.train(resume_from_checkpoint=True)
    assert subject.state.global_step == 6
    if event == "on_step_end":  # else the Trainer saves within step 4, after its dropout was drawn
        assert_same(weights(subject.model), weights(whole.model))


def test_a_save_that_was_killed_is_passed_over(tmp_path):
    """The stock Trainer's mark alone makes no checkpoint."""
    (tmp_path / "checkpoint-4").mkdir(parents=True)
    (tmp_path / "checkpoint-4" / UNFINISHED_FILE).write_text("started")
    with pytest.raises(ValueError, match="checkpoint-4 is not whole: it has no checkpoint.json"):
        again(tmp_path).train(resume_from_checkpoint=True)


def test_it_is_no_early_stopping(tmp_path):
    """The checkpoint says that training was to stop, which EarlyStoppingCallback says in the same place."""
    settings = dict(eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=1)
    settings |= {
        "eval_dataset": table(seed=3),
        "load_best_model_at_end": True,
        "restore_callback_states_from_checkpoint": True,
    }
    terminated(tmp_path, "on_step_end", callbacks=[EarlyStoppingCallback(50)], **settings)
    for step in (3, 4):  # the Trainer ends step 4 and saves once more
        subject = again(tmp_path, **{**ALONE, **settings}, callbacks=[EarlyStoppingCallback(50)])
        subject.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        assert subject.state.global_step == 6


def test_what_a_folder_held_before_is_no_part_of_a_checkpoint(tmp_path):
    """A run that is begun anew finds the rest of one that was killed there."""
    (tmp_path / "checkpoint-2" / "shards").mkdir(parents=True)
    for name in ("group_metrics.json", "shards/7.bin"):
        (tmp_path / "checkpoint-2" / name).write_text("old")
    trainer(tmp_path, mlp(dropout=0.3), **SETTINGS).train()
    files = read_seal(str(tmp_path / "checkpoint-2"))["files"]
    assert "model.safetensors" in files and not {"group_metrics.json", "shards/7.bin"} & set(files)
