"""Another model as f~, of another size or trained elsewhere: scored as it is, and only where its classes fit."""

import numpy as np
import pytest
from biased_fits import UNKNOWN, by_hand, fit, saved_model
from datasets import ClassLabel, Value
from helpers import assert_same, bert, config, mlp, table, trainer, watch_batches, weights

from gerne_hf import PseudoAttributes

pytestmark = pytest.mark.usefixtures("without_pictures")


@pytest.fixture
def checkpoint(tmp_path):
    """A trained model in a folder, smaller than the main one."""
    model = mlp(seed=3, hidden=3)
    model.save_pretrained(tmp_path / "checkpoint")
    return model.eval()


def test_a_saved_checkpoint_only_scores(tmp_path, checkpoint):
    data, main = table(), mlp(hidden=9)
    before = weights(main)
    subject = trainer(tmp_path, main, data, biased_model=str(tmp_path / "checkpoint"), **UNKNOWN)
    subject.get_train_dataloader()
    scores, predictions = by_hand(checkpoint, "inputs", data["inputs"][:], data["label"][:])
    assert np.abs(subject.pseudo.scores - scores).max() < 1e-6
    assert np.array_equal(subject.pseudo.predictions, predictions)
    assert_same(weights(subject.model), before)
    assert_same(weights(saved_model(subject.pseudo)), weights(checkpoint))
    subject.train()
    assert subject.model.config.hidden == 9 and subject.state.global_step == 2


def test_a_saved_checkpoint_given_to_fit_only_scores(tmp_path, checkpoint):
    data = table()
    pseudo = fit(tmp_path, mlp(), data, biased_model=str(tmp_path / "checkpoint"))
    scores, _ = by_hand(checkpoint, "inputs", data["inputs"][:], data["label"][:])
    assert np.abs(pseudo.scores - scores).max() < 1e-6


def test_a_checkpoint_that_changed_is_scored_again(tmp_path, checkpoint):
    settings = dict(biased_model=str(tmp_path / "checkpoint"), **UNKNOWN)
    first = trainer(tmp_path, **settings)
    first.get_train_dataloader()
    mlp(seed=8, hidden=3).save_pretrained(tmp_path / "checkpoint")
    second = trainer(tmp_path, **settings)
    second.get_train_dataloader()
    assert not np.allclose(first.pseudo.scores, second.pseudo.scores)


def test_a_checkpoint_of_another_architecture_is_not_scored_as_if_it_were_this_one(tmp_path):
    """Transformers would read its configuration and start from random weights, with no more than a warning."""
    bert().save_pretrained(tmp_path / "checkpoint")
    subject = trainer(tmp_path, biased_model=str(tmp_path / "checkpoint"), **UNKNOWN)
    with pytest.raises(ValueError, match="BertForSequenceClassification"):
        subject.get_train_dataloader()


@pytest.mark.parametrize(
    "main, biased",
    [
        (dict(), dict(num_labels=3)),
        (dict(id2label={0: "cat", 1: "dog"}), dict(id2label={0: "dog", 1: "cat"})),
    ],
)
def test_another_label_space_is_refused(tmp_path, main, biased):
    mlp(**biased).save_pretrained(tmp_path / "checkpoint")
    before = mlp(**main)
    subject = trainer(tmp_path, before, biased_model=str(tmp_path / "checkpoint"), **UNKNOWN)
    batches = watch_batches(subject)
    with pytest.raises(ValueError, match="the biased model's classes are .*, and the main model's are .*same labels"):
        subject.train()
    assert not batches and not (tmp_path / "pseudo_attributes").exists()


def test_names_against_no_names_are_accepted(tmp_path):
    mlp(id2label={0: "cat", 1: "dog"}).save_pretrained(tmp_path / "checkpoint")
    trainer(tmp_path, mlp(), biased_model=str(tmp_path / "checkpoint"), **UNKNOWN).train()


def test_a_smaller_model_through_fit(tmp_path):
    pseudo = fit(tmp_path, mlp(hidden=3))
    assert saved_model(pseudo).config.hidden == 3
    subject = trainer(tmp_path, train=pseudo.label(0.2), attribute_column="pseudo_attribute")
    subject.train()
    assert subject.model.config.hidden == 8
    with pytest.raises(ValueError, match="num_labels=3, and the training set has 2 classes"):
        fit(tmp_path, mlp(num_labels=3))
    with pytest.raises(ValueError, match="the biased model is missing: pass model= or model_init="):
        PseudoAttributes.fit(args=config(tmp_path), train_dataset=table())


def test_class_names_of_the_data_reach_the_scores(tmp_path):
    data = table().cast_column("label", ClassLabel(names=["cat", "dog"])).cast_column("place", Value("string"))
    pseudo = fit(tmp_path, data=data)
    assert pseudo.label_names == ("cat", "dog")
    with pytest.raises(ValueError, match="of class cat hard"):
        pseudo.label(0.001)
