"""JTT on GERNE's biased model: which rows are drawn more often, how much more, and the first model that is shared."""

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import MLP, config, mlp, table, watch_batches

from gerne_hf import GroupIndex
from gerne_hf.baselines import BaselineConfig, BiasedModelJTTTrainer
from gerne_hf.baselines.jtt_biased_model import error_distribution
from gerne_hf.comparison.comparing import compare
from gerne_hf.pseudo_attributes.fit_record import RECORD_FILE

pytestmark = pytest.mark.usefixtures("without_pictures")
FIRST = dict(biased_learning_rate=0.3, biased_epochs=3.0, biased_weight_decay=0.0)
COUNTS = [[160, 20], [30, 60]]


def settings_of(output_dir, upweight=7.0, **settings):
    """Settings by which an error is drawn `upweight` times as often as another row."""
    plain = config(output_dir, **{"plan": "erm", **FIRST, **settings})
    given = {field.name: getattr(plain, field.name) for field in fields(plain) if field.init}
    return BaselineConfig(**given, jtt_upweight=upweight - 1)


def jtt(output_dir, model=None, train=None, eval_dataset=None, **settings):
    args = settings_of(output_dir, **settings)
    data = table(COUNTS) if train is None else train
    model = mlp() if model is None else model
    return BiasedModelJTTTrainer(model=model, args=args, train_dataset=data, eval_dataset=eval_dataset)


def wrong_rows(model, data):
    """The rows whose class is not the one of the largest logit."""
    with torch.no_grad():
        predicted = model.eval()(torch.tensor(data["inputs"][:])).logits.argmax(-1).numpy()
    return np.flatnonzero(predicted != np.array(data["label"][:]))


def drawn(subject, least=100_000):
    """How often the stream that training read draws each row."""
    times, sampler = np.zeros(len(subject.train_dataset)), subject._sampler
    while times.sum() < least:
        sampler.set_epoch(sampler.epoch + 1)
        times += np.bincount(list(sampler), minlength=len(times))
    return times


def within_errors(count, total, share):
    return abs(count / total - share) <= 4 * np.sqrt(share * (1 - share) / total)


def errors_by_hand(subject):
    folder = Path(subject.pseudo.directory) / "model"
    return wrong_rows(MLP.from_pretrained(folder), subject.train_dataset)


# ---- the error set ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("selected", [False, True])
def test_the_errors_are_the_rows_that_the_saved_first_model_gets_wrong(tmp_path, selected):
    """Also where the first model is the best checkpoint and not the last one."""
    held_out = table([[40, 10], [10, 40]], seed=5) if selected else None
    subject = jtt(tmp_path, eval_dataset=held_out)
    subject.train()
    expected = errors_by_hand(subject)
    assert 10 < len(expected) < 150  # of 270: neither none nor all
    found = [subject.groups.rows(label, "wrong") for label in (0, 1)]
    assert sorted(np.concatenate(found).tolist()) == expected.tolist()
    labels = np.array(subject.train_dataset["label"][:])
    assert all((labels[rows] == label).all() and len(rows) for label, rows in enumerate(found))
    # The second model is another one, and its own errors do not count.
    assert wrong_rows(subject.model, subject.train_dataset).tolist() != expected.tolist()


def test_the_batches_of_training_are_drawn_by_the_errors(tmp_path):
    subject = jtt(tmp_path, upweight=1e6, max_steps=5)
    batches = watch_batches(subject)
    subject.train()
    errors = set(errors_by_hand(subject).tolist())
    assert len(batches) == 5
    assert {row for batch in batches for row in batch["row"].tolist()} <= errors
    subject._sampler.set_epoch(0)
    stream = list(subject._sampler)
    assert [row for batch in batches for row in batch["row"].tolist()] == stream[: 5 * 8]


# ---- how often ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upweight", [1.0, 7.0])
def test_errors_are_drawn_upweight_times_as_often(tmp_path, upweight):
    subject = jtt(tmp_path, upweight=upweight)
    assert subject.args.class_balanced  # the default of the config, which has no part in JTT
    subject.train()
    errors = errors_by_hand(subject)
    times = drawn(subject)
    total, rows = times.sum(), len(times)
    mass = upweight * len(errors) + rows - len(errors)
    weight = np.ones(rows)
    weight[errors] = upweight
    assert within_errors(times[errors].sum(), total, upweight * len(errors) / mass)
    labels, wrong = np.array(subject.train_dataset["label"][:]), np.isin(np.arange(rows), errors)
    for y in (0, 1):
        for chosen in (labels == y, (labels == y) & wrong):
            assert within_errors(times[chosen].sum(), total, weight[chosen].sum() / mass)
    # Every row of a kind alike: 270 rows are judged at once, so the worst has 5 standard errors.
    expected = total * weight / mass
    assert (np.abs(times - expected) <= 5 * np.sqrt(expected)).all()
    if upweight == 1.0:  # natural class frequencies: 180 and 90 of 270, and not half and half
        assert within_errors(times[labels == 0].sum(), total, 2 / 3)


def test_the_distribution():
    errors = GroupIndex.from_arrays([0] * 10 + [1] * 5, ["a"] * 2 + ["b"] * 8 + ["a"] * 1 + ["b"] * 4)
    mass = 2 * 20 + 8 + 20 + 4
    expected = np.array([[40, 8], [20, 4]]) / mass
    assert np.allclose(error_distribution(errors, 19.0), expected, atol=1e-12)


# ---- few errors, and none -----------------------------------------------------------------------------------------


def reads_the_label(threshold=0.5):
    """A model with inputs 0 above the threshold as class 1, trained on data that says so."""
    model = mlp()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.first.weight[0, 0], model.first.bias[0] = 4.0, -4.0 * threshold
        model.second.weight[1, 0], model.second.weight[0, 0] = 3.0, -3.0
    return model


def clean_table(flipped=0):
    """Rows whose first input tells the label exactly; in `flipped` rows of class 0 it tells the other one."""
    data = table(COUNTS)
    labels, inputs = np.array(data["label"][:]), np.array(data["inputs"][:])
    shown = labels.copy()
    shown[np.flatnonzero(labels == 0)[:flipped]] = 1
    inputs[:, 0] = shown
    return data.remove_columns("inputs").add_column("inputs", inputs.tolist())


STILL = dict(biased_learning_rate=0.0, biased_epochs=1.0)


def test_a_class_without_errors(tmp_path):
    data = clean_table(flipped=6)
    subject = jtt(tmp_path, reads_the_label(), data, upweight=50.0, **STILL)
    subject.train()
    errors = errors_by_hand(subject)
    labels = np.array(data["label"][:])
    assert len(errors) == 6 and (labels[errors] == 0).all()
    assert subject.groups.counts.tolist() == [[6, 174], [0, 90]]
    times = drawn(subject)
    assert within_errors(times[errors].sum(), times.sum(), 300 / (300 + 264))
    assert within_errors(times[labels == 1].sum(), times.sum(), 90 / (300 + 264))


def test_no_errors_at_all_is_plain_training(tmp_path):
    data = clean_table()
    subject = jtt(tmp_path, reads_the_label(), data, upweight=50.0, eval_dataset=table(COUNTS, seed=3), **STILL)
    subject.train()
    assert not len(errors_by_hand(subject)) and subject.groups.counts.tolist() == [[0, 180], [0, 90]]
    times = drawn(subject)
    labels = np.array(data["label"][:])
    assert within_errors(times[labels == 0].sum(), times.sum(), 2 / 3)
    assert (np.abs(times - times.mean()) <= 5 * np.sqrt(times.mean())).all()
    assert (tmp_path / "group_metrics.json").is_file()


# ---- the first model ----------------------------------------------------------------------------------------------


class CountedSGD(torch.optim.SGD):
    """Notes the learning rate of each step."""

    rates: list = []

    def step(self, *args, **kwargs):
        self.rates.append(self.param_groups[0]["lr"])
        return super().step(*args, **kwargs)


def comparing(folder, methods, **settings):
    args = settings_of(folder, plan="independent", pseudo_attributes=True, threshold=0.2, max_steps=3, **settings)
    trainers = []

    def make_trainer(run, trainer_class):
        trainers.append(
            trainer_class(
                model_init=lambda: mlp(run.seed),
                args=run,
                train_dataset=table(COUNTS),
                eval_dataset=table([[10, 10], [10, 10]], seed=8),
                optimizer_cls_and_kwargs=(CountedSGD, {"lr": run.learning_rate}),
            )
        )
        return trainers[-1]

    compare(methods, args, make_trainer, table([[9, 9], [9, 9]], seed=9), seeds=(0,))
    return trainers


@pytest.mark.parametrize("methods", [["jtt_biased_model", "pseudo"], ["pseudo", "jtt_biased_model"]])
def test_one_first_model_serves_jtt_and_gerne(tmp_path, methods, monkeypatch):
    monkeypatch.setattr(CountedSGD, "rates", [])
    trainers = comparing(tmp_path, methods)  # with class-balanced ERM, which inferred groups are compared with
    first, second = (subject for subject in trainers if subject.pseudo is not None)
    assert len(list(tmp_path.rglob(RECORD_FILE))) == 1
    assert first.pseudo.directory == second.pseudo.directory
    assert np.array_equal(first.pseudo.scores, second.pseudo.scores)
    fit_steps = 3 * 34  # epochs of 270 rows in batches of 8
    assert (CountedSGD.rates.count(0.3), CountedSGD.rates.count(0.1)) == (fit_steps, 3 * len(trainers))
    assert len(CountedSGD.rates) == fit_steps + 9
    assert {type(first), type(second)} > {BiasedModelJTTTrainer}


def test_other_settings_of_the_first_model_make_another(tmp_path, monkeypatch):
    monkeypatch.setattr(CountedSGD, "rates", [])
    comparing(tmp_path, ["jtt_biased_model"])
    comparing(tmp_path, ["jtt_biased_model"])
    assert CountedSGD.rates.count(0.3) == 102  # found again
    comparing(tmp_path, ["jtt_biased_model"], biased_epochs=1.0)
    assert CountedSGD.rates.count(0.3) == 102 + 34
    assert len(list(tmp_path.rglob(RECORD_FILE))) == 2


def test_training_twice_fits_once(tmp_path):
    subject = jtt(tmp_path)
    subject.train()
    scores = subject.pseudo
    subject.train()
    assert subject.pseudo is scores and len(list(tmp_path.rglob(RECORD_FILE))) == 1


def test_the_report_does_not_call_the_errors_attributes_of_the_data(tmp_path):
    """`train_groups` in group_metrics.json names the column that its groups were made from."""
    subject = jtt(tmp_path)
    subject.train()
    report = json.loads((tmp_path / "group_metrics.json").read_text())
    assert report["train_groups"]["attribute_names"] == ["wrong", "right"]
    assert report["train_groups"]["attribute_columns"] == []


# ---- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", ["independent", "shared", "collapsed", "resampling", "reweighting"])
def test_other_plans_are_refused(tmp_path, plan):
    with pytest.raises(ValueError, match="JTT draws rows by its own errors; use plan='erm'"):
        jtt(tmp_path, plan=plan)


def test_pseudo_attributes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="pseudo_attributes=False"):
        jtt(tmp_path, plan="independent", pseudo_attributes=True, threshold=0.1)


@pytest.mark.parametrize("upweight", [0.5, -1.0, float("nan")])
def test_the_factor_is_not_negative(tmp_path, upweight):
    with pytest.raises(ValueError, match="jtt_upweight must be finite and not negative"):
        settings_of(tmp_path, upweight=upweight)


def test_no_attributes_are_needed(tmp_path):
    subject = jtt(tmp_path, train=table(COUNTS).remove_columns("place"), attribute_column=None)
    subject.train()
    assert subject.state.global_step == 2 and subject.groups.attribute_names == ("wrong", "right")
