"""`BaselineConfig`: `GerneConfig` with the settings of the baselines.

Imports `config.py`. Each setting is checked here and read by its baseline, `group_dro.py` or `jtt.py`.
"""

import math
from dataclasses import dataclass, field

from ..config import GerneConfig
from ..utils.field_types import settle_types


@dataclass
class BaselineConfig(GerneConfig):
    r"""Settings of a baseline's trainer: all of [`GerneConfig`], and those below.

    Args:
        group_dro_step_size (`float`, *optional*, defaults to `0.01`):
            Step size of Group DRO's group weights (eta_q in its paper), positive.
        group_dro_adjustment (`float`, *optional*, defaults to `0.0`):
            C of Group DRO's generalization adjustment, not negative: `C / sqrt(n_g)` is added to the loss of a group
            of `n_g` training rows, so that small groups weigh more.
        jtt_upweight (`float`, *optional*, defaults to `20.0`):
            How many more times JTT trains on a row that its first model gets wrong: such a row occurs `1 +
            jtt_upweight` times as often as another. Not negative (lambda_up in its paper, up_weight in its code, which
            appends these rows so many times).
        jtt_first_epochs (`float`, *optional*, defaults to `1.0`):
            Epochs of JTT's first model, positive (T in its paper, which chooses it on validation: 60 of 300 on
            Waterbirds, 1 of 50 on CelebA, 2 of 5 on MultiNLI).
        mixture_ratio (`float`, *optional*, defaults to `2.0`):
            The largest class-imbalance ratio that mixture balancing leaves, at least 1; above it rows are left out,
            below it rows are repeated.
        afr_held_out (`float`, *optional*, defaults to `0.2`):
            Share of the training rows that AFR holds out for its last layer, in (0, 1).
        afr_gamma (`float`, *optional*, defaults to `4.0`):
            How much more rows count in AFR's last layer that ERM is unsure of, not negative.
        afr_penalty (`float`, *optional*, defaults to `0.1`):
            Factor of the squared distance from ERM's last layer in AFR, not negative.
        afr_learning_rate (`float`, *optional*, defaults to `0.01`):
            Learning rate of AFR's last layer, positive.
        afr_steps (`int`, *optional*, defaults to `500`):
            Steps of gradient descent of AFR's last layer, at least 1; the best on validation is kept.
        self_rows (`int`, *optional*, defaults to `100`):
            Rows of largest disagreement that SELF trains the last layer on, at least 1.
        self_dropout (`float`, *optional*, defaults to `0.5`):
            Dropout of the model that SELF compares with, in (0, 1).
        self_learning_rate (`float`, *optional*, defaults to `0.01`):
            Learning rate of SELF's last layer, positive.
        self_steps (`int`, *optional*, defaults to `250`):
            Steps for which SELF trains the last layer, at least 1.

    Raises:
        ValueError: for a value that is out of range.
    """

    group_dro_step_size: float = field(default=0.01, metadata={"help": "Step size of Group DRO's group weights."})
    group_dro_adjustment: float = field(
        default=0.0, metadata={"help": "C of Group DRO's adjustment C / sqrt(rows of a group)."}
    )
    jtt_upweight: float = field(default=20.0, metadata={"help": "How many more times JTT trains on an error."})
    jtt_first_epochs: float = field(default=1.0, metadata={"help": "Epochs of JTT's first model."})
    mixture_ratio: float = field(
        default=2.0, metadata={"help": "Largest class-imbalance ratio that mixture balancing leaves."}
    )
    afr_held_out: float = field(default=0.2, metadata={"help": "Share of the training rows that AFR holds out."})
    afr_gamma: float = field(default=4.0, metadata={"help": "How much more rows count that ERM is unsure of, in AFR."})
    afr_penalty: float = field(default=0.1, metadata={"help": "AFR's penalty on the distance from ERM's last layer."})
    afr_learning_rate: float = field(default=0.01, metadata={"help": "Learning rate of AFR's last layer."})
    afr_steps: int = field(default=500, metadata={"help": "Steps of gradient descent of AFR's last layer."})
    self_rows: int = field(default=100, metadata={"help": "Rows that SELF trains the last layer on."})
    self_dropout: float = field(default=0.5, metadata={"help": "Dropout of the model that SELF compares with."})
    self_learning_rate: float = field(default=0.01, metadata={"help": "Learning rate of SELF's last layer."})
    self_steps: int = field(default=250, metadata={"help": "Steps for which SELF trains the last layer."})

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        settle_types(self, BaselineConfig, GerneConfig)
        if not 0 < self.group_dro_step_size < math.inf:
            raise ValueError(f"group_dro_step_size must be positive; found {self.group_dro_step_size}")
        if not 0 <= self.group_dro_adjustment < math.inf:
            raise ValueError(
                "group_dro_adjustment, C of C / sqrt(rows of a group), must be finite and not negative; found "
                f"{self.group_dro_adjustment}"
            )
        if not 0 <= self.jtt_upweight < math.inf:
            raise ValueError(f"jtt_upweight must be finite and not negative; found {self.jtt_upweight}")
        if not 0 < self.jtt_first_epochs < math.inf:
            raise ValueError(f"jtt_first_epochs must be finite and positive; found {self.jtt_first_epochs}")
        self._check_last_layers()
        if not 1 <= self.mixture_ratio < math.inf:
            raise ValueError(
                "mixture_ratio, the largest class-imbalance ratio, must be finite and at least 1; found "
                f"{self.mixture_ratio}"
            )

    def _check_last_layers(self) -> None:
        """Check the settings of methods that fit the last layer."""
        if not 0 < self.afr_held_out < 1:
            raise ValueError(
                f"afr_held_out, the share of training rows that are held out, must lie in (0, 1); found "
                f"{self.afr_held_out}"
            )
        for name in ("afr_gamma", "afr_penalty"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and not negative; found {getattr(self, name)}")
        if not 0 < self.self_dropout < 1:
            raise ValueError(f"self_dropout, a probability, must lie in (0, 1); found {self.self_dropout}")
        for name in ("afr_learning_rate", "self_learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and positive; found {getattr(self, name)}")
        for name in ("afr_steps", "self_steps", "self_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; found {getattr(self, name)}")
