"""`GroupReport`: one result as a table, a data frame, a picture, a page and JSON."""

import json

import matplotlib.image
import pandas as pd
import pytest
import rich
from figures_by_hand import HELD_OUT
from helpers import table, trainer
from rich.console import Console

from gerne_hf import group_metrics
from gerne_hf.reports import GroupReport, RunRecord, compare_reports
from gerne_hf.reports.page import write_report

PREDICTED, LABELS = ["a", "a", "b", "<b>"], ["a", "<b>", "b", "<b>"]
PLACES = ["sea", "land|s", "sea", "land|s"]


@pytest.fixture
def report():
    return GroupReport.from_predictions(PREDICTED, LABELS, PLACES, name="my <model>")


def test_the_result_is_that_of_group_metrics(report):
    assert report.result == group_metrics(PREDICTED, LABELS, PLACES)
    assert report.worst_group == "(<b>, land|s)" and report.summaries()["worst group"] == 0.5
    assert "0.500" in repr(report)


def test_a_data_frame(report):
    frame = report.to_pandas()
    assert list(frame.columns) == ["label", "attribute", "count", "accuracy", "ci_low", "ci_high"]
    assert frame["count"].sum() == 4 and frame["accuracy"].isna().sum() == (frame["count"] == 0).sum() == 3
    counted = GroupReport.from_predictions([0, 1], [0, 1], [0, 0], train_group_counts=[[5], [7]]).to_pandas()
    assert counted["train_count"].tolist() == [5, 7]


def test_tables_for_people(report):
    assert r"| (<b>, land\|s) |" in report.table() and "worst group accuracy 50.0" in report.table()
    assert "(<b>, land|s)" in str(report) and "\\|" not in str(report)
    console = Console(width=120, record=True, file=open("/dev/null", "w"))
    console.print(report)
    assert "(<b>, land|s)" in console.export_text()
    assert callable(rich.print)
    page = report._repr_html_()
    assert "(&lt;b&gt;, land|s)" in page and "<b>" not in page and "my &lt;model&gt;" in page and "50.0" in page


def test_what_is_saved_can_be_read_and_shown(report, tmp_path):
    written = report.save(tmp_path / "out")
    assert [path.rsplit("/", 1)[-1] for path in written] == ["group_metrics.json", "comparison.png", "_report.html"]
    record = RunRecord.load(tmp_path / "out")
    assert record.evaluations["test"] == report.result and not record.run.trained
    assert matplotlib.image.imread(written[1]).std() > 0.01
    page = (tmp_path / "out" / "_report.html").read_text()
    assert "50.0" in page and "&lt;b&gt;" in page
    assert write_report(tmp_path / "out", tmp_path / "again.html") and (tmp_path / "again.html").read_text()
    assert json.loads((tmp_path / "out" / "group_metrics.json").read_text())["model"]["name"] == "my <model>"


def test_files(tmp_path):
    data = pd.DataFrame({"prediction": PREDICTED, "label": LABELS, "place": PLACES})
    data.loc[4] = [None, "a", "sea"]
    data.to_csv(tmp_path / "found.csv", index=False)
    report = GroupReport.from_file(tmp_path / "found.csv", attribute_columns=["place"], skip_unusable_rows=True)
    assert report.name == "found.csv" and report.result["accuracy"] == 0.75
    assert "Rows left out, as they lack a value: 1." in report.table()


def test_two_reports_beside_each_other(report, tmp_path):
    other = GroupReport.from_predictions(LABELS, LABELS, PLACES, name="other")
    assert matplotlib.image.imread(compare_reports([report, other], tmp_path / "two.png")).std() > 0.01
    with pytest.raises(ValueError, match="a name of its own"):
        compare_reports([report, report], tmp_path / "x.png")
    strange = GroupReport.from_predictions([0], [0], [0], name="strange")
    with pytest.raises(ValueError, match="other groups"):
        compare_reports([report, strange], tmp_path / "x.png")


def test_of_a_trainer(tmp_path, without_pictures):
    subject = trainer(tmp_path, eval_dataset=table(HELD_OUT))
    with pytest.raises(ValueError, match="there are: none"):
        subject.group_report()
    subject.evaluate()
    report = subject.group_report()
    assert report.result == subject.group_results["eval"] and report.split == "eval" and len(report.to_pandas()) == 4
    with pytest.raises(ValueError, match="'eval'"):
        subject.group_report("test")


def test_the_record_of_a_training_is_not_overwritten(report, tmp_path, without_pictures):
    subject = trainer(tmp_path / "run", eval_dataset=table(HELD_OUT))
    subject.train()
    before = (tmp_path / "run" / "group_metrics.json").read_text()
    with pytest.raises(ValueError, match="holds a training, whose group_metrics.json would be lost"):
        report.save(tmp_path / "run")
    assert (tmp_path / "run" / "group_metrics.json").read_text() == before
    report.save(tmp_path / "own")
    report.save(tmp_path / "own")  # a report may be made anew
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "group_metrics.json").write_text("{}")
    with pytest.raises(ValueError, match="would be lost"):
        report.save(tmp_path / "other")
