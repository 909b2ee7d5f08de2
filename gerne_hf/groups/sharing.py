"""Columns read in parts, one on each process of a run, and put together again on all of them."""

from collections.abc import Iterable

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather, gather_object

SHARED_ROWS = 1 << 20
"""From so many training rows on the processes of a run share the reading; fewer take no time."""


class Shards:
    """What the processes exchange while each reads its part of the rows: the values they found, then the codes.

    Without other processes the one reads everything. All processes must come here, with the same data set.
    """

    def __init__(self):
        self._state = PartialState()

    def rows(self, length: int, process: int | None = None) -> range:
        """The rows that a process reads, of `length`; of this process if none is given."""
        index, count = self._state.process_index if process is None else process, self._state.num_processes
        return range(length * index // count, length * (index + 1) // count)

    def union(self, values: Iterable, length: int, error: Exception | None = None) -> list:
        """The values that any process found, each once.

        Args:
            values: those of this process.
            length (`int`): rows of the whole column.
            error (`Exception`, *optional*): why this process found none.

        Raises:
            Exception: that of the first process that has one, on all of them.
            ValueError: if the processes have columns of different length.
        """
        found = gather_object([(list(values), length, error)])
        for _, _, failure in found:
            if failure is not None:
                raise failure
        lengths = [length for _, length, _ in found]
        if len(set(lengths)) > 1:
            raise ValueError(f"the processes have data sets of different length: {lengths} rows. Give all the same")
        return list(dict.fromkeys(value for part, _, _ in found for value in part))

    def join(self, codes: np.ndarray, length: int) -> np.ndarray:
        """`(length,)` codes of all rows from those of this process's rows; of the same type on all processes."""
        count = self._state.num_processes
        if count == 1:
            return codes
        # As bytes, padded to the longest part: not every backend takes every unsigned type.
        parts = [len(self.rows(length, process)) * codes.itemsize for process in range(count)]
        padded = torch.zeros(max(parts), dtype=torch.uint8)
        padded[: codes.nbytes] = torch.from_numpy(codes.view(np.uint8))
        everything = gather(padded.to(self._state.device)).cpu().numpy().reshape(count, -1)
        return np.concatenate([row[:size] for row, size in zip(everything, parts, strict=True)]).view(codes.dtype)
