"""GERNE, gradient extrapolation for debiased representation learning, for Hugging Face Transformers."""

from .config import GerneConfig
from .distributions import beta_bounds, biased_distribution, extrapolated_distribution, less_biased_distribution
from .groups import GroupIndex
from .metrics import group_metrics
from .plans import BatchPlan
from .pseudo_attributes import PseudoAttributes
from .sampling import GroupSampler
from .trainer import GerneTrainer

__version__ = "0.1.0.dev0"

__all__ = [
    "BatchPlan",
    "GerneConfig",
    "GerneTrainer",
    "GroupIndex",
    "GroupSampler",
    "PseudoAttributes",
    "beta_bounds",
    "biased_distribution",
    "extrapolated_distribution",
    "group_metrics",
    "less_biased_distribution",
]
