"""Automatic feature reweighting, AFR (Qiu et al., ICML 2023): the last layer is fitted anew on what ERM is unsure of.

As in the authors' notebooks. Needs no attributes of training rows. Overrides the hooks `expected_groups` and
`make_plan`; [`reweight_last_layer`] is called after training.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers.utils import logging

from ..evaluation.metrics import group_metrics
from ..groups.index import GroupIndex
from ..groups.sources import rows_of
from ..method.plans import BatchPlan, Segment
from ..trainer import GerneTrainer
from .config import BaselineConfig
from .features import Layer, collect_features, last_layer, layer_of, put_in_place
from .parts import check_plain, in_two_parts, labels_of

logger = logging.get_logger(__name__)

LARGEST_GRADIENT = 1.0
"""Norm to which the gradient of a step is clipped."""


def afr_weights(logits: torch.Tensor, labels: torch.Tensor, gamma: float) -> torch.Tensor:
    """Return the weight of each row, in proportion to `exp(-gamma p) / n_y`, where ERM gives p to its true class y.

    Args:
        logits (`torch.Tensor` of shape `(n, K)`): what the ERM model says of held-out rows.
        labels (`torch.Tensor` of shape `(n,)`): their classes, of which class y has n_y rows.
        gamma (`float`): how much more rows count that the model gets wrong, not negative.

    Returns:
        `torch.Tensor` of shape `(n,)`: sums to one.

    Example:

    ```python
    >>> logits = torch.tensor([[9.0, -9.0], [9.0, -9.0], [9.0, -9.0]])
    >>> [round(weight, 2) for weight in afr_weights(logits, torch.tensor([0, 0, 1]), gamma=0.0).tolist()]
    [0.25, 0.25, 0.5]
    >>> [round(weight, 2) for weight in afr_weights(logits, torch.tensor([0, 0, 1]), gamma=2.0).tolist()]
    [0.06, 0.06, 0.88]

    ```
    """
    true = logits.softmax(-1).gather(1, labels.unsqueeze(1)).squeeze(1)
    weights = torch.exp(-gamma * true) / torch.bincount(labels)[labels]
    return weights / weights.sum()


def fit_reweighted(
    features: np.ndarray,
    labels: np.ndarray,
    layer: Layer,
    judge: Any,
    *,
    gamma: float,
    penalty: float,
    learning_rate: float,
    steps: int,
) -> tuple[Layer, int]:
    """Fit a layer by gradient descent on `sum_i mu_i L_i + penalty * ||layer - ERM's layer||^2` over all rows.

    Args:
        features (`np.ndarray` of shape `(n, D)`): inputs of the layer, of held-out rows.
        labels (int array of shape `(n,)`): their classes.
        layer (`Layer`): the layer of ERM, from which the descent starts and the weights mu are.
        judge (`Callable`, *optional*): given a layer, how good it is on validation; the first best step is kept. None
            keeps the last one.
        gamma, penalty, learning_rate (`float`), steps (`int`): the settings of AFR.

    Returns:
        `tuple[Layer, int]`: the layer, and the step that it is of, from 1.
    """
    inputs, classes = torch.from_numpy(np.asarray(features)).double(), torch.from_numpy(np.asarray(labels))
    first = [torch.from_numpy(np.asarray(part)).double() for part in layer]
    weights = afr_weights(F.linear(inputs, *first), classes, gamma)
    parts = [part.clone().requires_grad_() for part in first]
    optimizer = torch.optim.SGD(parts, lr=learning_rate)
    kept, best, at = layer, -np.inf, steps
    with torch.enable_grad():
        for step in range(1, steps + 1):
            losses = F.cross_entropy(F.linear(inputs, *parts), classes, reduction="none")
            distance = sum((part - start).pow(2).sum() for part, start in zip(parts, first, strict=True))
            optimizer.zero_grad()
            (weights @ losses + penalty * distance).backward()
            torch.nn.utils.clip_grad_norm_(parts, LARGEST_GRADIENT)
            optimizer.step()
            found = (parts[0].detach().numpy().copy(), parts[1].detach().numpy().copy())
            score = step if judge is None else judge(found)
            if score > best:
                kept, best, at = found, score, step
    return kept, at


class AFRTrainer(GerneTrainer):
    """Train plain ERM on a part of the training rows; [`reweight_last_layer`] fits the last layer on the others.

    Args:
        args ([`BaselineConfig`]): settings; `afr_held_out` is the share of the training rows that is held out, at
            random by the seed. `plan` must be "erm".
        kwargs: the other arguments of [`GerneTrainer`].

    Raises:
        ValueError: for another plan, for `pseudo_attributes=True`, for a stream as training set, and where a class
            would have no rows in one of the parts.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        check_plain(self, "AFR")
        last_layer(self, "AFR")

    def setting(self, name: str) -> Any:
        """Return one of AFR's settings, its default where the config has none.

        Args:
            name (`str`): the field of [`BaselineConfig`].
        """
        return getattr(self.args, name, getattr(BaselineConfig, name))

    def run_identity(self) -> dict[str, Any]:
        """Return what this run depends on: what [`GerneTrainer`] says, and the share that is held out."""
        return {**super().run_identity(), "method_settings": {"afr_held_out": self.setting("afr_held_out")}}

    def expected_groups(self, reference: GroupIndex) -> GroupIndex:
        """Return the rows by class and by whether they are held out.

        Args:
            reference ([`GroupIndex`]): the training rows by class, or by class and attribute.
        """
        order = np.random.default_rng(self.args.seed).permutation(len(reference))
        held_out = np.zeros(len(reference), dtype=bool)
        held_out[order[int((1 - self.setting("afr_held_out")) * len(reference)) :]] = True
        parts = in_two_parts(reference, held_out, ("trained on", "held out"))
        lacking = np.flatnonzero((parts.counts.sum(axis=1) > 0) & (parts.counts == 0).any(axis=1))
        if len(lacking):
            raise ValueError(
                f"the class {reference.label_names[lacking[0]]!r} has {parts.counts[lacking[0]].sum()} rows, which "
                "leave none to train on or none to hold out. Choose another afr_held_out or seed, or give more rows"
            )
        return parts

    def make_plan(self) -> BatchPlan:
        """Return a plan whose epoch has every row once that is not held out."""
        trained = self.known_groups.counts * [1, 0]
        segment = Segment("trained on", self._train_batch_size, trained / trained.sum(), 1.0)
        repeats = np.broadcast_to([1, 0], trained.shape)
        return BatchPlan("afr", (segment,), every_row=True, repeats=repeats)


def reweight_last_layer(trainer: GerneTrainer) -> int:
    """Fit the last layer of a trained [`AFRTrainer`] on its held-out rows, those that ERM is unsure of counting most.

    The step that is kept has the best worst-group accuracy on the evaluation set, or worst-class accuracy where that
    has no attributes; without an evaluation set it is the last one.

    Args:
        trainer ([`AFRTrainer`]): the trainer, whose model is changed in place.

    Returns:
        `int`: the step that was kept.

    Raises:
        TypeError: for another trainer, which held no rows out.
    """
    if not isinstance(trainer, AFRTrainer):
        raise TypeError(f"AFR needs rows that its AFRTrainer has held out; found a {type(trainer).__name__}")
    layer, groups = last_layer(trainer, "AFR"), trainer.known_groups
    rows = np.flatnonzero(groups.codes % 2 == 1)
    features = collect_features(trainer, rows_of(trainer.train_dataset, rows))
    fitted, step = fit_reweighted(
        features,
        labels_of(groups)[rows],
        layer_of(layer),
        _judge(trainer),
        gamma=trainer.setting("afr_gamma"),
        penalty=trainer.setting("afr_penalty"),
        learning_rate=trainer.setting("afr_learning_rate"),
        steps=trainer.setting("afr_steps"),
    )
    put_in_place(layer, fitted)
    logger.info(f"AFR fitted the last layer on {len(rows):,} rows that were held out, {step} steps")
    return step


def _judge(trainer: GerneTrainer) -> Any:
    """Return what says how good a layer is on the evaluation set (the first of several); None without one."""
    data = trainer.eval_dataset
    if isinstance(data, dict):
        data = next(iter(data.values()), None)
    if data is None:
        return None
    features = collect_features(trainer, data).astype(np.float64)
    groups = trainer.groups_of(data)
    assert groups is not None  # as it can be evaluated
    labels, attributes = labels_of(groups), groups.codes % groups.num_attributes

    def worst(layer: Layer) -> float:
        """Return the accuracy of the worst group, or class."""
        return group_metrics((features @ layer[0].T + layer[1]).argmax(1), labels, attributes)["worst_group_accuracy"]

    return worst
