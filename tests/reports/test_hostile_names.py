"""Names that come with somebody's data are shown letter by letter: on cards, on the card of scores, on the page."""

import numpy as np
import pytest
from hostile_names import HOSTILE, Rendered, seen
from huggingface_hub import DatasetCard, ModelCard
from report_pages import assert_self_contained, facts, page_of, result, write

from gerne_hf import PseudoAttributes
from gerne_hf.groups.names import group_title
from gerne_hf.pseudo_attributes.hub import card
from gerne_hf.reports.model_card import build_card
from gerne_hf.reports.record import ModelFacts, RunFacts, RunRecord
from gerne_hf.utils.markdown import plain

PAIRS = [HOSTILE[i : i + 2] for i in range(0, len(HOSTILE), 2)]
TWO = pytest.mark.parametrize("names", PAIRS, ids=range(len(PAIRS)))
HARMLESS = set("h1 h2 h3 p ul li a code pre strong em table thead tbody tr th td".split())


def assert_no_more_than_names(read):
    """No tag but the card's own, no attribute but its own, and no link but to places on the Hub and the paper."""
    for tag, attributes in read.tags:
        assert tag in HARMLESS and set(attributes) <= {"href", "style", "class"}, tag
        assert attributes.get("href", "https://huggingface.co/").startswith(OURS), attributes


OURS = ("https://huggingface.co/", "https://arxiv.org/")


def record_of(names):
    model, run = facts()["model"], {**facts()["run"], "attribute_columns": names}
    judged = {**result(labels=names, attributes=names[::-1]), "step": 3}
    groups = {"label_names": names, "attribute_names": names[::-1], "attribute_columns": names}
    return RunRecord(
        ModelFacts(**model),
        RunFacts(**{**run, "evaluation_sets": ["near", names[0]]}),
        evaluations={"test": judged, f"eval_{names[0]}": judged},
        settings={"seed": 0, "attribute_column": names},
        train_groups={**groups, "counts": [[9] * 2] * 2},
        selection={"metric": f"group_accuracy/{names[0]}", "best_model_loaded": True, "step": 3},
    )


def test_a_sentence_of_the_author_keeps_its_links_and_has_no_tags(tmp_path):
    source = "as [they](https://example.org) say <b>\\<i>there"
    read = Rendered(build_card(record_of(["x", "y"]), str(tmp_path), attribute_source=source).text)
    assert ("a", {"href": "https://example.org"}) in read.tags and not {"b", "i"} & {tag for tag, _ in read.tags}


def test_there_are_fifty_of_them():
    assert len(set(HOSTILE)) == 50


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("frame", ["{}", "# {}", "- {}", "({}, x)", "| a | b |\n|---|---|\n| {} | 1 |"])
def test_a_name_is_seen_as_it_is_written(name, frame):
    written = plain(name).replace("|", "\\|") if frame.startswith("|") else plain(name)
    read = Rendered(frame.format(written))
    assert seen(name) in read.text
    assert {tag for tag, _ in read.tags} <= {"p", "h1", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"}


@TWO
def test_on_a_model_card(tmp_path, names):
    write(tmp_path / "comparison.json", {name: [{**result(names), "seed": 0, "train_seconds": 1.0}] for name in names})
    given = dict(model_name=names[0], dataset=names[1], dataset_license=names[0])
    text = str(build_card(record_of(names), str(tmp_path), **given, other_settings={names[0]: names[1]}))
    assert ModelCard(text).data.model_name == names[0]
    read = Rendered(ModelCard(text).text)
    assert_no_more_than_names(read)
    groups = [group_title(label, attribute) for label in names for attribute in names[::-1]]
    table = read.tables[0]
    assert [row[0] for row in table[1:]] == [seen(name) for name in groups]
    assert all(len(row) == len(part[0]) for part in read.tables for row in part)
    assert seen(names[0]) in read.text and [tag for tag, _ in read.tags].count("h1") == 1


@TWO
def test_on_the_card_of_scores(names):
    labels = np.array([0] * 30 + [1] * 30)
    draw = np.random.default_rng(0).random(60).astype(np.float32)
    facts = {"model": names[0], "model_origin": names[1], "class_balanced_accuracy": 0.5}
    pseudo = PseudoAttributes(draw, labels, labels, tuple(names), "mark", record=facts)
    told = DatasetCard(card(pseudo, "me/scores", [0.1], dataset=names[0], license=names[1]))
    assert (told.data.get("source_datasets"), told.data.license) == ([names[0]], names[1])
    read = Rendered(told.text)
    assert_no_more_than_names(read)
    assert [row[0] for row in read.tables[1][1:]] == [seen(name) for name in names]
    assert {len(row) for row in read.tables[1]} == {3}


@TWO
def test_on_the_page(tmp_path, names):
    run = tmp_path / names[0].replace("/", "").replace("\x00", "").replace("\n", " ")[:40]
    run.mkdir()
    record_of(names).save(run)
    write(run / "comparison.json", {name: [{**result(names), "seed": 0, "train_seconds": 1.0}] for name in names})
    page = page_of(run)
    assert_self_contained(page)
    rows = [row for row in page.rows if row and " ".join(row[0].split()) == " ".join(names[0].split())]
    assert rows
