"""Writes a page for each room of `gerne_hf` from its `__init__.pyi`, and lets autodoc fill it.

The pages lie in `docs/api/`, are made at every build, and are not committed. Each name is documented once: in its
room, or on the page of `gerne_hf` if it has none. `docstrings.py` turns the docstrings into what Sphinx reads.
"""

import ast
import importlib
import inspect
from functools import cache
from pathlib import Path
from typing import Any

from docstrings import to_rst

PACKAGE = "gerne_hf"
ROOT = Path(__file__).parents[2]
LONGEST_SIGNATURE = 30
"""Of more parameters than these a signature shows only those that the class itself adds."""


@cache
def documented() -> dict[str, str]:
    """Return what the pages document: the full name under which each object is defined, and the one that is shown."""
    found: dict[str, str] = {}
    stubs = sorted((ROOT / PACKAGE).rglob("__init__.pyi"), key=lambda path: (path.parent.name == PACKAGE, path))
    for stub in stubs:
        room = ".".join(stub.parent.relative_to(ROOT).parts)
        for line in ast.parse(stub.read_text(encoding="utf-8")).body:
            if isinstance(line, ast.ImportFrom) and line.module:
                for name in line.names:
                    found.setdefault(f"{room}.{line.module}.{name.name}", f"{room}.{name.asname or name.name}")
    return found


def rooms() -> list[str]:
    """Return the names of the pages: `gerne_hf` first, then the rooms by name."""
    return sorted({shown.rpartition(".")[0] for shown in documented().values()})


def thing(shown: str) -> Any:
    """Return the object of a name that is shown.

    Args:
        shown (`str`): its full name.
    """
    room, _, name = shown.rpartition(".")
    return getattr(importlib.import_module(room), name)


@cache
def resolve(target: str) -> str | None:
    """Return the full name that a link of a docstring leads to, or None if the site has no place for it.

    Args:
        target (`str`): a module, an object by its full name or its last, or a method as `Class.method`.
    """
    names = documented()
    if target in names:
        return names[target]
    if target in names.values() or target in rooms():
        return target
    of_short = {shown.rpartition(".")[2]: shown for shown in names.values()}
    if target in of_short:
        return of_short[target]
    owner, _, member = target.rpartition(".")
    found = names.get(owner) or of_short.get(owner) or (owner if owner in names.values() else "")
    if found and inspect.isclass(thing(found)):
        for base in thing(found).__mro__:
            shown = names.get(f"{base.__module__}.{base.__name__}")
            if shown and inspect.getdoc(vars(base).get(member)):
                return f"{shown}.{member}"
    return owner if owner in rooms() else None


def write_pages(folder: Path) -> None:
    """Write a page for each room. Pages that say the same already are left alone, so that builds are quick.

    Args:
        folder (`Path`): where they go.
    """
    pages = {room: _page(room) for room in rooms()}
    for room, text in pages.items():
        path = folder / f"{room}.rst"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for path in folder.glob("*.rst"):
        if path.stem not in pages:
            path.unlink()


def _page(room: str) -> str:
    shown = sorted((one for one in documented().values() if one.rpartition(".")[0] == room), key=str.lower)
    title = room.rpartition(".")[2]
    parts = [title, "=" * len(title), "", f".. automodule:: {room}", ""]
    if room == PACKAGE:
        elsewhere = [line for line in _top_names() if line.rpartition(".")[0] != PACKAGE]
        links = ", ".join(f":py:obj:`{one.rpartition('.')[2]} <{one}>`" for one in elsewhere)
        parts += [f"These are on the pages of their rooms, and can be imported from ``{PACKAGE}``, too: {links}.", ""]
    for name in shown:
        value = thing(name)
        if inspect.isclass(value):
            bases = ["   :show-inheritance:"] if value.__bases__ != (object,) else []
            parts += [f".. autoclass:: {name}", "   :members:", *bases, ""]
        elif inspect.isroutine(value):
            parts += [f".. autofunction:: {name}", ""]
        else:
            parts += [f".. py:data:: {name}", "", *(f"   {line}" if line else "" for line in _words(name)), ""]
    return "\n".join(parts)


def _top_names() -> list[str]:
    stub = ast.parse((ROOT / PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    lines = [line for line in stub.body if isinstance(line, ast.ImportFrom)]
    return [documented()[f"{PACKAGE}.{line.module}.{name.name}"] for line in lines for name in line.names]


def _words(shown: str) -> list[str]:
    """Return what the source says below a constant."""
    (defined,) = (path for path, name in documented().items() if name == shown)
    module, _, name = defined.rpartition(".")
    body = ast.parse(inspect.getsource(importlib.import_module(module))).body
    for line, after in zip(body, body[1:], strict=False):
        targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
        if any(isinstance(one, ast.Name) and one.id == name for one in targets):
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                return to_rst(inspect.cleandoc(str(after.value.value)).splitlines(), resolve)
    return []


def _process_docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = to_rst(list(lines), resolve)


def _process_signature(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, None] | None:
    if what != "class" or signature is None:
        return None
    parameters = inspect.signature(obj).parameters
    if len(parameters) <= LONGEST_SIGNATURE:
        return None
    inherited = {one for base in obj.__mro__[1:] for one in getattr(base, "__dataclass_fields__", {})}
    own = [f"{one.name}={one.default!r}" for one in parameters.values() if one.name not in inherited]
    return f"({', '.join([*own, '**fields_of_' + obj.__mro__[1].__name__])})", None


def setup(app: Any) -> dict[str, bool]:
    """Let Sphinx call the functions above.

    Args:
        app (`sphinx.application.Sphinx`): the application.
    """
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir) / "api"))
    app.connect("autodoc-process-docstring", _process_docstring)
    app.connect("autodoc-process-signature", _process_signature)
    return {"parallel_read_safe": True}
