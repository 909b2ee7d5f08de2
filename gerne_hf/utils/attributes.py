"""An attribute of an object that has another value for a while.

Imports nothing of this package.
"""

from typing import Any

_NOTHING = object()


class replaced:  # a class costs each step less than a generator function under contextlib.contextmanager
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

    def __init__(self, owner: Any, name: str, value: Any):
        self._owner, self._name, self._value = owner, name, value

    def __enter__(self) -> None:
        self._before = vars(self._owner).get(self._name, _NOTHING)
        setattr(self._owner, self._name, self._value)

    def __exit__(self, *exception: Any) -> None:
        if self._before is _NOTHING:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._before)
