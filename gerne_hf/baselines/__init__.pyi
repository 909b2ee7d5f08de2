from .afr import AFRTrainer as AFRTrainer
from .config import BaselineConfig as BaselineConfig
from .dfr import refit_last_layer as refit_last_layer
from .group_dro import GroupDROTrainer as GroupDROTrainer
from .jtt import JTTTrainer as JTTTrainer
from .jtt_biased_model import BiasedModelJTTTrainer as BiasedModelJTTTrainer
from .mixture import MixtureTrainer as MixtureTrainer
from .square_root import SquareRootTrainer as SquareRootTrainer
