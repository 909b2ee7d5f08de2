"""Square-root sampling (Kang et al., ICLR 2020): classes drawn in proportion to the square root of their rows.

The smallest baseline, and the one to read first: it overrides a single hook of
[`PlanTrainer`](gerne_hf.training.plan_trainer.PlanTrainer).
"""

import numpy as np

from ..trainer import GerneTrainer


class SquareRootTrainer(GerneTrainer):
    """Trains with `p(y)` proportional to `sqrt(n_y)`, between plain and class-balanced ERM.

    Args:
        args ([`GerneConfig`]): `plan` is "erm". Other arguments as for [`GerneTrainer`].
    """

    def class_probabilities(self) -> np.ndarray:
        """Return p(y), with which the classes are drawn, `(K,)`."""
        roots = np.sqrt(self.known_groups.counts.sum(axis=1))
        return roots / roots.sum()
