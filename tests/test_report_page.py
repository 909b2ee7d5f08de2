"""The page about a run: what it says, that it is whole and harmless, and what happens without the files it needs."""

import base64
import json
import pickle
import re
import tomllib
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from helpers import mlp, table, trainer
from PIL import Image

from gerne_hf import group_metrics
from gerne_hf.examples import save_worst_examples
from gerne_hf.report_page import REPORT_FILE, ReportError, main, write_report
from gerne_hf.reports import save_group_metrics

VOID = {"meta", "img", "link", "br", "hr", "input", "base"}
ATTACK = "\"><script>alert('x')</script><img src=https://evil.example/x.png onerror=alert(1)>{{ 7 * 7 }}"


class Page(HTMLParser):
    """The elements of a page with their attributes and texts; fails where a tag is not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.rows = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs)
        self.elements.append({"tag": tag, "text": "", **{f"@{name}": value for name, value in attrs}})
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append((tag, self.elements[-1]))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1][0] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        for _, element in self.open:
            element["text"] += data
        if any(tag in ("td", "th") for tag, _ in self.open):
            self.rows[-1][-1] += data

    def all(self, tag):
        return [element for element in self.elements if element["tag"] == tag]

    def row(self, *start):
        """Cells of the first row that starts so, without the blanks that lay out the source."""
        rows = [[" ".join(cell.split()) for cell in row] for row in self.rows]
        return next(row for row in rows if row[: len(start)] == list(start))


def picture(path, size=(30, 20)):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)).save(path)


def result(labels=("bird", "fish"), attributes=("land", "sea"), trained=((90, 5), (7, 80))):
    rng = np.random.default_rng(0)
    references, places = rng.integers(0, 2, 400), rng.integers(0, 2, 400)
    predictions = np.where(rng.random(400) < 0.7 + 0.2 * (references == places), references, 1 - references)
    return group_metrics(predictions, references, places, np.array(trained), list(labels), list(attributes))


def report(**names):
    method = {"plan": "independent", "c": 0.5, "beta": 1.25, "beta_schedule": "constant", "beta_bounds": [-1.0, None]}
    segments = [{"name": "biased", "rows": 32, "coefficient": -1.25}]
    return {
        "evaluations": {"eval": {**result(**names), "step": 40}, "test": {**result(**names), "step": 40}},
        "settings": {"seed": 3, "learning_rate": 1e-4, "attribute_column": ["place", "time"]},
        "method": {**method, "segments": segments, "rows_per_device": 64},
        "train_groups": {
            "label_names": names.get("labels", ["bird", "fish"]),
            "attribute_names": names.get("attributes", ["land", "sea"]),
            "attribute_columns": ["place"],
            "counts": [[1190, 5], [7, 80]],
        },
        "selection": {"metric": "worst_group_accuracy", "best_model_loaded": True, "step": 40},
    }


def examples(label="bird", attribute="sea", prediction="fish", text="a bird, far out"):
    shown = [
        {"row": 17, "prediction": prediction, "probability": 0.0312, "image": "test-17.png"},
        {"row": 4, "prediction": label, "probability": 0.0001, "texts": [text, "second text"]},
        {"row": 5, "prediction": label, "probability": None},
    ]
    group = {"label": label, "attribute": attribute, "count": 1234, "accuracy": 0.7, "examples": shown}
    better = {**group, "accuracy": 0.9, "attribute": "land", "examples": shown[1:]}
    return {"evaluation": "test", "step": 40, "groups_left_out": 2, "groups": [better, group]}


@pytest.fixture
def folder(tmp_path):
    """The folder of a run with everything in it."""
    run = tmp_path / "my run"
    run.mkdir()
    write(run / "group_metrics.json", report())
    other = {**result(), "seed": 0, "train_seconds": 12.0}
    runs = {"ERM": [other, {**other, "seed": 1}], "GERNE": [other, {**other, "seed": 1, "accuracy": 0.5}]}
    write(run / "comparison.json", runs)
    for name in ("training.png", "comparison.png", "pseudo_attributes.png", "_examples/test-17.png"):
        picture(run / name)
    write(run / "_examples" / "examples.json", examples())
    picture(run / "search" / "search.png")
    trial = {"number": 3, "state": "complete", "value": 0.8125, "params": {"c": 0.25, "beta": 2.0}}
    failed = {"number": 4, "state": "failed", "value": None, "params": {"c": 0.5}}
    search = {"objective": "worst_group_accuracy", "direction": "maximize", "trials": [trial, failed]}
    write(run / "search" / "search.json", search)
    return run


def write(path, value):
    path.parent.mkdir(exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def page_of(folder, **options):
    return Page(Path(write_report(folder, **options)).read_text(encoding="utf-8"))


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
    assert f"label {worst['label']}, attribute {worst['attribute']}, with {100 * worst['accuracy']:.1f}" in lead
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
    titles = [title["text"] for title in page.all("h3") if title["text"].startswith("True label")]
    assert titles[0].startswith("True label bird, attribute sea (70.0") and "attribute land" in titles[1]
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


# ---- whole, harmless, for everybody ---------------------------------------------------------------------------------


def assert_self_contained(page):
    assert not page.all("script") and not page.all("link") and not page.all("iframe") and not page.all("base")
    for element in page.elements:
        for name, value in element.items():
            assert not name.startswith("@on"), element
            if name in ("@src", "@href", "@srcset", "@data", "@poster", "@action"):
                assert value.startswith(("data:image/", "#")), value
    style = page.all("style")[0]["text"]
    assert "url(" not in style and "@import" not in style
    (policy,) = [e["@content"] for e in page.all("meta") if e.get("@http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src" not in policy and "http" not in policy


def test_it_needs_nothing_from_elsewhere(folder):
    assert_self_contained(page_of(folder))


def test_tables_and_pictures_can_be_read_without_seeing_them(folder):
    page = page_of(folder)
    assert page.all("html")[0]["@lang"] == "en" and page.all("title")[0]["text"] == "my run: accuracy of each group"
    assert all(image["@alt"].strip() for image in page.all("img"))
    assert all(cell["@scope"] in ("row", "col") for cell in page.all("th"))
    boxes = [e for e in page.all("div") if "scroll" in e.get("@class", "").split()]
    assert len(boxes) == len(page.all("table")) and all(b["@tabindex"] == "0" and b["@aria-label"] for b in boxes)
    ids = [e["@id"] for e in page.elements if "@id" in e]
    assert len(ids) == len(set(ids)) and {a["@href"][1:] for a in page.all("a")} <= set(ids)
    assert {e["@aria-labelledby"] for e in page.all("section")} <= set(ids)


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_texts_stand_out_from_the_paper(folder, mode):
    """WCAG 2 AA: a contrast of at least 4.5."""
    style = page_of(folder).all("style")[0]["text"]
    light, dark = style.split("prefers-color-scheme: dark")
    colours = dict(re.findall(r"--(\w+): (#\w{6})", light if mode == "light" else dark.split("* {")[0]))
    for paper in ("paper", "band"):
        for ink in ("ink", "soft", "accent", "bad"):
            high, low = sorted((luminance(colours[paper]), luminance(colours[ink])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (mode, paper, ink)


def test_texts_of_others_are_only_texts(tmp_path):
    run = tmp_path / "<b>run<script>"
    run.mkdir()
    metrics = report(labels=[ATTACK, "fish"], attributes=["land", ATTACK])
    metrics["settings"] = {ATTACK: ATTACK}
    metrics["selection"]["metric"] = metrics["method"]["plan"] = ATTACK
    metrics["evaluations"][ATTACK] = metrics["evaluations"].pop("eval")
    metrics["train_groups"]["attribute_columns"] = [ATTACK]
    write(run / "group_metrics.json", metrics)
    other = {**result(labels=[ATTACK, "fish"]), "seed": ATTACK, "train_seconds": 1.0}
    write(run / "comparison.json", {ATTACK: [other], "GERNE": [other]})
    write(run / "_examples" / "examples.json", examples(ATTACK, ATTACK, ATTACK + "!", ATTACK))
    picture(run / "_examples" / "test-17.png")
    trial = {"number": ATTACK, "state": ATTACK, "value": 0.5, "params": {ATTACK: ATTACK}}
    write(run / "search" / "search.json", {"objective": ATTACK, "trials": [trial]})
    page = page_of(run)
    assert_self_contained(page)
    assert not [e for e in page.all("b")] and page.all("h1")[0]["text"] == "<b>run<script>"
    assert page.all("blockquote")[0]["text"] == ATTACK
    (image,) = page.all("img")
    assert image["@alt"] == f"Row 17: true label {ATTACK}, predicted {ATTACK}!"
    assert page.row(ATTACK)[0] == ATTACK and page.all("body")[0]["text"].count(ATTACK) > 20
    assert "49" not in page.all("blockquote")[0]["text"]


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
    save_worst_examples(subject, test)
    save_group_metrics(subject)
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
    write(tmp_path / "run" / "group_metrics.json", {"evaluations": {}})
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
    assert "the training used no attribute labels" in page.all("body")[0]["text"]


def test_the_page_goes_where_it_is_sent(folder, tmp_path, capsys):
    assert main([str(folder), "--output", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").is_file() and not (folder / REPORT_FILE).exists()
    assert not list(tmp_path.rglob("*.partial"))


def test_script_and_template_are_part_of_the_package():
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["gerne-report"] == "gerne_hf.report_page:main"
    assert (files("gerne_hf") / "templates" / "report.html").is_file()


# ---- bad input ------------------------------------------------------------------------------------------------------


def test_a_folder_without_metrics_names_those_below_that_have_them(tmp_path, capsys):
    for name in ("b/run", "a"):
        (tmp_path / name).mkdir(parents=True)
        write(tmp_path / name / "group_metrics.json", {"evaluations": {}})
    assert main([str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"gerne-report: {tmp_path} has no group_metrics.json, which GerneTrainer.train()")
    assert f"These folders below it have one: {tmp_path / 'a'}, {tmp_path / 'b' / 'run'}" in error
    assert "Traceback" not in error
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReportError, match="No folder below it has one"):
        write_report(tmp_path / "empty")
    with pytest.raises(ReportError, match="there is no folder .*nowhere; give the output_dir"):
        write_report(tmp_path / "nowhere")


NAMES = ["group_metrics.json", "comparison.json", "_examples/examples.json", "search/search.json"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", ["{", "", "[1]", '{"evaluations": {"test": 1}, "x": 3, "trials": 7}', b"\xff{}"])
def test_broken_files_are_named(folder, name, content):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ReportError, match=rf"{name} is (no JSON|not what gerne_hf writes there).* delete it"):
        write_report(folder)
    assert not (folder / REPORT_FILE).exists()


def test_examples_are_read_from_their_folder_alone(folder):
    for name in ("../training.png", "/etc/hostname", "..", "a/b.png"):
        saved = examples()
        saved["groups"][1]["examples"][0]["image"] = name
        write(folder / "_examples" / "examples.json", saved)
        with pytest.raises(ReportError, match="names a picture outside of its folder"):
            write_report(folder)


def test_pictures_that_are_none_or_missing(folder):
    (folder / "_examples" / "test-17.png").unlink()
    assert "The picture's file is missing" in page_of(folder).all("body")[0]["text"]
    (folder / "training.png").write_text("<svg onload=alert(1)>")
    with pytest.raises(ReportError, match="training.png is neither a PNG nor a JPEG picture. Delete it"):
        write_report(folder)


def test_a_page_that_cannot_be_written(folder, tmp_path, capsys):
    for place in (tmp_path / "nowhere" / "page.html", folder):
        assert main([str(folder), "--output", str(place)]) == 1
        error = capsys.readouterr().err
        assert f"the page cannot be written to {place}: " in error and "--output" in error
    assert not list(tmp_path.rglob("*.partial"))
