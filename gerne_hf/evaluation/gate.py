"""The gate: selection without attributes, which never prefers a model that is worse on average than ERM.

Pure functions, and the accumulator that adds their figures to an evaluation. Where the groups come from:
[`rules`](gerne_hf.pseudo_attributes.rules).
"""

from typing import Any

import numpy as np

from ..groups.index import GroupIndex
from .accumulator import GroupAccumulator
from .metrics import group_metrics

GATE_TOLERANCE = 0.02
"""How far a model's class-balanced accuracy may lie below that of class-balanced ERM, as a share."""


def gated_accuracy(worst: float, class_balanced: float, reference: float | None) -> float:
    """Return the figure that models are selected on where no attributes are known.

    Args:
        worst (`float`): accuracy of the worst inferred group, in [0, 1].
        class_balanced (`float`): class-balanced accuracy, in [0, 1].
        reference (`float`, *optional*): class-balanced accuracy of class-balanced ERM; None where nobody knows it.

    Returns:
        `float`: the accuracy of the worst inferred group. For a model whose class-balanced accuracy is more than
        `GATE_TOLERANCE` below the reference it is that accuracy minus one, which is below zero, so that such a model
        is taken only where all are like that.

    Example:

    ```python
    >>> gated_accuracy(0.7, 0.8, reference=0.81), round(gated_accuracy(0.7, 0.6, reference=0.81), 6)
    (0.7, -0.4)

    ```
    """
    if reference is None or class_balanced >= reference - GATE_TOLERANCE:
        return worst
    return class_balanced - 1.0


class GatedAccumulator(GroupAccumulator):
    """Collects the rows of an evaluation without attributes, and adds the figures over inferred groups.

    Args:
        index ([`GroupIndex`]): the evaluated rows, by class alone.
        inferred ([`GroupIndex`]): the same rows by inferred group.
        reference (`float`, *optional*): class-balanced accuracy of class-balanced ERM on these rows.
        train_counts (`np.ndarray` of shape `(K, A)`, *optional*): as for [`GroupAccumulator`].
    """

    def __init__(
        self,
        index: GroupIndex,
        inferred: GroupIndex,
        reference: float | None,
        train_counts: np.ndarray | None = None,
    ):
        super().__init__(index, train_counts)
        self.inferred, self.reference = inferred, reference

    def result(self) -> dict[str, Any]:
        """Return the [`group_metrics`] of all rows, with `worst_inferred_group_accuracy` and `gated_accuracy`."""
        result = super().result()
        labels, groups, predicted = self.columns()
        if not np.array_equal(groups, self.index.codes):
            raise ValueError(
                "the evaluation's rows are not in the data set's order, so their inferred groups are not known. Give "
                "an eval_dataset whose loader keeps its order, or select on 'worst_class_accuracy'"
            )
        inferred = self.inferred
        found = group_metrics(
            predicted,
            labels,
            inferred.codes.astype(np.int64) % inferred.num_attributes,
            None,
            inferred.label_names,
            inferred.attribute_names,
        )
        worst = found["worst_group_accuracy"]
        gated = gated_accuracy(worst, result["class_balanced_accuracy"], self.reference)
        return {**result, "worst_inferred_group_accuracy": worst, "gated_accuracy": gated}
