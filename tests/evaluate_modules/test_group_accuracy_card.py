"""The card and the Space of the `evaluate` metric: their examples, metadata, form."""

import doctest
import math
import re
import runpy
import sys
import types

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import MetricFrame
from huggingface_hub import metadata_load
from metric_rows import FOLDER, assert_identical, random_rows
from packaging.requirements import Requirement
from sklearn.metrics import accuracy_score

from gerne_hf import group_metrics

README = (FOLDER / "README.md").read_text(encoding="utf-8")


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
