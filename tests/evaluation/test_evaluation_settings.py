"""Settings of the stock Trainer that bear on evaluation: group figures stay right and whole, or are refused."""

import pytest
import torch
from dfr_subject import subject_for
from figures_by_hand import HELD_OUT, assert_figures, expected_for
from helpers import MLP, MLPConfig, mlp, table, trainer
from refusals import refused

from gerne_hf import GerneTrainer
from gerne_hf.baselines import refit_last_layer

pytestmark = pytest.mark.usefixtures("without_pictures")

BY_STEP = dict(eval_strategy="steps", save_strategy="steps", eval_steps=1, save_steps=1)


@pytest.mark.parametrize("rows", [16, 64])
def test_no_row_is_dropped_from_an_evaluation(tmp_path, rows):
    model, data = mlp(2), table(HELD_OUT, seed=5)
    settings = dict(dataloader_drop_last=True, per_device_eval_batch_size=rows)
    subject = trainer(tmp_path, model, eval_dataset=data, **settings)
    assert_figures(subject.evaluate(), expected_for(model, data))
    assert len(subject.predict(data).predictions) == 41
    assert subject.args.dataloader_drop_last and len(subject.get_train_dataloader()) == 11


@pytest.mark.parametrize(
    "settings",
    [
        dict(dataloader_drop_last=True),
        dict(prediction_loss_only=True),
        dict(eval_do_concat_batches=False),
        dict(batch_eval_metrics=True),
        dict(dataloader_in_order=False, dataloader_num_workers=2),
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_scores_of_a_biased_model_whatever_evaluation_is_set_to(tmp_path, settings):
    data = table()
    subject = trainer(tmp_path, train=data, eval_dataset=data, pseudo_attributes=True, threshold=0.2, **settings)
    subject.train()
    biased = MLP.from_pretrained(f"{subject.pseudo.directory}/model").eval()
    with torch.no_grad():
        probabilities = biased(torch.tensor(data["inputs"][:])).logits.softmax(-1)
    expected = probabilities[torch.arange(88), torch.tensor(data["label"][:])]
    assert subject.pseudo.scores == pytest.approx(expected.numpy(), abs=1e-5)


def test_dfr_with_drop_last_and_without_predictions(tmp_path):
    assert refit_last_layer(subject_for(tmp_path, dataloader_drop_last=True)) > 0
    with pytest.raises(ValueError, match="prediction_loss_only=True"):
        refit_last_layer(subject_for(tmp_path, prediction_loss_only=True))


def test_loss_alone_selects_on_no_accuracy(tmp_path):
    best = dict(BY_STEP, load_best_model_at_end=True, eval_dataset=table(HELD_OUT), prediction_loss_only=True)
    refused(ValueError, "prediction_loss_only=True", "'auto'", "'loss'", output_dir=tmp_path, **best)
    subject = trainer(tmp_path, metric_for_best_model="loss", **best)
    subject.train()
    assert subject.state.best_metric > 0


def test_the_evaluation_after_training_casts_no_model(tmp_path):
    """With bf16_full_eval the parent casts a model for good when it is evaluated; a comparison does not."""
    subject = trainer(tmp_path, eval_dataset=table(HELD_OUT), bf16_full_eval=True)
    subject.train()
    subject.evaluate_if_stale()
    assert subject.group_results["eval"]["step"] == 2
    assert {parameter.dtype for parameter in subject.model.parameters()} == {torch.float32}


class WithCache(MLP):
    """Returns something that is no tensor, as models with a cache do."""

    def forward(self, inputs, labels=None, row=None):
        return {**super().forward(inputs, labels), "cache": object()}


def test_the_evaluation_after_training_ignores_the_keys_that_it_is_told_to(tmp_path):
    torch.manual_seed(0)
    subject = trainer(tmp_path, WithCache(MLPConfig()), eval_dataset=table(HELD_OUT))
    subject.train(ignore_keys_for_eval=["cache"])
    subject.evaluate_if_stale(["cache"])
    assert subject.group_results["eval"]["step"] == 2


def test_a_set_with_an_underscore_at_the_end_of_its_name_is_evaluated_once(tmp_path):
    calls = []

    class Counted(GerneTrainer):
        def evaluation_loop(self, *args, **kwargs):
            calls.append(kwargs["metric_key_prefix"])
            return super().evaluation_loop(*args, **kwargs)

    trainer(tmp_path, eval_dataset={"far_": table(HELD_OUT)}, cls=Counted, eval_strategy="steps", eval_steps=2).train()
    assert calls == ["eval_far_"]
