"""Subclasses of GerneTrainer with a sampler or a loader of their own."""

import pytest
import torch
from helpers import SKEWED, assert_same, config, mlp, table, trainer, weights
from torch.utils.data import DataLoader, SequentialSampler
from transformers import Trainer, default_data_collator

from gerne_hf import GerneTrainer
from gerne_hf.baselines import SquareRootTrainer

pytestmark = pytest.mark.usefixtures("without_pictures")

ROWS = sum(map(sum, SKEWED))


class SamplerOfMine:
    """Rows in their order: 88 of them, so 12 batches of 8 but for the last."""

    def _get_train_sampler(self, train_dataset=None):
        return SequentialSampler(self.train_dataset)


class LoaderOfMine:
    def get_train_dataloader(self):
        rows = self.train_dataset.select_columns(["inputs", "label"])
        return DataLoader(rows, batch_size=12, collate_fn=default_data_collator)


class Mine(SamplerOfMine, GerneTrainer):
    pass


class MineStock(SamplerOfMine, Trainer):
    pass


class Loads(LoaderOfMine, GerneTrainer):
    pass


class LoadsStock(LoaderOfMine, Trainer):
    pass


@pytest.mark.parametrize("cls, stock", [(Mine, MineStock), (Loads, LoadsStock)])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_under_erm_they_are_trained_as_by_trainer(tmp_path, cls, stock, accumulation, caplog):
    settings = dict(plan="erm", num_train_epochs=2, max_steps=-1, gradient_accumulation_steps=accumulation)
    settings |= dict(per_device_train_batch_size=12)
    subject = trainer(tmp_path / "ours", cls=cls, **settings)
    reference = stock(model=mlp(), args=config(tmp_path / "stock", **settings), train_dataset=table())
    for each in (subject, reference):
        each.train()
    assert subject.state.global_step == reference.state.global_step
    assert_same(weights(subject.model), weights(reference.model), 1e-5)
    assert caplog.text.count("class_balanced=True has no effect") == 1


@pytest.mark.parametrize("cls, method", [(Mine, "_get_train_sampler"), (Loads, "get_train_dataloader")])
@pytest.mark.parametrize("plan", ["independent", "resampling", "reweighting"])
def test_other_plans_refuse_them_at_construction(tmp_path, cls, method, plan):
    with pytest.raises(ValueError) as caught:
        trainer(tmp_path, cls=cls, plan=plan)
    for part in (f".{method} does not call", repr(plan), "super()", "plan='erm'", "make_plan"):
        assert part in str(caught.value)


def test_a_baseline_that_draws_classes_its_own_way_refuses_them(tmp_path):
    with pytest.raises(ValueError, match="_get_train_sampler"):
        trainer(tmp_path, cls=type("Both", (SamplerOfMine, SquareRootTrainer), {}), plan="erm")


class Chooses(GerneTrainer):
    """Whose code says `super` and does not call it."""

    def _get_train_sampler(self, train_dataset=None):
        return super()._get_train_sampler() if train_dataset is None else SequentialSampler(train_dataset)


class Builds(GerneTrainer):
    """Whose loader calls the hook below it, with a sampler of its own."""

    def get_train_dataloader(self):
        data = self.train_dataset if self.train_dataset is not None else super().get_train_dataloader()
        return self._get_dataloader(data, "Training", 8, SequentialSampler, is_training=True)


class Plain(LoaderOfMine, GerneTrainer):
    def get_train_dataloader(self):
        loader = super().get_train_dataloader()
        return loader


@pytest.mark.parametrize("cls", [Chooses, Builds, Plain])
def test_what_is_only_seen_in_training_is_refused_before_the_first_step(tmp_path, cls):
    model = mlp()
    before = weights(model)
    with pytest.raises(ValueError, match="not those that the plan 'independent' draws"):
        trainer(tmp_path, model, cls=cls).train()
    assert all(torch.equal(before[name], value) for name, value in weights(model).items())
    trainer(tmp_path, mlp(), cls=cls, plan="erm").train()


def test_overrides_that_call_super_are_trained_with_any_plan(tmp_path):
    class Looks(GerneTrainer):
        def _get_train_sampler(self, train_dataset=None):
            self.looked = super()._get_train_sampler(train_dataset)
            return self.looked

        def get_train_dataloader(self):
            return self._get_dataloader(self.train_dataset, "Training", 8, self._get_train_sampler, is_training=True)

    subject = trainer(tmp_path, cls=Looks)
    subject.train()
    assert subject.state.global_step == 2 and len(subject.looked) == ROWS
