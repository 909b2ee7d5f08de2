"""The part of a run's page about the groups that were inferred: what was taken for a minority, and why."""

import pytest
from report_pages import assert_self_contained, page_of, picture, report, write

from gerne_hf.method.pseudo_groups import RULES
from gerne_hf.reports.page import ReportError, write_report
from gerne_hf.reports.page_inferred import RULE_TITLES

TITLE = "What was taken for a minority"


def column(name, explained, beyond=True, classes=("bird",)):
    values = [{"label": k, "value": f"{name} value", "share_of_hard": 0.6, "share_of_others": 0.042} for k in classes]
    return {"column": name, "explained": explained, "bits": 0.1, "beyond_chance": beyond, "values": values}


def split(label, hard, **more):
    shares = {"share_of_rows": hard / 1190, "share_of_mass": 0.5 if hard else 0.0, "target": 0.5}
    return {"label": label, "rows": 1190, "hard": hard, **shares, "reason": f"why {label}", **more}


def inferred(**more):
    noise = {"rows": 1234, "hard": 7, "first_rows": [5, 17, 3], "candidates": 5000, "checked": 4000, "neighbours": 10}
    return {
        "rule": "validation_shift",
        "folds": 2,
        "in_sample_accuracy": 0.999,
        "out_of_fold_accuracy": 0.9,
        "class_balanced_accuracy": 0.8125,
        "classes": [split("bird", 60), split("fish", 0)],
        "warnings": ["60 rows get half of the mass", "another one"],
        "explaining_columns": [column("place", 0.812), column("hour", 0.1), column("camera", 0.0, beyond=False)],
        "label_noise": {**noise, "sampled": True},
        **more,
    }


def training_examples(text="a bird, far out", image="train-17.png"):
    hardest = [
        {"row": 17, "prediction": "fish", "probability": 0.031, "image": image},
        {"row": 4, "prediction": "fish", "probability": 0.05, "texts": [text]},
    ]
    typical = [{"row": 8, "prediction": "bird", "probability": 0.97, "texts": ["an ordinary bird"]}]
    bird = {"label": "bird", "rows": 1190, "hard": 60, "hardest": hardest, "typical": typical}
    return {"classes": [bird, {**bird, "label": "fish", "hard": 0, "hardest": typical, "typical": []}]}


@pytest.fixture
def run(folder):
    """The folder of a run with unknown attributes."""
    write(folder / "group_metrics.json", {**report(), "pseudo_attributes": {"recovery": [], "threshold": None}})
    write(folder / "inferred_groups.json", inferred())
    (folder / "_examples" / "inferred").mkdir()
    write(folder / "_examples" / "inferred" / "examples.json", training_examples())
    picture(folder / "_examples" / "inferred" / "train-17.png")
    return folder


def body(page):
    return " ".join(page.all("body")[0]["text"].replace("\u00a0", " ").split())


def test_the_classes_and_the_reasons(run):
    page = page_of(run)
    assert_self_contained(page)
    assert TITLE in [title["text"] for title in page.all("h2")]
    assert "#inferred" in [link["@href"] for link in page.all("a")]
    assert page.row("bird", "1,190", "60") == ["bird", "1,190", "60", "5.0", "50.0", "why bird"]
    assert page.row("fish", "1,190", "0") == ["fish", "1,190", "0", "0.0", "0.0", "why fish"]
    text = body(page)
    assert "validation_shift”: rows like those that the validation set has more of" in text
    assert "99.9 % on rows that it was trained on, 90.0 % on the training rows that it scores, 81.2 % on" in text
    assert "Warning: 60 rows get half of the mass" in text and "Warning: another one" in text


def test_the_explaining_columns(run):
    page = page_of(run)
    found = "bird: place value (60.0 % of hard rows, 4.2 % of others)"
    assert page.row("place") == ["place", "81.2", found]
    names = [row[0] for row in page.rows]
    assert names.index("place") < names.index("hour") and "camera" not in names
    assert "Not beyond chance: camera." in body(page)


def test_many_columns_and_classes_are_cut(run):
    columns = [column(f"c{i}", 0.5, classes=[f"k{j}" for j in range(9)]) for i in range(20)]
    write(run / "inferred_groups.json", inferred(explaining_columns=columns))
    page = page_of(run)
    assert page.row("c14")[2].endswith("and 3 more classes") and "k5" in page.row("c14")[2]
    assert not [row for row in page.rows if row[:1] == ["c15"]]
    assert "5 more columns are in inferred_groups.json" in body(page)


def test_no_column_explains_the_hard_rows(run):
    write(run / "inferred_groups.json", inferred(explaining_columns=[]))
    assert "No other column of the data tells hard rows from others beyond chance" in body(page_of(run))


def test_probable_label_noise(run):
    text = body(page_of(run))
    assert "1,234 of 4,000 confident mistakes lie among rows that mostly carry the predicted label" in text
    assert "7 of them are hard rows, which the validation set has more of: a minority rather than mistakes." in text
    assert "Rows 5, 17, 3, …" in text
    assert "Of 5,000 confident mistakes in all" in text
    write(run / "inferred_groups.json", inferred(rule="mistakes"))
    assert "7 of them are hard rows. A minority looks the same" in body(page_of(run))
    none = {**inferred()["label_noise"], "rows": 0, "hard": 0, "first_rows": [], "sampled": False}
    write(run / "inferred_groups.json", inferred(label_noise=none))
    text = body(page_of(run))
    assert "None of 4,000 confident mistakes lies among rows" in text and "random part" not in text
    write(run / "inferred_groups.json", inferred(label_noise=None))
    assert "mislabelled" not in body(page_of(run))


def test_hard_training_rows_beside_typical_ones(run):
    page = page_of(run)
    assert [title["text"] for title in page.all("h4")] == [
        "Hard rows",
        "Typical rows",
        "Rows with the lowest probability of the class",
    ]
    quotes = [quote["text"] for quote in page.all("blockquote")]
    assert quotes[:3] == ["a bird, far out", "an ordinary bird", "an ordinary bird"]
    (image,) = [image for image in page.all("img") if image["@alt"] == "Row 17: true label bird, predicted fish"][:1]
    assert image["@src"].startswith("data:image/png")
    assert "Training rows of bird 60 of 1,190 rows are hard" in body(page)


def test_a_run_in_which_nothing_was_split_says_so(run):
    write(run / "inferred_groups.json", inferred(classes=[split("bird", 0), split("fish", 0)], explaining_columns=[]))
    text = body(page_of(run))
    assert "Nothing was: every class was left whole" in text and "Columns of the data" not in text


def test_what_an_earlier_run_left_is_not_shown(run, folder):
    """This run was trained on known groups."""
    write(folder / "group_metrics.json", report())
    assert TITLE not in body(page_of(folder))


def test_one_fold_has_no_rows_that_it_was_not_trained_on(run):
    write(run / "inferred_groups.json", inferred(folds=1))
    assert "on rows that it was trained on" not in body(page_of(run))


def test_every_rule_has_a_title():
    assert set(RULE_TITLES) == set(RULES)


ATTACK = "\"><script>alert('x')</script>{{ 7 * 7 }}"


def test_texts_of_others_are_only_texts(run):
    columns = [column(ATTACK, 0.5, classes=[ATTACK]), column(ATTACK, 0.0, beyond=False)]
    saved = inferred(rule=ATTACK, warnings=[ATTACK], explaining_columns=columns)
    saved["classes"][0] |= {"label": ATTACK, "reason": ATTACK}
    write(run / "inferred_groups.json", saved)
    write(run / "_examples" / "inferred" / "examples.json", training_examples(ATTACK))
    page = page_of(run)
    assert_self_contained(page)
    assert page.all("body")[0]["text"].count(ATTACK) >= 8 and "49" not in page.all("blockquote")[0]["text"]


@pytest.mark.parametrize("name", ["inferred_groups.json", "_examples/inferred/examples.json"])
@pytest.mark.parametrize("content", ["{", "", "[1]", '{"classes": 3, "rule": 1}', '{"classes": [{"label": "a"}]}'])
def test_broken_files_are_named(run, name, content):
    write(run / name, content)
    with pytest.raises(ReportError, match=rf"{name} is (no JSON|not what gerne_hf writes there).* delete it"):
        write_report(run)


@pytest.mark.parametrize("name", ["../../training.png", "/etc/hostname", ".."])
def test_pictures_are_read_from_their_folder_alone(run, name):
    write(run / "_examples" / "inferred" / "examples.json", training_examples(image=name))
    with pytest.raises(ReportError, match="names a picture outside of its folder"):
        write_report(run)
