from .scores import RECOVERY_THRESHOLDS as RECOVERY_THRESHOLDS
from .scores import PseudoAttributes as PseudoAttributes
