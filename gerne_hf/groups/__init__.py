"""Groups, a group being a class label together with an attribute value: which rows are in which, and their names.

Imports `utils/` alone of this package. Next: `method/`, which decides how many rows of each group a batch has, and
`data/` for data sets that have an attribute.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
