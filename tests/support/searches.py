"""Searches over tiny models, and what is left of them to look at."""

import json

from helpers import mlp, table, trainer
from transformers import TrainerCallback

from gerne_hf import GerneTrainer

CLS = GerneTrainer


def searching(folder, train=None, **settings):
    """A trainer for a search: a fresh MLP for each trial, another table to compare them on, 4 steps a trial."""
    defaults = dict(cls=CLS, model_init=lambda: mlp(), eval_dataset=table(seed=5), max_steps=4, logging_steps=100)
    return trainer(folder, train=train, **{**defaults, **settings})


def the_search(folder):
    return json.loads((folder / "search" / "search.json").read_text())


class Evaluations(TrainerCallback):
    """What each trial's evaluations gave, by the order in which the trials began."""

    def __init__(self, key="eval_worst_group_accuracy"):
        self.key, self.trials = key, []

    def on_train_begin(self, args, state, control, **kwargs):
        self.trials.append([])

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        if args.eval_strategy != "no":
            self.trials[-1].append(metrics[self.key])
