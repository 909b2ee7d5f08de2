"""What methods state of their spaces: draws lie in them and so does the default; names are fields of the config."""

import json
from dataclasses import fields

import numpy as np
import optuna
import pytest
from helpers import mlp, table, trainer

from gerne_hf.baselines import BaselineConfig
from gerne_hf.comparison.methods import METHODS
from gerne_hf.tuning.draws import GERNE_SPACE, LEARNING_RATE, WEIGHT_DECAY, Around, BetaWithinBounds, Choice, Range
from gerne_hf.tuning.space import beta_range

COUNTS = np.array([[40, 8], [10, 30]])


def drawn(draw, default, times=50, before=None):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [draw.draw(study.ask(), "x", default, before or {}, COUNTS) for _ in range(times)]


def test_values_lie_in_the_space_and_the_default_is_one_of_them():
    assert set(drawn(Choice((1, 2)), 3)) == {1, 2, 3}
    found = drawn(Range(0.001, 0.1, log=True), 0.01, 200)
    assert 0.001 <= min(found) <= max(found) <= 0.1 and 0.3 < np.mean(np.array(found) < 0.01) < 0.7  # by logarithm
    assert max(drawn(Range(0.0, 1.0), 3.0)) > 1.0  # wide enough for the default
    found = drawn(Around(10.0), 0.02)
    assert 0.002 <= min(found) <= max(found) <= 0.2


@pytest.mark.parametrize("c", [0.25, 0.5, 1.0])
def test_beta_is_drawn_within_its_bounds(c):
    low, high = beta_range(COUNTS, c)
    found = drawn(BetaWithinBounds(), 99.0, before={"c": c})
    assert low <= min(found) <= max(found) <= high


def test_the_spaces_are_of_fields_of_the_config():
    known = {field.name for field in fields(BaselineConfig)}
    for name, method in METHODS.items():
        assert set(method.space or {}) <= known, name
        assert method.searches_itself == (name == "pseudo"), name
    assert list(GERNE_SPACE) == ["c", "beta"]  # beta is drawn for the c before it
    assert isinstance(LEARNING_RATE, Around) and 0.0 in WEIGHT_DECAY.values


@pytest.mark.usefixtures("without_pictures")
def test_a_trainers_own_search_draws_more_where_it_is_asked_to(tmp_path, monkeypatch):
    monkeypatch.setattr("gerne_hf.reports.plots.plot_search", lambda *_, **__: None)
    subject = trainer(tmp_path, model_init=lambda: mlp(), eval_dataset=table(seed=3), max_steps=1, weight_decay=0.05)
    subject.also_drawn = {"weight_decay": WEIGHT_DECAY}
    best = subject.hyperparameter_search(n_trials=3)
    trials = json.loads((tmp_path / "search" / "search.json").read_text(encoding="utf-8"))["trials"]
    assert all(set(trial["params"]) == {"c", "beta", "weight_decay"} for trial in trials) and len(trials) == 3
    first = next(trial for trial in trials if trial["number"] == 0)
    assert first["params"] == {"c": 0.5, "beta": 1.0, "weight_decay": 0.05}
    assert set(best.hyperparameters) == {"c", "beta", "weight_decay"} and subject.args.weight_decay == 0.05
