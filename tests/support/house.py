"""What the source of a package says of its own order, read from the syntax trees: nothing is imported or run.

`read_house` reads a package; every other function takes what it returns and lists what breaks one rule, a line each.
test_house.py holds the rules against `gerne_hf`, and feeds each of them a tree that breaks it.
"""

import ast
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

Function = (ast.FunctionDef, ast.AsyncFunctionDef)
Definition = (*Function, ast.ClassDef)


@dataclass
class Module:
    """A module: its source, and its stub if it has one."""

    name: str
    path: Path | None = None
    tree: ast.Module = field(default_factory=lambda: ast.Module([], []))
    stub: ast.Module | None = None

    @property
    def package(self) -> str:
        """What relative imports of it start from."""
        is_package = self.path is not None and self.path.stem == "__init__"
        return self.name if is_package else self.name.rpartition(".")[0]


House = dict[str, Module]


def read_house(package: Path) -> House:
    """Read all modules of a package, by their full names; the package itself is among them.

    Args:
        package (`Path`): its folder.
    """
    house: House = {}
    for path in sorted([*package.rglob("*.py"), *package.rglob("*.pyi")]):
        parts = (package.name, *path.relative_to(package).with_suffix("").parts)
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        module, tree = house.setdefault(name, Module(name)), ast.parse(path.read_text(encoding="utf-8"))
        if path.suffix == ".pyi":
            module.stub = tree
        else:
            module.tree = tree
        module.path = module.path or path
    return house


def root_of(house: House) -> str:
    """The name of the package."""
    return next(iter(house)).partition(".")[0]


def room_of(name: str) -> str:
    """The room of a module, or its own name if it stands above the rooms; `__init__` for the package itself."""
    return (name.split(".") + ["__init__"])[1]


def rooms(house: House) -> set[str]:
    """The full names of the sub-packages."""
    folders = {m.path.parent for m in house.values() if m.path is not None and m.name.count(".") > 1}
    inner = {name for name, m in house.items() if name.count(".") == 1 and m.path is not None and m.package == name}
    return inner | {f"{root_of(house)}.{folder.name}" for folder in folders if folder.parent.name == root_of(house)}


# ---- imports ------------------------------------------------------------------------------------------------------


def imports(house: House, module: Module) -> Iterator[tuple[str, int]]:
    """Each module of the house that a module imports, on whichever level of it, with the line."""
    root = root_of(house)
    for tree in filter(None, (module.tree, module.stub)):
        for node in ast.walk(tree):
            for name in _asked_for(node, module):
                if name.split(".")[0] == root:
                    while name and name not in house:
                        name = name.rpartition(".")[0]
                    if name not in ("", module.name):
                        yield name, node.lineno


def _asked_for(node: ast.AST, module: Module) -> list[str]:
    """The full names that a statement or a call imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        source = _absolute("." * node.level + (node.module or ""), module)
        return [f"{source}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called, name = ast.unparse(node.func).rpartition(".")[2], node.args[0].value
        if isinstance(name, str) and called in ("import_module", "__import__"):
            return [_absolute(name, module)]
    return []


def _absolute(name: str, module: Module) -> str:
    level = len(name) - len(name.lstrip("."))
    if not level:
        return name
    base = module.package.split(".")
    return ".".join([*base[: len(base) - level + 1], *filter(None, [name[level:]])])


def imports_upwards(house: House, layers: Collection[str]) -> list[str]:
    """Rooms without a layer, layers without a room, and imports of a room above."""
    height = {room: at for at, room in enumerate(layers)}
    found = [f"{room} has no layer" for room in sorted({room_of(name) for name in house} - set(height))]
    found += [f"the layer {room} has no room" for room in height if room not in {room_of(name) for name in house}]
    for module in house.values():
        for target, line in imports(house, module):
            if height.get(room_of(target), 0) > height.get(room_of(module.name), len(height)):
                found.append(f"{module.name}, line {line}, imports {target}, which is above")
    return found


def circles(house: House) -> list[str]:
    """Modules that import each other, straight or by way of others: the strongly connected components (Tarjan)."""
    edges = {name: sorted({target for target, _ in imports(house, module)}) for name, module in house.items()}
    number, low, stack, found = {}, {}, [], []

    def visit(name: str) -> None:
        number[name] = low[name] = len(number)
        stack.append(name)
        for target in edges[name]:
            if target not in number:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], number[target])
        if low[name] == number[name]:
            at = stack.index(name)
            if len(stack) - at > 1:
                found.append(" <-> ".join(sorted(stack[at:])))
            del stack[at:]

    for name in house:
        if name not in number:
            visit(name)
    return found


# ---- private names ------------------------------------------------------------------------------------------------


def is_private(name: str) -> bool:
    """Whether a name begins with an underscore and is none of Python's own, such as `__init__`."""
    return name.startswith("_") and name.strip("_") != "" and not (name.startswith("__") and name.endswith("__"))


def private_names_elsewhere(house: House, allowed: Collection[str]) -> list[str]:
    """Private names that a module imports, reads of an object or overrides, though another module has defined them.

    What is assigned to anything but `self` or `cls` is used, not defined.

    Args:
        house (`House`): the modules.
        allowed (`Collection[str]`): private names that may be used all the same.
    """
    found = []
    for module in house.values():
        own = _defined(module.tree)
        for node in ast.walk(module.tree):
            for name in _used(node):
                if is_private(name) and name not in own and name not in allowed:
                    found.append(f"{module.name}, line {node.lineno}: {name}")
            if isinstance(node, ast.ImportFrom):
                names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [part for alias in node.names for part in alias.name.split(".")]
            else:
                continue
            private = [name for name in names if is_private(name) and name not in allowed]
            found += [f"{module.name}, line {node.lineno}, imports {name}" for name in private]
        for child in [node for node in module.tree.body if isinstance(node, ast.ClassDef)]:
            mine = {name for name in _defined(child) if is_private(name)} - set(allowed)
            for home, parent in _ancestors(house, module, child):
                if home is not module:
                    both = sorted(mine & _defined(parent))
                    found += [f"{module.name}: {child.name}.{name} is {home.name}'s too" for name in both]
    return found


def names_used(house: House) -> set[str]:
    """All names that any module reads of an object, or defines."""
    return {n for m in house.values() for node in ast.walk(m.tree) for n in _used(node)} | {
        name for m in house.values() for name in _defined(m.tree)
    }


def _used(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Attribute):
        return [node.attr]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) > 1:
        given = node.args[1]
        if node.func.id in ("getattr", "hasattr", "delattr", "setattr") and isinstance(given, ast.Constant):
            return [str(given.value)]
    return []


def _defined(tree: ast.AST) -> set[str]:
    """The names that are defined anywhere below a node: functions, classes, variables, attributes of self or cls."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, Definition):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
            names.add(node.attr)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("object.__setattr__", "setattr"):
            if len(node.args) > 1 and _is_self(node.args[0]) and isinstance(node.args[1], ast.Constant):
                names.add(str(node.args[1].value))
    return names


def _is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _ancestors(house: House, module: Module, child: ast.ClassDef) -> Iterator[tuple[Module, ast.ClassDef]]:
    """The classes of the house that a class inherits from, each with its module."""
    for base in [base.id for base in child.bases if isinstance(base, ast.Name)]:
        home = module
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ImportFrom) and base in {alias.asname or alias.name for alias in node.names}:
                home = house.get(_absolute("." * node.level + (node.module or ""), module), home)
                base = next(alias.name for alias in node.names if base == (alias.asname or alias.name))
                break
        for parent in home.tree.body:
            if isinstance(parent, ast.ClassDef) and parent.name == base and parent is not child:
                yield home, parent
                yield from _ancestors(house, home, parent)


# ---- docstrings, annotations, lengths -----------------------------------------------------------------------------


def long_files(package: Path, most: int) -> list[str]:
    """Files of a package of more than so many lines."""
    found = []
    for path in sorted(path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        lines = len(path.read_bytes().splitlines())
        if lines > most:
            found.append(f"{path.relative_to(package)} has {lines} lines")
    return found


def missing_docstrings(house: House) -> list[str]:
    """Modules, rooms, and public functions and classes without a docstring; docstrings that only name the parent."""
    found = [f"{room} has no __init__.py" for room in sorted(rooms(house)) if room not in house]
    for module in house.values():
        if not ast.get_docstring(module.tree):
            found.append(f"{module.name} has no docstring")
        for name, node in _public(module.tree, module.name):
            marks = [ast.unparse(mark).rpartition(".")[2] for mark in node.decorator_list]
            if not ast.get_docstring(node) and not {"overload", "setter", "deleter"} & set(marks):
                if not node.name.startswith("__"):
                    found.append(f"{name} has no docstring")
        for node in ast.walk(module.tree):
            if isinstance(node, (ast.Module, *Definition)):
                if (ast.get_docstring(node) or "").startswith("The parent's"):
                    found.append(f'{module.name}, {getattr(node, "name", "its own")}: begins with "The parent\'s"')
    return found


def missing_annotations(house: House) -> list[str]:
    """Parameters of public functions and methods that have no type."""
    found = []
    for module in house.values():
        for name, node in _public(module.tree, module.name):
            if isinstance(node, Function):
                given = node.args
                named = [*given.posonlyargs, *given.args]
                named = named[1:] if named and named[0].arg in ("self", "cls") else named
                every = [*named, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
                found += [f"{name}: {each.arg}" for each in every if each.annotation is None]
    return found


def _public(tree: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    """The public functions and classes of a module or a class, and the methods with names of Python's own."""
    for node in _statements(tree):
        if isinstance(node, Definition) and not is_private(node.name):
            yield f"{prefix}.{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from _public(node, f"{prefix}.{node.name}")


def _statements(tree: ast.AST) -> Iterator[ast.stmt]:
    """The statements of a module or a class, with those under its if, try and with."""
    for part in ("body", "orelse", "finalbody", "handlers"):
        for node in getattr(tree, part, []):
            if isinstance(node, (ast.If, ast.Try, ast.With, ast.ExceptHandler)):
                yield from _statements(node)
            else:
                yield node


# ---- what a room exports ------------------------------------------------------------------------------------------


def exports(house: House, room: str) -> dict[str, str]:
    """The names that a room's stub exports, each with the module it comes from."""
    module = house[room]
    found = {}
    for node in (module.stub or module.tree).body:
        if isinstance(node, ast.ImportFrom):
            source = _absolute("." * node.level + (node.module or ""), module)
            found |= {alias.asname or alias.name: source for alias in node.names}
    return found


def wrong_stubs(house: House) -> list[str]:
    """Rooms without a stub; exports that are private, do not exist, are no re-exports, or hide a module."""
    found = []
    for room in [*sorted(rooms(house)), root_of(house)]:
        module = house.get(room)
        if module is None or module.stub is None:
            found += [f"{room} has no __init__.pyi"]
            continue
        for node in [node for node in module.stub.body if isinstance(node, ast.ImportFrom)]:
            source = _absolute("." * node.level + (node.module or ""), module)
            for alias in node.names:
                name = f"{source}.{alias.name}"
                is_module = name in house
                if alias.name.startswith("_"):
                    found.append(f"{room} exports {alias.name}")
                elif alias.asname != alias.name:
                    found.append(f"{room}: {alias.name} is exported only if it is imported `as {alias.name}`")
                elif not is_module and (source == room or alias.name not in _top_level(house, source)):
                    found.append(f"{room} exports {name}, which does not exist")
                elif not is_module and f"{room}.{alias.name}" in house:
                    found.append(f"{room} exports {alias.name}, which is the name of a module there, too")
    return found


def _top_level(house: House, name: str) -> set[str]:
    """The names that a module defines or imports, or as a room exports."""
    if name not in house:
        return set()
    names = set(exports(house, name)) if house[name].stub else set()
    for node in _statements(house[name].tree):
        if isinstance(node, Definition):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        else:
            names |= {
                each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
            }
    return names


def imports_from_inside(house: House, code: str) -> list[str]:
    """Imports of a user's script from a module inside a room, or of what a room does not export.

    Args:
        house (`House`): the modules.
        code (`str`): the script.
    """
    found, root = [], root_of(house)
    open_doors = {root, *rooms(house)}
    for room in list(open_doors):
        open_doors |= {f"{room}.{name}" for name, source in exports(house, room).items() if source == room}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            asked = [alias.name for alias in node.names if alias.name.split(".")[0] == root]
            found += [f"line {node.lineno}: {name}" for name in asked if name not in open_doors]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == root:
            names = [alias.name for alias in node.names]
            if node.module not in open_doors:
                found.append(f"line {node.lineno}: {node.module}")
            elif node.module in rooms(house) | {root}:
                known = set(exports(house, node.module)) | {door.rpartition(".")[2] for door in rooms(house)}
                known = known if node.module == root else set(exports(house, node.module))
                missing = [name for name in names if name not in known and name != "__version__"]
                found += [f"line {node.lineno}: {node.module} does not export {name}" for name in missing]
            else:
                known = _top_level(house, node.module)
                wrong = [name for name in names if name.startswith("_") or name not in known]
                found += [f"line {node.lineno}: {node.module} has no public {name}" for name in wrong]
    return found


def code_blocks(document: str) -> list[str]:
    """The Python of a document in Markdown: its python blocks, prompts taken off, and what its diffs lead to."""
    found = []
    for language, block in re.findall(r"^```(python|diff)\n(.*?)^```$", document, flags=re.MULTILINE | re.DOTALL):
        lines = block.splitlines()
        if language == "diff":
            lines = [line[1:] for line in lines if not line.startswith("-")]
        elif any(line.startswith(">>> ") for line in lines):
            lines = [line[4:] for line in lines if line.startswith((">>> ", "... "))]
        found.append(re.sub(r",\s*\.\.\.\)", ")", "\n".join(lines)))  # "and so on" among the arguments of a call
    return found
