"""What is said where a library is missing that an extra of the package brings.

Imports nothing of this package.
"""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def of_extra(extra: str) -> Iterator[None]:
    """Say of a module that cannot be imported in this context which extra brings it.

    Args:
        extra (`str`): name of the extra, as `pip install "gerne_hf[vision]"` has it.

    Raises:
        ModuleNotFoundError: as the import does, with a note.

    Example:

    ```python
    >>> try:
    ...     with of_extra("vision"):
    ...         import a_module_that_is_missing
    ... except ModuleNotFoundError as error:
    ...     print(error, *error.__notes__, sep="\\n")
    No module named 'a_module_that_is_missing'
    It comes with an extra: pip install "gerne_hf[vision]"

    ```
    """
    try:
        yield
    except ModuleNotFoundError as error:
        error.add_note(f'It comes with an extra: pip install "gerne_hf[{extra}]"')
        raise
