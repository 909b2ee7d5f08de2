"""Hashes of Python values that are the same in another process: data by its bytes, functions by their code.

Imports nothing of this package. Pickles, and the hashes that `datasets` makes of them, name a function of an imported
module without its code, and may differ from process to process. Here what cannot be told is listed as unknown.
"""

import contextlib
import enum
import functools
import json
import logging
import os
import pickle
import random
import re
import sys
import sysconfig
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
import xxhash

_PLAIN = (type(None), bool, int, float, complex, str, bytes, bytearray, type(Ellipsis), range, slice)
_LONG = 1000
"""Lists of more entries are hashed as a pickle, which is faster than one entry after the other."""
LARGEST = 4 << 30
"""Bytes of the largest array that is read whole."""
_PLACES = 1024
"""In so many places larger ones are read."""
_MOST_VALUES = 200_000
"""A value that holds more than so many others, beyond long lists, is not looked at to its end."""
_INSTALLED = tuple({path for name, path in sysconfig.get_paths().items() if name.endswith(("lib", "stdlib"))})
_INSTALLED += (str(Path(__file__).parents[1]),)  # this package, too
_NO_PART = {"__module__", "__doc__", "__dict__", "__weakref__", "__annotations__", "__firstlineno__", "__annotate__"}
_NO_PART |= {"__static_attributes__", "__annotate_func__", "__annotations_cache__", "__abstractmethods__", "_abc_impl"}
_BUILT_IN = (
    types.BuiltinFunctionType,
    types.MethodWrapperType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
)
_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType)
_GENERATORS = (random.Random, np.random.Generator, np.random.RandomState, torch.Generator)


@dataclass(frozen=True)
class Hashed:
    """What is known of a value.

    Args:
        data (`str`): hash of its data, 32 hexadecimal digits; functions and classes count by their names.
        code (`str`): hash of the functions and classes that it holds, by what they do; "" if there are none.
        unknown (`tuple[str, ...]`): in words, what of it no hash could be made of.
    """

    data: str
    code: str
    unknown: tuple[str, ...] = ()

    @property
    def whole(self) -> str | None:
        """A hash of everything; None if a part is unknown, so that equal ones are the same for certain."""
        return None if self.unknown else mix("whole", self.data, self.code).hex()


def mix(*parts: str | bytes) -> bytes:
    """Return the hash of several texts or byte strings, 16 bytes; their borders count."""
    digest = xxhash.xxh3_128()
    for part in parts:
        raw = part.encode(errors="surrogatepass") if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.digest()


def hash_value(value: Any, known: Callable[[Any], Hashed | None] | None = None) -> Hashed:
    """Return hashes of a value of any kind: arrays, tensors, models, functions, objects and all that they hold.

    A function counts by its code, its defaults, what it closes over, and the functions and values of its module that
    it names. Code of installed packages is taken to stay as it is.

    Args:
        value: the value.
        known (`Callable`, *optional*): returns the hashes of values that the caller knows more of, None for others.

    Example:

    ```python
    >>> hash_value([1, 2]) == hash_value([1, 2]), hash_value([1, 2]) == hash_value((1, 2))
    (True, False)
    >>> one, other = hash_value(lambda x: x + 1), hash_value(lambda x: x + 2)
    >>> one.data == other.data, one.code == other.code
    (True, False)

    ```
    """
    walk = _Walk(known)
    try:
        data = walk.hash(value)
    except RecursionError:
        walk.unknown["values that are nested too deeply"] = None
        data = mix("deep")
    code = mix(*walk.code).hex() if walk.code else ""
    return Hashed(data.hex(), code, tuple(walk.unknown))


def hash_weights(model: Any) -> Hashed:
    """Return a hash of all weights and buffers of a model, by their names.

    Args:
        model (`nn.Module`): the model, on any device.
    """
    walk = _Walk(None)
    parts = [mix(name, walk.hash(value)) for name, value in sorted(model.state_dict().items())]
    return Hashed(mix(*parts).hex(), "", tuple(walk.unknown))


class _Walk:
    """One look at a value: its code and what is unknown are collected, its data are returned."""

    def __init__(self, known: Callable[[Any], Hashed | None] | None):
        self.known = known
        self.code: list[bytes] = []
        self.unknown: dict[str, None] = {}
        self._done: dict[int, tuple[Any, bytes]] = {}
        self._open: list[int] = []
        self._classes: set[type] = set()
        self._left = _MOST_VALUES

    def hash(self, value: Any) -> bytes:
        if type(value) in _PLAIN:
            return mix(type(value).__name__, repr(value))
        key = id(value)
        if key in self._done:
            return self._done[key][1]
        if key in self._open:
            return mix("again", str(len(self._open) - self._open.index(key)))
        if self._left == 0:
            return self._no(f"a {type(value).__name__} beyond the first {_MOST_VALUES:,} values")
        self._left -= 1
        self._open.append(key)
        try:
            digest = self._hash(value)
        finally:
            self._open.pop()
        self._done[key] = value, digest
        return digest

    def _no(self, what: str) -> bytes:
        self.unknown[what] = None
        return mix("unknown", what)

    def _hash(self, value: Any) -> bytes:
        found = self.known(value) if self.known is not None else None
        if found is not None:
            self.unknown |= dict.fromkeys(found.unknown)
            if found.code:
                self.code.append(found.code.encode())
            return mix("known", found.data)
        if isinstance(value, type):
            self._keep_class(value)
            return mix("class", _name(value))
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, enum.Enum):
            return mix("enum", _name(type(value)), value.name)
        if isinstance(value, PurePath):
            return mix("path", str(value))
        if isinstance(value, (np.generic, np.dtype, torch.dtype, torch.device)):
            return mix(type(value).__name__, repr(value))
        if isinstance(value, re.Pattern):
            return mix("pattern", repr(value.pattern), str(value.flags))
        if isinstance(value, logging.Logger):
            return mix("logger", value.name)
        if isinstance(value, types.ModuleType):
            return mix("module", value.__name__)
        if isinstance(value, _GENERATORS):
            return self._no("a random generator, whose state changes as it is used")
        if any(callable(getattr(type(value), name, None)) for name in ("to_str", "get_vocab")):
            return self._tokenizer(value)
        function = self._function(value)
        return self._collection(value) if function is None else function

    # ---- data -------------------------------------------------------------------------------------------------------

    def _tensor(self, value: torch.Tensor) -> bytes:
        if (
            value.is_meta
            or hasattr(value, "ds_shape")
            or hasattr(value, "full_tensor")
            or value.layout != torch.strided
        ):
            return self._no("a tensor whose values this process does not have")
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return mix("tensor", str(value.dtype), str(tuple(value.shape)), _digest(raw))

    def _array(self, value: np.ndarray) -> bytes:
        if value.dtype.hasobject:
            return mix("objects", str(value.shape), self.hash(value.reshape(-1).tolist()))
        if value.nbytes > LARGEST:  # such as a file that is mapped into memory, which would be read whole
            self.unknown[f"all of an array of more than {LARGEST >> 30} GiB"] = None
            rows = np.linspace(0, len(value) - 1, min(len(value), _PLACES)).astype(int)
            return mix("part of an array", str(value.dtype), str(value.shape), *(_digest(value[r]) for r in rows))
        return mix("array", str(value.dtype), str(value.shape), _digest(value))

    def _collection(self, value: Any) -> bytes:
        name = _name(type(value))
        if isinstance(value, (list, tuple)):
            if type(value) in (list, tuple) and len(value) > _LONG:
                return mix(name, self._pickled(value))
            parts = [self.hash(part) for part in value]
        elif isinstance(value, (set, frozenset)):
            parts = sorted(self.hash(part) for part in value)
        elif isinstance(value, (dict, types.MappingProxyType)):
            parts = [mix(self.hash(key), self.hash(part)) for key, part in value.items()]
        else:
            return self._object(value)
        own = vars(value) if hasattr(value, "__dict__") else {}
        return mix(name, *parts, *(mix(key, self.hash(part)) for key, part in sorted(own.items())))

    def _pickled(self, rows: Any) -> bytes:
        """Return the hash of a pickle, in which the hashes of values stand for those that are not plain."""
        walk, digest = self, xxhash.xxh3_128()

        class Sink:
            def write(self, raw: Any) -> None:
                digest.update(raw)

        class Pickler(pickle.Pickler):
            def reducer_override(self, value: Any) -> Any:
                if type(value) is np.ndarray:  # neither counted nor remembered, as a list may hold millions
                    return bytes, (walk._array(value),)
                if isinstance(value, torch.Tensor):
                    return bytes, (walk._tensor(value),)
                return NotImplemented if value is bytes else (bytes, (walk.hash(value),))

        pickler = Pickler(Sink(), protocol=4)
        pickler.fast = True  # else equal values that are one object are written otherwise than those that are two
        try:
            pickler.dump(rows)
        except ValueError:
            return self._no("a list that holds itself")
        return digest.digest()

    def _object(self, value: Any) -> bytes:
        name = _name(type(value))
        if name.startswith("PIL.") and getattr(value, "filename", None):  # not decoded, maybe
            file = str(value.filename)
            return mix(name, file, str(os.path.getsize(file) if os.path.isfile(file) else -1))
        if name.startswith("PIL.") and hasattr(value, "tobytes"):
            return mix(name, value.mode, str(value.size), value.tobytes())
        self._keep_class(type(value))
        if not all(map(_is_written_in_python, type(value).__mro__[:-1])):
            try:
                reduced = value.__reduce_ex__(4)
            except Exception:
                return self._no(f"a {name}, which does not show what it holds")
            return mix(name, self.hash(reduced if isinstance(reduced, str) else list(reduced[1:3])))
        state = dict(vars(value)) if hasattr(value, "__dict__") else {}
        slots = [slot for cls in type(value).__mro__ for slot in _slots(cls) if hasattr(value, slot)]
        state |= {slot: getattr(value, slot) for slot in slots}
        return mix(name, *(mix(key, self.hash(part)) for key, part in sorted(state.items())))

    def _tokenizer(self, value: Any) -> bytes:
        """Return the hash of a tokenizer, but for the padding and truncation that its last call left set."""
        backend = getattr(value, "backend_tokenizer", value)
        if callable(getattr(backend, "to_str", None)):
            content = {**json.loads(backend.to_str()), "truncation": None, "padding": None}
            vocabulary = json.dumps(content, sort_keys=True)
        else:
            vocabulary = json.dumps(sorted(value.get_vocab().items()))
        names = ("padding_side", "truncation_side", "model_max_length", "model_input_names", "special_tokens_map")
        settings = {name: str(getattr(value, name, None)) for name in names}
        return mix("tokenizer", _name(type(value)), vocabulary, json.dumps(settings))

    # ---- code -------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _apart(self) -> Iterator[list[bytes]]:
        """Collect the code that is found within, and give it as a list."""
        outer, self.code = self.code, []
        try:
            yield self.code
        finally:
            self.code = outer

    def _function(self, value: Any) -> bytes | None:
        """Return the name of a function and what it is bound to, and keep its code; None for what is no function."""
        if isinstance(value, functools.partial):
            return mix("partial", self.hash(value.func), self.hash(value.args), self.hash(value.keywords))
        if isinstance(value, types.MethodType):
            return mix("method", self.hash(value.__func__), self.hash(value.__self__))
        if isinstance(value, (staticmethod, classmethod)):
            return mix(type(value).__name__, self.hash(value.__func__))
        if isinstance(value, property):
            return mix("property", self.hash(value.fget), self.hash(value.fset))
        if isinstance(value, _BUILT_IN):
            return mix("built-in", value.__qualname__, self.hash(getattr(value, "__self__", None)))
        if not isinstance(value, types.FunctionType):
            return None
        with self._apart() as inner:
            parts = [self._code(value.__code__), *self._surroundings(value)]
        self.code.append(mix("function", *parts, *inner))
        return mix("function", value.__qualname__)

    def _code(self, code: types.CodeType) -> bytes:
        constants = [self._code(c) if isinstance(c, types.CodeType) else self.hash(c) for c in code.co_consts]
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_argcount, code.co_kwonlyargcount)
        return mix(code.co_code, repr(names), str(code.co_flags), *constants)

    def _surroundings(self, function: types.FunctionType) -> list[bytes]:
        """Return hashes of what a function uses besides its arguments."""
        parts = [self.hash(function.__defaults__), self.hash(function.__kwdefaults__)]
        for cell in function.__closure__ or ():
            try:
                parts.append(self.hash(cell.cell_contents))
            except ValueError:  # not filled yet
                parts.append(mix("empty"))
        if not _is_installed(function.__code__.co_filename):
            for name in sorted(_names(function.__code__) & function.__globals__.keys()):
                parts.append(mix(name, self.hash(function.__globals__[name])))
        return parts

    def _keep_class(self, cls: type) -> None:
        """Keep what a class of the user's does, with its bases; classes of installed packages count by their names."""
        if cls in self._classes:
            return
        self._classes.add(cls)
        with self._apart() as inner:
            parts = []
            for base in cls.__mro__:
                if _is_written_in_python(base) and not _is_installed(_file(base)):
                    own = [(n, v) for n, v in sorted(vars(base).items()) if n not in _NO_PART]
                    parts += [mix(n, self.hash(v)) for n, v in own if not isinstance(v, _DESCRIPTORS)]
                parts.append(mix(_name(base)))
        self.code.append(mix("class", *parts, *inner))


def _digest(array: np.ndarray) -> bytes:
    array = np.ascontiguousarray(array).reshape(-1)
    return xxhash.xxh3_128_digest(array.view(np.uint8).data if array.size else b"")


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _slots(cls: type) -> tuple[str, ...]:
    slots = vars(cls).get("__slots__", ())
    return tuple(name for name in ((slots,) if isinstance(slots, str) else slots) if not name.startswith("__"))


def _names(code: types.CodeType) -> set[str]:
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _file(cls: type) -> str:
    """Return the file of the module that a class is in; "" where there is none."""
    return str(getattr(sys.modules.get(cls.__module__), "__file__", None) or "")


def _is_written_in_python(cls: type) -> bool:
    return cls.__module__ == "__main__" or _file(cls).endswith(".py")


def _is_installed(file: str) -> bool:
    return file.startswith((*_INSTALLED, "<frozen")) or "site-packages" in file
