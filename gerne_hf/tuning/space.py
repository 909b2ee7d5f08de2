"""The default spaces of a search: c and beta inside its bounds; for unknown attributes the rule, c and a narrow shift.

Pure functions over group counts; imports `groups/` and `method/`. Next: [`studies`](gerne_hf.tuning.studies).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..groups.proportions import filled_counts, group_proportions, uniform_target
from ..method.distributions import beta_bounds
from ..method.pseudo_groups import hard_counts, smallest_threshold

if TYPE_CHECKING:
    import optuna

C_CHOICES = (0.25, 0.5, 0.75, 1.0)

MAX_SHIFT = 4.0
"""Beta is drawn up to `MAX_SHIFT / c - 1` at most: where Eq. 9 puts no bound on it, or a far one, four times the shift
`c (beta + 1) = 1` that balances the groups. Beyond, the noise of two large losses subtracted drowns the gradient."""

INFERRED_SHIFTS = (1.0, 1.6)
"""The interval of `c (beta + 1)` that is searched for inferred groups, some of whose rows are in the wrong group."""

THRESHOLD_FACTOR = 4.0
"""How far from the threshold that is given others are tried: from a fourth of it to four times as much."""

START = "start"
"""Mark of a trial whose settings are not drawn, with what it is called; an attribute of the trial."""

OWN_SETTINGS = "your settings"
CLASS_BALANCED = "class-balanced ERM"


def beta_range(counts: np.ndarray, c: float) -> tuple[float, float]:
    """Return the interval of beta that is searched: its bounds (Eq. 9), cut off at `MAX_SHIFT / c - 1`.

    Args:
        counts (`np.ndarray` of shape `(K, A)`): training rows of each group.
        c (`float`): degree of bias reduction, in (0, 1].
    """
    counts = filled_counts(counts)  # a class without rows bounds nothing
    lower, upper = beta_bounds(group_proportions(counts), c, uniform_target(counts))
    return lower, min(upper, MAX_SHIFT / c - 1.0)


def largest_shift(proportions: np.ndarray, target: np.ndarray) -> float:
    """Return the largest `c (beta + 1)` that is searched for inferred groups: at most what Eq. 9 allows them.

    Args:
        proportions (`np.ndarray` of shape `(K, A)`): share of each group in its class.
        target (`np.ndarray` of shape `(K, A)`): the distribution within each class that training balances towards.

    Returns:
        `float`: in `INFERRED_SHIFTS`.

    Example:

    ```python
    >>> largest_shift(np.array([[0.1, 0.9]]), np.array([[0.9, 0.1]]))
    1.125

    ```
    """
    upper = beta_bounds(proportions, 1.0, target)[1]  # c (beta + 1) at the bound is the same for all c
    low, high = INFERRED_SHIFTS
    return float(min(max(round(upper + 1.0, 9), low), high))


def threshold_range(class_counts: np.ndarray, around: float | None = None) -> tuple[float, float]:
    """Return the interval of t that is searched: every class has a hard row, and no more hard rows than others.

    Args:
        class_counts (`np.ndarray` of shape `(K,)`): training rows of each class.
        around (`float`, *optional*): the threshold that is given; others are at most `THRESHOLD_FACTOR` times as
            large or as small.

    Raises:
        ValueError: for a class with fewer than two rows, which cannot be split.
    """
    if np.min(class_counts) < 2:
        raise ValueError(
            f"class {int(np.argmin(class_counts))} has {int(np.min(class_counts))} training rows; a class needs at "
            "least 2 to be split into pseudo-attributes"
        )
    low, high = smallest_threshold(class_counts), 0.5
    if around is None:
        return low, high
    return max(low, around / THRESHOLD_FACTOR), max(around, min(high, around * THRESHOLD_FACTOR))


@dataclass(frozen=True)
class InferredSpace:
    """What is searched where groups are inferred.

    Args:
        rules (`Mapping[str, float]`): by the name of each rule that is searched, its largest shift `c (beta + 1)`.
        class_counts (`np.ndarray` of shape `(K,)`): training rows of each class.
        threshold (`float`, *optional*): t of the rule "threshold", if it is among the rules.
        rules_that_split (`tuple[str, ...]`): those of the rules that do not leave all classes whole.
    """

    rules: Mapping[str, float]
    class_counts: np.ndarray = field(repr=False)
    threshold: float | None = None
    rules_that_split: tuple[str, ...] = ()


def choices_of_c(own: float) -> list[float]:
    """Return the values of c that are searched: `C_CHOICES`, and the one that is given.

    Args:
        own (`float`): c of the settings that are given.

    Example:

    ```python
    >>> choices_of_c(0.5), choices_of_c(0.6)
    ([0.25, 0.5, 0.75, 1.0], [0.25, 0.5, 0.6, 0.75, 1.0])

    ```
    """
    return sorted({*C_CHOICES, float(own)})


def draw_settings(
    trial: "optuna.trial.BaseTrial",
    counts: np.ndarray,
    c_choices: Sequence[float] = C_CHOICES,
    own: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Draw one point of the default space for known groups: one of the values of c, and beta.

    Args:
        trial (`optuna.trial.BaseTrial`): draws the values.
        counts (`np.ndarray` of shape `(K, A)`): training rows of each group.
        c_choices (`Sequence[float]`, *optional*): values of c; 0.25, 0.5, 0.75 and 1 if not given.
        own (`Mapping`, *optional*): the settings of a trial that is not drawn, which the intervals must hold.

    Returns:
        `dict`: `c`, and `beta`, uniform in [`beta_range`] of this c. The names are those of fields of the config.
    """
    settings: dict[str, Any] = {"c": trial.suggest_categorical("c", list(c_choices))}
    settings["beta"] = _float(trial, "beta", beta_range(counts, settings["c"]), own)
    return settings


def draw_inferred_settings(
    trial: "optuna.trial.BaseTrial",
    space: InferredSpace,
    c_choices: Sequence[float] = C_CHOICES,
    own: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Draw one point of the default space for inferred groups. The parameters are called as the fields of the config.

    | parameter | drawn |
    |---|---|
    | `pseudo_rule` | one of the rules that the data can serve |
    | `threshold` | log-uniform in [`threshold_range`]; for the rule "threshold" only |
    | `c` | one of 0.25, 0.5, 0.75, 1 |
    | `beta` | uniform where `c (beta + 1)` lies in `INFERRED_SHIFTS`, and inside its bounds (Eq. 9) |

    Args:
        trial (`optuna.trial.BaseTrial`): draws the values.
        space ([`InferredSpace`]): what is searched.
        c_choices (`Sequence[float]`, *optional*): values of c; 0.25, 0.5, 0.75 and 1 if not given.
        own (`Mapping`, *optional*): the settings of a trial that is not drawn, which the intervals must hold.
    """
    settings: dict[str, Any] = {"pseudo_rule": trial.suggest_categorical("pseudo_rule", [*space.rules])}
    largest = space.rules[settings["pseudo_rule"]]
    if settings["pseudo_rule"] == "threshold":
        around = threshold_range(space.class_counts, space.threshold)
        settings["threshold"] = _float(trial, "threshold", around, own, log=True)
        hard = hard_counts(space.class_counts, settings["threshold"])
        counts = np.stack([hard, space.class_counts - hard], axis=1)
        largest = largest_shift(group_proportions(counts), uniform_target(counts))
    settings["c"] = c = trial.suggest_categorical("c", list(c_choices))
    settings["beta"] = _float(trial, "beta", (INFERRED_SHIFTS[0] / c - 1.0, largest / c - 1.0), own)
    return settings


def _float(
    trial: "optuna.trial.BaseTrial",
    name: str,
    interval: tuple[float, float],
    own: Mapping[str, Any] | None,
    log: bool = False,
) -> float:
    """Draw a number; the interval is made wide enough for the value of a trial that is not drawn."""
    low, high = interval
    if own is not None:
        low, high = min(low, own[name]), max(high, own[name])
    return trial.suggest_float(name, low, high, log=log)


def starting_points(args: Any, inferred: InferredSpace | None) -> dict[str, dict[str, Any]]:
    """Return the settings that are tried before any is drawn, by what they are called.

    They are the settings that are given and, for inferred groups, class-balanced ERM: the same plan with beta = -1.

    Args:
        args ([`GerneConfig`]): the settings that are given.
        inferred ([`InferredSpace`], *optional*): what is searched where groups are inferred; None for known groups.
    """
    own: dict[str, Any] = {"c": float(args.c), "beta": float(args.beta)}
    if inferred is None:
        return {OWN_SETTINGS: own}
    groups: dict[str, Any] = {"pseudo_rule": args.settled_rule}
    if args.settled_rule == "threshold":
        groups["threshold"] = float(args.threshold)
    return {OWN_SETTINGS: {**groups, **own}, CLASS_BALANCED: {**groups, **own, "beta": -1.0}}
