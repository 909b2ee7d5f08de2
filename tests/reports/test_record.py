"""The record of a run: it comes back from its file, and the card of a run that has ended is written from it."""

import json

import pytest
from cards import card_of
from helpers import EVEN, mlp, table, trainer
from report_pages import report

from gerne_hf.reports.model_card import build_card, write_card
from gerne_hf.reports.record import GROUP_METRICS_FILE, RunRecord


@pytest.fixture(params=["plain", "named sets", "pseudo", "even"])
def ended(request, tmp_path, without_pictures):
    """A trainer whose run has ended, and that saved its record."""
    settings = {
        "plain": {},
        "named sets": dict(eval_dataset={"near": table(seed=3), "far": table(seed=5)}),
        "pseudo": dict(pseudo_attributes=True, threshold=0.2, attribute_column=None),
        "even": dict(train=table(EVEN)),  # beta has no upper bound, which JSON cannot say
    }[request.param]
    subject = trainer(tmp_path, mlp(), **{"eval_dataset": table(seed=3), "max_steps": 2, "seed": 5, **settings})
    subject.train()
    subject.save_group_metrics()
    return subject


def test_a_record_comes_back_from_its_file(ended, tmp_path):
    live, loaded = ended.run_record(), RunRecord.load(tmp_path)
    assert (loaded.model, loaded.run) == (live.model, live.run)
    assert loaded.as_json() == json.loads((tmp_path / GROUP_METRICS_FILE).read_text(encoding="utf-8"))
    assert loaded.evaluations == live.evaluations and loaded.settings["seed"] == 5 and loaded.run.trained


def test_the_card_of_a_run_that_has_ended_is_that_of_the_trainer(ended, tmp_path):
    given = dict(dataset="Places", other_settings={"x": 1})
    live = card_of(ended, **given)
    loaded = build_card(RunRecord.load(tmp_path), str(tmp_path), **given)
    assert loaded.content == live.content
    write_card(RunRecord.load(tmp_path), str(tmp_path), **given)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == live.content
    assert "Seed 5; Python" in live.text and "| `seed`" not in live.text


def test_parts_that_a_run_has_not_are_left_out():
    whole = report()
    assert RunRecord.from_json(whole).as_json() == whole
    bare = {key: whole[key] for key in ("model", "run")}
    record = RunRecord.from_json(bare)
    assert record.as_json() == {"evaluations": {}, "settings": {}, **bare}
    assert record.recovery == [] and record.named_evaluations == {}


@pytest.mark.parametrize("value", [[], {}, {"model": {}, "run": {}}, {**report(), "run": {"steps": 3}}])
def test_what_is_no_record_is_refused(value):
    with pytest.raises((KeyError, TypeError)):
        RunRecord.from_json(value)
