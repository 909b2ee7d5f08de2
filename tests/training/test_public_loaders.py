"""Loaders that users and callbacks get yield what the model takes; those of the trainer's loops carry group ids."""

import numpy as np
import pytest
import torch
from figures_by_hand import HELD_OUT, assert_figures, expected_for
from helpers import Rows, bert, mlp, own_loader, sentences, table, trainer, watch_batches
from transformers import TrainerCallback

from gerne_hf import GerneTrainer
from gerne_hf.groups.batches import GROUP_KEY
from gerne_hf.streaming import GroupPartitions, partition_by_group

pytestmark = pytest.mark.usefixtures("without_pictures")
EVERY = dict(eval_strategy="steps", eval_steps=1)


def run_through(loader, model):
    """As scripts do: every batch of a loader into the model; how many rows there were."""
    rows = 0
    for batch in loader:
        with torch.no_grad():
            assert model(**batch).loss > 0
        rows += len(batch["labels"])
    return rows


@pytest.mark.parametrize("removed", [True, False])
@pytest.mark.parametrize("make", [lambda data: data, Rows], ids=["of datasets", "of another library"])
def test_batches_go_into_the_model_as_they_are(tmp_path, make, removed):
    """The attribute is no input of the model, and is left out too."""
    data, held_out = make(table()), make(table(HELD_OUT, seed=5))
    settings = dict(eval_dataset=held_out, remove_unused_columns=removed)
    subject = trainer(tmp_path, mlp(), data, **settings)
    assert run_through(subject.get_train_dataloader(), subject.model) == 88
    assert run_through(subject.get_eval_dataloader(), subject.model) == 41
    assert run_through(subject.get_test_dataloader(held_out), subject.model) == 41
    assert run_through(subject.get_biased_dataloader(), subject.model) == 88


def test_rows_are_those_that_are_trained_on(tmp_path):
    subject = trainer(tmp_path, max_steps=11)
    batches = watch_batches(subject)
    public = [batch["row"].tolist() for batch in subject.get_train_dataloader()]
    subject.train()
    assert public == [batch["row"].tolist() for batch in batches] and GROUP_KEY in batches[0]
    assert GROUP_KEY in next(iter(own_loader(subject)))


def test_the_data_set_is_the_users(tmp_path):
    data, held_out = Rows(table()), Rows(table(HELD_OUT, seed=5))
    subject = trainer(tmp_path, mlp(), data, eval_dataset=held_out)
    assert subject.get_train_dataloader().dataset is data
    assert subject.get_eval_dataloader().dataset is held_out
    whole = trainer(tmp_path, mlp(), table(), remove_unused_columns=False)
    assert whole.get_train_dataloader().dataset is whole.train_dataset


def test_a_stream(tmp_path):
    partition_by_group(table().to_iterable_dataset(), str(tmp_path / "parts"), attribute_column="place")
    subject = trainer(tmp_path, mlp(), GroupPartitions.load(str(tmp_path / "parts")))
    assert run_through(subject.get_train_dataloader(), subject.model) == 88


# ---- callbacks ----------------------------------------------------------------------------------------------------


class LooksAtLoaders(TrainerCallback):
    """Runs the model over the loaders that it is given, and over those that it asks the trainer for."""

    def __init__(self):
        self.events, self.trainer = {}, None

    def look(self, event, model, train_dataloader, eval_dataloader):
        loaders = {"train": train_dataloader, "asked for": self.trainer.get_train_dataloader()}
        if eval_dataloader is not None:
            loaders["eval"] = eval_dataloader
        was = model.training
        for name, loader in loaders.items():
            self.events.setdefault((event, name), run_through(loader, model))
        model.train(was)

    def on_train_begin(self, args, state, control, model, train_dataloader, eval_dataloader, **kwargs):
        self.look("train_begin", model, train_dataloader, eval_dataloader)

    def on_step_end(self, args, state, control, model, train_dataloader, eval_dataloader, **kwargs):
        self.look("step_end", model, train_dataloader, eval_dataloader)

    def on_prediction_step(self, args, state, control, model, train_dataloader, eval_dataloader, **kwargs):
        self.look("prediction_step", model, train_dataloader, eval_dataloader)

    def on_evaluate(self, args, state, control, model, train_dataloader, eval_dataloader, **kwargs):
        self.look("evaluate", model, train_dataloader, eval_dataloader)


def test_loaders_of_callbacks_and_that_training_goes_on_as_without_them(tmp_path):
    data, held_out = table(), table(HELD_OUT, seed=5)
    seen, logs = [], []
    for looks in (False, True):
        watcher = LooksAtLoaders()
        settings = dict(eval_dataset=held_out, max_steps=4, **EVERY)
        subject = trainer(tmp_path, mlp(), data, callbacks=[watcher] if looks else [], **settings)
        watcher.trainer = subject
        batches = watch_batches(subject)
        subject.train()
        seen.append([batch["row"].tolist() for batch in batches])
        logs.append([entry for entry in subject.state.log_history if "loss_biased" in entry])
        assert_figures(subject.evaluate(), expected_for(subject.model, held_out))
    assert seen[0] == seen[1]
    assert [entry["loss_biased"] for entry in logs[0]] == [entry["loss_biased"] for entry in logs[1]]
    for event in ("train_begin", "step_end", "prediction_step", "evaluate"):
        assert watcher.events[event, "train"] == watcher.events[event, "asked for"] == 88
    assert all(watcher.events[event, "eval"] == 41 for event in ("prediction_step", "evaluate"))


# ---- loaders that users make of these -----------------------------------------------------------------------------


def test_a_loader_made_of_the_trainers_own_is_trained(tmp_path):
    class Halved(GerneTrainer):
        """Wraps the loader, as those do that limit the batches of an epoch."""

        def get_train_dataloader(self):
            loader = super().get_train_dataloader()

            class Half:
                dataset = loader.dataset

                def __len__(self):
                    return len(loader) // 2

                def __iter__(self):
                    for _, batch in zip(range(len(self)), loader, strict=False):
                        yield batch

            return Half()

    subject = trainer(tmp_path, cls=Halved, num_train_epochs=1, max_steps=-1)
    batches = watch_batches(subject)
    subject.train()
    assert subject.state.global_step == 5 and all(GROUP_KEY in batch for batch in batches)


def test_an_evaluation_of_ones_own_has_group_metrics(tmp_path):
    """As the trainer for question answering in Hugging Face's examples has it."""

    class Own(GerneTrainer):
        def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
            loader = self.get_eval_dataloader(eval_dataset)
            return self.evaluation_loop(loader, "Evaluation", metric_key_prefix=metric_key_prefix).metrics

    data = table(HELD_OUT, seed=5)
    subject = trainer(tmp_path, mlp(2), cls=Own, eval_dataset=data)
    assert_figures(subject.evaluate(), expected_for(subject.model, data))


def test_a_failed_evaluation_leaves_loaders_as_they_are(tmp_path):
    subject = trainer(tmp_path, bert(), sentences())
    with pytest.raises(ValueError, match="no attribute column"):
        subject.evaluate(sentences().remove_columns("place"))
    assert run_through(subject.get_train_dataloader(), subject.model) == 88
    assert np.isfinite(subject.evaluate(sentences())["eval_loss"])


def test_a_run_that_begins_anew_with_smaller_batches_has_its_groups(tmp_path):
    class NoRoom(GerneTrainer):
        def training_step(self, model, inputs, num_items_in_batch=None):
            if len(inputs["labels"]) > 12:
                raise RuntimeError("CUDA out of memory.")
            return super().training_step(model, inputs, num_items_in_batch)

    watcher = LooksAtLoaders()
    settings = dict(cls=NoRoom, auto_find_batch_size=True, per_device_train_batch_size=16, callbacks=[watcher])
    watcher.trainer = subject = trainer(tmp_path, **settings)
    batches = watch_batches(subject)
    subject.train()
    sizes = [len(batch["labels"]) for batch in batches]
    assert subject.state.global_step == 2 and sizes[0] == 16 and sizes[-1] <= 12
    assert all(GROUP_KEY in batch for batch in batches) and watcher.events["step_end", "train"] >= 88
