"""beta over the training: the schedules, and the gradient at every step."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import (
    Gradients,
    assert_same,
    bert,
    config,
    first_batch,
    mlp,
    sentences,
    step_gradient,
    table,
    trainer,
    watch_batches,
    weights,
)
from step_gradients import LINEAR, Steps, coefficients_at, combined, linear, segment_gradients

from gerne_hf.method.beta import BETA_SCHEDULES, scheduled_beta

pytestmark = pytest.mark.usefixtures("without_pictures")
DOUBLE = torch.float64


# ---- the function -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_constant(progress):
    assert scheduled_beta("constant", 1.3, progress, 0.25) == 1.3


@pytest.mark.parametrize(
    "beta, ramp, progress, expected",
    [
        (1.0, 0.5, 0.0, -1.0),
        (1.0, 0.5, 0.125, -0.5),
        (1.0, 0.5, 0.25, 0.0),
        (1.0, 0.5, 0.5, 1.0),
        (1.0, 0.5, 0.9, 1.0),
        (3.0, 1.0, 0.75, 2.0),
        (0.0, 0.1, 0.05, -0.5),
        (-1.0, 0.5, 0.3, -1.0),
    ],
)
def test_linear(beta, ramp, progress, expected):
    assert scheduled_beta("linear", beta, progress, ramp) == pytest.approx(expected, abs=1e-12)


def test_linear_rises_from_minus_one_and_never_leaves_the_interval():
    rng = np.random.default_rng(0)
    for beta, ramp in zip(rng.uniform(-1, 5, 200).round(2), rng.uniform(1e-6, 1, 200), strict=True):
        values = [scheduled_beta("linear", beta, progress, ramp) for progress in np.linspace(0, 1, 41)]
        assert values[0] == -1.0 and values[-1] == beta  # exactly: then the plan's own coefficients hold
        assert (np.diff(values) >= 0).all() and max(values) <= beta
    assert scheduled_beta("linear", 1.0, 0.25) == scheduled_beta("linear", 1.0, 0.25, 0.5)


def test_linear_at_the_end_of_the_ramp():
    """The end is exactly beta, and rounding takes nothing before it beyond: -1 + (beta + 1) can be either side."""
    for beta in np.arange(-300, 501) / 100:
        assert scheduled_beta("linear", beta, 1.0, 1.0) == beta
        for ramp in (0.1, 0.3, 1.0):
            before = scheduled_beta("linear", beta, np.nextafter(ramp, 0), ramp)
            assert min(-1.0, beta) <= before <= max(-1.0, beta)


def test_linear_falls_from_minus_one_to_a_beta_below_it():
    found = [scheduled_beta("linear", -2.0, progress, 0.5) for progress in (0.0, 0.25, 0.5, 1.0)]
    assert found == [-1.0, -1.5, -2.0, -2.0]


def test_an_unknown_schedule(tmp_path):
    assert BETA_SCHEDULES == ("constant", "linear")
    with pytest.raises(ValueError, match="unknown beta_schedule 'cosine'; the schedules are constant, linear"):
        scheduled_beta("cosine", 1.0, 0.5)
    with pytest.raises(ValueError, match="beta_schedule must be one of 'constant', 'linear'; found 'cosine'"):
        config(tmp_path, beta_schedule="cosine")


@pytest.mark.parametrize("ramp", [0.0, -0.5, 1.01, math.nan, math.inf])
def test_a_bad_ramp(tmp_path, ramp):
    with pytest.raises(ValueError, match=r"beta_ramp, a share of the training, must lie in \(0, 1\]; found"):
        config(tmp_path, beta_schedule="linear", beta_ramp=ramp)
    assert config(tmp_path, beta_schedule="linear", beta_ramp=1.0).beta_ramp == 1.0


# ---- the gradient at every step -----------------------------------------------------------------------------------


KINDS = {"mlp": (lambda: mlp(dtype=DOUBLE), table), "bert": (lambda: bert(dtype=DOUBLE), sentences)}


@pytest.mark.parametrize("kind, mode", [("mlp", "fused"), ("mlp", "separate"), ("bert", "fused")])
@pytest.mark.parametrize("plan", ["independent", "shared"])
def test_every_step_has_the_gradient_of_its_beta(tmp_path, kind, mode, plan):
    """In a real training of 8 steps, whose weights change from step to step."""
    make, data = KINDS[kind]
    gradients, steps = Gradients(), Steps()
    settings = dict(plan=plan, forward_mode=mode, max_steps=8, per_device_train_batch_size=12, max_grad_norm=0.0)
    subject = trainer(tmp_path, make(), data(), callbacks=[gradients, steps], **settings, **LINEAR)
    batches = watch_batches(subject)
    subject.train()
    assert len(batches) == len(gradients.steps) == 8
    model = make()
    for step, (batch, found, before) in enumerate(zip(batches, gradients.steps, steps.before, strict=True)):
        model.load_state_dict(before)
        parts = segment_gradients(model, batch, subject.plan.slices())
        assert_same(found, combined(parts, coefficients_at(plan, linear(step, 8))), 1e-10)
    wrong = combined(parts, coefficients_at(plan, 0.7))
    assert any((found[name] - wrong[name]).abs().max() > 1e-4 for name in found)


@pytest.mark.parametrize("mode", ["fused", "separate"])
def test_the_schedule_is_that_of_the_optimizer_steps_when_gradients_are_accumulated(tmp_path, mode):
    gradients, steps = Gradients(), Steps()
    settings = dict(forward_mode=mode, max_steps=4, gradient_accumulation_steps=2, max_grad_norm=0.0)
    subject = trainer(tmp_path, mlp(dtype=DOUBLE), callbacks=[gradients, steps], **settings, **LINEAR)
    batches = watch_batches(subject)
    subject.train()
    assert len(batches) == 8 and len(gradients.steps) == 4
    model = mlp(dtype=DOUBLE)
    for step, found in enumerate(gradients.steps):
        model.load_state_dict(steps.before[step])
        halves = [
            combined(segment_gradients(model, batch, subject.plan.slices()), coefficients_at("independent", beta))
            for beta, batch in zip([linear(step, 4)] * 2, batches[2 * step :], strict=False)
        ]
        assert_same(found, combined(halves, [0.5, 0.5]), 1e-10)


@pytest.mark.parametrize("mode", ["fused", "separate"])
@pytest.mark.parametrize("plan", ["independent", "shared"])
def test_the_start_is_class_balanced_erm(tmp_path, plan, mode):
    """At progress 0 a step is that of beta = -1: the mean loss of the biased batch alone."""
    settings = dict(plan=plan, forward_mode=mode, per_device_train_batch_size=12)
    subject = trainer(tmp_path, mlp(dtype=DOUBLE), **settings, **LINEAR)
    batch = first_batch(subject)
    at_start = step_gradient(subject, batch)
    fixed = trainer(tmp_path, mlp(dtype=DOUBLE), beta=-1.0, **settings)
    assert_same(at_start, step_gradient(fixed, batch), 1e-10)
    if plan == "independent":
        biased, less_biased = segment_gradients(subject.model, batch, subject.plan.slices())
        assert_same(at_start, biased, 1e-10)
        subject.state.max_steps, subject.state.global_step = 38, 10  # 10 of 19 steps of the ramp: beta = 0
        assert_same(step_gradient(subject, batch), less_biased, 1e-10)


@pytest.mark.parametrize("mode", ["fused", "separate"])
def test_after_the_ramp_a_step_is_that_of_a_constant_beta(tmp_path, mode):
    subject = trainer(tmp_path, mlp(dtype=DOUBLE), forward_mode=mode, **LINEAR)
    batch = first_batch(subject)
    subject.state.max_steps, subject.state.global_step = 10, 5
    constant = trainer(tmp_path, mlp(dtype=DOUBLE), forward_mode=mode, beta=0.9)
    assert_same(step_gradient(subject, batch), step_gradient(constant, batch), 1e-10)


@pytest.mark.parametrize("mode", ["fused", "separate"])
def test_a_loss_function_of_ones_own_and_label_smoothing(tmp_path, mode):
    def doubled(outputs, labels, num_items_in_batch=None):
        return 2 * F.cross_entropy(outputs.logits, labels)

    plain = trainer(tmp_path, mlp(dtype=DOUBLE), forward_mode=mode, **LINEAR)
    batch = first_batch(plain)
    found = []
    for settings in (dict(), dict(compute_loss_func=doubled), dict(label_smoothing_factor=0.3)):
        subject = trainer(tmp_path, mlp(dtype=DOUBLE), forward_mode=mode, **settings, **LINEAR)
        subject.state.max_steps, subject.state.global_step = 10, 2
        found.append(step_gradient(subject, batch))
        settings.update(forward_mode=mode, beta=linear(2, 10))
        assert_same(found[-1], step_gradient(trainer(tmp_path, mlp(dtype=DOUBLE), **settings), batch), 1e-10)
    assert_same(found[1], {name: 2 * value for name, value in found[0].items()}, 1e-10)


def test_a_resumed_run_continues_the_schedule(tmp_path):
    settings = dict(max_steps=10, save_strategy="steps", save_steps=3, optim="adamw_torch", **LINEAR)
    whole = trainer(tmp_path, mlp(), **settings)
    whole.train()
    resumed = trainer(tmp_path, mlp(seed=4), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert_same(weights(resumed.model), weights(whole.model))
    assert [e.get("beta") for e in resumed.state.log_history] == [e.get("beta") for e in whole.state.log_history]
