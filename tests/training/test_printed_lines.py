"""The line that an evaluation prints has its summaries; what trackers and the log history get is whole."""

import ast

import pytest
from figures_by_hand import HELD_OUT
from helpers import table, trainer
from transformers import PrinterCallback, TrainerCallback

pytestmark = pytest.mark.usefixtures("without_pictures")


class Tracker(TrainerCallback):
    def __init__(self):
        self.seen = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.seen.append(dict(logs))


@pytest.mark.parametrize("bar", [True, False])
def test_an_evaluation_prints_its_summaries(tmp_path, capsys, bar):
    tracker = Tracker()
    settings = dict(eval_strategy="steps", eval_steps=1, max_steps=2, disable_tqdm=not bar, callbacks=[tracker])
    subject = trainer(tmp_path, eval_dataset=table(HELD_OUT), **settings)
    if not bar and not any(isinstance(one, PrinterCallback) for one in subject.callback_handler.callbacks):
        subject.add_callback(PrinterCallback)
    subject.train()
    said = [line for line in capsys.readouterr().out.splitlines() if "eval_worst_group_accuracy" in line]
    assert len(said) == 2 and all(len(line) < 330 for line in said)
    for line in said:
        printed = ast.literal_eval(line[line.index("{") :])
        assert {"eval_loss", "eval_accuracy", "eval_worst_group_accuracy", "epoch"} <= set(printed)
        assert not any("group_accuracy/" in key or key.endswith("_runtime") for key in printed)
    whole = [logs for logs in tracker.seen if "eval_worst_group_accuracy" in logs]
    assert len(whole) == 2 and all(any("group_accuracy/" in key for key in logs) for logs in whole)
    kept = [entry for entry in subject.state.log_history if "eval_worst_group_accuracy" in entry]
    assert all("eval_runtime" in entry and any("group_accuracy/" in key for key in entry) for entry in kept)
