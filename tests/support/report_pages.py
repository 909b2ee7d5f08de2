"""The files of a run that a page is made of, and the page read back."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from gerne_hf import group_metrics
from gerne_hf.reports.page import write_report

VOID = {"meta", "img", "link", "br", "hr", "input", "base"}


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


def facts():
    """What a record says of the model and of the run."""
    model = {"name": "MLP", "task": None, "base": None, "adapter": False, "timm": False, "own": True}
    model |= {"processor": None, "labels": [], "local_base": False, "base_license": {}}
    data = {"attribute_columns": ["place"], "overlapping_columns": [], "data_origin": None, "hub_id": None}
    data |= {"hub_revision": None, "attribute_source": None, "training_accuracies_left_out": None}
    training = {"trainer": "GerneTrainer", "plan": "independent", "steps": 40, "seconds": 12.5, "devices": "1 x cpu"}
    rows = {"processes": 1, "evaluation_sets": [], "train_rows": 1282, "streamed": False}
    return {"model": model, "run": {**training, **rows, **data}}


def report(**names):
    """What `group_metrics.json` holds."""
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
        **facts(),
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


def write(path, value):
    path.parent.mkdir(exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def page_of(folder, **options):
    return Page(Path(write_report(folder, **options)).read_text(encoding="utf-8"))


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
