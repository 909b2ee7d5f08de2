"""GERNE, gradient extrapolation for debiased representation learning, for Hugging Face Transformers."""

from .config import GerneConfig
from .evaluation.metrics import group_metrics
from .groups.index import GroupIndex
from .method.distributions import beta_bounds, biased_distribution, extrapolated_distribution, less_biased_distribution
from .method.plans import BatchPlan
from .method.sampling import GroupSampler
from .pseudo_attributes.scores import PseudoAttributes
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
