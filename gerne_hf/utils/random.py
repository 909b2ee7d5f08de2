"""Random transforms that depend only on a seed and on the rows of a batch, so that a resumed run repeats them.

Imports nothing of this package. The data sets and collators that use it: [`batches`](gerne_hf.groups.batches).
"""

import numbers
import random
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

# numpy.random offers both without naming them in its __all__.
from numpy.random import get_bit_generator, set_bit_generator  # type: ignore[attr-defined]

_BITS = np.random.MT19937()
"""Takes the place of NumPy's global generator while a batch is drawn: cheaper than to save that generator's state."""


def check_seed(name: str, value: Any) -> None:
    """Refuse a seed that the generators of Python, NumPy and torch do not all take.

    Args:
        name (`str`): name of the setting, for the message.
        value: the seed, to be a whole number in [0, 2^32).

    Raises:
        ValueError: for any other value.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not 0 <= int(value) < 2**32:
        raise ValueError(
            f"{name} must be a whole number from 0 to {2**32 - 1}; found {value!r}. Choose another, 42 say"
        )


def batch_seed(seed: int, indices: Sequence[int] | np.ndarray) -> int:
    """Return a seed for the batch that holds these rows.

    Args:
        seed (`int`): the seed of the run.
        indices (`Sequence[int]` or `np.ndarray`): row numbers, in the order of the batch.

    Returns:
        `int`: in [0, 2^32); the same for the same seed and rows, in any process.

    Example:

    ```python
    >>> batch_seed(0, [3, 1, 4]) == batch_seed(0, [3, 1, 4]), batch_seed(0, [3, 1, 4]) == batch_seed(1, [3, 1, 4])
    (True, False)

    ```
    """
    return zlib.crc32(np.asarray(indices, dtype=np.int64).tobytes(), seed & 0xFFFFFFFF)


class seeded:  # a class costs each batch less than a generator function under contextlib.contextmanager
    """Start the global generators of Python, NumPy and PyTorch (CPU) at a seed; afterwards put them back as before.

    Loaders fetch rows ahead of the step that trains on them. Transforms that drew from the generators' running state,
    which is what a checkpoint keeps, would therefore draw other numbers after a resume.

    Args:
        seed (`int`): in [0, 2^32).

    Example:

    ```python
    >>> import random
    >>> with seeded(7):
    ...     first = random.random()
    >>> with seeded(7):
    ...     second = random.random()
    >>> first == second
    True

    ```
    """

    def __init__(self, seed: int):
        self._seed = seed

    def __enter__(self) -> None:
        self._before = random.getstate(), torch.default_generator.get_state(), get_bit_generator()
        random.seed(self._seed)
        torch.default_generator.manual_seed(self._seed)
        set_bit_generator(_BITS)
        np.random.seed(self._seed)

    def __exit__(self, *exception: Any) -> None:
        plain, tensors, arrays = self._before
        random.setstate(plain)
        torch.default_generator.set_state(tensors)
        set_bit_generator(arrays)
