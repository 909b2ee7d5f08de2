"""Square-root sampling (Kang et al., ICLR 2020): each class is drawn in proportion to the root of its number of rows.

Imports `trainer.py`. It is the smallest baseline, and the one to read first: it overrides a single hook of
[`SamplingTrainer`](gerne_hf.training.sampling_trainer.SamplingTrainer). Next: `jtt.py`.
"""

import numpy as np

from ..trainer import GerneTrainer


class SquareRootTrainer(GerneTrainer):
    """Train on classes drawn with `p(y)` proportional to `sqrt(n_y)`, where class y has `n_y` training rows.

    This lies between plain ERM, with `p(y)` proportional to `n_y`, and class-balanced ERM, with equal `p(y)`.

    Args:
        args ([`GerneConfig`]): settings, with `plan="erm"`.
        kwargs: the other arguments of [`GerneTrainer`].
    """

    def class_probabilities(self) -> np.ndarray:
        """Return the probability p(y) with which each class is drawn.

        Returns:
            `np.ndarray` of shape `(K,)`, float64: sums to one.
        """
        roots = np.sqrt(self.known_groups.counts.sum(axis=1))
        return roots / roots.sum()
