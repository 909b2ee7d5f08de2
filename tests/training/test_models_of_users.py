"""Models as users write them: what they return, and do with labels, is trained as they mean it, or refused."""

from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from figures_by_hand import HELD_OUT
from helpers import MLP, MLPConfig, bert, sentences, table, trainer
from torch import nn
from transformers.utils import ModelOutput

from gerne_hf.method.losses import LossMeter, PlanLoss
from gerne_hf.method.outputs import check_own_loss, slice_rows
from gerne_hf.method.plans import BatchPlan

pytestmark = pytest.mark.usefixtures("without_pictures")


class Users(MLP):
    """An [`MLP`] whose forward returns what `answer` makes of its logits; `seen` counts forwards with labels."""

    seen = 0

    def forward(self, inputs, labels=None):
        hidden = self.first(inputs).tanh()
        self.seen += labels is not None
        return self.answer(self.second(hidden), labels, hidden)

    def answer(self, logits, labels, hidden):
        loss = {} if labels is None else {"loss": F.cross_entropy(logits, labels)}
        return {**loss, "logits": logits}


def model(cls, **config):
    torch.manual_seed(0)
    made = cls(MLPConfig(**config))
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made


def accuracy(made, data):
    hidden = made.first(torch.tensor(data["inputs"][:])).tanh()
    return (made.second(hidden).argmax(-1).numpy() == np.array(data["label"][:])).mean()


# ---- evaluation ---------------------------------------------------------------------------------------------------


class EmbeddingFirst(Users):
    def answer(self, logits, labels, hidden):
        plain = super().answer(logits, labels, hidden)
        return {"embedding": hidden, **plain}


class Tuples(Users):
    def answer(self, logits, labels, hidden):
        return (logits,) if labels is None else (F.cross_entropy(logits, labels), logits)


class LogitsAlone(Users):
    def answer(self, logits, labels, hidden):
        return logits if labels is None else super().answer(logits, labels, hidden)


Named = namedtuple("Named", "logits hidden")


class NamedOutput(Users):
    def answer(self, logits, labels, hidden):
        return Named(logits, hidden)


def loss_of_logits(outputs, labels, num_items_in_batch=None):
    return F.cross_entropy(outputs if isinstance(outputs, torch.Tensor) else outputs[0], labels)


@pytest.mark.parametrize(
    "cls, settings",
    [
        (EmbeddingFirst, {}),
        (Tuples, {}),
        (Tuples, {"label_smoothing_factor": 0.1}),
        (Tuples, {"compute_loss_func": loss_of_logits}),
        (LogitsAlone, {}),
        (LogitsAlone, {"compute_loss_func": loss_of_logits}),
        (NamedOutput, {"compute_loss_func": loss_of_logits}),
    ],
)
def test_predicted_classes_are_those_of_the_logits(tmp_path, cls, settings):
    made, data = model(cls), table(HELD_OUT, seed=5)
    subject = trainer(tmp_path, made, eval_dataset=data, **settings)
    subject.train()
    output = subject.predict(data)
    assert output.metrics["test_accuracy"] == pytest.approx(accuracy(made, data))
    logits = {EmbeddingFirst: 1, NamedOutput: 0}.get(cls)
    logits = output.predictions if logits is None else output.predictions[logits]
    assert logits.shape == (41, 2)


def test_ignored_logits_still_count(tmp_path):
    made, data = model(EmbeddingFirst), table(HELD_OUT, seed=5)
    metrics = trainer(tmp_path, made, eval_dataset=data).evaluate(ignore_keys=["logits"])
    assert metrics["eval_accuracy"] == pytest.approx(accuracy(made, data))


class Plain(nn.Module):
    """Neither a model of Transformers nor one with a config."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 2)

    def forward(self, inputs, labels=None):
        logits = self.layer(inputs)
        return {"logits": logits} if labels is None else {"loss": F.cross_entropy(logits, labels), "logits": logits}


def test_a_plain_module_is_trained_saved_and_gets_a_card(tmp_path):
    subject = trainer(tmp_path, Plain(), eval_dataset=table(HELD_OUT), eval_strategy="epoch")
    subject.train()
    subject.save_model()
    subject.create_model_card()
    assert "worst-group accuracy" in (tmp_path / "README.md").read_text().lower()


# ---- labels in training -------------------------------------------------------------------------------------------


class NeedsLabels(Users):
    def forward(self, inputs, labels):
        return super().forward(inputs, labels)


class Margin(Users):
    """Logits that depend on the labels in training, as margin losses have it."""

    def answer(self, logits, labels, hidden):
        if labels is not None and self.training:
            logits = logits - 5.0 * F.one_hot(labels, 2)
        return super().answer(logits, labels, hidden)


@pytest.mark.parametrize("cls", [LogitsAlone, NeedsLabels, Margin])
def test_models_of_users_get_the_labels_at_every_step(tmp_path, cls):
    losses = []
    for mode in ("fused", "separate"):
        subject = trainer(tmp_path, model(cls), forward_mode=mode, max_steps=6)
        subject.train()
        losses.append([entry["loss"] for entry in subject.state.log_history if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert subject.model.seen == 12


def test_models_of_transformers_make_their_logits_without_labels(tmp_path):
    """Their own mean loss would be computed for nothing, once it is known to be the cross-entropy."""
    made, given = bert(), []
    made.register_forward_pre_hook(lambda module, args, kwargs: given.append("labels" in kwargs), with_kwargs=True)
    trainer(tmp_path, made, sentences(), max_steps=8).train()
    assert given[0] and not any(given[3:]) and len(given) == 8


# ---- losses -------------------------------------------------------------------------------------------------------


class NoLoss(Users):
    def answer(self, logits, labels, hidden):
        return {"logits": logits}


class NoLossTuple(Users):
    def answer(self, logits, labels, hidden):
        return logits, hidden


class LossOfRows(Users):
    def answer(self, logits, labels, hidden):
        return {"loss": F.cross_entropy(logits, labels, reduction="none"), "logits": logits}


class Scores(Users):
    def answer(self, logits, labels, hidden):
        return {"loss": F.cross_entropy(logits, labels), "scores": logits}


@pytest.mark.parametrize(
    "cls, parts",
    [
        (NoLoss, ["NoLoss returned no loss", "logits", "compute_loss_func"]),
        (NoLossTuple, ["NoLossTuple returned no loss", "compute_loss_func"]),
        (LossOfRows, ["shape (8,)", "mean"]),
        (Scores, ["no 'logits'", "loss, scores"]),
    ],
)
def test_outputs_that_cannot_be_trained(tmp_path, cls, parts):
    refused_at_once(tmp_path, cls, parts)


def refused_at_once(tmp_path, cls, parts):
    made = model(cls)
    before = made.second.weight.detach().clone()
    with pytest.raises(ValueError) as caught:
        trainer(tmp_path, made, max_steps=6).train()
    assert all(part in str(caught.value) for part in parts), caught.value
    assert torch.equal(before, made.second.weight)


class Weighted(Users):
    """Class weights in the model's own loss, and a fresh head, whose losses are log 2 whatever their weights."""

    def answer(self, logits, labels, hidden):
        weight = torch.tensor([1.0, 9.0])
        return {"loss": F.cross_entropy(logits, labels, weight=weight), "logits": logits}


@pytest.mark.parametrize("std", [0.0, 1e-3, 0.3])
def test_a_weighted_loss_behind_a_fresh_head_is_found_out(tmp_path, std):
    made = model(Weighted)
    nn.init.normal_(made.second.weight, std=std)
    nn.init.zeros_(made.second.bias)
    with pytest.raises(ValueError, match="computes a loss of its own.*compute_loss_func"):
        trainer(tmp_path, made, max_steps=12, learning_rate=1.0).train()


def test_a_check_that_could_tell_nothing_says_so():
    labels = torch.tensor([0, 1, 0, 1])
    flat, clear = torch.zeros(4, 2), torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0], [0.0, 1.0]])
    for logits, told in ((flat, False), (clear, True)):
        own = F.cross_entropy(logits, labels)
        assert check_own_loss(own, {"logits": logits}, labels, False, "M") is told
    with pytest.raises(ValueError, match="M computes a loss of its own"):
        check_own_loss(F.cross_entropy(clear, labels) * 1.0001, {"logits": clear}, labels, False, "M")


def test_a_meter_forgets_a_loss_that_was_no_number(caplog):
    plan = BatchPlan.build("independent", 2, np.array([[0.9, 0.1], [0.2, 0.8]]))
    meter = LossMeter(PlanLoss(plan))
    for total in (-1.0, float("nan"), -1.0):
        meter.add(torch.tensor([1.0, 0.0]), torch.tensor(total))

    class One:
        def reduce(self, values, reduction):
            return values

    meter.drain(One())
    assert "running mean of L_ext is negative" in caplog.text


# ---- containers ---------------------------------------------------------------------------------------------------


@dataclass
class LossRequired(ModelOutput):
    loss: torch.Tensor
    logits: torch.Tensor | None = None


class OwnOutput(Users):
    def answer(self, logits, labels, hidden):
        return LossRequired(loss=None if labels is None else F.cross_entropy(logits, labels), logits=logits)


@pytest.mark.parametrize(
    "cls, loss", [(OwnOutput, None), (OwnOutput, lambda outputs, labels, **_: F.cross_entropy(outputs.logits, labels))]
)
def test_an_output_class_that_demands_a_loss(tmp_path, cls, loss):
    subject = trainer(tmp_path, model(cls), eval_dataset=table(HELD_OUT), compute_loss_func=loss)
    subject.train()
    assert subject.state.global_step == 2


def test_named_tuples_keep_their_names(tmp_path):
    def loss(outputs, labels, num_items_in_batch):
        return F.cross_entropy(outputs.logits, labels)

    subject = trainer(tmp_path, model(NamedOutput), compute_loss_func=loss)
    subject.train()
    assert subject.state.global_step == 2


def test_texts_of_a_batch_are_sliced_too():
    """A model that tokenizes by itself is given a list of texts."""
    batch = {"texts": ["a", "b", "c"], "weights": [torch.arange(3), torch.arange(2)]}
    found = slice_rows(batch, slice(1, 3), 3)
    assert found["texts"] == ["b", "c"] and [part.tolist() for part in found["weights"]] == [[1, 2], [0, 1]]
