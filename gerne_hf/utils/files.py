"""JSON files that any reader of JSON takes, and that are never left half written.

Imports nothing of this package and no torch. Tables of the same figures: [`markdown`](gerne_hf.utils.markdown).
"""

import json
import os
from typing import Any


def write_json(value: Any, path: str) -> None:
    """Write a value as strict JSON, so that a failure leaves the file as it was before.

    Args:
        value: dictionaries, lists, texts, numbers, booleans and None, nested. JSON has no infinity and no NaN: both
            are written as null (an extrapolation factor without a bound, for example).
        path (`str`): the file. The text goes to `path + ".partial"` first, which then takes the place of `path`.

    Raises:
        TypeError: for a value that JSON cannot hold.
        OSError: if the folder cannot be written to.

    Example:

    ```python
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_json({"bound": float("inf")}, f"{folder}/facts.json")
    ...     print(pathlib.Path(folder, "facts.json").read_text(), end="")
    {
      "bound": null
    }

    ```
    """
    partial = path + ".partial"
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(finite(value), file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")
    os.replace(partial, path)


def finite(value: Any) -> Any:
    """Return a value of JSON with None in place of every infinite number and every NaN, as [`write_json`] writes it.

    Args:
        value: dictionaries, lists, texts, numbers, booleans and None, nested.

    Example:

    ```python
    >>> finite({"bounds": (-1.0, float("inf"))})
    {'bounds': [-1.0, None]}

    ```
    """
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
