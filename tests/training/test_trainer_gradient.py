"""One step of GerneTrainer: the extrapolated gradient, forwards with BatchNorm, models with a loss of their own."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import (
    SKEWED,
    assert_same,
    bert,
    decode_images,
    first_batch,
    images,
    mlp,
    resnet,
    sentences,
    step_gradient,
    table,
    trainer,
    weights,
)

from gerne_hf.groups.batches import GROUP_KEY
from gerne_hf.method.distributions import extrapolated_distribution
from gerne_hf.method.plans import PLANS

pytestmark = pytest.mark.usefixtures("without_pictures")
DOUBLE = torch.float64


def part_gradient(model, batch, rows, smoothing=0.0, row_weights=None):
    """Gradient of the mean cross-entropy over some rows of a batch, by `autograd.grad` and nothing else."""
    parameters = dict(model.named_parameters())
    inputs = {key: value[rows] for key, value in batch.items() if key not in ("labels", GROUP_KEY)}
    model.train()
    losses = F.cross_entropy(
        model(**inputs).logits, batch["labels"][rows], reduction="none", label_smoothing=smoothing
    )
    loss = (losses if row_weights is None else losses * row_weights[rows]).mean()
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))


def extrapolate(biased, less_biased, beta):
    """Eq. 7."""
    return {name: less_biased[name] + beta * (less_biased[name] - biased[name]) for name in biased}


def cross_entropy_mean(outputs, labels, num_items_in_batch=None):
    return F.cross_entropy(outputs.logits, labels)


def cross_entropy_sum(outputs, labels, num_items_in_batch=None):
    return F.cross_entropy(outputs.logits, labels, reduction="sum") / num_items_in_batch


# ---- the gradient -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["fused", "separate"])
@pytest.mark.parametrize("rows, beta", [(8, 1.0), (7, 0.6), (9, -0.5)])
@pytest.mark.parametrize("kind", ["mlp", "bert"])
def test_training_step_extrapolates_two_gradients(tmp_path, kind, rows, beta, mode):
    model, data = (mlp(dtype=DOUBLE), table()) if kind == "mlp" else (bert(dtype=DOUBLE), sentences())
    subject = trainer(tmp_path, model, data, forward_mode=mode, beta=beta, per_device_train_batch_size=rows)
    batch = first_batch(subject)
    assert len(batch["labels"]) == rows
    half = rows // 2
    expected = extrapolate(
        part_gradient(model, batch, slice(0, half)), part_gradient(model, batch, slice(half, rows)), beta
    )
    assert_same(step_gradient(subject, batch), expected, 1e-10)


@pytest.mark.parametrize("mode", ["fused", "separate"])
def test_the_two_batches_may_have_different_sizes(tmp_path, mode):
    model, settings = mlp(dtype=DOUBLE), dict(beta=0.8, biased_share=0.3, per_device_train_batch_size=10)
    subject = trainer(tmp_path, model, forward_mode=mode, **settings)
    batch = first_batch(subject)
    biased, less_biased = (part_gradient(model, batch, rows) for rows in (slice(0, 3), slice(3, 10)))
    assert_same(step_gradient(subject, batch), extrapolate(biased, less_biased, 0.8), 1e-10)
    streams = (subject.get_biased_dataloader(), subject.get_less_biased_dataloader())
    assert [len(next(iter(stream))["labels"]) for stream in streams] == [3, 7]


@pytest.mark.parametrize("mode", ["fused", "separate"])
@pytest.mark.parametrize("plan", PLANS)
def test_every_plan_weights_its_segments(tmp_path, plan, mode):
    model = mlp(dtype=DOUBLE)
    subject = trainer(tmp_path, model, plan=plan, forward_mode=mode, per_device_train_batch_size=12)
    batch = first_batch(subject)
    row_weights = None
    alpha = np.array(SKEWED) / np.sum(SKEWED, axis=1, keepdims=True)
    p_ext, p_lb = (extrapolated_distribution(alpha, 0.5, beta) for beta in (1.0, 0.0))
    ratios = {"reweighting": p_ext / alpha, "sampling_weighting": p_ext / p_lb}
    ratios["group_weighted_loss"] = np.sum(SKEWED) / (4 * np.array(SKEWED))
    if plan in ratios:
        ratio = ratios[plan]
        row_weights = torch.from_numpy(ratio.ravel())[batch[GROUP_KEY]]
    parts = [part_gradient(model, batch, rows, row_weights=row_weights) for rows in subject.plan.slices()]
    coefficients = subject.plan.coefficients.tolist()
    expected = {
        name: sum(coefficient * part[name] for coefficient, part in zip(coefficients, parts, strict=True))
        for name in parts[0]
    }
    assert_same(step_gradient(subject, batch), expected, 1e-10)


@pytest.mark.parametrize("mode", ["fused", "separate"])
def test_label_smoothing_is_applied_to_each_batch(tmp_path, mode):
    model = mlp(dtype=DOUBLE)
    subject = trainer(tmp_path, model, forward_mode=mode, label_smoothing_factor=0.2)
    batch = first_batch(subject)
    biased, less_biased = (part_gradient(model, batch, rows, 0.2) for rows in (slice(0, 4), slice(4, 8)))
    gradient = step_gradient(subject, batch)
    assert_same(gradient, extrapolate(biased, less_biased, 1.0), 1e-10)
    plain = step_gradient(trainer(tmp_path, model, forward_mode=mode), batch)
    assert any(not torch.allclose(gradient[name], plain[name]) for name in gradient)


@pytest.mark.parametrize("mode", ["fused", "separate"])
@pytest.mark.parametrize("plan", ["independent", "shared", "resampling", "reweighting"])
@pytest.mark.parametrize("loss_func", [cross_entropy_mean, cross_entropy_sum])
def test_compute_loss_func_is_called_for_each_batch(tmp_path, loss_func, plan, mode):
    model = mlp(dtype=DOUBLE)
    settings = dict(plan=plan, forward_mode=mode, per_device_train_batch_size=12)
    subject = trainer(tmp_path, model, compute_loss_func=loss_func, **settings)
    batch = first_batch(subject)
    default = trainer(tmp_path, model, **settings)
    assert_same(step_gradient(subject, batch), step_gradient(default, batch), 1e-10)


def test_compute_loss_func_decides_the_loss(tmp_path):
    model = mlp(dtype=DOUBLE)
    subject = trainer(tmp_path, model, compute_loss_func=lambda *args, **kw: 3 * cross_entropy_mean(*args, **kw))
    batch = first_batch(subject)
    plain = step_gradient(trainer(tmp_path, model), batch)
    assert_same(step_gradient(subject, batch), {name: 3 * value for name, value in plain.items()}, 1e-10)


# ---- BatchNorm decides `auto` -------------------------------------------------------------------------------------


def forwards_a_step(subject):
    calls = []
    handle = subject.model.register_forward_hook(lambda *args: calls.append(1))
    step_gradient(subject, first_batch(subject))
    handle.remove()
    return len(calls)


def test_auto_is_fused_without_batch_norm_and_separate_with(tmp_path):
    pictures = images().with_transform(decode_images)
    keep = dict(remove_unused_columns=False)
    assert forwards_a_step(trainer(tmp_path)) == 1
    assert forwards_a_step(trainer(tmp_path, forward_mode="separate")) == 2
    assert forwards_a_step(trainer(tmp_path, resnet(), pictures, **keep)) == 2
    assert forwards_a_step(trainer(tmp_path, resnet(), pictures, forward_mode="fused", **keep)) == 1


def test_auto_is_fused_when_batch_norm_is_frozen(tmp_path):
    model = resnet()
    train = model.train

    def train_but_norms(mode=True):
        train(mode)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        return model

    model.train = train_but_norms
    pictures = images().with_transform(decode_images)
    assert forwards_a_step(trainer(tmp_path, model, pictures, remove_unused_columns=False)) == 1


def test_separate_takes_batch_norm_statistics_of_each_batch(tmp_path):
    model = resnet(dtype=DOUBLE)

    class Double(torch.nn.Module):
        """Pixels arrive as float32."""

        def forward(self, pixels):
            return pixels.double()

    model.resnet.embedder.embedder.convolution = torch.nn.Sequential(
        Double(), model.resnet.embedder.embedder.convolution
    )
    pictures = images().with_transform(decode_images)
    subject = trainer(tmp_path, model, pictures, remove_unused_columns=False)
    batch = {key: value for key, value in first_batch(subject).items() if key != "place"}
    biased, less_biased = (part_gradient(model, batch, rows) for rows in (slice(0, 4), slice(4, 8)))
    assert_same(step_gradient(subject, batch), extrapolate(biased, less_biased, 1.0), 1e-10)


# ---- models with a loss of their own ------------------------------------------------------------------------------


def test_own_loss_is_refused_in_one_forward(tmp_path):
    model = mlp(loss_factor=2.0)
    before = weights(model)
    with pytest.raises(ValueError, match="MLP computes a loss of its own.*compute_loss_func.*forward_mode='separate'"):
        trainer(tmp_path, model, forward_mode="fused").train()
    assert_same(before, weights(model))


@pytest.mark.parametrize("plan", ["independent", "shared", "erm"])
def test_own_loss_works_in_separate_forwards(tmp_path, plan):
    model = mlp(loss_factor=2.0, dtype=DOUBLE)
    subject = trainer(tmp_path, model, forward_mode="separate", plan=plan)
    batch = first_batch(subject)
    doubled = step_gradient(subject, batch)
    model.config.loss_factor = 1.0
    plain = step_gradient(trainer(tmp_path, model, forward_mode="separate", plan=plan), batch)
    assert_same(doubled, {name: 2 * value for name, value in plain.items()}, 1e-10)
