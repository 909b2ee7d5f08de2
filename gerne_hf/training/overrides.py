"""What the subclass of a trainer puts in the place of methods that a plan depends on.

Imports nothing of this package. The rungs that ask: [`sampling_trainer`](gerne_hf.training.sampling_trainer) and
[`plan_trainer`](gerne_hf.training.plan_trainer).
"""

import inspect
from types import CodeType
from typing import Any


def override_without_super(cls: type, name: str, owner: type, *ways: str) -> str | None:
    """Return the method of a subclass that takes the place of `owner`'s and never calls it.

    This is judged by the code of the method alone, so that it is known before training: a method that says neither
    `super` nor its own name again cannot call the method that it overrides. One that leaves the call to another method
    of its class is taken for such a one, too.

    Args:
        cls (`type`): the subclass.
        name (`str`): name of the method.
        owner (`type`): the class whose method is overridden.
        ways (`str`): names of other methods that it may call instead.

    Returns:
        `str`: the name, such as "Mine.compute_loss"; None if there is no such method.

    Example:

    ```python
    >>> class Base:
    ...     def step(self):
    ...         return 1
    >>> class Longer(Base):
    ...     def step(self):
    ...         return super().step() + 1
    >>> class Other(Longer):
    ...     def step(self):
    ...         return 2
    >>> override_without_super(Longer, "step", Base), override_without_super(Other, "step", Base)
    (None, 'Other.step')

    ```
    """
    for each in cls.__mro__[: cls.__mro__.index(owner)]:
        if name in vars(each) and not _mentions(vars(each)[name], {"super", name, *ways}):
            return f"{each.__name__}.{name}"
    return None


def override_below(cls: type, name: str, owner: type, base: type) -> str | None:
    """Return the method of a class that stands between `owner` and `base` in the order of methods.

    `class Mine(GerneTrainer, TheirTrainer)` has methods of `TheirTrainer` there, which `owner` calls as `super()`.

    Args:
        cls (`type`): the subclass.
        name (`str`): name of the method.
        owner, base (`type`): two of its bases, `owner` before `base`.

    Returns:
        `str`: the name, such as "TheirTrainer.compute_loss"; None if there is no such method.
    """
    order = cls.__mro__
    for each in order[order.index(owner) + 1 : order.index(base)]:
        if name in vars(each):
            return f"{each.__name__}.{name}"
    return None


def _mentions(method: Any, names: set[str]) -> bool:
    """Return whether the code of a method, or of one that a decorator has wrapped, has one of the names in it.

    True as well where there is no code to look at.
    """
    function = inspect.unwrap(method) if callable(method) else method
    code = getattr(function, "__code__", None)
    if code is None or _code_mentions(code, names):
        return True
    wrapped = [cell.cell_contents for cell in getattr(function, "__closure__", None) or () if _is_filled(cell)]
    return any(inspect.isfunction(inner) and _mentions(inner, names) for inner in wrapped)


def _code_mentions(code: CodeType, names: set[str]) -> bool:
    if names & {*code.co_names, *code.co_varnames}:
        return True
    return any(isinstance(inner, CodeType) and _code_mentions(inner, names) for inner in code.co_consts)


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # the variable has no value yet
        return False
