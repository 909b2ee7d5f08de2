"""Subclasses of GerneTrainer that override how a loss is computed, as people do in Trainer."""

import functools

import pytest
import torch
import torch.nn.functional as F
from figures_by_hand import HELD_OUT
from helpers import (
    MLP,
    Gradients,
    assert_same,
    bert,
    first_batch,
    mlp,
    sentences,
    step_gradient,
    table,
    trainer,
    weights,
)
from torch import nn
from transformers import Trainer

from gerne_hf import GerneTrainer
from gerne_hf.baselines import GroupDROTrainer
from gerne_hf.training.overrides import override_without_super

pytestmark = pytest.mark.usefixtures("without_pictures")

CLASS_WEIGHTS = torch.tensor([1.0, 3.0])


class OwnLoss(GerneTrainer):
    """As the documentation of Trainer has it, for class weights or a focal loss."""

    seen: list[set[str]] = []

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        OwnLoss.seen.append(set(inputs))
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss_fct = nn.CrossEntropyLoss(weight=CLASS_WEIGHTS)
        loss = loss_fct(outputs.logits.view(-1, 2), labels.view(-1))
        return (loss, outputs) if return_outputs else loss


class OwnSum(GerneTrainer):
    """The same for those who divide by `num_items_in_batch` themselves."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = F.cross_entropy(outputs.logits, labels, reduction="sum") / num_items_in_batch
        return (loss, outputs) if return_outputs else loss


def class_weighted(outputs, labels, num_items_in_batch):
    return F.cross_entropy(outputs.logits, labels, weight=CLASS_WEIGHTS)


# ---- a loss of its own --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", ["independent", "shared", "collapsed", "resampling", "erm"])
@pytest.mark.parametrize("make, data", [(bert, sentences), (mlp, table)])
def test_a_loss_of_ones_own_is_weighted_by_segments(tmp_path, make, data, plan):
    """The gradient is that of the same loss as a function, weighted by other code; no group id is seen."""
    OwnLoss.seen = []
    subject = trainer(tmp_path / "own", make(), data(), cls=OwnLoss, plan=plan)
    reference = trainer(tmp_path / "function", make(), data(), plan=plan, compute_loss_func=class_weighted)
    batch = first_batch(reference)
    assert_same(step_gradient(subject, batch), step_gradient(reference, batch), 1e-5)
    assert len(OwnLoss.seen) == len(subject.plan.segments)
    inputs = {"input_ids", "attention_mask"} if make is bert else {"inputs", "row"}
    assert all(keys == {*inputs, "labels"} for keys in OwnLoss.seen)


def test_the_choice_of_a_forward_for_each_segment_is_said_once(tmp_path, caplog):
    subject = trainer(tmp_path, cls=OwnLoss, eval_dataset=table(HELD_OUT))
    subject.train()
    assert caplog.text.count("OwnLoss.compute_loss computes a loss of its own") == 1
    assert "loss_less_biased" in subject.state.log_history[0]
    assert subject.evaluate()["eval_worst_group_accuracy"] >= 0
    caplog.clear()
    trainer(tmp_path, cls=OwnLoss, plan="erm")
    assert "OwnLoss" not in caplog.text


@pytest.mark.parametrize(
    "settings, parts",
    [
        ({"forward_mode": "fused"}, ["plan 'independent'", "forward_mode='separate'"]),
        ({"plan": "reweighting"}, ["plan 'reweighting'", "'resampling'"]),
        ({"cls": type("Both", (OwnLoss, GroupDROTrainer), {}), "plan": "resampling"}, ["Both.total_loss weights"]),
    ],
)
def test_a_loss_that_cannot_be_weighted_is_refused_at_construction(tmp_path, settings, parts):
    with pytest.raises(ValueError) as caught:
        trainer(tmp_path, **{"cls": OwnLoss, **settings})
    for part in ("OwnLoss.compute_loss", "compute_loss_func", "super().compute_loss", *parts):
        assert part in str(caught.value)


@pytest.mark.parametrize("plan", ["independent", "erm"])
def test_sums_that_are_divided_by_the_number_of_items(tmp_path, plan):
    """With accumulation, too, they are the means of a step, where the stock Trainer gives the step's rows."""
    steps = []
    for cls in (OwnSum, GerneTrainer):
        watch = Gradients()
        settings = dict(gradient_accumulation_steps=2, max_steps=1, callbacks=[watch], forward_mode="separate")
        trainer(tmp_path / cls.__name__, bert(), sentences(), cls=cls, plan=plan, **settings).train()
        steps += watch.steps
    assert_same(*steps, tolerance=1e-5)


def test_a_loss_that_says_it_is_scaled_gets_the_rows_of_the_whole_step(tmp_path):
    class Scaled(OwnSum):
        loss_is_scaled_for_ga = True

    steps = []
    for cls in (OwnSum, Scaled):
        watch = Gradients()
        trainer(tmp_path, cls=cls, gradient_accumulation_steps=2, max_steps=1, callbacks=[watch]).train()
        steps += watch.steps
    assert_same(*steps, tolerance=1e-6)


def test_a_batch_of_the_stock_trainer_has_the_stock_gradient(tmp_path):
    """plan="erm" with a loss of its own: the very loss and gradient that the same method gives under Trainer."""

    class Stock(Trainer):
        compute_loss = OwnLoss.compute_loss

    subject = trainer(tmp_path / "own", cls=OwnLoss, plan="erm")
    batch = first_batch(subject)
    batch = {name: value for name, value in batch.items() if name in ("inputs", "labels")}
    reference = Stock(model=mlp(), args=subject.args)
    subject.current_gradient_accumulation_steps = reference.current_gradient_accumulation_steps = 1
    losses = [each.training_step(each.model, dict(batch)) for each in (subject, reference)]
    assert torch.equal(*losses)
    assert_same(*({n: p.grad for n, p in each.model.named_parameters()} for each in (subject, reference)))


# ---- a loss that stands on the plan's -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["fused", "separate"])
def test_a_loss_that_adds_to_the_plans_is_trained(tmp_path, mode):
    class Penalty(GerneTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
            assert "gerne_group_ids" not in inputs
            loss = loss + 100.0
            return (loss, outputs) if return_outputs else loss

    first = []
    for cls in (GerneTrainer, Penalty):
        subject = trainer(tmp_path, cls=cls, eval_dataset=table(HELD_OUT), forward_mode=mode)
        subject.train()
        first.append(subject.state.log_history[0]["loss"])
    assert first[1] == pytest.approx(first[0] + 100.0, abs=1e-4)
    assert subject.evaluate()["eval_loss"] > 100


def test_a_loss_that_calls_the_plans_sometimes_is_refused_before_the_step_in_which_it_does_not(tmp_path):
    class Sometimes(GerneTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            if return_outputs:
                return super().compute_loss(model, inputs, True)
            labels = inputs.pop("labels")
            return F.cross_entropy(model(**inputs).logits, labels)

    model = mlp()
    before = weights(model)
    with pytest.raises(ValueError, match="Sometimes.compute_loss.*forward_mode='separate'"):
        trainer(tmp_path, model, cls=Sometimes).train()
    assert all(torch.equal(before[name], value) for name, value in weights(model).items())
    trainer(tmp_path, mlp(), cls=Sometimes, forward_mode="separate").train()


def test_what_the_code_of_a_method_tells():
    def wrapped(method):
        @functools.wraps(method)
        def inner(*args, **kwargs):
            return method(*args, **kwargs)

        return inner

    class Base:
        def step(self):
            return 1

    class Wrapped(Base):
        @wrapped
        def step(self):
            return super().step()

    class Named(Base):
        def step(self):
            return Base.step(self)

    class Nested(Base):
        def step(self):
            return [super(Nested, self).step() for _ in range(1)][0]

    class Own(Wrapped):
        step = wrapped(lambda self: 2)

    found = [override_without_super(cls, "step", Base) for cls in (Base, Wrapped, Named, Nested, Own)]
    assert found == [None, None, None, None, "Own.step"]


# ---- steps by hand ------------------------------------------------------------------------------------------------


def test_a_training_step_by_hand(tmp_path):
    """As stock: with a compute_loss_func outside of train(), on any batch."""
    subject = trainer(tmp_path, compute_loss_func=class_weighted)
    batch = {name: torch.tensor(table()[:5][name]) for name in ("inputs", "label")}
    batch["labels"] = batch.pop("label")
    loss = subject.training_step(subject.model, dict(batch))
    expected = class_weighted(subject.model(inputs=batch["inputs"]), batch["labels"], 5)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    assert subject.model.first.weight.grad.abs().sum() > 0
    by_plan = subject.training_step(subject.model, first_batch(subject))
    assert by_plan.isfinite()
    subject.args.gradient_accumulation_steps = 2
    subject.train()
    again = subject.training_step(subject.model, dict(batch))  # of no step of accumulation
    assert again.item() == pytest.approx(
        class_weighted(subject.model(inputs=batch["inputs"]), batch["labels"], 5).item(), abs=1e-6
    )


# ---- evaluation ---------------------------------------------------------------------------------------------------


class Tuples(MLP):
    """A model that returns tuples."""

    def forward(self, inputs, labels=None, row=None):
        logits = super().forward(inputs).logits
        return (logits,) if labels is None else (F.cross_entropy(logits, labels), logits)


class PopsLabels(GerneTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = F.cross_entropy(outputs[0], labels)
        return (loss, outputs) if return_outputs else loss


class KeepsLabels(GerneTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        return (outputs[0], outputs) if return_outputs else outputs[0]


class Renames(GerneTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, logits = model(**inputs)
        return (loss, {"outputs": logits}) if return_outputs else loss


@pytest.mark.parametrize("cls", [PopsLabels, KeepsLabels, Renames])
@pytest.mark.parametrize("loss_only", [False, True])
def test_a_model_with_tuples_is_evaluated(tmp_path, cls, loss_only):
    model, data = Tuples(mlp().config), table(HELD_OUT)
    model.load_state_dict(mlp().state_dict())
    subject = trainer(tmp_path, model, cls=cls, eval_dataset=data, prediction_loss_only=loss_only, plan="erm")
    expected = trainer(tmp_path, mlp(), eval_dataset=data).evaluate()
    metrics = subject.evaluate()
    assert metrics["eval_loss"] == pytest.approx(expected["eval_loss"])
    if not loss_only:
        assert metrics["eval_worst_group_accuracy"] == expected["eval_worst_group_accuracy"]
        assert subject.predict(data).predictions.shape == (len(data), 2)
    subject.train()


def test_a_prediction_step_of_ones_own(tmp_path):
    class Step(GerneTrainer):
        def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
            with torch.no_grad():
                outputs = model(inputs["inputs"], inputs["labels"])
            return outputs.loss, outputs.logits, inputs["labels"]

    with pytest.raises(ValueError, match="Step.prediction_step.*super"):
        trainer(tmp_path, cls=Step, eval_dataset=table(HELD_OUT)).evaluate()
