"""Models and what is done to them: the paper's MLP, backbones for images and texts, heads, checkpoints of timm.

Imports `groups/`, `hub/` and `utils/`. Heads and frozen layers are in `heads.py`; recipes choose backbones in
`images.py` and `texts.py`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
