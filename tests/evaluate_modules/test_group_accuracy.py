"""The `evaluate` metric beside `group_metrics`, its card and its Space, all without a network.

No `__init__.py` here: `evaluate` imports loaded scripts from a package called `evaluate_modules`.
"""

import ast
import doctest
import math
import os
import re
import runpy
import socket
import subprocess
import sys
import types
from pathlib import Path

import datasets
import evaluate
import numpy as np
import pandas as pd
import pytest
import torch
from fairlearn.metrics import MetricFrame
from huggingface_hub import metadata_load
from packaging.requirements import Requirement
from sklearn.metrics import accuracy_score

from gerne_hf import group_metrics
from gerne_hf.evaluate_modules import GROUP_ACCURACY_PATH

FOLDER = Path(GROUP_ACCURACY_PATH)
README = (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    """Fresh caches, offline mode, and an error for whoever opens a connection all the same."""
    home = tmp_path_factory.mktemp("hf_home")

    def refuse(*arguments, **kwargs):
        raise AssertionError(f"a connection was opened: {arguments}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)
        patch.setattr(evaluate.config, "HF_METRICS_CACHE", str(home / "metrics"))
        patch.setattr(evaluate.config, "HF_MODULES_CACHE", str(home / "modules"))
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(sys, "path", list(sys.path))
        yield home
    for name in [name for name in sys.modules if name.split(".")[0] == "evaluate_modules"]:
        del sys.modules[name]  # its scripts lie in a folder that is no longer on the path


@pytest.fixture
def metric(caches):
    return evaluate.load(GROUP_ACCURACY_PATH)


def random_rows(seed: int, rows: int = 200, classes: int = 3, values: int = 4) -> dict[str, np.ndarray]:
    """Rows of the metric's three inputs; about half of the predictions are right."""
    generator = np.random.default_rng(seed)
    references = generator.integers(0, classes, rows)
    guesses = generator.integers(0, classes, rows)
    predictions = np.where(generator.random(rows) < 0.5, references, guesses)
    return {"predictions": predictions, "references": references, "attributes": generator.integers(0, values, rows)}


def assert_identical(left, right):
    """Equal types and values, to the last bit, all the way down."""
    assert type(left) is type(right), (left, right)
    if isinstance(left, dict):
        assert list(left) == list(right)
        for key in left:
            assert_identical(left[key], right[key])
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right)
        for a, b in zip(left, right, strict=True):
            assert_identical(a, b)
    elif isinstance(left, float):
        assert left.hex() == right.hex()
    else:
        assert left == right


# ---- the figures ----------------------------------------------------------------------------------------------------


def test_the_module_is_a_typed_metric(metric):
    assert isinstance(metric, evaluate.Metric) and metric.name == "group_accuracy" and metric.module_type == "metric"
    names = ("predictions", "references", "attributes")
    assert metric.features == datasets.Features({name: datasets.Value("int64") for name in names})
    assert "asaad2025gradient" in metric.citation and "worst-group accuracy" in metric.description


@pytest.mark.parametrize("seed", range(10))
def test_figures_are_those_of_group_metrics_to_the_last_bit(metric, seed):
    rows = random_rows(seed, rows=[1, 2, 7, 50, 999][seed % 5], classes=2 + seed % 3, values=1 + seed % 4)
    assert_identical(metric.compute(**rows), group_metrics(**rows))
    train = np.random.default_rng(seed).integers(0, 5000, size=(5, 6))
    names = {"label_names": [f"class {y}" for y in range(5)], "attribute_names": list("uvwxyz")}
    result = metric.compute(**rows, train_group_counts=train, **names)
    assert_identical(result, group_metrics(**rows, train_group_counts=train, **names))
    assert "adjusted_accuracy" in result and result["groups"][-1]["train_count"] == train[-1, -1]
    assert_identical(metric.compute(**rows, train_group_counts=train.tolist(), **names), result)


@pytest.mark.parametrize("in_memory", [False, True])
def test_batches_and_single_rows_give_the_same_figures(caches, in_memory):
    metric = evaluate.load(GROUP_ACCURACY_PATH, keep_in_memory=in_memory)
    rows = random_rows(1, rows=300)
    for repeat in range(2):  # the second time, nothing of the first must be left
        start = 0
        for size in (1, 0, 17, 128, 3, 100):
            metric.add_batch(**{name: column[start : start + size] for name, column in rows.items()})
            start += size
        for prediction, reference, attribute in zip(*(column[start:] for column in rows.values()), strict=True):
            metric.add(prediction=prediction, reference=int(reference), attributes=int(attribute))
        train = [[9, 8, 7, 6], [5, 4, 3, 2], [1, 1, 2, 3 + repeat]]
        assert_identical(metric.compute(train_group_counts=train), group_metrics(**rows, train_group_counts=train))


@pytest.mark.parametrize(
    "convert",
    [
        np.ndarray.tolist,
        torch.tensor,
        pd.Series,
        lambda column: pd.Series(column, index=range(7, 7 + len(column)), dtype=object),
        lambda column: column.astype(bool),
        lambda column: column.astype(np.uint8),
        lambda column: tuple(column.tolist()),
    ],
    ids=["list", "tensor", "series", "objects", "bool", "uint8", "tuple"],
)
def test_integers_of_every_kind(metric, convert):
    rows = random_rows(2, classes=2, values=2)
    converted = {name: convert(column) for name, column in rows.items()}
    assert_identical(metric.compute(**converted), group_metrics(**rows))
    for prediction, reference, attribute in zip(*(converted[name] for name in rows), strict=True):
        metric.add(prediction=prediction, reference=reference, attributes=attribute)
    assert_identical(metric.compute(), group_metrics(**rows))


SCRIPT = """
import socket
import sys
import numpy as np

def refuse(*arguments, **kwargs):
    raise AssertionError(f"a connection was opened: {arguments}")

socket.socket.connect = refuse
import evaluate
from gerne_hf.evaluate_modules import GROUP_ACCURACY_PATH

rank = int(sys.argv[1])
metric = evaluate.load(GROUP_ACCURACY_PATH, num_process=2, process_id=rank, experiment_id="two")
rows = np.load(sys.argv[2])[:, rank::2]
for part in np.array_split(rows, 3, axis=1):
    metric.add_batch(predictions=part[0], references=part[1], attributes=part[2])
print("RESULT", repr(metric.compute(label_names=["a", "b", "c"])))
"""


def test_two_processes_and_a_fresh_home(tmp_path):
    """Each process adds half of the rows; the first has the figures of all of them."""
    rows = random_rows(3, rows=101)
    np.save(tmp_path / "rows.npy", np.stack(list(rows.values())))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    root = os.pathsep.join([str(FOLDER.parents[2]), os.environ["PYTHONPATH"]])
    environment.update(HF_HOME=str(tmp_path / "home"), HF_EVALUATE_OFFLINE="1", HF_HUB_OFFLINE="1", PYTHONPATH=root)
    command = [sys.executable, "-c", SCRIPT]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "rows.npy")],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    outputs = [process.communicate(timeout=200) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    first, second = (ast.literal_eval(stdout.split("RESULT ")[1]) for stdout, _ in outputs)
    assert second is None
    assert_identical(first, group_metrics(**rows, label_names=["a", "b", "c"]))


# ---- what is refused ------------------------------------------------------------------------------------------------

GOOD = {"predictions": [0, 1, 1], "references": [0, 1, 0], "attributes": [0, 0, 1]}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"predictions": [0.7, 1.0, 1.0]}, r"predictions must be one integer a row; found shape \(3,\) of float64"),
        ({"predictions": ["0", "1", "1"]}, "predictions must be one integer a row; .* Encode strings as ids first"),
        ({"references": [0, None, 1]}, r"references must be one integer a row; found shape \(3,\) of object"),
        ({"attributes": ["land", "land", "sea"]}, "attributes must be one integer a row"),
        ({"predictions": [[0.1, 0.9]] * 3}, r"found shape \(3, 2\) of float64.*argmax"),
        ({"attributes": None}, "attributes missing: a row has predictions, references, attributes"),
        ({"references": [0, 1]}, r"Mismatch in the number of predictions \(3\) and references \(2\)"),
        ({"references": [0, 1, -1]}, "references must not be negative; found -1"),
        ({"attributes": [0, -4, 1]}, "attributes must not be negative; found -4"),
        ({"predictions": [], "references": [], "attributes": []}, "there are no rows to compute group metrics from"),
        ({"train_group_counts": [1, 2]}, r"train_group_counts must have the shape \(K, A\); found \(2,\)"),
        ({"label_names": ["a"]}, "label_names has 1 names, and 2 are needed"),
        ({"attribute_names": ["a"]}, "attribute_names has 1 names, and 2 are needed"),
        ({"places": [0, 0, 1]}, "places"),
    ],
)
def test_bad_input(metric, changed, message):
    with pytest.raises((ValueError, TypeError), match=message):
        metric.compute(**{**GOOD, **changed})
    assert_identical(metric.compute(**GOOD), group_metrics(**GOOD))  # the rows refused are not in the next figures


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"attributes": 0.5}, r"attributes must be one integer a row; found shape \(\) of float64"),
        ({"prediction": [1]}, r"predictions must be one integer a row; found shape \(1,\)"),
        ({"reference": "1"}, "references must be one integer a row"),
        ({"attributes": None}, "attributes missing"),
        ({"place": 1}, r"Bad inputs for evaluation module: \['place'\]"),
    ],
)
def test_bad_rows(metric, row, message):
    with pytest.raises(ValueError, match=message):
        metric.add(**{"prediction": 0, "reference": 0, "attributes": 0, **row})


def test_batches_lack_no_column(metric):
    with pytest.raises(ValueError, match="inputs are missing: .*'attributes'"):
        metric.compute(predictions=[0], references=[0])
    with pytest.raises(ValueError, match="attributes missing"):
        metric.add_batch(predictions=[0], references=[0])
    with pytest.raises(ValueError, match=r"Bad inputs for evaluation module: \['places'\]"):
        metric.add_batch(**GOOD, places=[0, 0, 0])


# ---- groups that overlap --------------------------------------------------------------------------------------------


@pytest.fixture
def overlapping(caches):
    return evaluate.load(GROUP_ACCURACY_PATH, "overlapping")


@pytest.mark.parametrize("seed", range(3))
def test_overlapping_figures_are_those_of_group_metrics(overlapping, seed):
    rows = random_rows(seed, rows=60)
    rows["attributes"] = np.random.default_rng(seed).random((60, 4 - seed)) < 0.4
    names = {"label_names": ["x", "y", "z"], "attribute_names": list("abcd")[: 4 - seed]}
    names["train_group_counts"] = np.arange(12 - 3 * seed).reshape(3, 4 - seed)
    assert_identical(overlapping.compute(**rows, **names), group_metrics(**rows, **names))
    for part in (slice(0, 7), slice(7, 59)):
        overlapping.add_batch(**{name: column[part].tolist() for name, column in rows.items()})
    overlapping.add(
        prediction=rows["predictions"][59], reference=rows["references"][59], attributes=rows["attributes"][59]
    )
    assert_identical(overlapping.compute(), group_metrics(**rows))


def test_ids_and_booleans_are_not_mixed_up(metric, overlapping):
    flags = [[True, False], [False, True], [True, True]]
    with pytest.raises(ValueError, match='load the metric with the configuration "overlapping"'):
        metric.compute(**{**GOOD, "attributes": flags})
    with pytest.raises(ValueError, match=r"a boolean an attribute in each row; found shape \(3,\) of int64"):
        overlapping.compute(**GOOD)
    with pytest.raises(ValueError, match=r"found shape \(3, 2\) of float64"):
        overlapping.compute(**{**GOOD, "attributes": np.array(flags, dtype=float)})
    with pytest.raises(ValueError, match="attributes missing"):
        overlapping.add(prediction=0, reference=0)
    with pytest.raises(ValueError, match="configurations are 'default' and 'overlapping'; found 'other'"):
        evaluate.load(GROUP_ACCURACY_PATH, "other")


# ---- the card and the Space -----------------------------------------------------------------------------------------


def test_card_examples_run(caches):
    """Every Python block of the card, one after another in one session, prints what the card says."""
    blocks = re.findall(r"^```python\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 4 and sum("fairlearn" in block for block in blocks) == 1
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "README.md", "README.md", 0)
    assert len(test.examples) == sum(block.count(">>> ") for block in blocks)
    report = []
    outcome = doctest.DocTestRunner().run(test, out=report.append)
    assert outcome.failed == 0, "".join(report)


def test_docstring_example_runs(metric):
    test = doctest.DocTestParser().get_doctest(metric.inputs_description, {}, "inputs", None, 0)
    report = []
    outcome = doctest.DocTestRunner().run(test, out=report.append)
    assert outcome.attempted == 5 and outcome.failed == 0, "".join(report)


def test_card_metadata():
    metadata = metadata_load(FOLDER / "README.md")
    assert metadata["sdk"] == "gradio" and (FOLDER / metadata["app_file"]).is_file()
    assert re.fullmatch(r"\d+\.\d+\.\d+", metadata["sdk_version"]) and metadata["pinned"] is False
    assert set(metadata["tags"]) == {"evaluate", "metric"}
    assert metadata["title"] == "Group Accuracy" and len(metadata["emoji"]) == 1
    palette = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {metadata["colorFrom"], metadata["colorTo"]} <= palette


def test_requirements_are_packages_without_an_address():
    lines = (FOLDER / "requirements.txt").read_text().split()
    assert [Requirement(line).name for line in lines] == ["gerne_hf"]
    assert "metrics" in Requirement(lines[0]).extras and not any(Requirement(line).url for line in lines)


@pytest.mark.parametrize("seed", range(5))
def test_fairlearn_has_the_same_figures(metric, seed):
    rows = random_rows(seed, rows=40)
    rows["attributes"][rows["references"] == 1] = 0  # so some groups have no rows
    result = metric.compute(**rows)
    frame = MetricFrame(
        metrics=accuracy_score,
        y_true=rows["references"],
        y_pred=rows["predictions"],
        sensitive_features={"label": rows["references"], "attribute": rows["attributes"]},
    )
    empty = 0
    for group in result["groups"]:
        theirs = frame.by_group[int(group["label"]), int(group["attribute"])]
        if group["accuracy"] is None:
            empty += 1
            assert math.isnan(theirs)
        else:
            assert float(theirs).hex() == group["accuracy"].hex()
    assert empty == 3
    assert frame.overall == result["accuracy"] and frame.group_min() == result["worst_group_accuracy"]


def test_app_opens_a_form_over_the_metric(caches, monkeypatch, tmp_path):
    """The Space's script with a stand-in for gradio, in a folder called as on a Space."""
    space = tmp_path / "app"
    space.mkdir()
    for name in ("app.py", "group_accuracy.py", "README.md"):
        (space / name).write_bytes((FOLDER / name).read_bytes())
    forms = []

    class Interface:
        def __init__(self, **settings):
            self.settings = settings

        def launch(self):
            forms.append(self.settings)

    gradio = types.ModuleType("gradio")
    gradio.Interface, gradio.Dataframe, gradio.Textbox = Interface, dict, dict
    monkeypatch.setitem(sys.modules, "gradio", gradio)
    monkeypatch.setattr(sys, "path", [str(space), *sys.path])
    runpy.run_path(str(space / "app.py"), run_name="__main__")
    (form,) = forms
    assert form["title"] == "Metric: group_accuracy" and "With fairlearn" in form["article"]
    assert "sdk_version" not in form["article"]
    assert form["inputs"]["headers"] == ("predictions", "references", "attributes")
    assert form["inputs"]["datatype"] == ["number"] * 3
    rows = random_rows(4, rows=30)
    assert_identical(form["fn"](pd.DataFrame(rows)), group_metrics(**rows))
    cells = [["", "", ""], *np.stack(list(rows.values()), axis=1).tolist(), ["", "", ""]]
    assert_identical(form["fn"](pd.DataFrame(cells, columns=list(rows))), group_metrics(**rows))
