"""beta over the training: the schedules, the gradient at every step, the hook, the bounds, the logs."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import (
    SKEWED,
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
from transformers import TrainerCallback

from gerne_hf import GerneTrainer
from gerne_hf.distributions import extrapolated_distribution, less_biased_distribution
from gerne_hf.grouped_data import GROUP_KEY
from gerne_hf.plans import PLANS
from gerne_hf.schedules import BETA_SCHEDULES, scheduled_beta

pytestmark = pytest.mark.usefixtures("without_pictures")
DOUBLE = torch.float64
LINEAR = dict(beta_schedule="linear", beta_ramp=0.5, beta=0.9)
ALPHA = np.array(SKEWED) / np.sum(SKEWED, axis=1, keepdims=True)
UPPER = (40 / 48) / (0.5 * (40 / 48 - 0.5)) - 1  # Eq. 9 for SKEWED and c = 0.5: 4


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


class Steps(TrainerCallback):
    """Keeps the weights before each step."""

    def __init__(self):
        self.before = []

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        self.before.append(weights(model))


def segment_gradients(model, batch, rows):
    """Gradients of the segments' mean cross-entropy, by `autograd.grad` and nothing else."""
    parameters = dict(model.named_parameters())
    found = []
    for part in rows:
        inputs = {key: value[part] for key, value in batch.items() if key not in ("labels", GROUP_KEY)}
        loss = F.cross_entropy(model(**inputs).logits, batch["labels"][part])
        found.append(dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True)))
    return found


def combined(parts, coefficients):
    return {name: sum(c * part[name] for c, part in zip(coefficients, parts, strict=True)) for name in parts[0]}


def coefficients_at(plan, beta):
    """Of the segments, worked out here: Eq. 5, and its form for shared rows."""
    if plan == "independent":
        return [-beta, 1 + beta]
    mass = np.minimum(ALPHA, less_biased_distribution(ALPHA, 0.5)).sum() / 2
    return [mass, -beta * (1 - mass), (1 + beta) * (1 - mass)]


def linear(step, steps):
    return -1 + (0.9 + 1) * min(step / steps / 0.5, 1)


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
