"""SELF (LaBonte et al., NeurIPS 2023): the last layer goes on training on the rows where dropout changes most.

"Towards Last-layer Retraining for Group Robustness with Fewer Annotations": rows on which the model and a regularized
one disagree are said to be rich in minorities. This is the paper's variant with dropout, not the one with an
early-stopped model; it needs the classes of a part of the validation rows, and no attributes.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers.utils import logging

from ..trainer import GerneTrainer
from .config import BaselineConfig
from .features import Layer, collect_features, held_out_rows, last_layer, layer_of, put_in_place
from .parts import labels_of

logger = logging.get_logger(__name__)

HELD_OUT = 0.5
"""Share of the validation rows that the layer may be trained on, as in the original."""

MOMENTUM, WEIGHT_DECAY, BATCH = 0.9, 1e-4, 32
"""The original's settings of the training of the last layer."""


def disagreement(regularized: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Return how much two models disagree on each row, `sum_k p_k log(p_k / q_k)`: p is of the regularized model.

    Args:
        regularized (`torch.Tensor` of shape `(n, K)`): logits of the model with dropout.
        logits (`torch.Tensor` of shape `(n, K)`): logits of the model without.

    Returns:
        `torch.Tensor` of shape `(n,)`: not negative, 0 where both say the same.

    Example:

    ```python
    >>> found = disagreement(torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 2.0]]))
    >>> [round(value, 3) for value in found.tolist()]
    [0.0, 1.523]

    ```
    """
    p, q = regularized.log_softmax(-1), logits.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


def fit_where_they_disagree(
    features: np.ndarray,
    labels: np.ndarray,
    layer: Layer,
    *,
    rows: int,
    dropout: float,
    learning_rate: float,
    steps: int,
    seed: int,
) -> tuple[Layer, np.ndarray]:
    """Train a layer further, on class-balanced batches of the rows where dropout changes most.

    Args:
        features (`np.ndarray` of shape `(n, D)`): inputs of the layer, of held-out rows.
        labels (int array of shape `(n,)`): their classes.
        layer (`Layer`): the layer of ERM, from which the training starts.
        rows (`int`): number of rows of largest disagreement to train on; all if there are fewer.
        dropout (`float`): probability with which an input of the layer is dropped.
        learning_rate (`float`), steps (`int`): of the training, by SGD with momentum.
        seed (`int`): seed of dropout and batches.

    Returns:
        `tuple[Layer, np.ndarray]`: the layer, and the numbers of the rows it was trained on.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs, classes = torch.from_numpy(np.asarray(features)).double(), torch.from_numpy(np.asarray(labels))
    parts = [torch.from_numpy(np.asarray(part)).double().clone().requires_grad_() for part in layer]
    with torch.no_grad():
        stays = torch.rand(inputs.shape, generator=generator, dtype=inputs.dtype) >= dropout
        dropped = F.linear(inputs * stays / (1 - dropout), *parts)
        found = disagreement(dropped, F.linear(inputs, *parts))
    chosen = torch.topk(found, min(rows, len(found))).indices
    inputs, classes = inputs[chosen], classes[chosen]
    weights = 1.0 / torch.bincount(classes)[classes].double()  # classes alike
    optimizer = torch.optim.SGD(parts, lr=learning_rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    with torch.enable_grad():
        for _ in range(steps):
            batch = torch.multinomial(weights, min(BATCH, len(chosen)), replacement=True, generator=generator)
            optimizer.zero_grad()
            F.cross_entropy(F.linear(inputs[batch], *parts), classes[batch]).backward()
            optimizer.step()
    weight, bias = (part.detach().numpy() for part in parts)
    return (weight, bias), chosen.numpy()


def train_where_dropout_disagrees(trainer: GerneTrainer, dataset: Any = None, seed: int | None = None) -> np.ndarray:
    """Train the last layer of a trained model further, on held-out rows where dropout changes its scores most.

    Half of the rows are for this, at random by the seed; of the other half nothing is read but the features.

    Args:
        trainer ([`GerneTrainer`]): a trainer that has trained its model, in the paper by ERM with or without balanced
            classes. The layer of its model is changed in place.
        dataset (*optional*): held-out rows, whose attributes are not used; the trainer's evaluation set if not given.
        seed (`int`, *optional*): seed for halves, dropout and batches; that of the trainer's config if not given.

    Returns:
        `np.ndarray`, int: numbers of the held-out rows that the layer was trained on.

    Raises:
        ValueError: without held-out rows, or for a last layer that is not linear or has no bias.
    """
    dataset = held_out_rows(trainer, dataset, "SELF")
    layer = last_layer(trainer, "SELF")
    groups = trainer.groups_of(dataset)
    assert groups is not None  # as it can be evaluated
    seed = trainer.args.seed if seed is None else seed
    half = np.random.default_rng(seed).permutation(len(groups))[: int(HELD_OUT * len(groups))]

    def setting(name: str) -> Any:
        return getattr(trainer.args, name, getattr(BaselineConfig, name))

    fitted, chosen = fit_where_they_disagree(
        collect_features(trainer, dataset)[half],
        labels_of(groups)[half],
        layer_of(layer),
        rows=setting("self_rows"),
        dropout=setting("self_dropout"),
        learning_rate=setting("self_learning_rate"),
        steps=setting("self_steps"),
        seed=seed,
    )
    put_in_place(layer, fitted)
    logger.info(f"SELF trained the last layer on {len(chosen):,} of {len(groups):,} held-out rows")
    return half[chosen]
