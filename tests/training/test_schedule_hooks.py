"""A schedule of beta of one's own, what is out of bounds, and what the logs tell."""

import math

import pytest
import torch
from helpers import (
    Gradients,
    assert_same,
    config,
    mlp,
    trainer,
    watch_batches,
    weights,
)
from step_gradients import ALPHA, LINEAR, Steps, coefficients_at, combined, linear, segment_gradients

from gerne_hf import GerneTrainer
from gerne_hf.method.beta import BETA_SCHEDULES
from gerne_hf.method.distributions import extrapolated_distribution
from gerne_hf.method.plans import PLANS

pytestmark = pytest.mark.usefixtures("without_pictures")
DOUBLE = torch.float64
UPPER = (40 / 48) / (0.5 * (40 / 48 - 0.5)) - 1  # Eq. 9 for SKEWED and c = 0.5: 4


# ---- the hook -----------------------------------------------------------------------------------------------------


def with_hook(schedule):
    """A trainer class that keeps what its hook was asked."""

    class Hooked(GerneTrainer):
        asked: list = []

        def get_beta(self, progress):
            Hooked.asked.append(progress)
            return schedule(progress)

    return Hooked


@pytest.mark.parametrize("mode", ["fused", "separate"])
@pytest.mark.parametrize("plan", ["independent", "shared"])
def test_an_overridden_hook_is_used(tmp_path, plan, mode):
    gradients, steps, cls = Gradients(), Steps(), with_hook(lambda progress: 2 - 3 * progress)
    settings = dict(plan=plan, forward_mode=mode, max_steps=6, max_grad_norm=0.0, per_device_train_batch_size=12)
    subject = trainer(tmp_path, mlp(dtype=DOUBLE), cls=cls, callbacks=[gradients, steps], **settings)
    batches = watch_batches(subject)
    subject.train()
    assert cls.asked == pytest.approx([step / 6 for step in range(6)])
    model = mlp(dtype=DOUBLE)
    for step, (batch, found, before) in enumerate(zip(batches, gradients.steps, steps.before, strict=True)):
        model.load_state_dict(before)
        parts = segment_gradients(model, batch, subject.plan.slices())
        assert_same(found, combined(parts, coefficients_at(plan, 2 - 3 * step / 6)), 1e-10)


def test_the_beta_of_a_hook_is_logged(tmp_path):
    subject = trainer(tmp_path, cls=with_hook(lambda progress: 2 - 3 * progress), max_steps=6)
    subject.train()
    logged = [entry.get("beta") for entry in subject.state.log_history if "loss" in entry]
    assert logged == pytest.approx([2 - 3 * step / 6 for step in range(6)])


@pytest.mark.parametrize("outside", [UPPER + 0.01, -1.01, math.nan, math.inf])
def test_a_hook_out_of_bounds_is_refused(tmp_path, outside):
    assert extrapolated_distribution(ALPHA, 0.5, UPPER).min() == pytest.approx(0, abs=1e-12)
    subject = trainer(tmp_path, cls=with_hook(lambda progress: outside))
    kept = weights(subject.model)
    with pytest.raises(ValueError, match=r"lies outside its bounds \[-1, 4\].*beta_out_of_bounds='warn'"):
        subject.train()
    assert_same(weights(subject.model), kept)
    trainer(tmp_path, cls=with_hook(lambda progress: UPPER)).train()


def test_a_hook_out_of_bounds_is_let_through_where_the_rule_says_so(tmp_path, caplog):
    for rule, warnings in (("warn", 1), ("ignore", 0)):
        caplog.clear()
        gradients, steps = Gradients(), Steps()
        cls = with_hook(lambda progress: UPPER + 0.5)
        settings = dict(cls=cls, beta_out_of_bounds=rule, max_steps=3, max_grad_norm=0.0)
        subject = trainer(tmp_path, mlp(dtype=DOUBLE), callbacks=[gradients, steps], **settings)
        batches = watch_batches(subject)
        subject.train()
        assert caplog.text.count("lies outside its bounds") == warnings
        assert subject.state.global_step == 3
        model = mlp(dtype=DOUBLE)
        model.load_state_dict(steps.before[2])
        parts = segment_gradients(model, batches[2], subject.plan.slices())
        assert_same(gradients.steps[2], combined(parts, [-UPPER - 0.5, 1.5 + UPPER]), 1e-10)


def test_a_schedule_out_of_bounds_warns_once(tmp_path, caplog):
    """And not again at each of the steps, each of which has another beta."""
    trainer(tmp_path, max_steps=20, beta=12.0, beta_schedule="linear", beta_out_of_bounds="warn").train()
    assert 1 <= caplog.text.count("lies outside its bounds") <= 2


# ---- plans without beta in their loss -----------------------------------------------------------------------------


@pytest.mark.parametrize("plan", ["collapsed", "reweighting"])
def test_plans_that_cannot_change_beta_refuse_a_schedule(tmp_path, plan):
    with pytest.raises(ValueError, match=f"beta_schedule='linear' needs a plan.*independent or shared; plan '{plan}'"):
        config(tmp_path, plan=plan, beta_schedule="linear")
    for mode in ("fused", "separate"):
        subject = trainer(tmp_path, plan=plan, forward_mode=mode, cls=with_hook(lambda progress: 0.5))
        kept = weights(subject.model)
        with pytest.raises(ValueError, match=f"beta cannot change over training with the plan '{plan}'"):
            subject.train()
        assert_same(weights(subject.model), kept)
    trainer(tmp_path, plan=plan, cls=with_hook(lambda progress: 1.0)).train()  # the plan's own beta


@pytest.mark.parametrize("plan", ["erm", "resampling"])
def test_plans_without_beta_ignore_a_schedule(tmp_path, plan):
    runs = []
    for schedule in BETA_SCHEDULES:
        runs.append(trainer(tmp_path, mlp(), plan=plan, beta_schedule=schedule, max_steps=4))
        runs[-1].train()
        assert not any("beta" in entry for entry in runs[-1].state.log_history)
    assert_same(weights(runs[0].model), weights(runs[1].model))


# ---- logs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [dict(), dict(gradient_accumulation_steps=2), dict(forward_mode="separate")])
@pytest.mark.parametrize("plan", ["independent", "shared"])
def test_logs_carry_beta_and_the_loss_of_it(tmp_path, plan, settings):
    subject = trainer(tmp_path, plan=plan, max_steps=8, per_device_train_batch_size=12, **settings, **LINEAR)
    subject.train()
    entries = [entry for entry in subject.state.log_history if "loss" in entry]
    assert [entry["beta"] for entry in entries] == pytest.approx([linear(step, 8) for step in range(8)])
    for entry in entries:
        biased, less_biased, beta = entry["loss_biased"], entry["loss_less_biased"], entry["beta"]
        assert entry["loss_extrapolated"] == pytest.approx(less_biased + beta * (less_biased - biased), abs=1e-5)
        assert entry["loss_extrapolated"] == pytest.approx(entry["loss"], abs=1e-5)


def test_logs_of_several_steps_have_the_mean_loss(tmp_path):
    subject = trainer(tmp_path, max_steps=9, logging_steps=3, learning_rate=0.5, **LINEAR)
    batches = watch_batches(subject)
    subject.train()
    entries = [entry for entry in subject.state.log_history if "loss" in entry]
    assert len(entries) == 3 and len(batches) == 9
    assert [entry["beta"] for entry in entries] == pytest.approx([linear(step, 9) for step in (2, 5, 8)])
    for entry in entries:
        assert entry["loss_extrapolated"] == pytest.approx(entry["loss"], abs=1e-5)


@pytest.mark.parametrize("plan", PLANS)
def test_a_constant_beta_is_not_logged(tmp_path, plan):
    subject = trainer(tmp_path, plan=plan, per_device_train_batch_size=12)
    subject.train()
    assert not any("beta" in entry for entry in subject.state.log_history)
