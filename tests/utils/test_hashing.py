"""Hashes of values: the same in another process, others for other data and code, and unknown where nobody knows."""

import functools
import importlib
import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import torch
from helpers import mlp
from PIL import Image
from places import python_path

from gerne_hf.utils import hashing
from gerne_hf.utils.hashing import hash_value, hash_weights

FACTOR = 2


def scaled(value):
    return FACTOR * value


class Transform:
    def __init__(self, factor):
        self.factor, self.itself = factor, self

    def __call__(self, rows):
        return scaled(rows) * self.factor


PAIRS = {
    "number": (1, 1.0),
    "text": ("ab", b"ab"),
    "borders": (["ab", "c"], ["a", "bc"]),
    "array": (np.arange(4), np.arange(4).reshape(2, 2)),
    "negated": (np.arange(1.0, 4), -np.arange(1.0, 4)),
    "tensor": (torch.ones(3), torch.ones(3, dtype=torch.float64)),
    "long list": ([{"x": np.ones(2)}] * 2000, [{"x": np.ones(2)}] * 1999 + [{"x": np.zeros(2)}]),
    "order": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "object": (Transform(1), Transform(2)),
    "function": (lambda x: x + 1, lambda x: x + 2),
    "called": (lambda x: scaled(x), lambda x: abs(x)),
    "partial": (functools.partial(scaled, value=1), functools.partial(scaled, value=2)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_other_values_have_other_hashes(name):
    one, other = PAIRS[name]
    assert hash_value(one) == hash_value(one) and hash_value(one).unknown == ()
    assert hash_value(one).whole != hash_value(other).whole


def test_equal_values_that_are_other_objects_are_the_same():
    shared = ["landscape"[:4]] * 3000
    assert hash_value(shared) == hash_value(["".join(["l", "and"]) for _ in range(3000)])
    assert hash_value(Transform(3)) == hash_value(Transform(3))
    assert hash_value({"b", "a", "c"}) == hash_value({"c", "b", "a"})


def test_what_a_function_names_in_its_module_counts(monkeypatch):
    before = hash_value(Transform(1))
    monkeypatch.setitem(globals(), "FACTOR", 3)
    after = hash_value(Transform(1))
    assert before.data == after.data and before.code != after.code


def test_code_of_an_imported_module_counts(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for factor in (1, -1):
        (tmp_path / "of_a_user.py").write_text(f"def collate(rows):\n    return {factor} * rows{' ' * factor}\n")
        importlib.invalidate_caches()
        module = importlib.reload(importlib.import_module("of_a_user"))
        found.append(hash_value(module.collate))
    assert found[0].data == found[1].data and found[0].code != found[1].code


@pytest.mark.parametrize("value", [threading.Lock(), np.random.default_rng(0), torch.Generator(), sys.stdout])
def test_what_cannot_be_told_is_unknown(value):
    hashed = hash_value([1, {"held": value}])
    assert len(hashed.unknown) == 1 and hashed.whole is None


def test_an_array_that_is_too_large_is_read_in_places_and_not_known_in_full(monkeypatch):
    monkeypatch.setattr(hashing, "LARGEST", 100)
    one, other = np.arange(40.0).reshape(20, 2), np.arange(40.0).reshape(20, 2)
    other[-1] = 0
    assert hash_value(one).data != hash_value(other).data and hash_value(one).whole is None


def test_a_picture_that_was_opened_counts_by_its_file(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "b.png")
    found = [hash_value(Image.new("L", (4, 4), value)) for value in (0, 0, 9)]
    assert found[0] == found[1] != found[2]
    with Image.open(tmp_path / "b.png") as opened:
        (tmp_path / "b.png").write_bytes(b"cut off, so that it cannot be decoded")
        assert hash_value(opened).unknown == ()


def test_weights():
    one, other = mlp(0), mlp(1)
    assert hash_weights(one) == hash_weights(mlp(0)) != hash_weights(other)
    with torch.device("meta"):
        nowhere = torch.nn.Linear(2, 2)
    assert hash_weights(nowhere).whole is None


SCRIPT = """
    import functools, numpy as np, torch
    from transformers import DataCollatorWithPadding, default_data_collator
    from test_hashing import Transform, scaled
    from gerne_hf.utils.hashing import hash_value
    limits = {"a", "b", "c"}
    def own(rows, kept=frozenset(["x", "y", "z"])):
        return [scaled(row) for row in rows if row in limits]
    values = [own, Transform(1), functools.partial(own, kept=limits), default_data_collator, {"s": limits}]
    print(*[hash_value(value).whole for value in values])
"""


@pytest.mark.slow  # two processes that import transformers
def test_another_process_finds_the_same():
    printed = []
    for seed in ("1", "2"):
        path = os.pathsep.join([python_path(), os.path.dirname(__file__)])
        settings = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", textwrap.dedent(SCRIPT)]
        done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-2000:]
        printed.append(done.stdout.split())
    assert printed[0] == printed[1] and len(set(printed[0])) == 5 and "None" not in printed[0]
