"""The method of the paper: group distributions, batch plans, the sampler, the loss, and pseudo-groups.

Pure functions in NumPy, and the loss in torch. Imports `groups/`; begin with `distributions.py` (the equations), then
`plans.py`. The trainer that uses it is in `training/plan_trainer.py`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
