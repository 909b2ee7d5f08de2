"""Checkpoints that a killed run can go on from: sealed when whole, refused when they belong to another run.

Imports `utils/` alone of this package. Next: `training/resumable_trainer.py`, the trainer that writes these
checkpoints and resumes from them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
