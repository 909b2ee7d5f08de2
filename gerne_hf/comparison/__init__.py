"""Comparisons of methods: the table of methods, the runs for several seeds, and going on after an interruption.

Imports `trainer.py`, `baselines/` and `reports/`; recipes call it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
