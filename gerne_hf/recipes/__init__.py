"""What the scripts in the folder recipes/ share: arguments, backbones, trainers, and the run of a recipe.

The topmost room: it may import all others. Begin with `run.py`; the scripts use these names and those of the rooms
`data` and `models`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
