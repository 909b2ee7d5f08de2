"""The page about a run: what it says, and what of a real run it is made of."""

import base64
import json
import os
import pickle
import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest
from helpers import mlp, table, trainer
from places import ROOT, python_path
from report_pages import Page, assert_self_contained, facts, page_of, report, result, write

from gerne_hf.reports.page import REPORT_FILE, main

# ---- what it says ---------------------------------------------------------------------------------------------------


def test_the_group_tables(folder):
    page = page_of(folder)
    assert [title["text"].split(" (")[0] for title in page.all("h3")][:3] == [
        "Test set",
        "Validation set",
        "Training rows of each group",
    ]
    groups = result()["groups"]
    assert sum(row[:2] == ["label", "attribute"] for row in page.rows) == 2
    worst = min(groups, key=lambda group: group["accuracy"])
    for group in groups:
        name = group["attribute"] + "worst" * (group is worst)
        cells = page.row(group["label"], name)
        assert cells[2] == f"{100 * group['accuracy']:.1f}"
        assert cells[3] == f"{100 * group['ci_low']:.1f} to {100 * group['ci_high']:.1f}"
        assert cells[5:] == [str(group["count"]), str(group["train_count"])]
    lead = next(p["text"] for p in page.all("p") if p.get("@class") == "lead")
    assert f"the worst group is ({worst['label']}, {worst['attribute']}), with {100 * worst['accuracy']:.1f}" in lead
    assert f"of {worst['count']} rows" in lead
    assert page.row("bird", "1,190") == ["bird", "1,190", "5"]
    bars = [element for element in page.all("rect") if element["@class"] == "range"]
    assert float(bars[0]["@x"]) == pytest.approx(100 * groups[0]["ci_low"], abs=0.01)
    assert float(bars[0]["@width"]) == pytest.approx(100 * (groups[0]["ci_high"] - groups[0]["ci_low"]), abs=0.02)


def test_methods_search_and_settings(folder):
    page = page_of(folder)
    assert page.row("accuracy, %") == ["accuracy, %", "ERM", "GERNE"]
    accuracy = result()["accuracy"]
    mean, deviation = 50 * (accuracy + 0.5), 100 * (accuracy - 0.5) / 2**0.5
    assert page.row("average") == ["average", f"{100 * accuracy:.1f}±0.0", f"{mean:.1f}±{deviation:.1f}"]
    assert "mean ± deviation over the seeds 0, 1" in page.all("body")[0]["text"]
    assert page.row("3", "0.25") == ["3", "0.25", "2", "81.25", "complete"]
    assert page.row("4", "0.5") == ["4", "0.5", "–", "–", "failed"]
    assert page.row("beta, extrapolation factor")[1] == "1.25 (constant)"
    assert page.row("bounds of beta")[1] == "-1, no upper bound"
    assert page.row("attribute_column")[1] == "place, time" and page.row("learning_rate")[1] == "0.0001"


def test_pictures_are_in_the_file(folder):
    page = page_of(folder)
    sources = [element["@src"].partition(",") for element in page.all("img")]
    assert {start for start, _, _ in sources} == {"data:image/png;base64"}
    names = ["comparison.png", "_examples/test-17.png", "training.png", "pseudo_attributes.png", "search/search.png"]
    assert [base64.b64decode(content) for _, _, content in sources] == [(folder / n).read_bytes() for n in names]


def test_the_worst_examples(folder):
    page = page_of(folder)
    titles = [title["text"] for title in page.all("h3") if title["text"].startswith("Group (")]
    assert titles[0].startswith("Group (bird, sea) 70.0") and ", land)" in titles[1]
    assert [quote["text"] for quote in page.all("blockquote")] == 2 * ["a bird, far out", "second text"]
    captions = [text["text"].replace("\u00a0", " ") for text in page.all("figcaption")]
    assert "wrong: predicted fish. Probability of the true label 3.1 %. Row 17." in captions
    assert "right, predicted bird. Probability of the true label below 0.1 %. Row 4." in captions
    (image,) = [image for image in page.all("img") if image["@alt"].startswith("Row")]
    assert image["@alt"] == "Row 17: true label bird, predicted fish"
    assert "2 groups with higher accuracy are left out" in page.all("body")[0]["text"]


def test_many_groups_are_shown_the_worst_first(folder):
    groups = [
        {"label": str(i), "attribute": "a", "count": 10, "accuracy": 1 - i / 60, "ci_low": 0.0, "ci_high": 1.0}
        for i in range(60)
    ]
    groups.append({**groups[0], "label": "empty", "count": 0, "accuracy": None, "ci_low": None, "ci_high": None})
    metrics = report()
    metrics["evaluations"] = {"test": {**result(), "groups": groups}}
    write(folder / "group_metrics.json", metrics)
    page = page_of(folder)
    start = next(i for i, row in enumerate(page.rows) if row[:2] == ["label", "attribute"])
    assert [row[0] for row in page.rows[start + 1 : start + 61]] == [str(i) for i in reversed(range(60))]
    assert "train rows" not in page.rows[start]
    assert "60 groups, the worst first" in page.all("body")[0]["text"]


def test_one_method_is_beside_no_other(folder):
    runs = json.loads((folder / "comparison.json").read_text())
    write(folder / "comparison.json", {"GERNE": runs["GERNE"]})
    page = page_of(folder)
    assert "Beside other methods" not in page.all("body")[0]["text"] and len(page.all("img")) == 5


# ---- runs -----------------------------------------------------------------------------------------------------------


class Trap:
    """Unpickling it leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_run_and_its_page(tmp_path, capsys):
    run = tmp_path / "machine" / "out"
    settings = dict(eval_strategy="steps", eval_steps=2, hub_token="hf_secret", biased_model=str(tmp_path / "model"))
    subject = trainer(run, mlp(), eval_dataset=table(seed=2), **settings)
    subject.train()
    test = table([[13, 17], [19, 11]], seed=9, sentence=[f"sentence {i}" for i in range(60)])
    subject.evaluate(test, metric_key_prefix="test")
    subject.save_worst_examples(test)
    subject.save_group_metrics()
    (run / "training_args.bin").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    before = {path.name for path in run.iterdir()}
    capsys.readouterr()
    assert main([str(run)]) == 0
    assert capsys.readouterr().out.startswith(str(run / REPORT_FILE))
    assert {path.name for path in run.iterdir()} == before | {REPORT_FILE}
    assert not (tmp_path / "sprung").exists()  # a pickle is not loaded
    text = (run / REPORT_FILE).read_text(encoding="utf-8")
    page = Page(text)
    assert_self_contained(page)
    assert str(tmp_path) not in text and "secret" not in text and "machine" not in text
    assert page.row("biased_model") == ["biased_model", "model"] and page.row("seed") == ["seed", "42"]
    for group in subject.group_results["test"]["groups"]:
        assert any(
            row[:1] == [group["label"]] and row[1].startswith(group["attribute"]) and row[5] == str(group["count"])
            for row in page.rows
            if len(row) == 7
        )
    quotes = {quote["text"] for quote in page.all("blockquote")}
    worst = {f"sentence {e['row']}" for group in subject.worst_rows["test"].values() for e in group}
    assert quotes == worst and len(worst) == 16
    assert len(page.all("img")) == 1  # training.png


def test_a_run_that_was_not_evaluated_has_a_page(tmp_path):
    write(tmp_path / "run" / "group_metrics.json", {"evaluations": {}, **facts()})
    page = page_of(tmp_path / "run")
    text = page.all("body")[0]["text"]
    assert "has not been evaluated" in text and "did not save its settings" in text and not page.all("table")


def test_pseudo_attributes_are_called_so(folder):
    metrics = report()
    entry = {"threshold": 0.01, "hard_rows": 1234, "precision": 0.5, "recall": None}
    metrics["pseudo_attributes"] = {"recovery": [entry], "threshold": 0.01}
    write(folder / "group_metrics.json", metrics)
    page = page_of(folder)
    assert page.row("0.01") == ["0.01", "1,234", "50.0", "–"]
    assert page.row("threshold t of the pseudo-attributes")[1] == "0.01"
    assert "no attribute labels of training rows were used" in page.all("body")[0]["text"]


def test_the_page_goes_where_it_is_sent(folder, tmp_path, capsys):
    assert main([str(folder), "--output", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").is_file() and not (folder / REPORT_FILE).exists()
    assert not list(tmp_path.rglob("*.partial"))


def test_script_and_template_are_part_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["gerne-report"] == "gerne_hf.reports.page:main"
    for name in ("report.html", "model_card.md"):
        assert (files("gerne_hf.reports") / "templates" / name).is_file()


def test_the_script_loads_no_library_that_takes_seconds():
    code = "import sys, gerne_hf.reports.page; print(*sys.modules)"
    run = [sys.executable, "-c", code]
    loaded = subprocess.run(run, env={**os.environ, "PYTHONPATH": python_path()}, capture_output=True, check=True)
    assert not {"torch", "transformers", "datasets", "matplotlib"} & set(loaded.stdout.decode().split())


def test_the_accuracy_of_the_biased_model_stands_beside_that_of_the_model(tmp_path):
    saved = report()
    saved["pseudo_attributes"] = {"threshold": None, "biased_model_class_balanced_accuracy": 0.7123}
    write(tmp_path / "group_metrics.json", saved)
    told = [e["text"] for e in page_of(tmp_path).all("p") if "class balanced accuracy" in e["text"]]
    balanced = f"class balanced accuracy {100 * saved['evaluations']['eval']['class_balanced_accuracy']:.1f}"
    assert [balanced in text for text in told] == [True, True]
    beside = "class balanced accuracy of the biased model, for comparison, 71.2"
    assert sorted(beside in text for text in told) == [False, True]  # of the validation set, on which it was judged


def test_wide_tables_say_that_they_scroll(folder):
    page = page_of(folder)
    boxes = [e for e in page.all("div") if "scroll" in e.get("@class", "").split()]
    hints = [e for e in page.all("p") if "hint" in e.get("@class", "").split()]
    assert len(hints) == len(boxes) and {e["text"] for e in hints} == {"A wide table scrolls sideways."}
    style = page.all("style")[0]["text"]
    narrow = style.split("@media (max-width: 40rem)")[1].split("@media print")[0]
    assert ".hint { display: block; }" in narrow and "position: sticky" in style


def test_many_methods_are_said_to_scroll_on_every_screen(tmp_path):
    write(tmp_path / "group_metrics.json", report())
    run = {**result(), "seed": 0, "train_seconds": 1.0}
    write(tmp_path / "comparison.json", {f"method {i}": [run] for i in range(8)})
    assert [e for e in page_of(tmp_path).all("p") if e.get("@class") == "hint wide"]
