"""A model in training mode is not put into it again; every other model is, as ever."""

import pytest
import torch
from helpers import mlp, table, trainer
from torch import nn
from transformers import TrainerCallback

from gerne_hf.models.training_mode import training_mode_kept

pytestmark = pytest.mark.usefixtures("without_pictures")


def model():
    return nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)))


def test_a_model_that_trains_is_left_alone_once():
    subject = model()
    with training_mode_kept(subject):
        assert subject.train() is subject and "train" not in vars(subject)
        subject.eval()
        subject.train()  # the second call is torch's own
        assert all(module.training for module in subject.modules())
    assert "train" not in vars(subject)


def test_nothing_stays_behind_where_it_was_not_called():
    subject = model()
    with pytest.raises(KeyError), training_mode_kept(subject):
        raise KeyError
    assert "train" not in vars(subject)


@pytest.mark.parametrize("part", [0, 1, "1.0", "1.1"])
def test_a_part_in_evaluation_mode_is_put_into_training_mode(part):
    subject = model()
    subject.get_submodule(str(part)).eval()
    with training_mode_kept(subject):
        subject.train()
    assert all(module.training for module in subject.modules())


def test_train_with_false_is_evaluation_mode():
    subject = model()
    with training_mode_kept(subject):
        subject.train(False)
    assert not any(module.training for module in subject.modules())


def test_a_train_of_the_class_is_called():
    class Counts(nn.Linear):
        called = 0

        def train(self, mode=True):
            self.called += 1
            return super().train(mode)

    subject = Counts(2, 2)
    with training_mode_kept(subject):
        subject.train()
    assert subject.called == 1


def test_a_callback_that_leaves_the_model_in_evaluation_mode(tmp_path):
    modes = []

    class Evaluates(TrainerCallback):
        def on_step_begin(self, args, state, control, model, **kwargs):
            model.eval()

    subject = trainer(tmp_path, mlp(), table(), callbacks=[Evaluates()], max_steps=2)
    subject.model.register_forward_pre_hook(lambda module, inputs: modes.append(module.training))
    subject.train()
    assert modes and all(modes)
    assert torch.is_grad_enabled()
