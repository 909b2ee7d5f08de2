"""Fits of the biased model f~, watched, and the scores of a model by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import MLP, config, mlp, table, weights
from transformers import TrainerCallback

from gerne_hf import PseudoAttributes

HELD_OUT = [[9, 30], [4, 3]]
UNKNOWN = dict(pseudo_attributes=True, attribute_column=None, threshold=0.2)
EPOCHS = dict(max_steps=-1, num_train_epochs=3, learning_rate=1.0)  # of 11 steps; f~ takes a tenth of the rate


class Spy(TrainerCallback):
    """Keeps what a run was made of; stops it at a step, as Ctrl-C would."""

    def __init__(self, stop_at=None):
        self.stop_at, self.steps, self.evaluations = stop_at, 0, []

    def on_train_begin(self, args, state, control, optimizer=None, **kwargs):
        self.args, self.optimizer = args, optimizer

    def on_step_end(self, args, state, control, **kwargs):
        self.steps += 1
        if state.global_step == self.stop_at:
            raise KeyboardInterrupt

    def on_evaluate(self, args, state, control, metrics=None, model=None, **kwargs):
        self.evaluations.append((metrics, weights(model)))

    @property
    def rate(self):
        (rate,) = {group["lr"] for group in self.optimizer.param_groups}
        return rate

    @property
    def decay(self):
        return max(group["weight_decay"] for group in self.optimizer.param_groups)


def fit(folder, model=None, data=None, **settings):
    """`PseudoAttributes.fit`; its own arguments are taken out of the settings."""
    names = (
        "eval_dataset",
        "model_init",
        "callbacks",
        "optimizer_cls_and_kwargs",
        "data_collator",
        "compute_loss_func",
    )
    arguments = {name: settings.pop(name) for name in names if name in settings}
    model = mlp(dropout=0.3) if model is None and "model_init" not in arguments else model
    data = table() if data is None else data
    return PseudoAttributes.fit(args=config(folder, **settings), train_dataset=data, model=model, **arguments)


def no_forward(monkeypatch):
    """From here on a forward pass fails the test."""
    monkeypatch.setattr(MLP, "forward", lambda *args, **kwargs: pytest.fail("a forward pass"))


def saved_model(pseudo, cls=MLP):
    return cls.from_pretrained(Path(pseudo.directory) / "model").eval()


def by_hand(model, key, values, labels):
    """Softmax probability of the true class, row by row, and the predicted classes."""
    with torch.no_grad():
        logits = torch.cat([model(**{key: torch.as_tensor(value)[None]}).logits for value in values])
    chances = np.exp(logits.double().numpy())
    return (chances / chances.sum(1, keepdims=True))[np.arange(len(labels)), labels], chances.argmax(1)
