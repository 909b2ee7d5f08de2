"""What a comparison says before it trains: the rows of each group in all splits, and where not to select.

Imports `evaluation/`, `groups/` and trainers. [`comparing`](gerne_hf.comparison.comparing) prints it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..evaluation.metrics import wilson_interval
from ..evaluation.overlapping import combination_memberships
from ..evaluation.selectable import FEW_ROWS
from ..groups.index import GroupIndex
from ..groups.names import group_title
from ..trainer import GerneTrainer
from ..utils.markdown import format_table

MOST_GROUPS = 24
"""Groups that the table shows, those with the fewest validation rows first where there are more."""

Counts = dict[tuple[str, str], int]
"""Rows by class and attribute value."""

NOT_OF_GROUPS = ("accuracy", "adjusted_accuracy", "class_balanced_accuracy", "worst_class_accuracy")
"""Metrics of the validation set on which a small group has little weight."""


def rows_by_split(trainer: GerneTrainer, test_dataset: Any) -> dict[str, Counts | None]:
    """Return how many rows each group has in the training, validation and test set; None where nobody knows yet.

    Args:
        trainer ([`GerneTrainer`]): a trainer that was just made.
        test_dataset: the test set. Its columns of labels and attributes are read, no row is decoded.
    """
    sets = trainer.eval_dataset
    validation = next(iter(sets.values()), None) if isinstance(sets, dict) else sets
    overlapping = tuple(trainer.args.overlapping_columns or ())
    found: dict[str, Counts | None] = {"training": _counts(trainer.reference_groups, ())}
    for name, data in (("validation", validation), ("test", test_dataset)):
        index = None if data is None else trainer.groups_of(data, name)
        found[name] = _counts(index, overlapping)
    if overlapping and trainer.overlapping_train_counts is not None and trainer.reference_groups is not None:
        labels, counts = trainer.reference_groups.label_names, trainer.overlapping_train_counts
        found["training"] = _by_name(labels, overlapping, counts)
    return found


def counts_table(splits: Mapping[str, Counts | None], shown: Callable[[str], str] = str) -> str:
    """Return a table of the rows of each group, a column a split.

    Args:
        splits (`Mapping[str, dict | None]`): from [`rows_by_split`].
        shown (`Callable`, *optional*): how a name is written; as it is if not given.

    Example:

    ```python
    >>> print(counts_table({"training": {("a", "x"): 1000}, "validation": {("a", "x"): 9}, "test": None}))
    | group  | training rows | validation rows | test rows |
    |--------|--------------:|----------------:|----------:|
    | (a, x) |         1,000 |               9 |         - |

    ```
    """
    groups = [*dict.fromkeys(group for counts in splits.values() for group in counts or {})]
    hidden = max(0, len(groups) - MOST_GROUPS)
    if hidden:
        validation = splits.get("validation") or {}
        groups = sorted(groups, key=lambda group: validation.get(group, 0))[:MOST_GROUPS]
    rows = []
    for group in groups:
        known = (None if counts is None else counts.get(group) for counts in splits.values())
        rows.append([shown(group_title(*group)), *("-" if count is None else f"{count:,}" for count in known)])
    table = format_table(["group", *(f"{name} rows" for name in splits)], rows)
    return table + (f"\n{hidden} groups have more validation rows than these." if hidden else "")


def where_not_to_select(validation: Counts | None, metric: str) -> str | None:
    """Return a warning of a group with so few validation rows that methods cannot be told apart by it; None else.

    Args:
        validation (`dict`, *optional*): validation rows by class and attribute value.
        metric (`str`): the metric that methods are ranked by.

    Example:

    ```python
    >>> said = where_not_to_select({("bird", "water"): 9, ("bird", "land"): 700}, "worst_group_accuracy")
    >>> said.split(": ")[0], said.split(", ")[-1]
    ('The group (bird, water) has 9 validation rows', 'the 95 % interval is 26.7 to 81.1 %.')

    ```
    """
    few = {group: count for group, count in (validation or {}).items() if 0 < count < FEW_ROWS}
    if metric in NOT_OF_GROUPS or metric.startswith("overall_") or not few:
        return None
    group, count = min(few.items(), key=lambda item: item[1])
    right = (count + 1) // 2
    low, high = wilson_interval(right, count)
    assert low is not None and high is not None
    others = "1 more group has" if len(few) == 2 else f"{len(few) - 1} more groups have"
    more = f" (and {others} fewer than {FEW_ROWS})" if len(few) > 1 else ""
    rows = f"{count} validation row{'s' if count > 1 else ''}{more}"
    return (
        f"The group {group_title(*group)} has {rows}: do not select on it. With {right} of {count} right, "
        f"{100 * right / count:.1f} %, the 95 % interval is {100 * low:.1f} to {100 * high:.1f} %."
    )


def _counts(index: GroupIndex | None, overlapping: tuple[str, ...]) -> Counts | None:
    """Return the rows of each group of an index, over overlapping attributes if there are any."""
    if index is None:
        return None
    if overlapping:
        if index.num_attributes == 1:
            return None  # the columns are not there
        return _by_name(index.label_names, overlapping, index.counts @ combination_memberships(index))
    return _by_name(index.label_names, index.attribute_names, index.counts)


def _by_name(labels: Any, attributes: Any, counts: np.ndarray) -> Counts:
    return {
        (str(label), str(value)): int(counts[k, a])
        for k, label in enumerate(labels)
        for a, value in enumerate(attributes)
    }
