"""What a terminal shows when a training has ended: the step of the weights, and a table of groups for each evaluation.

Pure functions of figures; imports the tables of this room. [`GerneTrainer`](gerne_hf.trainer.GerneTrainer) prints it.
"""

from typing import Any

from .scores_table import format_score_table
from .tables import format_group_table, format_recovery


def end_of_training(
    results: dict[str, dict[str, Any]],
    step: int,
    selected: tuple[str, float, int | None] | None = None,
    not_evaluated: str | None = None,
    recovery: list[dict[str, Any]] | None = None,
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

    Returns:
        `str`: empty where there is nothing to say.
    """
    said = []
    if selected is not None:
        metric, value, best = selected
        said.append(f"\nModel of step {step}, selected on {metric.removeprefix('eval_')} ({value:.4g})")
        if step != best:
            said.append(f"That figure is of step {best}, which was not saved.")
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
