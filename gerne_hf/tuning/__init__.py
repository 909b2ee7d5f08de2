"""Search of c, beta and the rule: spaces, Optuna's studies, what a search leaves behind, the trainer that searches.

Imports `training/`, `method/` and `reports/`. Begin with `space.py`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
