"""What card and page say of inferred groups: the rule in words, how much was found, and what the run warned of."""

import pytest
from cards import card_of
from helpers import mlp, table, trainer

from gerne_hf.pseudo_attributes import PseudoAttributes
from gerne_hf.reports.card_paragraphs import inferred_text
from gerne_hf.reports.page_parts import method_rows

pytestmark = pytest.mark.usefixtures("without_pictures")

VALIDATION = [[50, 50], [50, 50]]


def trained(folder, **settings):
    settings = {"pseudo_attributes": True, "attribute_column": None, "max_steps": 4, **settings}
    subject = trainer(folder, mlp(), table([[190, 10], [10, 190]]), eval_dataset=table(VALIDATION, seed=7), **settings)
    subject.train()
    return subject


def record(**facts):
    classes = [dict(name="cat", rows=1900, hard=100), dict(name="dog", rows=1100, hard=0)]
    return {"rule": "validation_shift", "threshold": None, "classes": classes, **facts}


RULES = {
    "validation_shift": ": the rows of a class that are like those which the validation set has more of than the",
    "confident_mistakes": ": the rows of a class to whose label biased models gave less than half of an even",
    "mistakes": ": the rows of a class that biased models took for another class formed one inferred group, the rest",
    "validation_attributes": " of training rows: the attribute of each was predicted by a linear model of the",
}


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_in_words_and_what_was_found(rule):
    text = inferred_text(record(rule=rule))
    assert text.startswith(RULES[rule]) and f"(rule `{rule}`)." in text
    assert text.endswith(" 100 of 3,000 rows, in 1 of 2 classes, were taken for a minority.")


def test_nothing_was_found():
    whole = [dict(name="cat", rows=1900, hard=0)]
    assert inferred_text(record(classes=whole)).endswith(" No class was split, so training was class-balanced ERM.")
    assert inferred_text(record(classes=whole), False).endswith(" No class was split, so training was ERM.")


def test_the_threshold_is_told_as_ever():
    text = (
        ": of each class the share 0.2 of rows that a biased model was least sure of formed one pseudo-group, the rest"
    )
    assert inferred_text(record(rule="threshold", threshold=0.2)) == f"{text} the other."
    assert inferred_text({"threshold": 0.2}) == f"{text} the other."  # of an earlier version


def test_errors_alone():
    assert inferred_text({"threshold": None}) == ", but the errors of a biased model."


def test_warnings_are_told():
    text = inferred_text(record(warnings=["29 rows of class <b>, hard, get much", "They underfit."]))
    assert text.endswith("minority. The run warned: 29 rows of class &lt;b>, hard, get much. They underfit.")


def test_the_card_and_the_page_of_a_run(tmp_path):
    subject = trained(tmp_path)
    few, rows = int(subject.inferred.hard.sum()), dict(method_rows(subject.run_record()))
    text = card_of(subject).text
    found = f"{few} of 400 rows, in" if few else "No class was split, so training was class-balanced ERM."
    assert "Training used no attribute labels: the rows of a class that are like those" in text and found in text
    assert "Nor does the evaluation: the groups of the tables are the classes." in text
    assert (
        rows["rule by which groups were inferred"] == "validation shift" and rows["folds of the biased models"] == "2"
    )
    assert "threshold t of the pseudo-attributes" not in rows


def test_validation_attributes_are_not_said_to_be_for_evaluation_only(tmp_path):
    subject = trained(tmp_path, attribute_column="place")
    text = card_of(subject).text
    assert "Training used no attribute labels of training rows: the attribute of each was predicted" in text
    assert "The column `place` was read in the validation set and for evaluation only." in text


def test_the_papers_rule(tmp_path):
    subject = trained(tmp_path, threshold=0.2)
    rows = dict(method_rows(subject.run_record()))
    assert rows["threshold t of the pseudo-attributes"] == "0.2" and rows["folds of the biased models"] == "1"
    text = card_of(subject).text
    assert "of each class the share 0.2 of rows" in text and "The run warned: Nothing shows that" in text
    assert isinstance(subject.pseudo, PseudoAttributes)
