"""The default space of a search: c, beta inside its bounds for this c, and t for pseudo-attributes.

Pure functions over group counts; imports `groups/` and `method/`. Next: [`studies`](gerne_hf.tuning.studies).
"""

from typing import TYPE_CHECKING

import numpy as np

from ..groups.proportions import group_proportions, uniform_target
from ..method.distributions import beta_bounds
from ..method.pseudo_groups import hard_counts, smallest_threshold

if TYPE_CHECKING:
    import optuna

C_CHOICES = (0.25, 0.5, 0.75, 1.0)

MAX_SHIFT = 4.0
"""Beta is drawn up to `MAX_SHIFT / c - 1` at most: where Eq. 9 puts no bound on it, or a far one, four times the shift
`c (beta + 1) = 1` that balances the groups. Beyond, the noise of two large losses subtracted drowns the gradient."""


def beta_range(counts: np.ndarray, c: float) -> tuple[float, float]:
    """Return the interval of beta that is searched: its bounds (Eq. 9), cut off at `MAX_SHIFT / c - 1`.

    Args:
        counts (`np.ndarray` of shape `(K, A)`): training rows of each group.
        c (`float`): degree of bias reduction, in (0, 1].
    """
    lower, upper = beta_bounds(group_proportions(counts), c, uniform_target(counts))
    return lower, min(upper, MAX_SHIFT / c - 1.0)


def threshold_range(class_counts: np.ndarray) -> tuple[float, float]:
    """Return the interval of t that is searched: every class has a hard row, and no more hard rows than others.

    Args:
        class_counts (`np.ndarray` of shape `(K,)`): training rows of each class.

    Raises:
        ValueError: for a class with fewer than two rows, which cannot be split.
    """
    if np.min(class_counts) < 2:
        raise ValueError(
            f"class {int(np.argmin(class_counts))} has {int(np.min(class_counts))} training rows; a class needs at "
            "least 2 to be split into pseudo-attributes"
        )
    return smallest_threshold(class_counts), 0.5


def draw_settings(trial: "optuna.trial.BaseTrial", counts: np.ndarray, pseudo_attributes: bool) -> dict[str, float]:
    """Draw one point of the default space. The parameters are called as the fields of [`GerneConfig`].

    | parameter | drawn |
    |---|---|
    | `threshold` | log-uniform in [`threshold_range`]; for pseudo-attributes only |
    | `c` | one of 0.25, 0.5, 0.75, 1 |
    | `beta` | uniform in [`beta_range`] of this c (and this threshold) |

    Args:
        trial (`optuna.trial.BaseTrial`): draws the values.
        counts (`np.ndarray` of shape `(K, A)`): training rows of each group.
        pseudo_attributes (`bool`): whether the groups will be made by the threshold, whatever `counts` has.
    """
    settings = {}
    if pseudo_attributes:
        class_counts = counts.sum(axis=1)
        settings["threshold"] = trial.suggest_float("threshold", *threshold_range(class_counts), log=True)
        hard = hard_counts(class_counts, settings["threshold"])
        counts = np.stack([hard, class_counts - hard], axis=1)
    settings["c"] = trial.suggest_categorical("c", C_CHOICES)
    settings["beta"] = trial.suggest_float("beta", *beta_range(counts, settings["c"]))
    return settings
