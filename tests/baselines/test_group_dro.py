"""Group DRO: the update of q, the loss and its gradient, where q goes, and bad input."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import SKEWED, Gradients, assert_same, config, first_batch, mlp, step_gradient, table, weights
from watched_group_dro import ETA, group_dro, settings_of, watched

from gerne_hf.baselines import BaselineConfig, GroupDROTrainer
from gerne_hf.baselines.group_dro import generalization_adjustment, update_group_weights
from gerne_hf.groups.batches import GROUP_KEY

pytestmark = pytest.mark.usefixtures("without_pictures")
DOUBLE = torch.float64


def by_hand(q, losses, groups, eta=ETA):
    """Algorithm 1 in float64, with sums written out: the new q and each group's mean loss."""
    means = [0.0] * len(q)
    for g in range(len(q)):
        mine = [loss for loss, group in zip(losses, groups, strict=True) if group == g]
        means[g] = sum(mine) / len(mine) if mine else 0.0
    raised = [weight * np.exp(eta * mean) for weight, mean in zip(q, means, strict=True)]
    return np.array(raised) / sum(raised), np.array(means)


def row_losses(model, batch, smoothing=0.0):
    logits = model(batch["inputs"]).logits
    return F.cross_entropy(logits, batch["labels"], reduction="none", label_smoothing=smoothing)


# ---- the update ---------------------------------------------------------------------------------------------------


def test_the_update_is_that_of_the_paper():
    q, losses = [0.1, 0.2, 0.3, 0.4], [0.5, 2.0, 0.0, 1.0]
    raised = [w * np.exp(0.7 * loss) for w, loss in zip(q, losses, strict=True)]
    found = update_group_weights(torch.tensor(q), torch.tensor(losses), 0.7)
    assert found.tolist() == pytest.approx([value / sum(raised) for value in raised], rel=1e-6)
    even = update_group_weights(torch.full((4,), 0.25), torch.full((4,), 3.0), 0.7)
    assert even.tolist() == pytest.approx([0.25] * 4)  # equal losses move nothing


def test_a_weight_of_zero_stays_zero_and_large_losses_do_not_overflow():
    found = update_group_weights(torch.tensor([0.0, 0.5, 0.5]), torch.tensor([9.0, 1000.0, 999.0]), 1.0)
    assert found[0] == 0 and torch.isfinite(found).all()
    assert found[1].item() == pytest.approx(1 / (1 + np.exp(-1)), rel=1e-5)


# ---- loss and gradient --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("plan", ["resampling", "erm"])
def test_loss_and_gradient_are_the_weighted_group_losses(tmp_path, plan, smoothing):
    """Three steps of a real trainer; q, the loss and the gradient of each beside sums over groups in float64."""
    model = mlp(dtype=DOUBLE)
    gradients = Gradients()
    subject, batches, seen = watched(
        tmp_path,
        model,
        plan=plan,
        hooks={"callbacks": [gradients]},
        label_smoothing_factor=smoothing,
        max_grad_norm=0.0,
        weight_decay=0.0,
        max_steps=3,
        per_device_train_batch_size=13,
    )
    replica = mlp(dtype=DOUBLE)
    subject.train()
    q = np.full(4, 0.25)
    logged = [entry["loss"] for entry in subject.state.log_history if "loss" in entry]
    for step, batch in enumerate(batches):
        groups = batch[GROUP_KEY]
        losses = row_losses(replica, batch, smoothing)
        q, means = by_hand(q, losses.detach().tolist(), groups.tolist())
        assert seen[step].tolist() == pytest.approx(q.tolist(), rel=1e-5)
        total = sum(q[g] * losses[groups == g].mean() for g in groups.unique().tolist())
        assert logged[step] == pytest.approx(total.item(), rel=1e-4)
        expected = dict(
            zip(
                dict(replica.named_parameters()),
                torch.autograd.grad(total, list(replica.parameters())),
                strict=True,
            )
        )
        assert_same(gradients.steps[step], expected, 1e-6)
        assert max(value.abs().max() for value in expected.values()) > 0.01
        with torch.no_grad():
            for name, parameter in replica.named_parameters():
                parameter -= 0.1 * expected[name]
    assert len(batches) == 3 and np.abs(q - 0.25).max() > 0.005
    assert_same(weights(subject.model), weights(replica), 1e-6)


class OriginalLoss:
    """`LossComputer.compute_robust_loss` of the authors' repository, restated in float64."""

    def __init__(self, counts, step_size, adjustment):
        self.counts, self.step_size = torch.as_tensor(counts, dtype=DOUBLE), step_size
        self.adjustment = torch.full_like(self.counts, adjustment)
        self.adversary = torch.ones_like(self.counts) / len(self.counts)

    def __call__(self, losses, groups):
        members = (groups == torch.arange(len(self.counts)).unsqueeze(1)).to(DOUBLE)
        seen = members.sum(1)
        group_loss = (members @ losses) / (seen + (seen == 0))
        adjusted = group_loss + self.adjustment / self.counts.sqrt()
        self.adversary = self.adversary * torch.exp(self.step_size * adjusted.detach())
        self.adversary = self.adversary / self.adversary.sum()
        return adjusted @ self.adversary


@pytest.mark.parametrize("adjustment", [0.0, 3.0])
def test_losses_weights_and_models_are_those_of_the_original(tmp_path, adjustment):
    """The adjustment moves the weights, and it is in the loss that is logged, as in the original."""
    settings = dict(max_steps=4, per_device_train_batch_size=9, max_grad_norm=0.0, adjustment=adjustment)
    subject, batches, seen = watched(tmp_path, mlp(dtype=DOUBLE), **settings)
    subject.train()
    replica, original = mlp(dtype=DOUBLE), OriginalLoss(np.ravel(SKEWED), ETA, adjustment)
    optimizer = torch.optim.SGD(replica.parameters(), lr=0.1)
    for step, batch in enumerate(batches):
        loss = original(row_losses(replica, batch), batch[GROUP_KEY])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert seen[step].tolist() == pytest.approx(original.adversary.tolist(), rel=1e-5)
        assert subject.state.log_history[step]["loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert_same(weights(subject.model), weights(replica), 1e-6)
    if adjustment:  # the smallest group gains, whatever its loss
        plain, _, unadjusted = watched(tmp_path, mlp(dtype=DOUBLE), **{**settings, "adjustment": 0.0})
        plain.train()
        assert seen[-1][1] > unadjusted[-1][1] + 0.01


def test_the_adjustment_is_that_of_the_paper():
    found = generalization_adjustment(torch.tensor([100, 25, 0]), 2.0)
    assert found.tolist() == pytest.approx([0.2, 0.4, 0.0])


def test_a_resume_with_another_adjustment_is_refused(tmp_path):
    group_dro(tmp_path, save_strategy="steps", save_steps=1, adjustment=1.0).train()
    with pytest.raises(ValueError, match="group_dro_adjustment"):
        group_dro(tmp_path, save_strategy="steps", save_steps=1).train(resume_from_checkpoint=True)


@pytest.mark.parametrize("adjustment", [-1.0, float("nan"), float("inf")])
def test_an_adjustment_out_of_range(tmp_path, adjustment):
    with pytest.raises(ValueError, match="group_dro_adjustment, C of C / sqrt"):
        settings_of(tmp_path, adjustment=adjustment)


def test_a_single_step_weighs_groups_and_not_rows(tmp_path):
    """Equal q: a group with one row counts as much as one with ten, unlike in a mean over rows."""
    model = mlp(dtype=DOUBLE)
    subject = group_dro(tmp_path, model, step_size=1e-12, per_device_train_batch_size=13, plan="erm")
    batch = first_batch(subject)
    counts = torch.bincount(batch[GROUP_KEY], minlength=4)
    assert len(set(counts.tolist())) > 1 and (counts > 0).all()
    mine = step_gradient(subject, batch)
    losses = row_losses(model, batch)
    total = sum(losses[batch[GROUP_KEY] == g].mean() for g in range(4)) / 4
    gradient = torch.autograd.grad(total, list(model.parameters()))
    assert_same(mine, dict(zip(mine, gradient, strict=True)), 1e-6)


def test_accumulation_is_a_mean_over_the_batches(tmp_path):
    """q moves with every batch; the gradients of the batches, each with its q, are averaged."""
    model = mlp(dtype=DOUBLE)
    gradients = Gradients()
    subject, batches, seen = watched(
        tmp_path,
        model,
        hooks={"callbacks": [gradients]},
        gradient_accumulation_steps=3,
        max_steps=2,
        learning_rate=0.0,
        max_grad_norm=0.0,
    )
    subject.train()
    assert len(batches) == 6 and len(gradients.steps) == len(seen) == 2
    q = np.full(4, 0.25)
    for step in range(2):
        total = 0.0
        for batch in batches[3 * step : 3 * step + 3]:
            losses = row_losses(model, batch)
            q, _ = by_hand(q, losses.detach().tolist(), batch[GROUP_KEY].tolist())
            total = total + sum(
                q[g] * losses[batch[GROUP_KEY] == g].mean() / 3 for g in batch[GROUP_KEY].unique().tolist()
            )
        gradient = torch.autograd.grad(total, list(model.parameters()))
        assert_same(gradients.steps[step], dict(zip(gradients.steps[step], gradient, strict=True)), 1e-6)
        assert seen[step].tolist() == pytest.approx(q.tolist(), rel=1e-5)


# ---- q ------------------------------------------------------------------------------------------------------------


def test_q_moves_to_the_group_that_the_model_is_worst_on(tmp_path):
    """The model reads the attribute only and is not trained: class 0 at place 1 and class 1 at place 0 lose."""
    model = mlp()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.first.weight[0, 1] = 1.0
        model.first.bias[0] = -1.25
        model.second.weight[1, 0], model.second.weight[0, 0] = 3.0, -3.0
        model.second.bias[0] = 1.0  # class 1 at place 0 is the worst
    data = table([[20, 20], [20, 20]])
    losses = F.cross_entropy(
        model(torch.tensor(data["inputs"][:])).logits, torch.tensor(data["label"][:]), reduction="none"
    )
    groups = 2 * np.array(data["label"][:]) + np.array(data["place"][:])
    means = [losses[torch.from_numpy(groups == g)].mean().item() for g in range(4)]
    assert np.argmax(means) == 2
    subject, _, seen = watched(tmp_path, model, data, learning_rate=0.0, max_steps=60, step_size=0.1)
    subject.train()
    final = seen[-1]
    assert final.argmax() == 2 and final[2] > 0.8
    assert final.argsort().tolist() == np.argsort(means).tolist()
    assert all(step.sum().item() == pytest.approx(1.0, abs=1e-5) for step in seen)


def test_empty_groups_get_no_weight(tmp_path):
    data = table([[30, 0], [20, 10]])
    with pytest.raises(ValueError, match="no training rows"):
        group_dro(tmp_path, train=data)
    subject, _, seen = watched(tmp_path, train=data, empty_groups="ignore", max_steps=4)
    assert subject.group_weights.tolist() == pytest.approx([1 / 3, 0.0, 1 / 3, 1 / 3])
    subject.train()
    assert all(step[1] == 0 and step[[0, 2, 3]].min() > 0 and torch.isfinite(step).all() for step in seen)
    assert seen[-1].sum().item() == pytest.approx(1.0, abs=1e-6)


def test_the_plan_draws_the_rows(tmp_path):
    """The paper's code draws groups equally often; `plan="erm"` draws them as they occur within their class."""
    for plan, expected in (("resampling", [0.25] * 4), ("erm", [40 / 96, 8 / 96, 10 / 80, 30 / 80])):
        subject = group_dro(tmp_path, plan=plan)
        sampler, counts = subject._get_train_sampler(), np.zeros(4)
        for epoch in range(100):
            sampler.set_epoch(epoch)
            counts += np.bincount(subject.groups.codes[list(sampler)], minlength=4)
        share, total = counts / counts.sum(), counts.sum()
        expected = np.array(expected)
        assert (np.abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / total)).all()


# ---- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", ["independent", "shared", "collapsed", "reweighting"])
def test_other_plans_are_refused(tmp_path, plan):
    with pytest.raises(ValueError, match=f"plan must be 'resampling' or 'erm', found '{plan}'"):
        group_dro(tmp_path, plan=plan)


def test_a_loss_function_is_refused(tmp_path):
    hooks = {"compute_loss_func": lambda outputs, labels, num_items_in_batch=None: outputs["logits"].mean()}
    with pytest.raises(ValueError, match="loss of each row, and compute_loss_func returns a mean"):
        group_dro(tmp_path, hooks=hooks)


@pytest.mark.parametrize("plan", ["resampling", "erm"])
def test_attributes_are_needed_with_every_plan(tmp_path, plan):
    with pytest.raises(ValueError, match="needs attribute_column"):
        group_dro(tmp_path, plan=plan, attribute_column=None)


@pytest.mark.parametrize("plan", ["resampling", "erm"])
def test_the_message_names_no_plan_that_is_refused_too(tmp_path, plan):
    with pytest.raises(ValueError) as error:
        group_dro(tmp_path, plan=plan, attribute_column=None)
    assert "only the plan 'erm' can be trained" not in str(error.value)


def test_a_missing_attribute_column_is_refused_with_erm(tmp_path):
    with pytest.raises(ValueError, match="no attribute column 'place'"):
        group_dro(tmp_path, train=table().remove_columns("place"), plan="erm")


@pytest.mark.parametrize("size", [0.0, -0.1, float("nan")])
def test_the_step_size_is_positive(tmp_path, size):
    with pytest.raises(ValueError, match="group_dro_step_size must be positive"):
        settings_of(tmp_path, step_size=size)


def test_the_step_size_of_a_plain_config_is_the_default(tmp_path):
    args = config(tmp_path, plan="resampling")
    subject = GroupDROTrainer(model=mlp(), args=args, train_dataset=table(SKEWED))
    assert subject._step_size == BaselineConfig.group_dro_step_size == 0.01
