"""Data sets: a module for each one, which brings its raw columns into text or image, label and attribute columns.

Imports `utils`, `hub`, `groups` and `evaluation`, and neither the configuration nor a trainer. `loading.py`,
`splits.py`, `images.py` and `texts.py` are for any data set; `gerne_hf.recipes` trains on them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
