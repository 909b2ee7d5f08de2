"""Columns that the processes of a run read in parts, each its own, and put together again on all of them.

Imports nothing of this package. Who reads columns: [`encode_column`](gerne_hf.groups.columns.encode_column).
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather, gather_object

SHARED_ROWS = 1 << 20
"""The number of training rows from which the processes of a run share the reading; fewer are read in no time."""


class Shards:
    """Divides the rows of a column among the processes of a run, and exchanges what they have read.

    The processes exchange the values they found, then the codes of their rows. In a run of one process that process
    reads all rows and nothing is exchanged. All processes must make the same calls, with the same data set.
    """

    def __init__(self) -> None:
        self._state = PartialState()

    def rows(self, length: int, process: int | None = None) -> range:
        """Return the rows that a process reads.

        Args:
            length (`int`): the number of rows of the whole column.
            process (`int`, *optional*): the index of the process; this one if not given.

        Returns:
            `range`: row numbers without gaps; those of all processes, one after the other, are all rows.
        """
        index, count = self._state.process_index if process is None else process, self._state.num_processes
        return range(length * index // count, length * (index + 1) // count)

    def union(self, values: Iterable[Any], length: int, error: Exception | None = None) -> list[Any]:
        """Return the values that any process found, each once, in the same order on all processes.

        Args:
            values (`Iterable`): what this process found.
            length (`int`): the number of rows of the whole column.
            error (`Exception`, *optional*): why this process could not read its rows.

        Returns:
            `list`: ordered by process, then as that process found them.

        Raises:
            Exception: on all processes the error of the first process that has one.
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
        """Put the codes that the processes read together into the codes of all rows.

        Args:
            codes (`np.ndarray`): codes of the rows that this process read; of the same type on all processes.
            length (`int`): the number of rows of the whole column.

        Returns:
            `np.ndarray` of shape `(length,)`: the same on all processes, in the type of `codes`.
        """
        count = self._state.num_processes
        if count == 1:
            return codes
        # They travel as bytes, since not every backend takes every unsigned type, and padded to the longest part.
        parts = [len(self.rows(length, process)) * codes.itemsize for process in range(count)]
        padded = torch.zeros(max(parts), dtype=torch.uint8)
        padded[: codes.nbytes] = torch.from_numpy(codes.view(np.uint8))
        everything = gather(padded.to(self._state.device)).cpu().numpy().reshape(count, -1)
        return np.concatenate([row[:size] for row, size in zip(everything, parts, strict=True)]).view(codes.dtype)
