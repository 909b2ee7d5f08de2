"""The console command `gerne-hf`: evaluate anything, find hidden groups, train, compare, report.

The top room: it may import every other one. Each command imports what it needs when it is run, so that `gerne-hf
--help` starts at once.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
