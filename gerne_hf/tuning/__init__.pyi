from .searching_trainer import SearchingTrainer as SearchingTrainer
from .space import InferredSpace as InferredSpace
from .space import beta_range as beta_range
from .space import draw_inferred_settings as draw_inferred_settings
from .space import draw_settings as draw_settings
from .space import threshold_range as threshold_range
from .studies import default_pruner as default_pruner
from .studies import default_sampler as default_sampler
