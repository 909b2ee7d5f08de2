"""Helpers that are about no idea of this package: files, Markdown, random numbers, processes, types of settings.

The ground floor: imports no other room, and any room may import it. Next: `hub/` for repositories on the Hub, or
`groups/` for the first idea of the method.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
