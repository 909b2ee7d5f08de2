"""How many groups there may be: more are refused, wherever ids become groups.

Imports nothing of this package and no torch. Used by [`GroupIndex`](gerne_hf.groups.index.GroupIndex) and
[`group_metrics`](gerne_hf.evaluation.metrics.group_metrics).
"""

from collections.abc import Sequence

MAX_GROUPS = 1 << 22
"""More groups than these are refused, as the columns hold identifiers of rows or the like, not categories."""


def check_group_count(num_groups: int, sizes: Sequence[int]) -> None:
    """Refuse more groups than `MAX_GROUPS`.

    Args:
        num_groups (`int`): the number of groups.
        sizes (`Sequence[int]`): the number of values of each attribute, for the message.

    Raises:
        ValueError: says how many values the attributes have.

    Example:

    ```python
    >>> check_group_count(4, [2])

    ```
    """
    if num_groups > MAX_GROUPS:
        raise ValueError(
            f"labels and attributes make {num_groups:,} groups or more, and at most {MAX_GROUPS:,} are "
            f"taken; the attributes have {', '.join(f'{size:,}' for size in sizes)} values. "
            "Choose columns of categories, not of identifiers"
        )
