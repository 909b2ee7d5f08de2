"""Subclasses of GerneTrainer that override what people override in Trainer."""

import pytest
import torch
import torch.nn.functional as F
from figures_by_hand import HELD_OUT
from helpers import bert, mlp, sentences, table, trainer, weights

from gerne_hf import GerneTrainer

pytestmark = pytest.mark.usefixtures("without_pictures")


class OwnLoss(GerneTrainer):
    """As hundreds of scripts have it, for class weights or a focal loss."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = F.cross_entropy(outputs.logits, labels)
        return (loss, outputs) if return_outputs else loss


@pytest.mark.parametrize("mode", ["fused", "separate"])
@pytest.mark.parametrize("make, data", [(bert, sentences), (mlp, table)])
def test_a_loss_that_passes_the_plan_by_is_refused(tmp_path, make, data, mode):
    """A BERT swallows the group ids, so training would go on, on the plain mean of both batches."""
    model = make()
    before = weights(model)
    with pytest.raises((ValueError, TypeError)) as caught:
        trainer(tmp_path, model, data(), cls=OwnLoss, forward_mode=mode).train()
    text = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert "OwnLoss.compute_loss" in text and "compute_loss_func" in text
    assert all(torch.equal(before[name], value) for name, value in weights(model).items())


def test_such_a_loss_may_evaluate(tmp_path):
    metrics = trainer(tmp_path, bert(), sentences(), cls=OwnLoss, eval_dataset=sentences(HELD_OUT)).evaluate()
    assert metrics["eval_loss"] > 0 and "eval_worst_group_accuracy" in metrics


def test_a_loss_that_adds_to_the_plans_is_trained(tmp_path):
    class Penalty(GerneTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
            loss = loss + 100.0
            return (loss, outputs) if return_outputs else loss

    first = []
    for cls in (GerneTrainer, Penalty):
        subject = trainer(tmp_path, cls=cls, eval_dataset=table(HELD_OUT))
        subject.train()
        first.append(subject.state.log_history[0]["loss"])
    assert first[1] == pytest.approx(first[0] + 100.0, abs=1e-4)
    assert subject.evaluate()["eval_loss"] > 100


def test_a_prediction_step_of_ones_own(tmp_path):
    class Step(GerneTrainer):
        def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
            with torch.no_grad():
                outputs = model(inputs["inputs"], inputs["labels"])
            return outputs.loss, outputs.logits, inputs["labels"]

    with pytest.raises(ValueError, match="Step.prediction_step.*super"):
        trainer(tmp_path, cls=Step, eval_dataset=table(HELD_OUT)).evaluate()
