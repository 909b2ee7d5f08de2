"""What a model returns: its logits, the loss that it computes itself, and the part of both for some rows.

Imports torch, and nothing of this package. The loss of a plan is computed from the logits in
[`losses`](gerne_hf.method.losses).
"""

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F


def split_loss(outputs: Any, model: str) -> tuple[torch.Tensor, Any]:
    """Return the loss that a model computed itself, and the outputs in which [`logits_of`] finds the logits.

    Args:
        outputs: what the model returned for a batch with labels: a mapping with `loss` and `logits`, or a tuple that
            starts with the two.
        model (`str`): name of the model, for the message.

    Returns:
        `tuple[torch.Tensor, Any]`: the loss, of shape `()`, and the outputs; of a tuple, all but the loss.

    Raises:
        ValueError: if there is no loss, or one that is not a single number, the mean over the batch.

    Example:

    ```python
    >>> loss, rest = split_loss((torch.tensor(0.5), torch.zeros(2, 3)), "MyModel")
    >>> loss.item(), logits_of(rest).shape
    (0.5, torch.Size([2, 3]))

    ```
    """
    own: Any
    rest: Any
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


def without_loss(outputs: Any) -> Any:
    """Return outputs in which [`logits_of`] finds the logits, whether the model computed a loss or not.

    Args:
        outputs: a mapping, the logits themselves, or a tuple that starts with the loss and the logits or with the
            logits alone. A loss has one number for the batch, or for each device, where logits have two dimensions.

    Returns:
        The outputs; of a tuple, all but the loss; of a mapping with nothing beside a loss but one entry, which is not
        named `logits`, that entry.

    Example:

    ```python
    >>> logits = torch.zeros(2, 3)
    >>> of_users = (torch.tensor(0.5), logits), (logits,), logits, {"outputs": {"logits": logits}}
    >>> {logits_of(without_loss(outputs)).shape for outputs in of_users}
    {torch.Size([2, 3])}

    ```
    """
    if isinstance(outputs, dict):
        others = [value for name, value in outputs.items() if name != "loss"]
        return outputs if len(others) != 1 or "logits" in outputs else without_loss(others[0])
    if isinstance(outputs, torch.Tensor) or len(outputs) < 2:
        return outputs
    first = outputs[0]
    return outputs[1:] if isinstance(first, torch.Tensor) and first.ndim < 2 else outputs


def check_own_loss(own: torch.Tensor, outputs: Any, labels: torch.Tensor, mixed_precision: bool, model: str) -> bool:
    """Refuse a model whose own loss is not the mean cross-entropy of its logits.

    A plan weights the rows of a batch, so it computes the cross-entropy of each row anew from the logits; a model with
    another loss of its own would be trained on something else than it was made for.

    Args:
        own (`torch.Tensor` of shape `()`): the loss that the model returned for this batch.
        outputs: what [`split_loss`] returned beside the loss.
        labels (`torch.Tensor` of shape `(B,)`): class ids.
        mixed_precision (`bool`): whether the forward ran in reduced precision, which the tolerance allows for.
        model (`str`): name of the model, for the message.

    Returns:
        `bool`: whether the batch could tell. It cannot if all rows have about the same loss, as those of a fresh head
        do, because every weighting of the rows gives about the same mean then.

    Raises:
        ValueError: if the two losses differ by more than rounding.
    """
    logits = logits_of(outputs).detach().double()
    if not own.isfinite():
        return False  # training has diverged or overflowed, which the Trainer reports; the loss itself may be right
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
    """Return the logits in the outputs of a model.

    Args:
        outputs: the logits themselves, a mapping with `logits`, or a tuple that starts with them (one without a loss,
            as [`split_loss`] returns it).

    Returns:
        `torch.Tensor` of shape `(B, K)`: class scores.

    Raises:
        ValueError: for a mapping without logits, and for logits of another shape.
    """
    if isinstance(outputs, torch.Tensor):
        return _of_classes(outputs)
    if not isinstance(outputs, dict):
        return _of_classes(outputs[0])
    if "logits" not in outputs:
        raise ValueError(
            f"the model returned no 'logits', only {', '.join(map(str, outputs))}. The loss of the plan and the group "
            "metrics are computed from them: let it return the class scores under that name"
        )
    return _of_classes(outputs["logits"])


def _of_classes(logits: torch.Tensor) -> torch.Tensor:
    """Return logits that choose one of K classes for each row, and refuse others."""
    if logits.ndim == 2 and logits.shape[1] > 1:
        return logits
    raise ValueError(
        f"the model returned logits of shape {tuple(logits.shape)}, and a score of each class is needed: (B, K) for B "
        "rows and K classes, K >= 2. Load it with num_labels of 2 or more, or let it return a score for both classes "
        "(for one score z of class 1: torch.stack([torch.zeros_like(z), z], dim=-1))"
    )


def chosen_classes(logits: torch.Tensor) -> torch.Tensor:
    """Return the class of the largest score of each row, -1 where there is none because a score is NaN.

    Args:
        logits (`torch.Tensor` of shape `(B, K)`): class scores.

    Returns:
        `torch.Tensor` of shape `(B,)`, int64

    Example:

    ```python
    >>> chosen_classes(torch.tensor([[0.1, 0.9], [float("nan"), 0.5]]))
    tensor([ 1, -1])

    ```
    """
    return logits.argmax(dim=-1).masked_fill(logits.isnan().any(dim=-1), -1)  # argmax takes NaN for the largest


def slice_rows(outputs: Any, rows: slice | torch.Tensor, total: int) -> Any:
    """Return the part of a model's outputs that belongs to some rows of the batch.

    Args:
        outputs: a tensor, or a mapping, tuple or list of such, nested at will. Tensors whose first dimension is the
            batch are cut, and so are lists of one text for each row; everything else stays as it is.
        rows (`slice` or `torch.Tensor` of row numbers): the rows to keep.
        total (`int`): rows of the batch.

    Returns:
        The same types as `outputs`.

    Example:

    ```python
    >>> slice_rows({"logits": torch.arange(4.0), "names": ["a", "b", "c", "d"], "beams": 3}, slice(1, 3), 4)
    {'logits': tensor([1., 2.]), 'names': ['b', 'c'], 'beams': 3}

    ```
    """
    if isinstance(outputs, torch.Tensor):
        return outputs[rows] if outputs.ndim and len(outputs) == total else outputs
    if isinstance(outputs, dict):
        sliced = copy.copy(outputs)  # the class may have required fields, so no new object is made of it
        for key, value in outputs.items():
            sliced[key] = slice_rows(value, rows, total)
        return sliced
    if isinstance(outputs, list) and len(outputs) == total and all(isinstance(value, str) for value in outputs):
        return outputs[rows] if isinstance(rows, slice) else [outputs[row] for row in rows.tolist()]
    if isinstance(outputs, (tuple, list)):
        parts = [slice_rows(value, rows, total) for value in outputs]
        return type(outputs)(*parts) if hasattr(outputs, "_fields") else type(outputs)(parts)
    return outputs
