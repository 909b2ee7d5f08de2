"""The order in which the rows of a group are read: another one in each pass, known without reading a row.

Imports no other module of the package. `windows.py` reads rows in this order.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Pass:
    """Lay out one pass over a group: each of its rows once, in windows of several whole blocks.

    The blocks are read in random order. The pass begins at a random place of this order, goes on to its end, and then
    from its beginning back to that place. As rows are also shuffled within each window, each row of the group is
    equally likely at every position of the pass, even if blocks differ in size.

    Args:
        order (`np.ndarray` of shape `(B,)`): numbers of the blocks in the order of reading.
        ends (`np.ndarray` of shape `(B,)`): how many rows there are up to the end of each block in this order.
        offset (`int`): place in the order of reading, counted in rows, at which the pass begins.
        blocks_per_window (`int`): number of blocks that are in memory, and shuffled, at a time.

    Example:

    ```python
    >>> import numpy as np
    >>> one = Pass.lay_out(np.array([3, 3, 3]), blocks_per_window=2, rng=np.random.default_rng(0))
    >>> one.order.tolist(), one.offset
    ([2, 0, 1], 2)
    >>> sorted(one.place(position) for position in range(9))
    [0, 1, 2, 3, 4, 5, 6, 7, 8]
    >>> one.window(one.window_of(place=7))
    (6, 9, [1])

    ```
    """

    order: np.ndarray
    ends: np.ndarray
    offset: int
    blocks_per_window: int

    @classmethod
    def lay_out(cls, block_rows: np.ndarray, blocks_per_window: int, rng: np.random.Generator) -> "Pass":
        """Draw the order of a pass.

        Args:
            block_rows (`np.ndarray` of shape `(B,)`): number of rows of each block.
            blocks_per_window (`int`): number of blocks that are in memory, and shuffled, at a time.
            rng (`np.random.Generator`): decides the order.

        Returns:
            [`Pass`]
        """
        if len(block_rows) <= blocks_per_window:  # all rows are in one window, whose shuffle is random enough
            return cls(np.arange(len(block_rows)), np.cumsum(block_rows), 0, blocks_per_window)
        order = rng.permutation(len(block_rows))
        ends = np.cumsum(block_rows[order])
        return cls(order, ends, int(rng.integers(ends[-1])), blocks_per_window)

    def place(self, position: int) -> int:
        """Return where in the order of reading a row of the pass lies.

        Args:
            position (`int`): position of the row in the pass, from 0.

        Returns:
            `int`: its place in the order of reading, counted in rows.
        """
        return (position + self.offset) % int(self.ends[-1])

    def window_of(self, place: int) -> int:
        """Return the number of the window that holds a place.

        Args:
            place (`int`): a place in the order of reading, counted in rows.

        Returns:
            `int`
        """
        return int(np.searchsorted(self.ends, place, side="right")) // self.blocks_per_window

    def window(self, number: int) -> tuple[int, int, list[int]]:
        """Return where a window lies, and its blocks.

        Args:
            number (`int`): number of the window.

        Returns:
            `tuple[int, int, list[int]]`: the place of its first row, the place after its last row, and the numbers of
            its blocks in ascending order.
        """
        first = number * self.blocks_per_window
        last = min(first + self.blocks_per_window, len(self.ends))
        start = int(self.ends[first - 1]) if first else 0
        return start, int(self.ends[last - 1]), sorted(self.order[first:last].tolist())
