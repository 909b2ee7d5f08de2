"""The methods that people compare with, on the same trainer: Group DRO, JTT, DFR, and sampling by class."""

from .config import BaselineConfig
from .dfr import refit_last_layer
from .group_dro import GroupDROTrainer
from .jtt import JTTTrainer
from .square_root import SquareRootTrainer

__all__ = ["BaselineConfig", "GroupDROTrainer", "JTTTrainer", "SquareRootTrainer", "refit_last_layer"]
