"""What a terminal shows when a training has ended: the step of the weights, and a table of groups for each evaluation.

Pure functions of figures; imports the tables of this room. [`GerneTrainer`](gerne_hf.trainer.GerneTrainer) prints it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .scores_table import format_score_table
from .tables import format_group_table, format_recovery


def end_of_training(
    results: dict[str, dict[str, Any]],
    step: int,
    selected: tuple[str, float, int | None] | None = None,
    not_evaluated: str | None = None,
    recovery: list[dict[str, Any]] | None = None,
    faults: Sequence[str] = (),
) -> str:
    """Return what is said of a training that has ended.

    Args:
        results (`dict[str, dict]`): by prefix, the results of [`group_metrics`](gerne_hf.evaluation.group_metrics),
            with the `step` of the weights.
        step (`int`): the step of the weights that are kept.
        selected (`tuple[str, float, int]`, *optional*): the metric that models were selected on, its best value and
            the step of that; None where no model was selected.
        not_evaluated (`str`, *optional*): the `eval_strategy`, if no evaluation of an evaluation set is of the weights
            that are kept.
        recovery (`list[dict]`, *optional*): how much of the minority was found, where groups are inferred.
        faults (`Sequence[str]`, *optional*): sentences on how the training went wrong, from [`fault_sentences`].

    Returns:
        `str`: empty where there is nothing to say.
    """
    said = []
    if selected is not None:
        metric, value, best = selected
        said.append(f"\nModel of step {step}, selected on {metric.removeprefix('eval_')} ({value:.4g})")
        if step != best:
            said.append(f"That figure is of step {best}, which was not saved.")
    said += [f"\nWARNING: {fault}" for fault in faults]
    for prefix, result in results.items():
        title = f"Groups of the evaluation set ({prefix}, step {result['step']})"
        said.append(f"\n{title}\n{format_group_table(result)}\n")
        if scores := format_score_table(result):
            said.append(f"{scores}\n")
    if not_evaluated is not None:
        said.append(
            f"\nThe model of step {step} was not evaluated: eval_strategy={not_evaluated!r} asked for no evaluation "
            "of it. trainer.evaluate() gives the figures of every group."
        )
    if recovery:
        said.append(f"\nMinority rows among the hard ones of the training set\n{format_recovery(recovery)}\n")
    return "\n".join(said)


def fault_sentences(faults: Mapping[str, Any]) -> list[str]:
    """Return how a training went wrong, in sentences for terminal, card and picture.

    Args:
        faults (`Mapping`): what [`faults_of_training`](gerne_hf.evaluation.selection.faults_of_training) returned, or
            the entry `selection` of a record, which has it.

    Returns:
        `list[str]`: empty if nothing went wrong.

    Example:

    ```python
    >>> fault_sentences({"collapse": {"value": 0.25, "at": 150, "best": 0.66}})
    ['Training longer did harm: from 66.0 % there, that figure had fallen to 25.0 % at step 150.']

    ```
    """
    said = []
    collapse, guess = faults.get("collapse"), faults.get("guess")
    if collapse is not None:
        said.append(
            f"Training longer did harm: from {100 * collapse['best']:.1f} % there, that figure had fallen to "
            f"{100 * collapse['value']:.1f} % at step {collapse['at']}."
        )
    if guess is not None:
        said.append(
            f"The training loss ends at {guess['loss']:.3f}, that of a guess among {guess['classes']} classes (ln "
            f"{guess['classes']} = {math.log(guess['classes']):.3f}): the model that training ended with has learned "
            "nothing. Lower the learning rate or the weight decay, or clip gradients (max_grad_norm)."
        )
    return said
