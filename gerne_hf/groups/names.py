"""The name of a group, a class label together with an attribute value, as people and programs read it.

Imports nothing of this package and no torch. The names of classes and attribute values are in
[`GroupIndex`](gerne_hf.groups.index.GroupIndex).
"""


def group_title(label: str, attribute: str) -> str:
    """Return a group's name as people read it, in tables, sentences and errors, and as "worst_group" of metrics.

    Args:
        label (`str`): the name of the class.
        attribute (`str`): the attribute value.

    Returns:
        `str`

    Example:

    ```python
    >>> group_title("landbird", "water")
    '(landbird, water)'

    ```
    """
    return f"({label}, {attribute})"


def group_key(label: str, attribute: str) -> str:
    """Return a group's name as the keys of metrics and logs have it.

    Args:
        label (`str`): the name of the class.
        attribute (`str`): the attribute value.

    Returns:
        `str`

    Example:

    ```python
    >>> group_key("landbird", "water")
    'landbird|water'

    ```
    """
    return f"{label}|{attribute}"
