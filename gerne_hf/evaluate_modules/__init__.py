"""Modules for the library `evaluate`: `evaluate.load(GROUP_ACCURACY_PATH)`, or by id once pushed to the Hub.

The metric lies in `group_accuracy/`, in the form that `evaluate` loads, and computes nothing itself: the figures are
those of `evaluation/metrics.py`. `pushing.py` brings it to the Hub.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
