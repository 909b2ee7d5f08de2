"""`make_plan`: the batch plan for the groups of a training set, by the names that `GerneConfig` has for its settings.

NumPy alone; imports [`plans`](gerne_hf.method.plans) and [`GroupIndex`](gerne_hf.groups.index.GroupIndex). The plan of
`GerneTrainer` is made here, too. Next: [`sampling`](gerne_hf.method.sampling) draws the rows of a plan.
"""

import dataclasses

import numpy as np

from ..groups.index import GroupIndex
from ..groups.proportions import filled_counts, uniform_target
from .beta import check_beta
from .distributions import beta_bounds
from .plans import (
    PLANS,
    PLANS_OF_EVERY_ROW,
    PLANS_WITH_BETA,
    PLANS_WITHOUT_ATTRIBUTES,
    BatchPlan,
)


def make_plan(
    groups: GroupIndex,
    batch_size: int,
    plan: str = "independent",
    c: float = 0.5,
    beta: float = 1.0,
    class_balanced: bool = True,
    biased_share: float = 0.5,
    beta_out_of_bounds: str = "error",
    empty_groups: str = "error",
) -> BatchPlan:
    """Return the plan that [`GerneTrainer`] makes for a training set, for a trainer or a loop of your own.

    Args:
        groups ([`GroupIndex`]): the groups of the training rows.
        batch_size (`int`): rows of a batch on one device, all segments together.
        plan (`str`, defaults to `"independent"`): one of `PLANS`.
        c (`float`, defaults to `0.5`): degree of bias reduction, in (0, 1] (Eq. 4).
        beta (`float`, defaults to `1.0`): extrapolation factor (Eq. 5).
        class_balanced (`bool`, defaults to `True`): whether all classes are drawn equally often, as in the paper;
            otherwise as often as they occur, and an epoch of the plan `erm` is every row once. The plan
            `group_weighted_loss` has every row once, whatever this says.
        biased_share (`float`, defaults to `0.5`): the biased batch's share of the rows, under the plan `independent`.
        beta_out_of_bounds (`str`, defaults to `"error"`): what is done about a beta outside its bounds (Eq. 9):
            "error", "warn" or "ignore".
        empty_groups (`str`, defaults to `"error"`): "error" refuses groups without rows; "ignore" gives their mass to
            the other groups of their class, and trains on the classes that there are, as the plan `erm` always does.

    Returns:
        [`BatchPlan`]

    Raises:
        ValueError: for an unknown plan, groups that no such plan can be drawn from, a beta outside its bounds, and a
            batch that is too small.

    Example:

    ```python
    >>> groups = GroupIndex.from_arrays(labels=[0, 0, 0, 1, 1, 1], attributes=[0, 0, 1, 0, 1, 1])
    >>> plan = make_plan(groups, batch_size=8, c=0.5, beta=1.0)
    >>> [(segment.name, segment.rows, segment.coefficient) for segment in plan.segments]
    [('biased', 4, -1.0), ('less_biased', 4, 2.0)]

    ```
    """
    if plan not in PLANS:
        raise ValueError(f"unknown plan {plan!r}; the plans are {', '.join(PLANS)}")
    for name, value, allowed in (
        ("beta_out_of_bounds", beta_out_of_bounds, ("error", "warn", "ignore")),
        ("empty_groups", empty_groups, ("error", "ignore")),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; found {value!r}")
    attributes = plan not in PLANS_WITHOUT_ATTRIBUTES
    groups.check_trainable(empty_groups, attributes, empty_groups if attributes else "ignore")
    balanced = class_balanced and plan != "group_weighted_loss"
    classes = shares_of_classes(groups, None if balanced else groups.class_probabilities)
    target = uniform_target(filled_counts(groups.counts))
    return plan_for(groups, batch_size, plan, c, beta, classes, target, biased_share, beta_out_of_bounds)


def plan_for(
    groups: GroupIndex,
    batch_size: int,
    plan: str,
    c: float,
    beta: float,
    class_probabilities: np.ndarray | None,
    target: np.ndarray,
    biased_share: float,
    beta_out_of_bounds: str,
) -> BatchPlan:
    """Return the plan for groups whose rows have been checked, with distributions that are given.

    Args:
        groups, batch_size, plan, c, beta, biased_share, beta_out_of_bounds: as for [`make_plan`].
        class_probabilities (`np.ndarray` of shape `(K,)`, *optional*): p(y), the probability of each class; uniform if
            not given. A plan of every row has each row once an epoch if these are the shares that the classes have.
        target (`np.ndarray` of shape `(K, A)`): the unbiased distribution.

    Returns:
        [`BatchPlan`]

    Raises:
        ValueError: for a beta outside its bounds, and as [`BatchPlan.build`].
    """
    if plan in PLANS_WITH_BETA:
        check_beta(beta, beta_bounds(groups.alpha, c, target), c, beta_out_of_bounds)
    built = BatchPlan.build(plan, batch_size, groups.alpha, c, beta, class_probabilities, target, biased_share)
    as_they_occur = class_probabilities is not None and np.array_equal(class_probabilities, groups.class_probabilities)
    return dataclasses.replace(built, every_row=plan in PLANS_OF_EVERY_ROW and as_they_occur)


def shares_of_classes(groups: GroupIndex, chosen: np.ndarray | None) -> np.ndarray | None:
    """Return p(y), with which classes are drawn; None stands for all classes equally often, where none lacks rows.

    Args:
        groups ([`GroupIndex`]): the groups of the training rows.
        chosen (`np.ndarray` of shape `(K,)`, *optional*): the probabilities, where they are chosen.

    Returns:
        `np.ndarray` of shape `(K,)`, *optional*

    Example:

    ```python
    >>> counts = np.array([[2, 1], [0, 0], [1, 2]], dtype=np.int64)
    >>> codes = np.repeat(np.arange(6, dtype=np.uint8), counts.ravel())
    >>> groups = GroupIndex(("a", "b", "c"), ("d", "e"), (("d", "e"),), counts, codes, np.arange(6))
    >>> shares_of_classes(groups, None).tolist()
    [0.5, 0.0, 0.5]

    ```
    """
    present = groups.counts.sum(axis=1) > 0
    return present / present.sum() if chosen is None and not present.all() else chosen
