"""What a resumed run restores that the libraries do not: its last step, its weights by name, its random draws."""

import json
import random

import numpy as np
import pytest
import torch
from helpers import SKEWED, assert_same, mlp, sentences, table, trainer, watch_batches, weights
from resumed_runs import SETTINGS, again
from transformers import MixtralConfig, MixtralForSequenceClassification, ViTConfig, ViTForImageClassification

pytestmark = pytest.mark.usefixtures("without_pictures")


# ---- what the libraries do not restore ----------------------------------------------------------------------------


@pytest.mark.parametrize("length", [dict(max_steps=6), dict(max_steps=-1, num_train_epochs=0.5)])
def test_a_run_killed_after_its_last_checkpoint_takes_no_step_more(tmp_path, length):
    """The stock Trainer trains until the end of the epoch is reached or one more step is done."""
    settings = {**SETTINGS, **length}
    whole = trainer(tmp_path, mlp(dropout=0.3), **settings)
    whole.train()
    resumed = again(tmp_path, **length)
    batches = watch_batches(resumed)
    resumed.train(resume_from_checkpoint=True)
    assert not batches and resumed.state.global_step == whole.state.global_step == 6
    assert_same(weights(resumed.model), weights(whole.model))


def test_a_checkpoint_at_the_end_of_an_epoch_has_its_evaluation(tmp_path):
    """Saved by steps, evaluated by epochs: 11 steps are one, and the evaluation draws from the global generator."""
    settings = dict(max_steps=14, save_steps=11, eval_strategy="epoch", eval_dataset=table(SKEWED, seed=4))
    whole = trainer(tmp_path, mlp(dropout=0.3), **{**SETTINGS, **settings})
    whole.train()
    state = json.loads((tmp_path / "checkpoint-11" / "trainer_state.json").read_text())
    assert [entry["step"] for entry in state["log_history"] if "eval_loss" in entry] == [11]
    resumed = again(tmp_path, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-11"))
    assert_same(weights(resumed.model), weights(whole.model))


def vit():
    return ViTForImageClassification(
        ViTConfig(
            image_size=4,
            patch_size=2,
            num_channels=1,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=8,
            initializer_range=0.3,
        )
    )


def mixtral():
    return MixtralForSequenceClassification(
        MixtralConfig(
            vocab_size=40,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            num_local_experts=2,
            pad_token_id=0,
            initializer_range=0.3,
        )
    )


def squares(seed):
    data = table(seed=seed, width=16)
    return data.map(
        lambda row: {"pixel_values": np.reshape(row["inputs"], (1, 4, 4))}, remove_columns=["inputs", "row"]
    )


@pytest.mark.parametrize(
    "make, data, greater", [(vit, squares, True), (mixtral, lambda seed: sentences(seed=seed), False)]
)
def test_weights_are_read_back_whose_saved_names_are_others(tmp_path, make, data, greater):
    """save_pretrained renames weights of ViT and splits those of Mixtral; the Trainer looks for neither."""
    torch.manual_seed(0)
    model = make()
    best = dict(load_best_model_at_end=True, metric_for_best_model="loss", eval_strategy="steps", eval_steps=2)
    settings = {**SETTINGS, **best, "eval_dataset": data(5), "learning_rate": 0.5, "greater_is_better": greater}
    kept = {}
    subject = trainer(tmp_path, model, data(0), **settings)
    save = subject.save_model

    def save_model(output_dir=None, _internal_call=False):
        kept[subject.state.global_step] = weights(subject.model)
        save(output_dir, _internal_call)

    subject.save_model = save_model
    subject.train()
    step = subject.state.best_global_step
    assert step != 6  # the last model is not the one that is chosen
    assert_same(weights(subject.model), kept[step])
    resumed = trainer(tmp_path, make(), data(0), **{**settings, "load_best_model_at_end": False})
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert_same(weights(resumed.model), kept[6])


# ---- random transforms --------------------------------------------------------------------------------------------


def noise(rows):
    """From all three global generators."""
    inputs = np.array(rows["inputs"]) + np.random.rand() * torch.randn(1).item() + random.random()
    return {**rows, "inputs": inputs.astype(np.float32).tolist()}


def test_random_transforms_are_resumed_too(tmp_path):
    """The stock loader has fetched, and transformed, the next batch before a checkpoint is written. Workers or none,
    the rows come out the same."""
    seen = []
    for workers in (0, 2):
        out, settings = tmp_path / str(workers), dict(train=table().with_transform(noise))
        settings |= dict(dataloader_num_workers=workers, remove_unused_columns=False)
        whole = trainer(out, mlp(dropout=0.3), **settings, **SETTINGS)
        seen.append(watch_batches(whole))
        whole.train()
        resumed = again(out, **settings)
        batches = watch_batches(resumed)
        resumed.train(resume_from_checkpoint=str(out / "checkpoint-2"))
        for batch, other in zip(batches, seen[-1][2:], strict=True):
            assert_same(batch, other)
        assert_same(weights(resumed.model), weights(whole.model))
    for batch, other in zip(*seen, strict=True):
        assert_same(batch, other)
    assert not torch.equal(seen[0][0]["inputs"] - seen[0][1]["inputs"], torch.zeros(8, 6))
