from .config import GerneConfig as GerneConfig
from .evaluation.metrics import group_metrics as group_metrics
from .groups.index import GroupIndex as GroupIndex
from .method.distributions import beta_bounds as beta_bounds
from .method.distributions import biased_distribution as biased_distribution
from .method.distributions import extrapolated_distribution as extrapolated_distribution
from .method.distributions import less_biased_distribution as less_biased_distribution
from .method.making import make_plan as make_plan
from .method.own_loops import plan_loss as plan_loss
from .method.plans import BatchPlan as BatchPlan
from .method.sampling import GroupBatchSampler as GroupBatchSampler
from .method.sampling import GroupSampler as GroupSampler
from .pseudo_attributes.scores import PseudoAttributes as PseudoAttributes
from .trainer import GerneTrainer as GerneTrainer

__version__: str
