"""`plan_loss`: the loss of a batch plan for any model and loss function, in a loop or a trainer of your own.

Imports torch, [`plans`](gerne_hf.method.plans) and [`losses`](gerne_hf.method.losses). Batches come from a
[`GroupBatchSampler`](gerne_hf.method.sampling.GroupBatchSampler) over the same plan.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers.utils import logging

from ..groups.batches import GROUP_KEY
from .losses import PlanLoss
from .plans import BatchPlan

logger = logging.get_logger(__name__)

REDUCTIONS = ("none", "mean")
"""What a loss function may return for its rows, in the words of torch: the loss of each, or their mean."""


def plan_loss(
    plan: BatchPlan,
    loss_fn: Callable[[Any], torch.Tensor],
    batch: Any,
    groups: torch.Tensor | np.ndarray | Sequence[int] | None = None,
    reduction: str | None = None,
) -> torch.Tensor:
    """Return the training loss of a batch: the sum over the plan's segments of coefficient times mean loss (Eq. 5).

    Nothing is kept between calls. Divide the loss by the number of batches where gradients are accumulated, as any
    other mean.

    Args:
        plan ([`BatchPlan`]): the plan that the batch was drawn by.
        loss_fn (`Callable`): called as `loss_fn(batch)`. It runs the model and returns the loss of each row, a tensor
            of shape `(rows,)`: it is called once. Or it returns the mean loss of the rows that it is given, a single
            number: it is called once a segment, with the segment's rows. The first is faster, and plans that weight
            rows by their group need it.
        batch: `plan.rows` rows in the order in which the sampler drew them: a tensor, or a mapping, tuple or list of
            tensors, arrays or lists with an entry for each row. All else in it is handed on as it is.
        groups (array of shape `(rows,)`, *optional*): the group id of each row, for plans that weight rows by their
            group. If not given, they are taken out of a batch that has the key "gerne_group_ids".
        reduction (`str`, *optional*): what `loss_fn` returns: "none" for the loss of each row, "mean" for the mean of
            its rows. If not given, it is seen from what the first call returns; of a mean over all segments no use can
            be made, so that with several segments a forward is lost, and a warning says so.

    Returns:
        `torch.Tensor` of shape `()`

    Raises:
        TypeError: if `loss_fn` returns anything but a tensor of floating-point numbers.
        ValueError: for a batch with another number of rows than the plan, losses of another shape than `(rows,)`, a
            mean where the plan weights rows by their group, group ids that are missing or that do not exist, and a
            batch that cannot be cut into segments.

    Example:

    ```python
    >>> alpha = np.array([[0.9, 0.1], [0.2, 0.8]])
    >>> plan = BatchPlan.build("independent", rows=4, alpha=alpha, c=0.5, beta=1.0)  # -1 x biased + 2 x less biased
    >>> batch = torch.tensor([1.0, 3.0, 4.0, 6.0])
    >>> plan_loss(plan, lambda rows: rows**2, batch)  # -1 x (1 + 9) / 2 + 2 x (16 + 36) / 2
    tensor(47.)
    >>> plan_loss(plan, lambda rows: (rows**2).mean(), batch, reduction="mean")
    tensor(47.)

    ```
    """
    if reduction not in (None, *REDUCTIONS):
        raise ValueError(f"reduction must be 'none' or 'mean', or be left out; found {reduction!r}")
    if isinstance(batch, Mapping) and GROUP_KEY in batch:
        groups = batch[GROUP_KEY] if groups is None else groups
        batch = {key: value for key, value in batch.items() if key != GROUP_KEY}
    weighted = any(segment.group_weights is not None for segment in plan.segments)
    groups = _group_ids(plan, groups) if weighted else None
    if reduction == "mean" and weighted:
        raise ValueError(_mean_refused(plan))
    if reduction == "mean":
        return _of_means(plan, loss_fn, batch)

    losses = _checked(loss_fn(batch))
    if losses.ndim == 1:
        return _of_rows(plan, losses, groups)
    if losses.ndim:
        raise ValueError(
            f"loss_fn returned losses of shape {tuple(losses.shape)}; the plan {plan.name!r} weights rows, so return "
            f"one loss a row, of shape ({plan.rows},): take the mean over the other dimensions of each row, or "
            "squeeze(-1)"
        )
    if weighted:
        raise ValueError(_mean_refused(plan))
    if reduction == "none":
        raise ValueError(
            f"loss_fn returned a single number, and reduction='none' promises one loss a row: shape ({plan.rows},). "
            "Give the loss of torch reduction='none', too; or pass reduction='mean' here if it returns the mean of "
            "its rows"
        )
    if len(plan.segments) == 1:
        _check_batch(plan, batch)
        return plan.segments[0].coefficient * losses
    logger.warning_once(
        "loss_fn returned one number for a batch of several segments, so its call was in vain: it is called again for "
        "each segment. Pass reduction='mean' to plan_loss to spare that forward; or, which is faster still, return "
        "the loss of each row"
    )
    return _of_means(plan, loss_fn, batch)


def _of_rows(plan: BatchPlan, losses: torch.Tensor, groups: torch.Tensor | None) -> torch.Tensor:
    """Return the training loss from the loss of each row."""
    _check_rows(plan, len(losses), "loss_fn returned the losses of")
    if groups is not None and len(groups) != len(losses):
        raise ValueError(
            f"there are {len(groups)} group ids for {len(losses)} rows; give one a row, in the order of the batch"
        )
    if losses.dtype in (torch.float16, torch.bfloat16):
        losses = losses.float()
    loss = PlanLoss(plan)
    return loss.total(loss.weighted(losses, None if groups is None else groups.to(losses.device)))


def _of_means(plan: BatchPlan, loss_fn: Callable[[Any], torch.Tensor], batch: Any) -> torch.Tensor:
    """Return the training loss from the mean loss of each segment, with a call for each."""
    _check_batch(plan, batch)
    parts = [batch] if len(plan.segments) == 1 else [_cut(batch, rows, plan.rows) for rows in plan.slices()]
    means = [_checked(loss_fn(part)) for part in parts]
    for mean, segment in zip(means, plan.segments, strict=True):
        if mean.ndim:
            raise ValueError(
                f"loss_fn returned losses of shape {tuple(mean.shape)} for the {segment.rows} rows of the segment "
                f"{segment.name!r}, and reduction='mean' promises a single number, their mean. Return that; or pass "
                "reduction='none' if it returns the loss of each row"
            )
    return torch.stack([mean * segment.coefficient for mean, segment in zip(means, plan.segments, strict=True)]).sum()


def _checked(losses: Any) -> torch.Tensor:
    """Return what a loss function returned, if it is a tensor of floating-point numbers."""
    if isinstance(losses, torch.Tensor) and losses.is_floating_point():
        return losses
    found = f"a tensor of {losses.dtype}" if isinstance(losses, torch.Tensor) else f"a {type(losses).__name__}"
    raise TypeError(
        f"loss_fn must return a tensor of floating-point numbers: the loss of each row, or the mean of all; found "
        f"{found}. Return the loss alone, without the model's outputs"
    )


def _mean_refused(plan: BatchPlan) -> str:
    """Return the sentence that refuses a mean over rows which the plan would weight."""
    return (
        f"the plan {plan.name!r} weights each row by its group, and a mean over rows cannot be taken apart. Let "
        f"loss_fn return the loss of each row, of shape ({plan.rows},), as the losses of torch do with "
        "reduction='none'; or choose a plan that weights no rows, such as 'independent'"
    )


def _group_ids(plan: BatchPlan, groups: Any) -> torch.Tensor:
    """Return the group ids of the rows, which a plan with group weights cannot do without, after checks."""
    if groups is None:
        raise ValueError(
            f"the plan {plan.name!r} weights rows by their group, and the group ids of the batch are missing. Pass "
            f"them as groups, or in the batch under the key {GROUP_KEY!r}: those of all rows are GroupIndex.codes, "
            "and GroupBatchSampler.group_ids has those of a batch"
        )
    ids, most = torch.as_tensor(groups), plan.segments[0].distribution.size
    if ids.ndim != 1 or ids.is_floating_point() or ids.is_complex() or ids.dtype is torch.bool:
        raise ValueError(
            f"group ids are whole numbers, one a row; found shape {tuple(ids.shape)} and type {ids.dtype}. The group "
            "of class y and attribute value a has the id y * A + a"
        )
    ids = ids.to(torch.int64)
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < most:
        raise ValueError(
            f"group ids of the plan {plan.name!r} are 0 to {most - 1}; found {int(ids.min())} to {int(ids.max())}. "
            "Take them from the GroupIndex that the plan was made from"
        )
    return ids


def _check_rows(plan: BatchPlan, rows: int, found: str) -> None:
    """Refuse another number of rows than the plan has; where an epoch is every row, the last batch may have fewer."""
    if rows == plan.rows or (plan.every_row and 0 < rows < plan.rows):
        return
    raise ValueError(
        f"{found} {rows} rows, and the plan {plan.name!r} lays out {plan.rows}, segment after segment. Draw the "
        "batches with GroupBatchSampler(groups, plan), passed to the loader as batch_sampler; and let no collator "
        "leave rows out, and no process get a part of a batch"
    )


def _check_batch(plan: BatchPlan, batch: Any) -> None:
    """Refuse a batch in which nothing has as many entries as the plan has rows, naming the numbers there are."""
    lengths = _lengths(batch)
    if not lengths:
        if len(plan.segments) == 1:
            return
        raise ValueError(
            f"a batch of type {type(batch).__name__} cannot be cut into the {len(plan.segments)} segments of the plan "
            f"{plan.name!r}: nothing in it has an entry for each row. Pass a tensor, or a dictionary, tuple or list "
            "of tensors, arrays or lists; or let loss_fn return the loss of each row"
        )
    if plan.rows not in lengths and not (plan.every_row and any(0 < rows < plan.rows for rows in lengths)):
        _check_rows(plan, max(lengths), "the batch has")


def _is_array(value: Any) -> bool:
    """Return whether a value is a tensor or an array."""
    return isinstance(value, (torch.Tensor, np.ndarray))


def _holds_columns(value: list | tuple) -> bool:
    """Return whether the parts of a list or tuple may be columns, which have an entry for each row.

    A list of dictionaries is one of rows, as loaders hand them to a collator; texts and numbers are entries.
    """
    kinds = (list, tuple, Mapping) if isinstance(value, tuple) else (list, tuple)
    return any(_is_array(part) or isinstance(part, kinds) for part in value)


def _lengths(value: Any) -> set[int]:
    """Return how many entries the tensors, arrays and lists in a batch have."""
    if _is_array(value):
        return {len(value)} if value.ndim else set()
    if isinstance(value, Mapping):
        return set().union(*map(_lengths, value.values()))
    if not isinstance(value, (list, tuple)):
        return set()
    return {len(value)}.union(*map(_lengths, value)) if _holds_columns(value) else {len(value)}


def _cut(value: Any, rows: slice, total: int) -> Any:
    """Return the part of a batch that belongs to some of its rows; what has no entry for each row stays as it is."""
    if _is_array(value):
        return value[rows] if value.ndim and len(value) == total else value
    if isinstance(value, Mapping):
        return {key: _cut(part, rows, total) for key, part in value.items()}
    if not isinstance(value, (list, tuple)):
        return value
    if not _holds_columns(value) or not any(total in _lengths(part) for part in value):
        return value[rows] if len(value) == total else value
    if len(value) == total:
        raise ValueError(
            f"{total} parts that have {total} entries each can be {total} rows or {total} columns, so the batch "
            "cannot be cut into segments. Pass it as a dictionary of tensors; or let loss_fn return the loss of each "
            "row"
        )
    parts = [_cut(part, rows, total) for part in value]
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
