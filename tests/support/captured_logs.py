"""What a logger of the package warns of."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def logged(name: str, besides: str | None = None) -> Iterator[list[str]]:
    """A list that receives the warnings of the logger `name`, whether or not they reach the root logger; left out are
    those with the text `besides`."""
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.addFilter(lambda record: besides is None or besides not in record.getMessage())
    handler.emit = lambda record: found.append(record.getMessage())
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
