"""The name of a group, a class label together with an attribute value, as people and programs read it.

Imports nothing of this package and no torch. The names of classes and attribute values are in
[`GroupIndex`](gerne_hf.groups.index.GroupIndex).
"""

import re
from collections.abc import Sequence


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
    """Return a group's name as the keys of metrics have it; no two groups have the same.

    Args:
        label (`str`): the name of the class.
        attribute (`str`): the attribute value.

    Returns:
        `str`: a vertical bar within a name is written with a backslash before it.

    Example:

    ```python
    >>> group_key("landbird", "water")
    'landbird|water'
    >>> print(group_key("a|b", "c"), group_key("a", "b|c"))
    a\\|b|c a|b\\|c

    ```
    """
    return f"{_with_escaped('|', label)}|{_with_escaped('|', attribute)}"


def split_group_key(key: str) -> tuple[str, ...]:
    """Return label and attribute of a group's key, as [`group_key`] was given them.

    Args:
        key (`str`): what [`group_key`] returned.

    Returns:
        `tuple[str, str]`: a text that is no such key comes back alone, as it is.

    Example:

    ```python
    >>> split_group_key("landbird|water"), split_group_key(group_key("a|b", "c"))
    (('landbird', 'water'), ('a|b', 'c'))

    ```
    """
    for i, mark in enumerate(key):
        before = key[:i]
        if mark == "|" and (len(before) - len(before.rstrip("\\"))) % 2 == 0:
            return _without_escapes("|", before), _without_escapes("|", key[i + 1 :])
    return (key,)


def combined_name(values: Sequence[str]) -> str:
    """Return the name of a combination of values, one of each attribute column; no two combinations have the same.

    Args:
        values (`Sequence[str]`): the values.

    Returns:
        `str`: an ampersand within a value is written with a backslash before it.

    Example:

    ```python
    >>> combined_name(["water", "day"])
    'water & day'
    >>> print(combined_name(["a & b", "c"]))
    a \\& b & c

    ```
    """
    return " & ".join(_with_escaped("&", value) for value in values)


def _with_escaped(mark: str, name: str) -> str:
    """Return a name in which no `mark` can be taken for the one between two names."""
    if mark not in name and not name.endswith("\\"):
        return name
    return name.replace("\\", "\\\\").replace(mark, f"\\{mark}")


def _without_escapes(mark: str, name: str) -> str:
    """Return the name of which [`_with_escaped`] returned `name`."""
    return re.sub(r"\\(.)", r"\1", name, flags=re.DOTALL) if mark in name or name.endswith("\\") else name


def shared_name_with_two_ids(ours: Sequence[str], theirs: Sequence[str]) -> str | None:
    """Return a name that two lists of class names both have, under different ids; None if there is none.

    Args:
        ours, theirs (`Sequence[str]`): names by id. Upper and lower case do not matter, and mere ids, such as "2" and
            "LABEL_2" for the id 2, are no names.

    Example:

    ```python
    >>> shared_name_with_two_ids(["dog", "cat"], ["cat", "bird"]), shared_name_with_two_ids(["cat"], ["cat", "dog"])
    ('cat', None)

    ```
    """
    places = {name.lower(): i for i, name in enumerate(theirs) if not _is_mere_id(name, i)}
    for i, name in enumerate(ours):
        if not _is_mere_id(name, i) and places.get(name.lower(), i) != i:
            return name
    return None


def _is_mere_id(name: str, i: int) -> bool:
    return name.lower() in (str(i), f"label_{i}")
