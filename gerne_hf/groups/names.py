"""The name of a group, a class label together with an attribute value, as people and programs read it.

Imports nothing of this package and no torch. The names of classes and attribute values are in
[`GroupIndex`](gerne_hf.groups.index.GroupIndex).
"""


def group_title(label: str, attribute: str) -> str:
    """Return a group's name as tables, pictures and cards show it.

    Args:
        label (`str`): the name of the class.
        attribute (`str`): the attribute value.

    Returns:
        `str`

    Example:

    ```python
    >>> group_title("landbird", "water")
    'landbird, water'

    ```
    """
    return f"{label}, {attribute}"


def group_in_brackets(label: str, attribute: str) -> str:
    """Return a group's name as sentences have it, among them errors, and as "worst_group" of metrics.

    Args:
        label (`str`): the name of the class.
        attribute (`str`): the attribute value.

    Returns:
        `str`

    Example:

    ```python
    >>> group_in_brackets("landbird", "water")
    '(landbird, water)'

    ```
    """
    return f"({group_title(label, attribute)})"


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
