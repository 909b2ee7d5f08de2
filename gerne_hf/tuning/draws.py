"""What a method states of its space: by the name of a setting, what values trials draw.

Imports [`space`](gerne_hf.tuning.space) alone. The spaces of methods stand in
[`comparison.methods`](gerne_hf.comparison.methods), and [`comparison.equal_tuning`](gerne_hf.comparison.equal_tuning)
draws from them. Every draw also holds the method's default, which is the first trial.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .space import C_CHOICES, beta_range

if TYPE_CHECKING:
    import optuna


class Draw(Protocol):
    """Draws the value of one setting."""

    def draw(
        self, trial: "optuna.trial.BaseTrial", name: str, default: Any, drawn: Mapping[str, Any], counts: np.ndarray
    ) -> Any:
        """Draw a value.

        Args:
            trial (`optuna.trial.BaseTrial`): draws it.
            name (`str`): name of the setting, a field of the config.
            default (`Any`): the value that the method has without a search.
            drawn (`Mapping[str, Any]`): the settings that this trial has drawn before, in the order of the space.
            counts (`np.ndarray` of shape `(K, A)`): training rows of each group.
        """
        ...


@dataclass(frozen=True)
class Choice:
    """One of a few values.

    Args:
        values (`tuple`): the values; the default joins them.
    """

    values: tuple[Any, ...]

    def draw(
        self, trial: "optuna.trial.BaseTrial", name: str, default: Any, drawn: Mapping[str, Any], counts: np.ndarray
    ) -> Any:
        """Draw a value; see [`Draw`]."""
        return trial.suggest_categorical(name, [*dict.fromkeys([*self.values, default])])


@dataclass(frozen=True)
class Range:
    """A number in an interval.

    Args:
        low, high (`float`): its ends.
        log (`bool`, *optional*, defaults to `False`): whether the logarithm is uniform, not the number.
    """

    low: float
    high: float
    log: bool = False

    def draw(
        self, trial: "optuna.trial.BaseTrial", name: str, default: Any, drawn: Mapping[str, Any], counts: np.ndarray
    ) -> Any:
        """Draw a number; see [`Draw`]."""
        low, high = min(self.low, float(default)), max(self.high, float(default))
        return trial.suggest_float(name, low, high, log=self.log)


@dataclass(frozen=True)
class Around:
    """A positive number around the default, log-uniform.

    Args:
        factor (`float`): at most so many times as large, or as small.
    """

    factor: float

    def draw(
        self, trial: "optuna.trial.BaseTrial", name: str, default: Any, drawn: Mapping[str, Any], counts: np.ndarray
    ) -> Any:
        """Draw a number; see [`Draw`]."""
        return trial.suggest_float(name, default / self.factor, default * self.factor, log=True)


@dataclass(frozen=True)
class BetaWithinBounds:
    """Beta, uniform in [`beta_range`](gerne_hf.tuning.space.beta_range) of the `c` that was drawn before it."""

    def draw(
        self, trial: "optuna.trial.BaseTrial", name: str, default: Any, drawn: Mapping[str, Any], counts: np.ndarray
    ) -> Any:
        """Draw beta; see [`Draw`]."""
        low, high = beta_range(counts, drawn["c"])
        if trial.user_attrs:  # the default, whose value the interval must hold
            low, high = min(low, float(default)), max(high, float(default))
        return trial.suggest_float(name, low, high)


GERNE_SPACE: Mapping[str, Draw] = {"c": Choice(C_CHOICES), "beta": BetaWithinBounds()}
"""The paper's two settings."""

LEARNING_RATE: Draw = Around(10.0)
WEIGHT_DECAY: Draw = Choice((0.0, 1e-4, 1e-3, 1e-2, 1e-1))
