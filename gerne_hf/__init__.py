"""GERNE, gradient extrapolation for debiased representation learning, for Hugging Face Transformers.

The names below are imported when they are used. The rooms of the house are described in CONTRIBUTING.md.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0.dev0"
