"""JTT against a plain re-statement with the stock Trainer: first model, error set, and the second training."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import concatenate_datasets
from helpers import MLP, assert_same, config, mlp, table, watch_batches, weights
from transformers import Trainer, TrainingArguments

from gerne_hf import GroupIndex, GroupSampler
from gerne_hf.baselines import BaselineConfig, JTTTrainer
from gerne_hf.baselines.jtt import error_plan
from gerne_hf.method.plans import BatchPlan, Segment
from gerne_hf.method.sampling import EpochSampler

pytestmark = pytest.mark.usefixtures("without_pictures")
COUNTS = [[90, 12], [16, 40]]


def jtt(output_dir, train=None, upweight=3.0, first_epochs=2.0, more=None, **settings):
    plain = config(output_dir, **{"plan": "erm", "max_steps": -1, "num_train_epochs": 2, **settings})
    given = {field.name: getattr(plain, field.name) for field in fields(plain) if field.init}
    args = BaselineConfig(**given, jtt_upweight=upweight, jtt_first_epochs=first_epochs)
    data = table(COUNTS) if train is None else train
    return JTTTrainer(model=mlp(), args=args, train_dataset=data, **(more or {}))


def stock(output_dir, data, epochs, **settings):
    """The model that the stock Trainer makes of some rows."""
    common = dict(per_device_train_batch_size=8, optim="sgd", learning_rate=0.1, lr_scheduler_type="constant")
    common |= dict(use_cpu=True, save_strategy="no", disable_tqdm=True, report_to="none", num_train_epochs=epochs)
    args = TrainingArguments(output_dir=str(output_dir), **{**common, **settings})
    trainer = Trainer(model=mlp(), args=args, train_dataset=data.remove_columns("place"))
    trainer.train()
    return trainer.model


def wrong_rows(model, data):
    with torch.no_grad():
        predicted = model.eval()(torch.tensor(data["inputs"][:])).logits.argmax(-1).numpy()
    return np.flatnonzero(predicted != np.array(data["label"][:]))


@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.2, "class_balanced": False}])
def test_both_trainings_are_those_of_the_original(tmp_path, settings):
    """The original appends the errors `up_weight` times to the training set, and trains as ever."""
    subject, data = jtt(tmp_path / "ours", **settings), table(COUNTS)
    subject.train()
    settings.pop("class_balanced", None)
    first = stock(tmp_path / "first", data, epochs=2, **settings)
    saved = MLP.from_pretrained(Path(subject.pseudo.directory) / "model")
    assert_same(weights(saved), weights(first), tolerance=1e-6)
    errors = wrong_rows(first, data)
    assert 5 < len(errors) < 80
    second = stock(tmp_path / "second", concatenate_datasets([data, *[data.select(errors)] * 3]), epochs=2, **settings)
    assert_same(weights(subject.model), weights(second), tolerance=1e-6)
    assert subject.state.global_step == 2 * -(-(len(data) + 3 * len(errors)) // 8)


def test_an_epoch_has_each_error_once_and_lambda_times_more(tmp_path):
    subject = jtt(tmp_path, upweight=4.0, num_train_epochs=1)
    batches = watch_batches(subject)
    subject.train()
    errors = wrong_rows(MLP.from_pretrained(Path(subject.pseudo.directory) / "model"), subject.train_dataset)
    times = np.bincount([row for batch in batches for row in batch["row"].tolist()], minlength=158)
    expected = np.ones(158, dtype=int)
    expected[errors] = 5
    assert times.tolist() == expected.tolist()


def test_the_plan_weights_the_rows_of_errors():
    errors = GroupIndex.from_arrays([0] * 10 + [1] * 5, ["a"] * 2 + ["b"] * 8 + ["a"] * 1 + ["b"] * 4)
    plan = error_plan(errors, upweight=19, rows=8)
    expected = np.array([[2 * 20, 8], [1 * 20, 4]]) / (2 * 20 + 8 + 20 + 4)
    assert np.allclose(plan.expected_weights(), expected, atol=1e-12)


def test_its_first_model_is_another_one_for_other_epochs_and_is_found_again(tmp_path):
    folders = set()
    for epochs in (1.0, 1.0, 2.0):
        subject = jtt(tmp_path, first_epochs=epochs, num_train_epochs=1)
        subject.train()
        folders.add(subject.pseudo.directory)
        assert subject.pseudo.record["settings"]["num_train_epochs"] == epochs
        assert subject.pseudo.record["settings"]["class_balanced"] is False
    assert len(folders) == 2


def test_the_first_model_is_not_selected(tmp_path):
    """Its last weights are kept, though the run selects, and the fields of GERNE's biased model have no part in it."""
    saves = dict(eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True, biased_learning_rate=1e-9)
    subject = jtt(tmp_path / "ours", more={"eval_dataset": table([[9, 9], [9, 9]], seed=4)}, **saves)
    subject.train()
    saved = MLP.from_pretrained(Path(subject.pseudo.directory) / "model")
    assert_same(weights(saved), weights(stock(tmp_path / "first", table(COUNTS), epochs=2)), tolerance=1e-6)


def test_a_resume_with_other_first_epochs_is_refused(tmp_path):
    subject = jtt(tmp_path, save_strategy="epoch")
    subject.train()
    other = jtt(tmp_path, save_strategy="epoch", first_epochs=1.0)
    with pytest.raises(ValueError, match="jtt_first_epochs"):
        other.train(resume_from_checkpoint=True)


# ---- repeats of a plan ----------------------------------------------------------------------------------------------


def plan_with(repeats, every_row=True):
    return BatchPlan("p", (Segment("p", 4, np.full((2, 2), 0.25), 1.0),), every_row=every_row, repeats=repeats)


def test_an_epoch_repeats_the_rows_of_a_group_and_leaves_others_out():
    groups = GroupIndex.from_arrays([0, 0, 1, 1, 1], [0, 1, 0, 1, 1])
    sampler = EpochSampler(groups, plan_with(np.array([[3, 1], [0, 2]])))
    for epoch in range(3):
        sampler.set_epoch(epoch)
        assert np.bincount(list(sampler), minlength=5).tolist() == [3, 1, 0, 2, 2] and len(sampler) == 8
    assert sampler.num_batches == 2 and isinstance(sampler, GroupSampler)


@pytest.mark.parametrize(
    "repeats", [np.ones((2, 3), int), np.full((2, 2), -1), np.zeros((2, 2), int), np.ones((2, 2))]
)
def test_bad_repeats(repeats):
    with pytest.raises(ValueError, match="repeats say how often"):
        plan_with(repeats)


def test_repeats_are_for_epochs_of_every_row():
    with pytest.raises(ValueError, match="every_row=True; found"):
        plan_with(np.ones((2, 2), int), every_row=False)


# ---- bad input ------------------------------------------------------------------------------------------------------


def test_a_factor_that_is_no_whole_number(tmp_path):
    with pytest.raises(ValueError, match="jtt_upweight, .* must be a whole number; found 2.5"):
        jtt(tmp_path, upweight=2.5)


@pytest.mark.parametrize("plan", ["independent", "resampling", "reweighting"])
def test_other_plans_are_refused(tmp_path, plan):
    with pytest.raises(ValueError, match="JTT draws rows by its own errors; use plan='erm'"):
        jtt(tmp_path, plan=plan)


@pytest.mark.parametrize("epochs", [0.0, -1.0, float("inf")])
def test_first_epochs_out_of_range(tmp_path, epochs):
    with pytest.raises(ValueError, match="jtt_first_epochs must be finite and positive"):
        replace(BaselineConfig(output_dir=str(tmp_path), use_cpu=True), jtt_first_epochs=epochs)


def test_no_attributes_are_needed(tmp_path):
    subject = jtt(tmp_path, train=table(COUNTS).remove_columns("place"), attribute_column=None)
    subject.train()
    assert subject.groups.attribute_names == ("wrong", "right")
