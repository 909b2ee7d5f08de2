"""The order of the house: layers, no circle, no private name of another module, docstrings, types, light imports.

support/house.py reads the source, and a failure lists the lines to mend. The second half of this file feeds each check
a small package that breaks its rule.
"""

import inspect
import re
import subprocess
import sys
from collections import Counter

import datasets
import house
import pytest
import transformers
from places import ROOT

PACKAGE = ROOT / "gerne_hf"
LAYERS = (
    *("utils", "hub", "checkpoints", "groups", "models", "method", "evaluation", "evaluate_modules", "config", "data"),
    *("streaming", "reports", "training", "tuning", "pseudo_attributes", "trainer", "baselines", "comparison"),
    *("recipes", "cli", "__init__"),
)
"""From the ground up: a module imports from its own layer and those before it."""

HOOKS = {
    "_get_collator_with_removed_columns": transformers.Trainer,
    "_get_dataloader": transformers.Trainer,
    "_get_output_dir": transformers.Trainer,
    "_get_train_sampler": transformers.Trainer,
    "_indices": datasets.Dataset,
    "_name_or_path": transformers.PretrainedConfig,
    "_remove_columns": transformers.trainer_utils.RemoveColumnsCollator,
    "_remove_unused_columns": transformers.Trainer,
    "_train_batch_size": transformers.Trainer,
}
"""Private names of Transformers and datasets that the package reads or overrides, each with its class."""

DOCUMENTED = {"_BatchNorm", "_asdict", "_fields", "_get_default_store", "_make", "_replace"}  # torch has no other way
"""What torch and namedtuple document, though it begins with an underscore."""

MOST_LINES = 450
LIGHT = ("import gerne_hf", "from gerne_hf.evaluation import group_metrics", "import gerne_hf.reports.page")
SCRIPTS = [*sorted((ROOT / "recipes").glob("*.py")), ROOT / "README.md", ROOT / "recipes" / "README.md"]


@pytest.fixture(scope="module")
def source():
    """The package, read."""
    return house.read_house(PACKAGE)


def nothing(found: list[str]) -> None:
    """Fail with all that was found, a line each."""
    assert not found, "\n".join(["", *found])


def test_there_is_something_to_read(source):
    assert len(source) > 60 and len(house.rooms(source)) > 10 and "gerne_hf.trainer" in source
    targets = {target for target, _ in house.imports(source, source["gerne_hf.trainer"])}
    assert "gerne_hf.config" in targets and len(targets) > 3


def test_no_room_imports_from_one_above(source):
    nothing(house.imports_upwards(source, LAYERS))


def test_no_modules_import_each_other_in_a_circle(source):
    nothing(house.circles(source))


def test_private_names_stay_in_their_module(source):
    nothing(house.private_names_elsewhere(source, {*HOOKS, *DOCUMENTED}))


@pytest.mark.parametrize("name", HOOKS)
def test_hooks_of_transformers_exist_and_are_needed(source, name):
    owner = HOOKS[name]
    assert owner.__module__.startswith(("transformers", "datasets"))
    assert hasattr(owner, name) or re.search(rf"self\.{name}(: [^=]+)? = ", inspect.getsource(owner))
    assert name in house.names_used(source)


def test_no_file_is_too_long():
    nothing(house.long_files(PACKAGE, MOST_LINES))


def test_files_of_tests_have_names_of_their_own():
    """Pytest takes two files of one name for one module, and stops, depending on the order in which it finds them."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(names) > 100 and [name for name, times in names.items() if times > 1] == []


def test_docstrings(source):
    nothing(house.missing_docstrings(source))


def test_public_parameters_have_types(source):
    nothing(house.missing_annotations(source))


@pytest.mark.parametrize("line", LIGHT)
def test_light_imports_leave_torch_out(line):
    assert "torch" not in modules_after(line)


def modules_after(line: str) -> set[str]:
    """The modules that a new process has imported after a line of code."""
    code = f"import sys\n{line}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return set(done.stdout.split())


def test_stubs_export_what_there_is(source):
    nothing(house.wrong_stubs(source))


@pytest.mark.parametrize("path", SCRIPTS, ids=[str(path.relative_to(ROOT)) for path in SCRIPTS])
def test_recipes_and_documents_import_from_rooms(source, path):
    text = path.read_text(encoding="utf-8")
    blocks = house.code_blocks(text) if path.suffix == ".md" else [text]
    nothing([found for block in blocks for found in house.imports_from_inside(source, block)])


# ---- each check can fail ------------------------------------------------------------------------------------------

ROOM = {
    "__init__.py": '"""All."""\n',
    "__init__.pyi": "from .low.a import f as f\n",
    "low/__init__.py": '"""A room."""\n',
    "low/__init__.pyi": "from . import b as b\nfrom .a import f as f, g as g\n",
    "low/a.py": '"""A."""\n\n\ndef f(x: int) -> int:\n    """Return x."""\n\n\ng = 1\n_p = 2\n',
    "low/b.py": '"""B."""\n\nfrom .a import f\n\n\nclass B:\n    """B."""\n\n    _own = 1\n',
    "high/__init__.py": '"""Above."""\n',
    "high/__init__.pyi": "from .c import h as h\n",
    "high/c.py": '"""C."""\n\nfrom ..low.a import f\nfrom ..low.b import B\n\nh = [f, B]\n',
    "top.py": '"""Over all."""\n\nfrom .high import c\n',
}
ROOMS = ("low", "high", "top", "__init__")


@pytest.fixture
def built(tmp_path):
    """Writes a small package that is in order, with some files changed, and reads it."""

    def build(**changed: str) -> house.House:
        for name, text in {**ROOM, **changed}.items():
            path = tmp_path / "pack" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return house.read_house(tmp_path / "pack")

    return build


def test_a_house_in_order(built, tmp_path):
    source = built()
    assert house.imports_upwards(source, ROOMS) == house.circles(source) == []
    assert house.private_names_elsewhere(source, ()) == house.missing_docstrings(source) == []
    assert house.missing_annotations(source) == house.wrong_stubs(source) == []
    assert house.long_files(tmp_path / "pack", 12) == []


@pytest.mark.parametrize(
    "line",
    [
        "from ..high.c import h",
        "from ..high import c",
        "from .. import top",
        "import pack.high.c",
        "from pack.high import h",
        "from pack import f",
        "def late():\n    from ..high.c import h",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..high.c import h",
        "import importlib\nimportlib.import_module('pack.high.c')",
        "from importlib import import_module\nimport_module('..high.c', __package__)",
    ],
)
def test_an_import_upwards_is_found(built, line):
    (found,) = house.imports_upwards(built(**{"low/a.py": ROOM["low/a.py"] + line}), ROOMS)
    assert found.startswith("pack.low.a, line ") and "which is above" in found


def test_a_room_without_a_layer_is_found(built):
    assert house.imports_upwards(built(**{"new/d.py": ""}), ROOMS) == ["new has no layer"]
    assert house.imports_upwards(built(), [*ROOMS, "gone"])[-1] == "the layer gone has no room"


@pytest.mark.parametrize("line", ["from .b import B", "def late():\n    from . import b", "from . import f"])
def test_a_circle_is_found(built, line):
    (found,) = house.circles(built(**{"low/a.py": ROOM["low/a.py"] + line}))
    assert found.startswith("pack.low") and "pack.low.a" in found


@pytest.mark.parametrize(
    "line",
    [
        "from .a import _p",
        "from . import a\nuse = a._p",
        "def use(x):\n    return x._hidden",
        "def use(x):\n    x._hidden = 1",
        "def use(x):\n    return getattr(x, '_hidden')",
        "from torch._inside import name",
        "import torch._inside",
    ],
)
def test_a_private_name_of_another_module_is_found(built, line):
    (found,) = house.private_names_elsewhere(built(**{"low/b.py": ROOM["low/b.py"] + line}), ())
    assert found.startswith("pack.low.b, line ")
    assert house.private_names_elsewhere(built(), ("_p", "_hidden", "_inside")) == []


def test_an_override_of_a_private_name_is_found(built):
    child = "\n\nclass C(B):\n    def _own(self):\n        self._mine = self._mine\n"
    found = house.private_names_elsewhere(built(**{"high/c.py": ROOM["high/c.py"] + child}), ())
    assert found == ["pack.high.c: C._own is pack.low.b's too"]


def test_a_long_file_is_found(built, tmp_path):
    built(**{"high/page.html": "\n" * 13})
    assert house.long_files(tmp_path / "pack", 12) == ["high/page.html has 13 lines"]


@pytest.mark.parametrize(
    "path, text, found",
    [
        ("low/a.py", "", "pack.low.a has no docstring"),
        ("low/__init__.py", "", "pack.low has no docstring"),
        ("new/d.py", '"""D."""\n', "pack.new has no __init__.py"),
        ("low/a.py", '"""A."""\ndef f(): pass\n', "pack.low.a.f has no docstring"),
        ("low/a.py", '"""A."""\nif 1:\n    class A: pass\n', "pack.low.a.A has no docstring"),
        ("low/a.py", '"""A."""\nclass A:\n    """A."""\n    def f(self): pass\n', "pack.low.a.A.f has no docstring"),
        ("low/a.py", '"""A."""\ndef _f():\n    """The parent\'s."""\n', 'pack.low.a, _f: begins with "The parent\'s"'),
    ],
)
def test_a_missing_docstring_is_found(built, path, text, found):
    assert house.missing_docstrings(built(**{path: text})) == [found]


@pytest.mark.parametrize(
    "code, found",
    [
        ("def f(x, y: int): pass", "f: x"),
        ("def f(*, x): pass", "f: x"),
        ("def f(**x): pass", "f: x"),
        ("class A:\n    def __init__(self, x): pass", "A.__init__: x"),
        ("class A:\n    async def f(self, *x): pass", "A.f: x"),
    ],
)
def test_a_missing_type_is_found(built, code, found):
    assert house.missing_annotations(built(**{"low/a.py": code})) == [f"pack.low.a.{found}"]


def test_a_heavy_import_is_found():
    assert "json" in modules_after("import json")
    with pytest.raises(AssertionError, match="ModuleNotFoundError"):
        modules_after("import there_is_no_such_module")


@pytest.mark.parametrize(
    "stub, found",
    [
        ("from .a import _p as _p", "exports _p"),
        ("from .a import gone as gone", "exports pack.low.a.gone, which does not exist"),
        ("from . import gone as gone", "exports pack.low.gone, which does not exist"),
        ("from .a import f", "exported only if"),
        ("from .a import a as a", "the name of a module"),
    ],
)
def test_a_wrong_stub_is_found(built, stub, found):
    a = ROOM["low/a.py"] + "a = 1\n"
    (line,) = house.wrong_stubs(built(**{"low/__init__.pyi": stub, "low/a.py": a}))
    assert line.startswith("pack.low") and found in line


def test_a_missing_stub_is_found(built, tmp_path):
    built()
    (tmp_path / "pack" / "low" / "__init__.pyi").unlink()
    assert house.wrong_stubs(house.read_house(tmp_path / "pack")) == ["pack.low has no __init__.pyi"]


@pytest.mark.parametrize(
    "code, allowed",
    [
        ("import pack.low, os\nfrom pack import f, high, __version__\nfrom os import path", True),
        ("from pack.low import b, f\nfrom pack.low.b import B\nimport pack.low.b", True),
        ("from pack.low.a import f", False),
        ("import pack.low.a", False),
        ("from pack.low import a", False),
        ("from pack.low import _p", False),
        ("from pack.low.b import _x", False),
        ("from pack import h", False),
        ("from pack.top import c", False),
    ],
)
def test_an_import_from_inside_a_room_is_found(built, code, allowed):
    assert (house.imports_from_inside(built(), code) == []) is allowed


def test_code_is_found_in_documents():
    document = (
        "a\n```python\n>>> import x\n>>> f(a=1, ...)\n1\n```\n```bash\ny\n```\n```diff\n-import y\n+import z\n```\n"
    )
    assert house.code_blocks(document) == ["import x\nf(a=1)", "import z"]
