"""A tiny run that writes checkpoints, and the same run once more, to resume from them."""

import torch
from helpers import mlp, trainer

SETTINGS = dict(max_steps=6, save_strategy="steps", save_steps=2, optim="adamw_torch", learning_rate=0.01)


def again(folder, **settings):
    """The same run in a new process, as it were: another model, another random state."""
    torch.manual_seed(77)
    return trainer(folder, mlp(seed=9, dropout=0.3), **{**SETTINGS, **settings})
