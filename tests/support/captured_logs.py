"""What a logger of the package warns of."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def logged(name: str) -> Iterator[list[str]]:
    """A list that receives the warnings of the logger `name`, whether or not they reach the root logger.

    Left out is the one that the groups of an evaluation set are small, which all are here; it comes once a process.
    """
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.addFilter(lambda record: "fewer than 10 rows of the evaluation set" not in record.getMessage())
    handler.emit = lambda record: found.append(record.getMessage())
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
