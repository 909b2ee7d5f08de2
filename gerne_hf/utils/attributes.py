"""An attribute of an object that has another value for a while.

Imports nothing of this package.
"""

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute of an object for the time of a block; afterwards the object is as it was.

    Args:
        owner: the object. If the attribute is one of its class, such as a method, it is that again afterwards.
        name (`str`): name of the attribute.
        value: what it is in the block.

    Example:

    ```python
    >>> class Greeter:
    ...     def greet(self):
    ...         return "hello"
    >>> greeter = Greeter()
    >>> with replaced(greeter, "greet", lambda: "bye"):
    ...     greeter.greet()
    'bye'
    >>> greeter.greet(), vars(greeter)
    ('hello', {})

    ```
    """
    own = name in vars(owner)
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)
