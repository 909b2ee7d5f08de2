"""Training on data larger than memory: rows are streamed by group, within a fixed bound of memory.

Imports `groups`, `method` and `config.py`. `writing.py` writes a data set by group and `partitions.py` streams it;
`reservoir.py` is for streams that cannot be written to disk; `stream.py` is what both have in common.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
