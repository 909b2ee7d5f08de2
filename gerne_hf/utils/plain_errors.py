"""Errors of a script as sentences: what is wrong and what to do, without the places in the code.

Imports nothing of this package. `gerne-hf` asks for it by an environment variable, which recipes look at.
"""

import os
import sys
from types import TracebackType

PLAIN_ERRORS = "GERNE_HF_PLAIN_ERRORS"
"""Environment variable by which a recipe shows errors that tell what to do as a sentence, without a traceback."""

TELLING = (ValueError, TypeError, OSError, ImportError)
"""Errors whose message tells a user what to do."""


def show_plain_errors(script: str) -> None:
    """Show errors that end this process as sentences, if the environment asks for it.

    Args:
        script (`str`): name of the script, which the message begins with.
    """
    if os.environ.get(PLAIN_ERRORS) != "1":
        return
    usual = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if not isinstance(error, TELLING):
            usual(kind, error, traceback)
            return
        print(f"{script}: {sentence(error)}\n({PLAIN_ERRORS}=0 shows where in the code.)", file=sys.stderr, flush=True)

    sys.excepthook = hook


def sentence(error: BaseException) -> str:
    """Return what an error says, with its notes.

    Args:
        error (`BaseException`): the error.

    Example:

    ```python
    >>> error = ValueError("there is no such file")
    >>> error.add_note("Give another.")
    >>> sentence(error)
    'there is no such file\\nGive another.'

    ```
    """
    return "\n".join([str(error), *getattr(error, "__notes__", ())])
