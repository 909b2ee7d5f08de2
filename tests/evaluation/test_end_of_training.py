"""The end of a training: no evaluation that nobody asked for, reports before `on_train_end`, figures of their step."""

import json
import math
import os

import pytest
import torch
from figures_by_hand import HELD_OUT, expected_for
from helpers import mlp, table, trainer
from test_evaluation import Replay
from transformers import Trainer, TrainerCallback

from gerne_hf import GerneTrainer
from gerne_hf.reports.page import render

pytestmark = pytest.mark.usefixtures("without_pictures")

BY_STEP = dict(eval_strategy="steps", save_strategy="steps", eval_steps=2, save_steps=2)


class Events(TrainerCallback):
    """Notes what a tracker hears, and what lies in the run's folder when training ends."""

    def __init__(self):
        self.heard, self.reports = [], None

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.heard.append("log")

    def on_evaluate(self, args, state, control, **kwargs):
        self.heard.append("evaluate")

    def on_prediction_step(self, args, state, control, **kwargs):
        self.heard.append("predict")

    def on_train_end(self, args, state, control, **kwargs):
        self.heard.append("end")
        path = os.path.join(args.output_dir, "group_metrics.json")
        self.reports = json.loads(open(path).read()) if os.path.exists(path) else None


def test_without_an_eval_strategy_nothing_is_evaluated(tmp_path, capsys):
    events = Events()
    subject = trainer(tmp_path, eval_dataset=table(HELD_OUT), callbacks=[events])
    output = subject.train()
    assert events.heard == ["log"] * 3 + ["end"]  # two steps and the summary
    assert "train_runtime" in subject.state.log_history[-1] and set(output.metrics) >= {"train_loss", "epoch"}
    assert subject.group_results == {}
    assert json.loads((tmp_path / "group_metrics.json").read_text())["evaluations"] == {}
    said = capsys.readouterr().out
    assert "The model of step 2 was not evaluated: eval_strategy='no'" in said and "Groups of the" not in said
    subject.create_model_card()
    card = (tmp_path / "README.md").read_text()
    assert "Nothing was evaluated, so there are no figures." in card and "It was not judged" in card


def test_the_reports_are_there_when_callbacks_hear_of_the_end(tmp_path):
    events = Events()
    subject = trainer(tmp_path, eval_dataset=table(HELD_OUT), callbacks=[events], eval_strategy="epoch")
    subject.train()
    assert events.heard[-1] == "end" and events.heard.count("evaluate") == 1
    assert "train_runtime" in subject.state.log_history[-1]
    assert events.reports["evaluations"]["eval"] == json.loads(json.dumps(subject.group_results["eval"]))
    assert events.reports["run"]["seconds"] > 0


class StopsAtFive(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop |= state.global_step == 5


def test_the_same_events_as_of_the_stock_trainer(tmp_path, capsys):
    """A run that is stopped between two evaluations ends with the figures of the step before, and it is said."""
    seen = []
    for cls in (GerneTrainer, Trainer):
        events, folder = Events(), tmp_path / cls.__name__
        settings = dict(plan="erm", max_steps=8, callbacks=[events, StopsAtFive()], **BY_STEP)
        subject = trainer(folder, cls=cls, eval_dataset=table(HELD_OUT), **settings)
        subject.train()
        seen.append((events.heard, set(subject.state.log_history[-1])))
    assert seen[0] == seen[1]
    subject = trainer(tmp_path / "said", eval_dataset=table(HELD_OUT), **{**settings, "callbacks": [StopsAtFive()]})
    subject.train()
    assert subject.group_results["eval"]["step"] == 4
    assert "The model of step 5 was not evaluated: eval_strategy='steps'" in capsys.readouterr().out
    subject.create_model_card()
    text = (tmp_path / "said" / "README.md").read_text()
    assert "by the weights of step 4, while those saved here are of step 5" in text


def best_of(folder, **settings):
    best = dict(metric_for_best_model="worst_group_accuracy", load_best_model_at_end=True, callbacks=[Replay()])
    return trainer(folder, mlp(1), eval_dataset=table(HELD_OUT, seed=5), **BY_STEP, **best, max_steps=6, **settings)


def test_figures_of_the_best_model_carry_its_step(tmp_path):
    """Of the last step, too, an evaluation was made; the model that is kept is another."""
    subject, test = best_of(tmp_path), table(HELD_OUT, seed=6)
    subject.train()
    best = subject.state.best_global_step
    assert best == 4 and subject.state.global_step == 6
    result = subject.group_results["eval"]
    assert result["step"] == best
    data = table(HELD_OUT, seed=5)
    assert result["worst_group_accuracy"] == pytest.approx(expected_for(mlp(2), data)["worst_group_accuracy"])
    assert [group["count"] for group in result["groups"]] == [9, 14, 11, 7]
    subject.evaluate(test, metric_key_prefix="test")
    subject.save_group_metrics()
    record = json.loads((tmp_path / "group_metrics.json").read_text())
    assert {name: found["step"] for name, found in record["evaluations"].items()} == {"eval": 4, "test": 4}
    assert record["selection"]["step"] == 4
    path = subject.save_worst_examples(test, "test")
    assert json.loads(open(path).read())["step"] == 4
    page = render(tmp_path)
    assert page.count("(step 4)") == 2 and "(step 6)" not in page
    with pytest.raises(ValueError, match="there is no evaluation 'eval'"):
        subject.save_worst_examples(data, "eval")  # rows that the model of step 6 was wrong about


def test_a_resumed_run_has_the_figures_of_a_best_model_from_before(tmp_path):
    best_of(tmp_path / "whole").train()
    expected = json.loads((tmp_path / "whole" / "group_metrics.json").read_text())["evaluations"]

    class Killed(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 5:
                raise KeyboardInterrupt

    first = best_of(tmp_path / "cut")
    first.add_callback(Killed())
    with pytest.raises(KeyboardInterrupt):
        first.train()
    second = best_of(tmp_path / "cut")
    second.train(resume_from_checkpoint=True)
    assert second.group_results["eval"]["step"] == 4
    assert json.loads((tmp_path / "cut" / "group_metrics.json").read_text())["evaluations"] == expected


def test_the_best_step_that_was_saved_counts_and_not_one_in_between(tmp_path):
    """With saves at every second evaluation the best step may have no checkpoint; another model is loaded then."""
    settings = {**BY_STEP, "eval_steps": 1}
    best = dict(metric_for_best_model="worst_group_accuracy", load_best_model_at_end=True, callbacks=[BestUnsaved()])
    subject = trainer(tmp_path, mlp(1), eval_dataset=table(HELD_OUT, seed=5), max_steps=4, **settings, **best)
    subject.train()
    assert subject.state.best_global_step == 3  # of which no checkpoint was made
    assert subject.state.best_model_checkpoint.endswith("checkpoint-2")
    values = expected_for(subject.model, table(HELD_OUT, seed=5))
    result = subject.group_results["eval"]
    assert result["step"] == subject.weights_step == 2 == subject.run_record().selection["step"]
    assert result["worst_group_accuracy"] == pytest.approx(values["worst_group_accuracy"])
    assert values["worst_group_accuracy"] < subject.state.best_metric


class BestUnsaved(Replay):
    seeds = {1: 0, 2: 8, 3: 2, 4: 0}


def test_a_training_that_ends_as_a_guess_says_so_everywhere(tmp_path, capsys, monkeypatch):
    told = []
    monkeypatch.setattr("gerne_hf.reports.plots.plot_training", lambda history, path, faults=(): told.extend(faults))
    still = dict(learning_rate=0.0, logging_steps=1, max_steps=4)
    subject = trainer(tmp_path, eval_dataset=table(HELD_OUT), eval_strategy="epoch", **still)
    torch.nn.init.zeros_(subject.model.second.weight)  # all classes are equally likely
    torch.nn.init.zeros_(subject.model.second.bias)
    subject.train()
    saved = json.loads((tmp_path / "group_metrics.json").read_text())["selection"]
    assert saved["guess"] == {"loss": pytest.approx(math.log(2), abs=1e-3), "classes": 2}
    said = "The training loss ends at 0.693, that of a guess among 2 classes"
    assert f"WARNING: {said}" in capsys.readouterr().out
    assert len(told) == 1 and told[0].startswith(said)
    subject.create_model_card()
    assert said in (tmp_path / "README.md").read_text()


def test_a_training_that_learns_is_no_guess(tmp_path):
    subject = trainer(tmp_path, eval_dataset=table(HELD_OUT), logging_steps=1, max_steps=30, learning_rate=0.5)
    subject.train()
    assert "guess" not in json.loads((tmp_path / "group_metrics.json").read_text())["selection"]
