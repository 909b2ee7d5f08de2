"""The ladder of trainers under `GerneTrainer`, a rung a file: publishing, resuming, groups, plans.

Imports all rooms below, up to `reports/`. A rung calls up only through its documented hooks; begin with
`publishing_trainer.py` and climb.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
