"""Group DRO: q through checkpoints, resumed runs and repeated ones."""

import json

import pytest
import torch
from helpers import assert_same, mlp, trainer, weights
from watched_group_dro import watched

pytestmark = pytest.mark.usefixtures("without_pictures")
TWO_EPOCHS = dict(
    num_train_epochs=2,
    max_steps=-1,
    optim="adamw_torch",
    learning_rate=0.01,
    logging_steps=50,
    save_strategy="steps",
    save_steps=4,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """22 steps in two epochs of 11, with dropout, a checkpoint every 4."""
    folder = tmp_path_factory.mktemp("whole")
    subject, _, seen = watched(folder, mlp(dropout=0.3), **TWO_EPOCHS)
    subject.train()
    assert subject.state.global_step == 22
    return folder, weights(subject.model), seen


def test_q_lies_in_the_trainer_state(whole):
    folder, _, seen = whole
    for step in (4, 16):
        state = json.loads((folder / f"checkpoint-{step}" / "trainer_state.json").read_text())
        kept = state["stateful_callbacks"]["GroupWeights"]["attributes"]["weights"]
        assert torch.equal(torch.tensor(kept), seen[step - 1])
        assert max(kept) - min(kept) > 1e-3  # else a fresh q would pass too


@pytest.mark.parametrize("restore", [False, True])
@pytest.mark.parametrize("step", [4, 16])
def test_a_resumed_run_equals_the_uninterrupted_one(whole, tmp_path, step, restore):
    """Both checkpoints lie inside an epoch."""
    folder, final, seen = whole
    torch.manual_seed(123)
    more = dict(restore_callback_states_from_checkpoint=restore)
    subject, batches, again = watched(tmp_path, mlp(seed=9, dropout=0.3), **TWO_EPOCHS, **more)
    subject.train(resume_from_checkpoint=str(folder / f"checkpoint-{step}"))
    assert len(batches) == 22 - step
    assert all(torch.equal(left, right) for left, right in zip(again, seen[step:], strict=True))
    assert_same(weights(subject.model), final)
    assert torch.equal(subject.group_weights, seen[-1])


def test_a_resumed_run_resumes_again(whole, tmp_path):
    """What a resumed run saves has q too."""
    folder, final, seen = whole
    first, _, _ = watched(tmp_path, mlp(seed=9, dropout=0.3), **TWO_EPOCHS)
    first.train(resume_from_checkpoint=str(folder / "checkpoint-8"))
    second, _, again = watched(tmp_path, mlp(seed=7, dropout=0.3), **TWO_EPOCHS)
    second.train(resume_from_checkpoint=str(tmp_path / "checkpoint-16"))
    assert len(again) == 6 and torch.equal(again[-1], seen[-1])
    assert_same(weights(second.model), final)


def test_training_twice_starts_anew(tmp_path):
    hooks = {"model_init": lambda: mlp(0)}
    subject, batches, seen = watched(tmp_path, hooks=hooks, max_steps=5, step_size=0.5)
    subject.train()
    first = weights(subject.model)
    subject.train()
    assert len(batches) == len(seen) == 10
    assert all(torch.equal(left, right) for left, right in zip(seen[:5], seen[5:], strict=True))
    assert_same(weights(subject.model), first)
    assert (seen[4] - 0.25).abs().max() > 0.01


def test_a_checkpoint_of_another_trainer_is_refused(tmp_path):
    other = trainer(tmp_path, plan="resampling", save_strategy="steps", save_steps=1, max_steps=2)
    other.train()
    subject, batches, _ = watched(tmp_path, max_steps=4)
    with pytest.raises(ValueError, match="trainer was 'GerneTrainer' and is 'GroupDROTrainer'"):
        subject.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert not batches


def test_the_weights_of_groups_are_missed_though_another_trainer_was_allowed(tmp_path):
    other = trainer(tmp_path, plan="resampling", save_strategy="steps", save_steps=1, max_steps=2)
    other.train()
    subject, batches, _ = watched(tmp_path, max_steps=4, resume_with_changes=["trainer", "method_settings"])
    with pytest.raises(ValueError, match="holds no group weights, so it is not one of GroupDROTrainer"):
        subject.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert not batches
