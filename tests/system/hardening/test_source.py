"""What the code itself must never do: load a pickle, or let a repository's code run. Read from the syntax tree."""

import ast

import pytest
from places import ROOT

SOURCES = sorted(path for folder in ("gerne_hf", "recipes", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
PICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
CODE_FROM_ELSEWHERE = {"torch.hub", "torch.jit", "torch.package", "runpy"}
UNSAFE_CALLS = {"eval", "exec", "compile", "read_pickle", "from_pickle", "unsafe_load", "full_load", "load_module"}
TRUST = "trust_remote_code"


def findings(source: str) -> list[str]:
    """Each violation of the rules below in a module's source, with its line."""
    tree, found = ast.parse(source), []
    names = {}  # what a name in the module stands for
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name.split(".")[0]: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}

    def dotted(node: ast.AST) -> str:
        if isinstance(node, ast.Attribute):
            return f"{dotted(node.value)}.{node.attr}"
        return names.get(node.id, node.id) if isinstance(node, ast.Name) else ""

    def report(node: ast.AST, what: str) -> None:
        found.append(f"line {node.lineno}: {what}")

    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            prefix = f"{node.module}." if isinstance(node, ast.ImportFrom) and node.module else ""
            for full in (prefix + alias.name for alias in node.names):
                if full.split(".")[0] in PICKLERS or ".".join(full.split(".")[:2]) in CODE_FROM_ELSEWHERE:
                    report(node, f"imports {full}")
        if isinstance(node, ast.Call):
            called = dotted(node.func)
            given = {word.arg: word.value for word in node.keywords}
            if called == "torch.load" and not _is_constant(given.get("weights_only"), True):
                report(node, "torch.load without weights_only=True")
            if called in ("numpy.load", "np.load") and not _is_constant(given.get("allow_pickle", _FALSE), False):
                report(node, "numpy.load with allow_pickle")
            last, parent = called.split(".")[-1], called.rpartition(".")[0]
            if last in UNSAFE_CALLS and parent in ("", "builtins", "pandas", "pd", "yaml", "importlib"):
                report(node, f"calls {called}")
            if called == "yaml.load" or parent in CODE_FROM_ELSEWHERE:
                report(node, f"calls {called}")
        said = getattr(node, "value", None) if isinstance(node, ast.Constant) else None
        if TRUST in (said, getattr(node, "id", None), getattr(node, "attr", None), getattr(node, "arg", None)):
            report(node, f"names {TRUST}")
    return found


_FALSE = ast.Constant(False)


def _is_constant(node: ast.AST | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_there_is_something_to_read():
    assert len(SOURCES) > 40 and {path.name for path in SOURCES} >= {"trainer.py", "colored_mnist.py", "sampling.py"}


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(ROOT)) for path in SOURCES])
def test_no_pickle_is_loaded_and_no_remote_code_trusted(path):
    source = path.read_text(encoding="utf-8")
    if path.name == "hashing.py":  # writes pickles into a hash, and reads none
        assert "Unpickler" not in source and "pickle.load" not in source
        source = source.replace("import pickle\n", "")
    assert findings(source) == []


@pytest.mark.parametrize(
    "bad",
    [
        "import pickle",
        "import joblib as j",
        "from pickle import load",
        "from torch.hub import load",
        "import torch\ntorch.load(p)",
        "import torch\ntorch.load(p, weights_only=False)",
        "import torch\ntorch.load(p, weights_only=flag)",
        "import torch as t\nt.load(p)",
        "from torch import load as read\nread(p)",
        "import torch\ntorch.hub.load('a', 'b')",
        "import numpy as np\nnp.load(p, allow_pickle=True)",
        "from numpy import load\nload(p, allow_pickle=flag)",
        "import pandas as pd\npd.read_pickle(p)",
        "import yaml\nyaml.load(text, Loader)",
        "AutoModel.from_pretrained(p, trust_remote_code=True)",
        "AutoModel.from_pretrained(p, **{'trust_remote_code': x})",
        "def f(trust_remote_code): pass",
        "args.trust_remote_code = True",
        "eval(text)",
    ],
)
def test_the_reading_finds_what_is_forbidden(bad):
    assert findings(bad)


def test_the_reading_allows_what_is_safe():
    safe = """
import numpy as np, torch, re, yaml
torch.load(path, map_location="cpu", weights_only=True)
np.load(path)
np.load(path, allow_pickle=False)
yaml.safe_load(text)
model.eval()
re.compile("x")
torch.compile(model)
"""
    assert findings(safe) == []
