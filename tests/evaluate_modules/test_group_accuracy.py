"""The `evaluate` metric beside `group_metrics`: its figures and what it refuses."""

import ast
import os
import subprocess
import sys

import datasets
import evaluate
import numpy as np
import pandas as pd
import pytest
import torch
from metric_rows import FOLDER, assert_identical, random_rows

from gerne_hf import group_metrics
from gerne_hf.evaluate_modules import GROUP_ACCURACY_PATH

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


def test_metrics_beyond_accuracy_are_those_of_group_metrics(metric):
    rows, rng = random_rows(5, rows=200, classes=3, values=2), np.random.default_rng(5)
    probabilities = rng.dirichlet(np.ones(3), size=200)
    more = {"extra_metrics": ["f1", "auroc", "ece", "equalized_odds_gap"], "probabilities": probabilities}
    for start in range(0, 200, 70):
        metric.add_batch(**{name: column[start : start + 70] for name, column in rows.items()})
    result = metric.compute(**more)
    assert_identical(result, group_metrics(**rows, **more))
    assert 0 < result["worst_auroc"] < result["overall_auroc"] and result["worst_ece"] > result["overall_ece"]
    with pytest.raises(ValueError, match="extra_metrics may name .* found 'auc'"):
        metric.compute(**rows, extra_metrics=["auc"])


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
