"""GERNE over another trainer than Trainer: `class Mine(GerneTrainer, TheirTrainer)`; and from its checkpoints."""

import pytest
import torch
import torch.nn.functional as F
from helpers import assert_same, bert, config, first_batch, mlp, sentences, step_gradient, table, trainer, weights
from transformers import BertForSequenceClassification, Trainer

from gerne_hf import GerneTrainer

pytestmark = pytest.mark.usefixtures("without_pictures")


class TheirTrainer(Trainer):
    """A trainer that adds an argument, a loss that needs it, and a figure in the logs."""

    def __init__(self, *args, temperature=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.temperature = temperature

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = F.cross_entropy(outputs.logits / self.temperature, labels)
        return (loss, outputs) if return_outputs else loss

    def log(self, logs, start_time=None):
        super().log({**logs, "temperature": self.temperature}, start_time)


class Mine(GerneTrainer, TheirTrainer):
    """Nothing more is to be written."""


class Narrow(Trainer):
    """A trainer that has not all arguments of Trainer."""

    def __init__(
        self, model=None, args=None, train_dataset=None, eval_dataset=None, optimizers=(None, None), margin=0
    ):
        super().__init__(model, args, None, train_dataset, eval_dataset, optimizers=optimizers)
        self.margin = margin


class Wide(GerneTrainer, Narrow):
    pass


def mine(output_dir, cls=Mine, model=None, **settings):
    more = {name: settings.pop(name) for name in ("temperature", "margin", "colour") if name in settings}
    data = dict(train_dataset=table(), eval_dataset=table(seed=3))
    return cls(model=model or mlp(), args=config(output_dir, **settings), **data, **more)


@pytest.mark.parametrize("plan", ["independent", "resampling", "erm"])
def test_the_loss_of_the_other_trainer_is_weighted_by_the_plan(tmp_path, plan):
    def heated(outputs, labels, num_items_in_batch):
        return F.cross_entropy(outputs.logits / 3.0, labels)

    subject = mine(tmp_path / "mine", temperature=3.0, plan=plan)
    reference = trainer(tmp_path / "function", compute_loss_func=heated, plan=plan)
    batch = first_batch(reference)
    assert_same(step_gradient(subject, batch), step_gradient(reference, batch), 1e-6)


def test_such_a_trainer_trains_and_evaluates(tmp_path):
    subject = mine(tmp_path, temperature=2.0)
    subject.train()
    first = subject.state.log_history[0]
    assert first["temperature"] == 2.0 and {"loss_biased", "loss_extrapolated"} <= set(first)
    assert "eval_worst_group_accuracy" in subject.evaluate()


def test_what_the_other_trainer_cannot_do_is_refused(tmp_path):
    with pytest.raises(ValueError, match="TheirTrainer.compute_loss.*forward_mode='separate'"):
        mine(tmp_path, forward_mode="fused")
    with pytest.raises(ValueError, match="two losses, compute_loss_func and TheirTrainer.compute_loss"):
        trainer(tmp_path, cls=Mine, compute_loss_func=lambda outputs, labels, num_items_in_batch: 0.0)
    for cls in (Mine, GerneTrainer):
        with pytest.raises(TypeError, match="colour"):
            mine(tmp_path, cls, colour="red")


def test_a_trainer_that_lacks_arguments_of_trainer(tmp_path):
    subject = mine(tmp_path, Wide, margin=0.5)
    subject.train()
    assert subject.margin == 0.5 and subject.state.global_step == 2
    with pytest.raises(TypeError, match="callbacks"):
        trainer(tmp_path, cls=Wide, callbacks=[])


# ---- checkpoints of the stock Trainer -----------------------------------------------------------------------------


def test_a_stock_checkpoint_is_no_run_to_resume_but_weights_to_start_with(tmp_path):
    settings = dict(save_strategy="steps", save_steps=2, plan="erm")
    stock = Trainer(model=bert(), args=config(tmp_path, **settings), train_dataset=sentences())
    stock.train()
    checkpoint = str(tmp_path / "checkpoint-2")
    line = f"model = BertForSequenceClassification.from_pretrained('{checkpoint}')"
    for wanted in (checkpoint, True):
        with pytest.raises(ValueError) as caught:
            trainer(tmp_path, bert(seed=1), sentences(), **settings).train(resume_from_checkpoint=wanted)
        assert line in str(caught.value)
    found: dict = {"BertForSequenceClassification": BertForSequenceClassification}
    exec(line, found)
    assert_same(weights(found["model"]), weights(stock.model))
    trainer(tmp_path / "gerne", found["model"], sentences()).train()


def test_a_checkpoint_of_a_plain_module(tmp_path):
    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp()

        def forward(self, inputs, labels=None):
            return self.inner(inputs, labels)

    settings = dict(save_strategy="steps", save_steps=2, save_only_model=True)
    subject = trainer(tmp_path, Plain(), **settings)
    subject.train()
    checkpoint = str(tmp_path / "checkpoint-2")
    with pytest.raises(ValueError, match="holds the model only.*load_model") as caught:
        trainer(tmp_path, Plain(), **settings).train(resume_from_checkpoint=checkpoint)
    import safetensors.torch

    model = Plain()
    exec(str(caught.value).split("`")[1], {"safetensors": safetensors, "model": model})
    assert_same(weights(model), weights(subject.model))
