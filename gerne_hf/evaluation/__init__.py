"""Group metrics, and how the rows of an evaluation become group metrics.

`metrics.py` is pure NumPy and imports no torch; begin there. Imports `groups/` and `method/`; the trainer that
evaluates is in `training/evaluating_trainer.py`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
