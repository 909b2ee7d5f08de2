"""Random transforms that depend only on a seed and on the rows of a batch, so that a resumed run repeats them.

Imports nothing of this package. The data sets and collators that use it: [`batches`](gerne_hf.groups.batches).
"""

import contextlib
import random
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch

# numpy.random offers both without naming them in its __all__.
from numpy.random import get_bit_generator, set_bit_generator  # type: ignore[attr-defined]

_BITS = np.random.MT19937()
"""Takes the place of NumPy's global generator while a batch is drawn: cheaper than to save that generator's state."""


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


@contextlib.contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Start the global generators of Python, NumPy and PyTorch (CPU) at a seed; afterwards put them back as before.

    Loaders fetch rows ahead of the step that trains on them. Transforms that drew from the generators' running state,
    which is what a checkpoint keeps, would therefore draw other numbers after a resume.

    Args:
        seed (`int`, *optional*): in [0, 2^32); with None nothing happens.

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
    if seed is None:
        yield
        return
    plain, tensors, arrays = random.getstate(), torch.random.get_rng_state(), get_bit_generator()
    random.seed(seed)
    torch.default_generator.manual_seed(seed)
    set_bit_generator(_BITS)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(plain)
        torch.random.set_rng_state(tensors)
        set_bit_generator(arrays)
