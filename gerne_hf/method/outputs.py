"""What a model returns: logits, its own loss, and parts of both."""

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F


def split_loss(outputs: Any, model: str) -> tuple[torch.Tensor, Any]:
    """A model's own loss, and the outputs in which [`logits_of`] finds the logits.

    Raises:
        ValueError: if there is none, or one that is no mean over the batch; `model` is the name in the message.
    """
    if isinstance(outputs, dict):
        own, rest = outputs.get("loss"), outputs
    elif isinstance(outputs, torch.Tensor):
        own, rest = None, outputs
    else:
        own, rest = outputs[0] if len(outputs) > 1 else None, outputs[1:]
    if isinstance(own, torch.Tensor) and not own.ndim:
        return own, rest
    found = f"one of shape {tuple(own.shape)}" if isinstance(own, torch.Tensor) else "none"
    keys = f"; its outputs are {', '.join(map(str, outputs))}" if isinstance(outputs, dict) else ""
    raise ValueError(
        f"{model} returned no loss for a batch with labels, a single number, the batch's mean, by the name 'loss' or "
        f"first in a tuple; found {found}{keys}. Let the model return one, or pass compute_loss_func"
    )


def check_own_loss(own: torch.Tensor, outputs: Any, labels: torch.Tensor, mixed_precision: bool, model: str) -> bool:
    """Make sure that a model's own loss is the mean cross-entropy of its logits, which a plan weights row by row.

    Args:
        own (`torch.Tensor` of shape `()`): the loss that the model returned for this batch.
        outputs: what [`split_loss`] returned with it.
        labels (`torch.Tensor` of shape `(B,)`): class ids.
        mixed_precision (`bool`): whether the forward ran in reduced precision.
        model (`str`): the model's name, for the message.

    Returns:
        `bool`: whether the batch could tell: while a fresh head gives all rows about the same loss, so does any
        weighting of them.

    Raises:
        ValueError: if the two differ by more than rounding.
    """
    logits = logits_of(outputs).detach().double()
    if not own.isfinite():
        return False  # a diverged or overflowing forward is for the Trainer to report, not a loss of another kind
    rows = F.cross_entropy(logits, labels, reduction="none")
    expected, spread = torch.stack([rows.mean(), rows.max() - rows.min()]).tolist()
    tolerance = 0.05 if mixed_precision else {torch.float64: 1e-6, torch.float32: 3e-5}.get(own.dtype, 0.05)
    if not math.isclose(own.item(), expected, rel_tol=tolerance, abs_tol=tolerance):
        raise ValueError(
            f"{model} computes a loss of its own ({own.item():.6g}) that is not the mean cross-entropy of its logits "
            f"({expected:.6g}), so its rows cannot be weighted. Pass that loss as compute_loss_func, or set "
            "forward_mode='separate'"
        )
    return spread > 10 * tolerance * max(1.0, expected)


def logits_of(outputs: Any) -> torch.Tensor:
    """The logits in a model's outputs, a tuple being without its loss; a `ValueError` if there are none."""
    if isinstance(outputs, torch.Tensor):
        return outputs
    if not isinstance(outputs, dict):
        return outputs[0]
    if "logits" not in outputs:
        raise ValueError(
            f"the model returned no 'logits', only {', '.join(map(str, outputs))}. The loss of the plan and the group "
            "metrics are computed from them: let it return the class scores under that name"
        )
    return outputs["logits"]


def slice_rows(outputs: Any, rows: slice | torch.Tensor, total: int) -> Any:
    """The given rows of every tensor in `outputs` whose first dimension is the batch, and of lists of texts."""
    if isinstance(outputs, torch.Tensor):
        return outputs[rows] if outputs.ndim and len(outputs) == total else outputs
    if isinstance(outputs, dict):
        sliced = copy.copy(outputs)  # classes of outputs may demand fields that were not given
        for key, value in outputs.items():
            sliced[key] = slice_rows(value, rows, total)
        return sliced
    if isinstance(outputs, list) and len(outputs) == total and all(isinstance(value, str) for value in outputs):
        return outputs[rows] if isinstance(rows, slice) else [outputs[row] for row in rows.tolist()]
    if isinstance(outputs, (tuple, list)):
        parts = [slice_rows(value, rows, total) for value in outputs]
        return type(outputs)(*parts) if hasattr(outputs, "_fields") else type(outputs)(parts)
    return outputs
