"""Runs of GerneTrainer: the plans in training, the two streams, the losses in the logs."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import MLP, SKEWED, Gradients, first_batch, mlp, table, trainer

from gerne_hf.groups.batches import GROUP_KEY
from gerne_hf.method.distributions import biased_distribution, less_biased_distribution
from gerne_hf.method.plans import PLANS

pytestmark = pytest.mark.usefixtures("without_pictures")


# ---- plans in training --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", PLANS)
def test_every_plan_trains(tmp_path, plan):
    data = table()
    subject = trainer(tmp_path, train=data, plan=plan, max_steps=120, logging_steps=40, per_device_train_batch_size=16)
    before = subject.evaluate(data)
    subject.train()
    after = subject.evaluate(data)
    assert after["eval_loss"] < 0.9 * before["eval_loss"]
    assert after["eval_accuracy"] > 0.65


def test_erm_needs_no_attributes(tmp_path):
    data = table().remove_columns("place")
    subject = trainer(tmp_path, train=data, plan="erm", attribute_column=None)
    subject.train()
    assert subject.groups.num_attributes == 1
    assert subject.evaluate(data)["eval_worst_group_accuracy"] >= 0


def test_class_balanced_false_draws_classes_as_often_as_they_occur(tmp_path):
    counts = [[60, 12], [6, 6]]
    share = {}
    for balanced in (True, False):
        subject = trainer(tmp_path, train=table(counts), class_balanced=balanced, per_device_train_batch_size=28)
        labels = torch.cat([batch["labels"] for batch in subject.get_train_dataloader()])
        share[balanced] = (labels == 1).double().mean().item()
    assert share[True] == 0.5
    assert share[False] == pytest.approx(12 / 84, abs=1e-9)  # systematic draw: 2 of 14 rows in each half


# ---- the two streams ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["biased", "less_biased"])
def test_streams_have_the_frequencies_of_their_equation(tmp_path, name):
    data = table()
    subject = trainer(tmp_path, train=data, c=0.5, per_device_train_batch_size=16)
    loader = subject.get_biased_dataloader() if name == "biased" else subject.get_less_biased_dataloader()
    place = np.array(data["place"])
    drawn = np.zeros((2, 2))
    for epoch in range(80):
        loader.set_epoch(epoch)
        for batch in loader:
            assert len(batch["labels"]) == 8 and GROUP_KEY not in batch
            np.add.at(drawn, (batch["labels"].numpy(), place[batch["row"].numpy()]), 1)
    alpha = np.array(SKEWED) / np.sum(SKEWED, axis=1, keepdims=True)
    expected = biased_distribution(alpha) if name == "biased" else less_biased_distribution(alpha, 0.5)
    total = drawn.sum(axis=1, keepdims=True)
    assert total[0] == total[1] > 2000
    error = np.sqrt(expected * (1 - expected) / total)
    assert (np.abs(drawn / total - expected) < 4 * error).all()


# ---- logs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["fused", "separate"])
@pytest.mark.parametrize("plan", ["independent", "shared"])
def test_logs_hold_the_three_losses(tmp_path, plan, mode):
    subject = trainer(tmp_path, plan=plan, beta=0.7, forward_mode=mode, max_steps=6, logging_steps=2)
    subject.train()
    logs = [entry for entry in subject.state.log_history if "loss" in entry]
    assert len(logs) == 3
    for entry in logs:
        biased, less_biased = entry["loss_biased"], entry["loss_less_biased"]
        assert entry["loss_extrapolated"] == pytest.approx(less_biased + 0.7 * (less_biased - biased), abs=1e-5)
        assert entry["loss_extrapolated"] == pytest.approx(entry["loss"], abs=1e-5)


def test_logged_losses_are_those_of_the_batches(tmp_path):
    model = mlp()
    subject = trainer(tmp_path, model, max_steps=1)
    batch = first_batch(subject)
    with torch.no_grad():
        logits = model(batch["inputs"]).logits
        biased, less_biased = (F.cross_entropy(logits[r], batch["labels"][r]).item() for r in (slice(4), slice(4, 8)))
    subject.train()
    assert subject.state.log_history[0]["loss_biased"] == pytest.approx(biased, abs=1e-5)
    assert subject.state.log_history[0]["loss_less_biased"] == pytest.approx(less_biased, abs=1e-5)


def opposite_model():
    """A model that is sure of the wrong class in the majority groups and of the right one in the minority groups."""
    model = mlp()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.first.weight[0, 0] = 5.0
        model.second.weight[:, 0] = torch.tensor([-3.0, 3.0])
    return model


@pytest.mark.parametrize("beta, warned", [(8.0, True), (1.0, False)])
def test_negative_running_mean_is_an_alarm(tmp_path, caplog, beta, warned):
    data = table()
    sign = [[1.0 if place == 0 else -1.0] + [0.0] * 5 for place in data["place"]]
    data = table(inputs=sign)
    settings = dict(beta=beta, beta_out_of_bounds="ignore", learning_rate=0.0, max_steps=10)
    subject = trainer(tmp_path, opposite_model(), data, per_device_train_batch_size=32, **settings)
    subject.train()
    assert (np.mean([e["loss_extrapolated"] for e in subject.state.log_history if "loss" in e]) < 0) == warned
    assert ("running mean of L_ext is negative" in caplog.text) == warned


# ---- the constructor ----------------------------------------------------------------------------------------------


def test_the_constructor_passes_on_what_trainer_takes(tmp_path):
    gradients = Gradients()
    built = []

    def model_init():
        built.append(mlp())
        return built[-1]

    subject = trainer(tmp_path, model_init=model_init, callbacks=[gradients])
    subject.train()
    assert isinstance(subject.model, MLP) and subject.model is built[-1]
    assert len(gradients.steps) == 2
    model = mlp()
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.01)
    subject = trainer(tmp_path, model, optimizers=(optimizer, None))
    subject.train()
    assert optimizer.state
