"""A fit of the biased model f~ is kept: a finished one is found again, and one that was cut off is resumed."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from biased_fits import EPOCHS, UNKNOWN, Spy, fit, no_forward, saved_model
from helpers import EVEN, MLP, assert_same, mlp, table, trainer, weights
from places import python_path
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast, default_data_collator, set_seed

from gerne_hf import PseudoAttributes
from gerne_hf.pseudo_attributes.fit_record import default_collator
from gerne_hf.utils.hashing import hash_value

pytestmark = pytest.mark.usefixtures("without_pictures")


# ---- found again, or not ------------------------------------------------------------------------------------------


def test_a_finished_fit_is_found_again(tmp_path, monkeypatch):
    held_out = table(EVEN, seed=4)
    first = fit(tmp_path, eval_dataset=held_out)
    no_forward(monkeypatch)
    again = fit(tmp_path, eval_dataset=table(EVEN, seed=4))
    assert again.directory == first.directory and again.scores.tobytes() == first.scores.tobytes()
    assert again.label(0.2)["pseudo_attribute"][:] == first.label(0.2)["pseudo_attribute"][:]


def test_a_trainer_finds_the_fit_that_was_made_by_itself(tmp_path, monkeypatch):
    first = fit(tmp_path, mlp(), **EPOCHS)
    no_forward(monkeypatch)
    subject = trainer(tmp_path, **EPOCHS, **UNKNOWN)
    subject.get_train_dataloader()
    assert subject.pseudo.directory == first.directory


def test_another_pretrained_model_is_another_fit(tmp_path):
    """Of the same architecture, from another folder (or Hub id)."""
    found = []
    for seed in (1, 2):
        mlp(seed).save_pretrained(tmp_path / f"pretrained{seed}")
        found.append(fit(tmp_path, MLP.from_pretrained(tmp_path / f"pretrained{seed}")))
    assert found[0].directory != found[1].directory and not np.allclose(found[0].scores, found[1].scores)


def test_another_folder_may_be_given(tmp_path):
    pseudo = fit(tmp_path / "run", pseudo_attributes_dir=str(tmp_path / "shared"))
    assert Path(pseudo.directory).parent == tmp_path / "shared"
    assert Path(fit(tmp_path / "run").directory).parent == tmp_path / "run" / "pseudo_attributes"


SMALL = dict(eval_dataset=table(EVEN, seed=4), optim="adamw_torch", eval_strategy="steps", eval_steps=1)
SMALL |= dict(lr_scheduler_type="cosine")


def loss_times(factor):
    def loss(outputs, labels, num_items_in_batch=None):
        return factor * F.cross_entropy(outputs.logits, labels)

    return loss


CHANGES = {
    "learning rate": dict(learning_rate=0.2),
    "biased learning rate": dict(biased_learning_rate=0.3),
    "weight decay": dict(weight_decay=0.1),
    "steps": dict(max_steps=3),
    "epochs": dict(biased_epochs=1),
    "seed": dict(seed=7),
    "batch": dict(per_device_train_batch_size=4),
    "accumulation": dict(gradient_accumulation_steps=2),
    "scheduler": dict(lr_scheduler_type="linear"),
    "scheduler's arguments": dict(lr_scheduler_kwargs={"num_cycles": 2}),
    "optimizer": dict(optim="sgd"),
    "epsilon": dict(adam_epsilon=0.1),
    "optimizer's arguments": dict(optimizer_cls_and_kwargs=(torch.optim.AdamW, {"lr": 0.1, "betas": (0.5, 0.5)})),
    "label smoothing": dict(label_smoothing_factor=0.1),
    "clipping": dict(max_grad_norm=0.01),
    "model": dict(model=mlp(hidden=5)),
    "rows": dict(data=table(seed=3)),
    "contents": dict(data=table().map(lambda row: {"inputs": [2 * value for value in row["inputs"]]})),
    "no evaluation set": dict(eval_dataset=None),
    "another evaluation set": dict(eval_dataset=table(EVEN, seed=9)),
    "evaluations": dict(eval_steps=2),
    "weights": dict(model=mlp(seed=5, dropout=0.3)),
    "one row": dict(data=table().map(lambda row: {"inputs": [2.0 * (row["row"] == 41), *row["inputs"][1:]]})),
    "rows in another order": dict(data=table().select([0, 2, 1, *range(3, 88)])),
    "a transform": dict(data=table().with_transform(lambda rows: rows)),
    "another transform": dict(data=table().with_transform(lambda rows: {**rows, "row": rows["row"]})),
    "a transform of the evaluation set": dict(eval_dataset=table(EVEN, seed=4).with_transform(lambda rows: rows)),
    "collator": dict(data_collator=lambda rows: default_data_collator(rows)),
    "loss": dict(compute_loss_func=loss_times(2)),
    "another loss": dict(compute_loss_func=loss_times(1)),
}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gerne_hf.reports.plots.plot_training", lambda *args: None)
        return folder, fit(folder, **SMALL).directory


@pytest.mark.parametrize("change", CHANGES)
def test_other_settings_and_data_are_another_fit(fitted, change):
    folder, directory = fitted
    assert fit(folder, **{**SMALL, "callbacks": [Spy()]}).directory == directory
    spy = Spy()
    other = fit(folder, **{**SMALL, "callbacks": [spy], **CHANGES[change]})
    assert other.directory != directory and spy.steps > 0


def test_reuse_is_said(fitted, capsys):
    folder, directory = fitted
    fit(folder, **SMALL)
    assert (
        f"Scores of biased models were found in {directory}. They were made with the same rows"
        in capsys.readouterr().out
    )


def test_what_cannot_be_told_apart_is_not_reused_and_that_is_said(tmp_path, capsys):
    rng = np.random.default_rng(0)

    def shuffling(rows):
        rng.permutation(2)
        return default_data_collator(rows)

    found = [fit(tmp_path, data_collator=shuffling, max_steps=1) for _ in range(2)]
    assert found[0].directory != found[1].directory
    said = capsys.readouterr().out
    assert "no fingerprint can be made of collator: a random generator, whose state changes as it is used" in said
    assert f"PseudoAttributes.load('{found[1].directory}')" in said


def test_the_default_collator_is_that_of_the_trainer(tmp_path):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0}, unk_token="a")), pad_token="a")
    for processing_class in (None, tokenizer, object()):
        own = trainer(tmp_path, processing_class=processing_class).data_collator
        ours = default_collator(processing_class)
        assert type(ours) is type(own) and hash_value(ours) == hash_value(own)


# ---- interrupted --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_at, left, evaluates", [(5, 33, True), (17, 22, False), (17, 22, True), (30, 11, True)])
def test_an_interrupted_fit_is_resumed(tmp_path, stop_at, left, evaluates):
    """Checkpoints are at steps 11, 22 and 33; the model has dropout, so that the random state counts too."""
    settings = {**EPOCHS, "eval_dataset": table(EVEN, seed=4) if evaluates else None, "optim": "adamw_torch"}
    settings["learning_rate"] = 0.1
    whole = fit(tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", callbacks=[Spy(stop_at)], **settings)
    set_seed(1)
    spy = Spy()
    resumed = fit(tmp_path / "cut", callbacks=[spy], **settings)
    assert spy.steps == left
    assert resumed.scores.tobytes() == whole.scores.tobytes() and resumed.record == whole.record
    assert_same(weights(saved_model(resumed)), weights(saved_model(whole)))


@pytest.mark.parametrize("kept", [["config.json", "model.safetensors"], ["config.json"]])
def test_a_fit_killed_while_it_saves_a_checkpoint_is_resumed(tmp_path, kept):
    """`trainer_state.json` is what the Trainer writes last, so a checkpoint without it is none."""
    whole = fit(tmp_path / "whole", **EPOCHS)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", callbacks=[Spy(17)], **EPOCHS)
    directory = tmp_path / "cut" / "pseudo_attributes" / Path(whole.directory).name
    (directory / "checkpoint-22").mkdir()
    for name in kept:
        shutil.copy(directory / "checkpoint-11" / name, directory / "checkpoint-22" / name)
    assert fit(tmp_path / "cut", **EPOCHS).scores.tobytes() == whole.scores.tobytes()


def test_a_fit_is_resumed_where_the_main_run_keeps_models_only(tmp_path):
    settings = {**EPOCHS, "save_only_model": True, "optim": "adamw_torch", "learning_rate": 0.1}
    whole = fit(tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", callbacks=[Spy(17)], **settings)
    assert fit(tmp_path / "cut", **settings).scores.tobytes() == whole.scores.tobytes()


KILLED = """
    import os, signal, sys
    import biased_fits as t

    class Kill(t.TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 25:
                os.kill(os.getpid(), signal.SIGKILL)

    t.fit(sys.argv[1], callbacks=[Kill()], **t.EPOCHS)
"""


def test_a_killed_fit_is_resumed(tmp_path):
    script = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "cut")]
    path = {**os.environ, "PYTHONPATH": python_path()}
    killed = subprocess.run(
        script, env={**path, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    name = next((tmp_path / "cut" / "pseudo_attributes").iterdir()).name
    with pytest.raises(FileNotFoundError, match="holds no complete fit"):
        PseudoAttributes.load(str(tmp_path / "cut" / "pseudo_attributes" / name))
    spy, whole = Spy(), fit(tmp_path / "whole", **EPOCHS)
    resumed = fit(tmp_path / "cut", callbacks=[spy], **EPOCHS)
    assert spy.steps == 11 and Path(resumed.directory).name == name
    assert resumed.scores.tobytes() == whole.scores.tobytes()
