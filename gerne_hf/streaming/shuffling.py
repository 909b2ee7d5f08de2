"""The order in which the rows of a group are read: shuffled anew in each pass, addressable without reading a row."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Pass:
    """One pass over a group: all of its rows once, window after window of whole blocks.

    The blocks come in random order, and the pass begins at a random place of it, which it comes back to at its end.
    With the rows shuffled within each window, each row of the group is so equally likely at every place of the pass,
    however unequal the blocks are.

    Args:
        order (`np.ndarray` of shape `(B,)`): the blocks in the order of reading.
        ends (`np.ndarray` of shape `(B,)`): rows up to the end of each of them.
        offset (`int`): where in this order the pass begins.
        blocks_per_window (`int`): blocks that are held, and shuffled, at a time.
    """

    order: np.ndarray
    ends: np.ndarray
    offset: int
    blocks_per_window: int

    @classmethod
    def lay_out(cls, block_rows: np.ndarray, blocks_per_window: int, rng: np.random.Generator) -> "Pass":
        """A pass over blocks of `block_rows` rows each, `(B,)`."""
        if len(block_rows) <= blocks_per_window:  # one window: its shuffle is all there is to choose
            return cls(np.arange(len(block_rows)), np.cumsum(block_rows), 0, blocks_per_window)
        order = rng.permutation(len(block_rows))
        ends = np.cumsum(block_rows[order])
        return cls(order, ends, int(rng.integers(ends[-1])), blocks_per_window)

    def place(self, position: int) -> int:
        """The place in the order of reading of the row at a position of the pass."""
        return (position + self.offset) % int(self.ends[-1])

    def window_of(self, place: int) -> int:
        """The number of the window that holds a place."""
        return int(np.searchsorted(self.ends, place, side="right")) // self.blocks_per_window

    def window(self, number: int) -> tuple[int, int, list[int]]:
        """The places `start, stop` that a window covers, and its blocks, ascending."""
        first = number * self.blocks_per_window
        last = min(first + self.blocks_per_window, len(self.ends))
        start = int(self.ends[first - 1]) if first else 0
        return start, int(self.ends[last - 1]), sorted(self.order[first:last].tolist())
