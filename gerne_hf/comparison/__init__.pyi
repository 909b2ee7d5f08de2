from .comparing import MakeTrainer as MakeTrainer
from .comparing import compare as compare
from .methods import METHODS as METHODS
from .methods import Method as Method
from .methods import main_method as main_method
from .methods import method_config as method_config
