"""A search where attributes are unknown: where it begins, what it draws, what trials share, and what it says."""

import math

import pytest
from helpers import table
from searches import searching, the_search
from transformers import TrainerCallback

import gerne_hf.pseudo_attributes.scores
from gerne_hf.recipes.run import tune

pytestmark = pytest.mark.usefixtures("quick_and_quiet")

BIASED, EVEN = [[200, 20], [20, 200]], [[60, 60], [60, 60]]
CLEAN = [[150, 150], [150, 150]]


def unknown(folder, train=BIASED, **settings):
    """A trainer without attributes, on rows with a planted minority and a validation set without one."""
    plain = dict(attribute_column=None, max_steps=30, learning_rate=0.1, per_device_train_batch_size=32)
    return searching(
        *(folder, table(train)),
        **{**plain, "eval_dataset": table(EVEN, seed=5), "pseudo_attributes": True, **settings},
    )


def by_number(folder):
    return sorted(the_search(folder)["trials"], key=lambda trial: trial["number"])


class Interrupt(TrainerCallback):
    """Interrupts in the first step of a trial."""

    def __init__(self, trial):
        self.left = trial + 1

    def on_step_end(self, args, state, control, **kwargs):
        self.left -= state.global_step == 1
        if not self.left:
            self.left = -1
            raise KeyboardInterrupt


@pytest.fixture
def fits(monkeypatch):
    """How often biased models are trained."""
    counted, run_folds = [], gerne_hf.pseudo_attributes.scores.run_folds
    monkeypatch.setattr(
        gerne_hf.pseudo_attributes.scores, "run_folds", lambda *given: counted.append(given) or run_folds(*given)
    )
    return counted


def test_it_begins_at_the_own_settings_and_class_balanced_erm(tmp_path, fits, capsys):
    subject = unknown(tmp_path, c=0.5, beta=1.2)
    before = dict(vars(subject.args))
    best = subject.hyperparameter_search(n_trials=6)
    own, balanced, *drawn = by_number(tmp_path)
    assert own["params"] == {"pseudo_rule": "validation_shift", "c": 0.5, "beta": 1.2}
    assert balanced["params"] == {**own["params"], "beta": -1.0}
    assert (own["start"], balanced["start"]) == ("your settings", "class-balanced ERM")
    assert len(drawn) == 4 and not any("start" in trial for trial in drawn)
    for trial in drawn:
        assert trial["state"] == "complete" and trial["params"]["c"] in (0.25, 0.5, 0.75, 1.0)
        assert 1 - 1e-9 <= trial["params"]["c"] * (trial["params"]["beta"] + 1) <= 1.6 + 1e-9
    assert {trial["params"]["pseudo_rule"] for trial in drawn} <= set(the_search(tmp_path)["made_with"]["rules"])
    assert len(fits) == 1  # of both folds, for all rules
    assert best.objective == max(t["value"] for t in (own, balanced, *drawn)) > balanced["value"]
    report = the_search(tmp_path)
    assert report["objective"] == "gated_accuracy" and report["verdict"] is None
    assert "No method is better" not in capsys.readouterr().out
    assert vars(subject.args) == before and "make_accumulator" not in vars(subject)
    settings = {**tune(subject, 6), "c": best.hyperparameters["c"]}
    assert settings == {**best.hyperparameters, "biased_folds": 2, "threshold": None}


def test_all_rules_are_judged_over_the_same_groups(tmp_path, monkeypatch):
    """Over groups of its own a rule that leaves classes whole would look best: there is no small group to fail on."""
    judged = []
    subject = unknown(tmp_path)
    make = type(subject).make_accumulator
    monkeypatch.setattr(
        type(subject), "make_accumulator", lambda self, index: judged.append(made := make(self, index)) or made
    )
    subject.hyperparameter_search(n_trials=5)
    rules = {trial["params"]["pseudo_rule"] for trial in by_number(tmp_path)}
    assert len(rules) == 2
    counts = [accumulator.inferred.counts.tolist() for accumulator in judged]
    assert len(counts) > 5 and all(count == counts[0] for count in counts) and min(counts[0][0]) > 0
    subject.args.pseudo_rule = "confident_mistakes"
    assert subject.infer_groups().evaluation.counts.tolist() != counts[0]  # so there is something to get wrong


def test_where_class_balanced_erm_wins_all_say_so(tmp_path, capsys):
    subject = unknown(tmp_path, CLEAN, c=1.0, beta=3.0, learning_rate=0.3)
    best = subject.hyperparameter_search(n_trials=6)
    printed, report = capsys.readouterr().out, the_search(tmp_path)
    assert "Nothing to search: no rule splits a class here" in printed and len(report["trials"]) == 2
    assert report["verdict"] == "No method is better than class-balanced ERM here"
    assert f"\n{report['verdict']}.\n" in printed.replace("\n\n", "\n")
    assert best.hyperparameters["beta"] == -1.0 and report["best"] == report["trials"][0]
    assert report["best"]["start"] == "class-balanced ERM"


def test_a_threshold_is_searched_where_one_is_given(tmp_path, fits):
    subject = unknown(tmp_path, threshold=0.1)
    subject.hyperparameter_search(n_trials=6)
    trials, report = by_number(tmp_path), the_search(tmp_path)
    assert trials[0]["params"] == {"pseudo_rule": "threshold", "threshold": 0.1, "c": 0.5, "beta": 1.0}
    assert report["made_with"]["rules"][0] == "threshold" and len(report["made_with"]["rules"]) > 1
    for trial in trials:
        assert ("threshold" in trial["params"]) == (trial["params"]["pseudo_rule"] == "threshold")
        assert trial["state"] == "complete" and 0.025 <= trial["params"].get("threshold", 0.1) <= 0.4
    assert len(fits) == 1 and (tmp_path / "search" / "search.png").exists()
    settings = tune(subject, 6)
    assert settings["biased_folds"] == 1  # as in the search, whatever the rule
    assert (settings["threshold"] is None) == (settings["pseudo_rule"] != "threshold")


def test_attributes_of_the_validation_set_make_a_rule(tmp_path):
    subject = unknown(tmp_path, attribute_column="place")
    best = subject.hyperparameter_search(n_trials=3)
    report = the_search(tmp_path)
    assert (
        report["made_with"]["rules"][0] == "validation_attributes"
        and "validation_shift" in report["made_with"]["rules"]
    )
    assert report["objective"] == "worst_group_accuracy"
    alone = unknown(tmp_path / "alone", attribute_column="place", **best.hyperparameters)
    alone.train()
    alone.evaluate_if_stale()
    assert alone.group_results["eval"]["worst_group_accuracy"] == pytest.approx(best.objective)


@pytest.mark.parametrize("trial", [0, 1, 3])
def test_an_interrupted_search_goes_on_as_if_nothing_had_been(tmp_path, trial, fits):
    def found(folder):
        return {
            tuple(t["params"].items()): (t["value"], t.get("start"))
            for t in by_number(folder)
            if t["state"] == "complete"
        }

    unknown(tmp_path / "whole").hyperparameter_search(n_trials=5)
    cut = unknown(tmp_path / "cut")
    cut.infer_groups()
    cut.add_callback(Interrupt(trial))
    with pytest.raises(KeyboardInterrupt):
        cut.hyperparameter_search(n_trials=5)
    unknown(tmp_path / "cut").hyperparameter_search(n_trials=5)
    states = [t["state"] for t in by_number(tmp_path / "cut")]
    assert states.count("interrupted") == 1 and states.count("complete") == 5
    assert found(tmp_path / "cut") == found(tmp_path / "whole") and len(fits) == 2  # one for each folder
    assert all(math.isfinite(value) for value, _ in found(tmp_path / "cut").values())
    more = unknown(tmp_path / "cut").hyperparameter_search(n_trials=6)
    starts = [t["start"] for t in by_number(tmp_path / "cut") if "start" in t and t["state"] == "complete"]
    assert sorted(starts) == ["class-balanced ERM", "your settings"] and more is not None  # once each
