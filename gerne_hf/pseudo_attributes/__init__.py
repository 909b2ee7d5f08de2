"""Unknown attributes (Algorithm 2): a biased model scores the training rows, and the least sure ones are "hard".

Imports `training/`, `method/` and `hub/`. Begin with `scores.py`; `GerneTrainer` uses it where
`pseudo_attributes=True`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
