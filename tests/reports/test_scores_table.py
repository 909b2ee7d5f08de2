"""Metrics beyond accuracy on the terminal, on cards, on the page and in the table of methods."""

import json

import numpy as np
import pytest
from helpers import mlp, table, trainer
from report_pages import Page, report, result

from gerne_hf import group_metrics
from gerne_hf.reports.page import write_report
from gerne_hf.reports.scores_table import format_score_table, score_rows, score_words
from gerne_hf.reports.tables import comparison_rows
from gerne_hf.utils.markdown import plain

pytestmark = pytest.mark.usefixtures("without_pictures")

LABELS, PLACES = [0, 1, 0, 1, 0, 0], ["land", "land", "sea", "sea", "air", "air"]


@pytest.fixture
def scored():
    with pytest.warns(UserWarning, match="TPR of air"):
        return group_metrics([0, 1, 1, 1, 0, 1], LABELS, PLACES, extra_metrics=["f1", "tpr", "equalized_odds_gap"])


def test_the_table_and_what_is_not_defined(scored):
    assert format_score_table(scored).splitlines()[2:] == [
        "| air       |    2 |   0.0 |     - |",
        "| land      |    2 | 100.0 | 100.0 |",
        "| sea       |    2 |  66.7 | 100.0 |",
        "All rows: F1 66.7, TPR 100.0.",
        "Worst: F1 0.0 (air), TPR 100.0 (land).",
        "Equalized-odds gap: 100.0.",
        "TPR of air: not defined, as its 2 rows are all of class 0.",
    ]


def test_the_gap_alone_has_no_table_and_plain_results_have_nothing():
    gap = group_metrics([0, 1, 1, 1], LABELS[:4], PLACES[:4], extra_metrics=["equalized_odds_gap"])
    assert format_score_table(gap) == "Equalized-odds gap: 100.0."
    assert format_score_table(group_metrics([0], [0], [0])) == ""


def test_the_words_say_of_which_class_the_figures_are(scored):
    assert score_words(scored)[-1] == "F1, TPR are those of the class 1."
    several = group_metrics([0, 1, 2], [0, 1, 2], [0] * 3, extra_metrics=["f1", "tpr", "fpr"])
    assert score_words(several)[-1] == (
        "Each class is taken against the rest; F1 the mean of the classes and TPR, FPR that of the worst class."
    )
    assert score_words(group_metrics([0], [0], [0])) == []


def test_of_many_attribute_values_the_24_worst_are_shown():
    rng = np.random.default_rng(0)
    labels, places = rng.integers(0, 2, 3000), np.arange(3000) % 30
    predicted = np.where(rng.random(3000) < 0.5 + places / 60, labels, 1 - labels)
    many = group_metrics(predicted, labels, places, extra_metrics=["f1"])
    _, rows, hidden = score_rows(many)
    worst = sorted(many["attributes"], key=lambda entry: entry["f1"])[:24]
    assert {row[0] for row in rows} == {entry["attribute"] for entry in worst} and hidden == 6
    assert "6 attribute values more are in group_metrics.json." in format_score_table(many)


def test_terminal_and_card_of_a_run(tmp_path, capsys):
    settings = dict(eval_strategy="steps", eval_steps=2, extra_metrics=["auroc", "ece"])
    data = table([[12, 20], [15, 0]], seed=3)
    subject = trainer(tmp_path, mlp(2), eval_dataset=data, **settings)
    subject.train()
    found = subject.group_results["eval"]
    assert f"\n{format_score_table(found)}\n" in capsys.readouterr().out
    subject.create_model_card()
    card = (tmp_path / "README.md").read_text()
    header = next(line for line in card.splitlines() if line.startswith("| attribute"))
    assert [cell.strip() for cell in header.strip("|").split("|")] == ["attribute", "rows", "AUROC", "ECE"]
    assert "AUROC of 1: not defined, as its 20 rows are all of class class0." in card
    assert "- *AUROC*: how often a row of a class" in card and "- AUROC is that of the class class1." in card
    assert f"Worst: AUROC {100 * found['worst_auroc']:.1f} (0)" in card


def page_of(folder, found):
    """The page of a run with this result of the test set, parsed, and its source."""
    record = {**report(), "evaluations": {"test": {**found, "step": 3}}}
    (folder / "group_metrics.json").write_text(json.dumps(record))
    source = open(write_report(folder), encoding="utf-8").read()
    return Page(source), source


def test_the_page_has_the_table(tmp_path, scored):
    page, _ = page_of(tmp_path, scored)
    assert page.row("attribute", "rows") == ["attribute", "rows", "F1", "TPR"]
    assert page.row("air", "2") == ["air", "2", "0.0", "–"]
    text = " ".join(element["text"] for element in page.all("p"))
    assert "Worst: F1 0.0 (air), TPR 100.0 (land)." in text and "Equalized-odds gap: 100.0." in text
    assert "TPR of air: not defined" in text


def test_a_hostile_attribute_value_stays_text(tmp_path):
    name = "<b>|x</b>"
    with pytest.warns(UserWarning):
        found = group_metrics([0, 1, 0], [0, 1, 0], ["land", "land", name], extra_metrics=["f1", "tpr"])
    page, source = page_of(tmp_path, found)
    assert page.row(name, "1") == [name, "1", "–", "–"] and name not in source
    card = format_score_table(found, plain)
    assert "<b>" not in card and "\n| &lt;b>\\|x&lt;/b> | " in card
    assert f"F1, TPR of {plain(name)}: not defined" in card


def test_the_table_of_methods_has_the_worst_figures(scored):
    other = {**scored, "worst_f1": 0.5, "equalized_odds_gap": None}
    runs = {name: [{**found, "train_seconds": 1.0, "seed": 0}] for name, found in (("ERM", scored), ("GERNE", other))}
    _, rows, _ = comparison_rows(runs)
    found = {row[0]: row[1:] for row in rows}
    assert found["worst F1 of an attribute value"] == ["0.0", "50.0"]
    assert found["equalized-odds gap"] == ["100.0", "-"]
    plain = {name: [{**result(), "train_seconds": 1.0, "seed": 0}] for name in runs}
    assert not any("F1" in row[0] for row in comparison_rows(plain)[1])
