"""What methods that fit the last layer anew share: the layer's inputs for every row, and putting a new layer in place.

Imports `groups/`, `models/` and `trainer.py`. Works on any [`GerneTrainer`], through its public methods. Next:
[`dfr`](gerne_hf.baselines.dfr).
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from ..groups.sets import GroupSets
from ..groups.sources import column_names
from ..models.heads import classification_head
from ..trainer import GerneTrainer

Layer = tuple[np.ndarray, np.ndarray]
"""Weight, of shape `(K, D)`, and bias, of shape `(K,)`, of a linear layer."""


def collect_features(trainer: GerneTrainer, dataset: Any) -> np.ndarray:
    """Collect the inputs of the model's last layer for each row, over all processes.

    The rows go through `trainer.predict`, with the inputs of the layer in place of the class scores.

    Args:
        trainer ([`GerneTrainer`]): a trainer that has trained its model.
        dataset: the rows, with labels; the attribute columns may be missing.

    Returns:
        `np.ndarray` of shape `(N, D)`, float32: D features for each of the N rows, in the order of the data set.

    Raises:
        ValueError: with `prediction_loss_only`, and for a last layer whose input is not one vector for each row.
    """
    if trainer.args.prediction_loss_only:
        raise ValueError("prediction_loss_only=True leaves no outputs to collect; its features need it to be False")
    layer = classification_head(trainer.accelerator.unwrap_model(trainer.model))
    seen: list[torch.Tensor] = []
    handle = layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().float()))
    preprocess, metrics = trainer.preprocess_logits_for_metrics, trainer.compute_metrics
    trainer.preprocess_logits_for_metrics, trainer.compute_metrics = lambda *_: seen.pop(), None
    try:
        with _attributes_may_lack(trainer, dataset):
            predicted: Any = trainer.predict(dataset, metric_key_prefix="features").predictions
    finally:
        handle.remove()
        trainer.preprocess_logits_for_metrics, trainer.compute_metrics = preprocess, metrics
        trainer.group_results.pop("features", None)
    features: np.ndarray = np.concatenate(predicted) if isinstance(predicted, list) else predicted
    if features.ndim != 2:
        raise ValueError(f"the last layer sees inputs of shape {features.shape}; one vector a row is needed")
    return features


@contextlib.contextmanager
def _attributes_may_lack(trainer: GerneTrainer, dataset: Any) -> Iterator[None]:
    """Let rows without attribute columns be read meanwhile, by class alone, as only their features are wanted."""
    args, sets = trainer.args, trainer.sets
    needed = args.overlapping_columns or args.attribute_columns
    if not set(needed) <= set(column_names(dataset)):
        trainer.sets = GroupSets(args.label_column, (), (), True)
    try:
        yield
    finally:
        trainer.sets = sets


def last_layer(trainer: GerneTrainer, method: str) -> nn.Linear:
    """Return the last layer of the trainer's model.

    Args:
        trainer ([`GerneTrainer`]): a trainer.
        method (`str`): the method that fits the layer, for the message.

    Raises:
        ValueError: for a model whose last layer is not linear or has no bias.
    """
    layer = classification_head(trainer.accelerator.unwrap_model(trainer.model))
    if layer.bias is None:
        raise ValueError(f"the model's last layer has no bias, which {method} fits. Take a head with a bias")
    return layer


def layer_of(layer: nn.Linear) -> Layer:
    """Return weight and bias of a layer as arrays, float64, which the layer does not share.

    Args:
        layer (`nn.Linear`): a layer with a bias.
    """
    weight, bias = (value.detach().cpu().double().numpy().copy() for value in (layer.weight, layer.bias))
    return weight, bias


def put_in_place(layer: nn.Linear, fitted: Layer) -> None:
    """Write weight and bias into a layer.

    Args:
        layer (`nn.Linear`): the layer.
        fitted (`Layer`): its new weight and bias.
    """
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(fitted[0]))
        layer.bias.copy_(torch.as_tensor(fitted[1]))


def held_out_rows(trainer: GerneTrainer, dataset: Any, method: str) -> Any:
    """Return the held-out rows of a method: those given, or the trainer's evaluation set.

    Args:
        trainer ([`GerneTrainer`]): a trainer.
        dataset: the rows, or None.
        method (`str`): the method, for the message.

    Raises:
        ValueError: where there are no such rows, or several sets of them.
    """
    dataset = trainer.eval_dataset if dataset is None else dataset
    if dataset is None or isinstance(dataset, dict):
        raise ValueError(f"{method} needs one held-out data set with attributes; pass dataset=")
    return dataset
