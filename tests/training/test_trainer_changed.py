"""What users change on a trainer that is made already, or do with it twice, counts, as with the stock Trainer."""

import json

import numpy as np
import pytest
import torch
from figures_by_hand import HELD_OUT, assert_figures, expected_for
from helpers import config, mlp, table, trainer, watch_batches

from gerne_hf import GerneTrainer
from gerne_hf.baselines import JTTTrainer
from gerne_hf.groups.batches import GROUP_KEY

pytestmark = pytest.mark.usefixtures("without_pictures")


# ---- metrics ------------------------------------------------------------------------------------------------------


def test_compute_metrics_set_later_sees_plain_labels(tmp_path):
    model, data = mlp(2), table(HELD_OUT, seed=5)
    subject = trainer(tmp_path, model, eval_dataset=data, compute_metrics=lambda prediction: {"old": 1.0})

    def mine(prediction):
        return {"mine": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}

    subject.compute_metrics = mine
    metrics = subject.evaluate()
    assert metrics["eval_mine"] == pytest.approx(metrics["eval_accuracy"]) and "eval_old" not in metrics
    assert_figures(metrics, expected_for(model, data))
    assert subject.compute_metrics is mine


def test_compute_metrics_taken_away(tmp_path):
    model, data = mlp(2), table(HELD_OUT, seed=5)
    subject = trainer(tmp_path, model, eval_dataset=data, compute_metrics=lambda prediction: {"old": 1.0})
    subject.compute_metrics = None
    metrics = subject.evaluate()
    assert "eval_old" not in metrics
    assert_figures(metrics, expected_for(model, data))


def test_preprocess_logits_set_later_sees_plain_labels(tmp_path):
    model, data, seen = mlp(2), table(HELD_OUT, seed=5), []

    def double(logits, labels):
        seen.append(labels)
        return 2 * logits

    subject = trainer(tmp_path, model, eval_dataset=data)
    plain = subject.predict(data).predictions
    subject.preprocess_logits_for_metrics = double
    assert np.allclose(subject.predict(data).predictions, 2 * plain)
    assert torch.cat(seen).tolist() == data["label"][:]


# ---- data ---------------------------------------------------------------------------------------------------------


def flipped(data):
    return data.remove_columns("place").add_column("place", [1 - place for place in data["place"]])


def assert_trained_on(subject, data, run):
    batches = watch_batches(subject)
    run()
    rows = torch.cat([batch["row"] for batch in batches]).numpy()
    groups = torch.cat([batch[GROUP_KEY] for batch in batches]).numpy()
    assert np.array_equal(groups, (2 * np.array(data["label"]) + np.array(data["place"]))[rows])


@pytest.mark.parametrize("make", [lambda: flipped(table()), lambda: table([[60, 60], [60, 60]], seed=4)])
def test_a_training_set_put_in_place_of_another(tmp_path, make):
    """Groups of the old one would be silently wrong for the new one."""
    data, held_out = make(), table(HELD_OUT, seed=5)
    subject = trainer(tmp_path, eval_dataset=held_out, max_steps=12, eval_strategy="epoch")
    subject.train_dataset = data
    assert_trained_on(subject, data, subject.train)
    counts = np.bincount(2 * np.array(data["label"]) + np.array(data["place"]), minlength=4)
    assert subject.groups.counts.ravel().tolist() == counts.tolist()
    assert [group["train_count"] for group in subject.group_results["eval"]["groups"]] == counts.tolist()


def test_a_training_set_given_after_construction(tmp_path):
    subject, data = GerneTrainer(model=mlp(), args=config(tmp_path)), table()
    subject.train_dataset = data
    assert_trained_on(subject, data, subject.train)
    loader = GerneTrainer(model=mlp(), args=config(tmp_path))
    loader.train_dataset = data
    assert len(next(iter(loader.get_less_biased_dataloader()))["labels"]) == 4


@pytest.mark.parametrize("cls", [GerneTrainer, JTTTrainer])
def test_another_training_set_gets_scores_of_its_own(tmp_path, cls):
    own = dict(plan="erm") if cls is JTTTrainer else dict(pseudo_attributes=True, threshold=0.2)
    subject = trainer(tmp_path, cls=cls, **own)
    subject.train()
    subject.train_dataset = table([[30, 20], [10, 40]], seed=4)
    subject.train()
    assert len(subject.pseudo.scores) == 100 == len(subject.groups)


def test_a_training_set_put_in_place_is_checked(tmp_path):
    subject = trainer(tmp_path)
    subject.train_dataset = table([[40, 8], [10, 0]])
    with pytest.raises(ValueError, match="1 of 4 groups have no training rows"):
        subject.train()
    subject.train_dataset = table([[9, 9], [9, 9], [9, 9]])
    with pytest.raises(ValueError, match="num_labels=2.*3 classes"):
        subject.train()


@pytest.mark.parametrize("workers", [0, 1])
def test_persistent_workers_read_the_set_that_is_asked_for(tmp_path, workers):
    model, sets = mlp(2), [table(HELD_OUT, seed=5), table([[3, 4], [5, 6]], seed=6)]
    settings = dict(dataloader_num_workers=workers, dataloader_persistent_workers=workers > 0)
    subject = trainer(tmp_path, model, eval_dataset=sets[0], **settings)
    for data in (None, sets[1], sets[0], sets[1], None):
        assert_figures(subject.evaluate(data), expected_for(model, sets[0] if data is None else data))
    if workers:
        assert subject.get_eval_dataloader() is subject.get_eval_dataloader(sets[0])
        assert subject.get_eval_dataloader() is not subject.get_eval_dataloader(sets[1])
        for *_, loader in subject._persistent_loaders:  # left to the garbage collector they would hold up a later test
            if loader._iterator is not None:
                loader._iterator._shutdown_workers()


# ---- training twice -----------------------------------------------------------------------------------------------


def test_the_report_of_a_second_training_is_of_the_model_it_made(tmp_path):
    data = table(HELD_OUT, seed=5)
    subject = trainer(tmp_path, eval_dataset=data, max_steps=3, eval_strategy="epoch")
    subject.evaluate(metric_key_prefix="before")
    subject.train()
    subject.args.learning_rate = 5.0
    subject.train()
    report = json.loads((tmp_path / "group_metrics.json").read_text())["evaluations"]
    assert report["eval"]["accuracy"] == pytest.approx(expected_for(subject.model, data)["accuracy"])
    assert report["eval"]["step"] == 3 and report["before"]["step"] == 0
