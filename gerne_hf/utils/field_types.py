"""The types of the fields of a config: checked, and brought into one form, before their ranges are checked.

Dataclasses check no types, so without this the text "no" would count as true. Imports nothing of this package and no
torch. The config that calls it: [`GerneConfig`](gerne_hf.config).
"""

import dataclasses
import numbers
import os
import types
import typing
from typing import Any

import numpy as np


def settle_types(config: Any, owner: type, base: type) -> None:
    """Check the fields that a class of configs has beyond those of its base class against their annotations.

    Fields that a subclass of `owner` adds are its own affair: they are neither checked nor changed.

    Values of an equivalent type are replaced in place: numbers of NumPy become `int`, `float` or `bool`, paths become
    texts, and tuples of texts become lists.

    Args:
        config: an instance of `owner`, or of a subclass.
        owner (`type`): a dataclass whose fields beyond `base` are annotated `bool`, `int`, `float`, `str`,
            `list[str]`, or as a union of these and None.
        base (`type`): the dataclass whose fields are left alone.

    Raises:
        ValueError: for a value of another type, an empty text, and a text that is given twice; names the field and the
            value found.

    Example:

    ```python
    >>> import dataclasses
    >>> import numpy as np
    >>> @dataclasses.dataclass
    ... class Base:
    ...     pass
    >>> @dataclasses.dataclass
    ... class Config(Base):
    ...     beta: float
    >>> config = Config(beta=np.float32(0.5))
    >>> settle_types(config, Config, Base)
    >>> config
    Config(beta=0.5)

    ```
    """
    inherited = {field.name for field in dataclasses.fields(base)}
    hints = typing.get_type_hints(owner)
    for field in dataclasses.fields(owner):
        if field.name not in inherited:
            setattr(config, field.name, _settled(field.name, getattr(config, field.name), hints[field.name]))


def _settled(name: str, value: Any, hint: Any) -> Any:
    """Return a field's value in the form that its annotation `hint` asks for, or raise a `ValueError`."""
    kinds = set(typing.get_args(hint)) if isinstance(hint, types.UnionType) else {hint}
    optional = type(None) in kinds
    or_none = " or None" if optional else ""
    if value is None and optional:
        return None
    if bool in kinds:
        if isinstance(value, (bool, np.bool_)):
            return bool(value)
        raise ValueError(f"{name} must be True or False{or_none}; found {value!r}")
    if int in kinds:
        if isinstance(value, numbers.Integral) and not isinstance(value, bool):
            return int(value)
        raise ValueError(f"{name} must be a whole number{or_none}; found {value!r}")
    if float in kinds:
        return _settled_number(name, value, or_none)
    if list[str] in kinds:
        return _settled_texts(name, value, or_none)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a text that is not empty{or_none}; found {value!r}")
    return value


def _settled_number(name: str, value: Any, or_none: str) -> int | float:
    """Return a real number as `int` or `float`; `or_none` is the end of the sentence that says what is allowed."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        try:
            number = float(value)
            return value if type(value) is int else number
        except OverflowError:  # a whole number beyond all floats
            raise ValueError(f"{name} must be a finite number{or_none}; found {value}") from None
    remark = " (in quotes? YAML reads 1e-3 as a text, and 1.0e-3 as a number)" if isinstance(value, str) else ""
    raise ValueError(f"{name} must be a finite number{or_none}; found {value!r}{remark}")


def _settled_texts(name: str, value: Any, or_none: str) -> str | list[str]:
    """Return a text, or several as a list; `or_none` is the end of the sentence that says what is allowed."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, (list, tuple)) or not all(isinstance(item, str) and item for item in values):
        raise ValueError(f"{name} must be a name or a list of names{or_none}; found {value!r}")
    if len(set(values)) < len(values):
        raise ValueError(f"{name} must name each only once; found {value!r}")
    return value if isinstance(value, str) else list(value)
