"""The methods that people compare with, on the same trainer: Group DRO, JTT, DFR, AFR, SELF, and sampling by class.

Each overrides public hooks of the ladder and nothing private; `square_root.py` is the one to read first. Imports
`trainer.py`; the table of methods that runs them is in `comparison/methods.py`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
