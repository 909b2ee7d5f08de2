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
        jtt_upweight (`float`, *optional*, defaults to `20.0`):
            How many times more often JTT draws a row that the biased model gets wrong than another row, at least 1
            (lambda_up in its paper).

    Raises:
        ValueError: for a value that is out of range.
    """

    group_dro_step_size: float = field(default=0.01, metadata={"help": "Step size of Group DRO's group weights."})
    jtt_upweight: float = field(default=20.0, metadata={"help": "How many times more often JTT draws error rows."})

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        settle_types(self, BaselineConfig, GerneConfig)
        if not 0 < self.group_dro_step_size < math.inf:
            raise ValueError(f"group_dro_step_size must be positive; found {self.group_dro_step_size}")
        if not 1 <= self.jtt_upweight < math.inf:
            raise ValueError(f"jtt_upweight must be at least 1; found {self.jtt_upweight}")
