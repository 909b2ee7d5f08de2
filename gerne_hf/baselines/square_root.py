"""Square-root sampling (Kang et al., ICLR 2020): classes drawn in proportion to the square root of their rows."""

import numpy as np

from ..trainer import GerneTrainer


class SquareRootTrainer(GerneTrainer):
    """Trains with `p(y)` proportional to `sqrt(n_y)`, between plain and class-balanced ERM; for the plan `erm`."""

    def _class_probabilities(self) -> np.ndarray:
        roots = np.sqrt(self.groups.counts.sum(axis=1))
        return roots / roots.sum()
