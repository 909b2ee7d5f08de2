"""Whether trainers within trainers, such as those of biased models, leave out their progress and figures.

Imports nothing of this package. A comparison of many runs sets it where nobody looks at a terminal.
"""

_QUIET = [False]


def be_quiet(on: bool) -> None:
    """Let trainers that are made from now on leave out their progress, or not.

    Args:
        on (`bool`): whether to.

    Example:

    ```python
    >>> be_quiet(True), is_quiet(), be_quiet(False), is_quiet()
    (None, True, None, False)

    ```
    """
    _QUIET[0] = on


def is_quiet() -> bool:
    """Return whether trainers that are made now leave out their progress."""
    return _QUIET[0]
