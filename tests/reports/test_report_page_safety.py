"""The page about a run is whole, harmless and for everybody; without the files it needs there is an error."""

import re

import numpy as np
import pytest
from report_pages import assert_self_contained, examples, page_of, picture, report, result, write

from gerne_hf.reports.page import REPORT_FILE, ReportError, main, write_report

ATTACK = "\"><script>alert('x')</script><img src=https://evil.example/x.png onerror=alert(1)>{{ 7 * 7 }}"


# ---- whole, harmless, for everybody ---------------------------------------------------------------------------------


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


@pytest.mark.parametrize("part", ["model", "run", "evaluations", "train_groups", "method"])
@pytest.mark.parametrize("value", [1, [1], {"test": 1}])
def test_a_record_with_a_broken_part_is_named(folder, part, value):
    write(folder / "group_metrics.json", {**report(), part: value})
    with pytest.raises(ReportError, match="group_metrics.json is not what gerne_hf writes there"):
        write_report(folder)


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
