from .rules import ClassSplit as ClassSplit
from .rules import InferredGroups as InferredGroups
from .rules import ScoredEvaluation as ScoredEvaluation
from .rules import ScoredRows as ScoredRows
from .rules import infer_groups as infer_groups
from .scores import RECOVERY_THRESHOLDS as RECOVERY_THRESHOLDS
from .scores import PseudoAttributes as PseudoAttributes
