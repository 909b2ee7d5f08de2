from .app import main as main
from .groups import find_groups as find_groups
from .model import judge as judge
