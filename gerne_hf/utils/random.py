"""Random transforms as a pure function of the seed and the rows of a batch: the same in any process, and on resume."""

import contextlib
import random
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch

_BITS = np.random.MT19937()
"""Takes the place of NumPy's generator while a batch is drawn, which costs less than to save that one."""


def batch_seed(seed: int, indices: Sequence[int] | np.ndarray) -> int:
    """A seed in [0, 2^32) for the batch that holds these rows."""
    return zlib.crc32(np.asarray(indices, dtype=np.int64).tobytes(), seed & 0xFFFFFFFF)


@contextlib.contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """The global generators of Python, NumPy and PyTorch (CPU) start at `seed`; afterwards they are as before.

    Loaders fetch rows ahead of the step that trains on them, so what transforms drew from the state that is kept in a
    checkpoint could not be drawn again on resume.

    Args:
        seed (`int`, *optional*): in [0, 2^32); with None nothing happens.
    """
    if seed is None:
        yield
        return
    plain, tensors, arrays = random.getstate(), torch.random.get_rng_state(), np.random.get_bit_generator()
    random.seed(seed)
    torch.default_generator.manual_seed(seed)
    np.random.set_bit_generator(_BITS)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(plain)
        torch.random.set_rng_state(tensors)
        np.random.set_bit_generator(arrays)
