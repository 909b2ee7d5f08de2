"""The gradient that a step should have for its beta, worked out by `autograd.grad` alone."""

import numpy as np
import torch
import torch.nn.functional as F
from helpers import (
    SKEWED,
    weights,
)
from transformers import TrainerCallback

from gerne_hf.groups.batches import GROUP_KEY
from gerne_hf.method.distributions import less_biased_distribution

LINEAR = dict(beta_schedule="linear", beta_ramp=0.5, beta=0.9)
ALPHA = np.array(SKEWED) / np.sum(SKEWED, axis=1, keepdims=True)


class Steps(TrainerCallback):
    """Keeps the weights before each step."""

    def __init__(self):
        self.before = []

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        self.before.append(weights(model))


def segment_gradients(model, batch, rows):
    """Gradients of the segments' mean cross-entropy, by `autograd.grad` and nothing else."""
    parameters = dict(model.named_parameters())
    found = []
    for part in rows:
        inputs = {key: value[part] for key, value in batch.items() if key not in ("labels", GROUP_KEY)}
        loss = F.cross_entropy(model(**inputs).logits, batch["labels"][part])
        found.append(dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True)))
    return found


def combined(parts, coefficients):
    return {name: sum(c * part[name] for c, part in zip(coefficients, parts, strict=True)) for name in parts[0]}


def coefficients_at(plan, beta):
    """Of the segments, worked out here: Eq. 5, and its form for shared rows."""
    if plan == "independent":
        return [-beta, 1 + beta]
    mass = np.minimum(ALPHA, less_biased_distribution(ALPHA, 0.5)).sum() / 2
    return [mass, -beta * (1 - mass), (1 + beta) * (1 - mass)]


def linear(step, steps):
    """beta of `LINEAR` at a step."""
    return -1 + (0.9 + 1) * min(step / steps / 0.5, 1)
