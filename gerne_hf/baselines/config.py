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
        if not 1 <= self.mixture_ratio < math.inf:
            raise ValueError(
                "mixture_ratio, the largest class-imbalance ratio, must be finite and at least 1; found "
                f"{self.mixture_ratio}"
            )
