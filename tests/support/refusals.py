"""A trainer that must be refused before its first training step, and the control that trains."""

import traceback

import pytest
from helpers import trainer

from gerne_hf import GerneTrainer


class Watched(GerneTrainer):
    """Counts its training steps."""

    steps = 0

    def training_step(self, *args, **kwargs):
        Watched.steps += 1
        return super().training_step(*args, **kwargs)


def refused(error, *parts, **settings):
    """Building and training a trainer raises `error`, with all `parts` in the message and no training step."""
    Watched.steps = 0
    with pytest.raises(error) as caught:
        trainer(cls=Watched, **settings).train()
    assert Watched.steps == 0
    for part in parts:
        assert part in str(caught.value), str(caught.value)
    # Data loader workers end now; left to the garbage collector they would hold up a later test for 10 s.
    traceback.clear_frames(caught.tb)


def accepted(**settings):
    """The same path without the bad input does train, so that a refusal is due to the bad input alone."""
    Watched.steps = 0
    trainer(cls=Watched, **settings).train()
    assert Watched.steps == 2
