"""Search of c, beta and t: the space, Optuna's studies, what a search leaves behind, and the trainer that searches.

Imports `training/`, `method/` and `reports/`. Begin with `space.py`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
