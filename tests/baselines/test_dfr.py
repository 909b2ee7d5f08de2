"""DFR as a whole: the last layer of a trained model fitted anew, and what is refused."""

import numpy as np
import pytest
import torch
from dfr_subject import HELD_OUT, by_hand, subject_for
from helpers import assert_same, mlp, table, trainer, weights
from torch import nn
from torch.utils.data import Dataset
from transformers.modeling_outputs import SequenceClassifierOutput

from gerne_hf import GroupIndex
from gerne_hf.baselines import refit_last_layer
from gerne_hf.baselines.dfr import INVERSE_PENALTIES, fit_last_layer
from gerne_hf.baselines.dfr_l2 import fit_smooth_layer, refit_smoothly

pytestmark = pytest.mark.usefixtures("without_pictures")


# ---- the whole ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mlp", "bert", "resnet"])
def test_only_the_last_layer_changes(tmp_path, kind):
    subject = subject_for(tmp_path, kind)
    subject.train()
    before = weights(subject.model)
    penalty = refit_last_layer(subject)
    after = weights(subject.model)
    names = {"mlp": "second", "bert": "classifier", "resnet": "classifier.1"}[kind]
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed == {f"{names}.weight", f"{names}.bias"}
    assert penalty in INVERSE_PENALTIES


def test_the_new_layer_is_that_of_the_features(tmp_path):
    subject = subject_for(tmp_path)
    groups = GroupIndex.from_dataset(subject.eval_dataset, attribute_column="place")
    sets = subject.eval_dataset, subject.train_dataset
    features, train_features = (by_hand("mlp", subject.model, data).numpy() for data in sets)
    refit_last_layer(subject, seed=3)
    weight, bias, _ = fit_last_layer(features, groups, train_features, seed=3)
    assert np.abs(subject.model.second.weight.detach().numpy() - weight).max() < 1e-3
    assert np.abs(subject.model.second.bias.detach().numpy() - bias).max() < 1e-3


def dominated(output_dir, **settings):
    """ERM on data in which the attribute tells the class of 97 rows in 100, and far louder than the class itself."""
    return trainer(
        output_dir,
        mlp(hidden=16),
        table([[320, 10], [10, 320]], seed=1),
        eval_dataset=table([[60, 40], [40, 60]], seed=2),
        plan="erm",
        max_steps=150,
        per_device_train_batch_size=32,
        learning_rate=0.2,
        logging_steps=100,
        **settings,
    )


def test_it_lifts_the_worst_group(tmp_path):
    subject = dominated(tmp_path)
    subject.train()
    test = table([[250, 250], [250, 250]], seed=3)

    def worst(dataset, prefix):
        return subject.evaluate(dataset, metric_key_prefix=prefix)[f"{prefix}_worst_group_accuracy"]

    before = worst(subject.eval_dataset, "eval"), worst(test, "test")
    refit_last_layer(subject)
    after = worst(subject.eval_dataset, "eval"), worst(test, "test")
    assert max(before) < 0.6  # the attribute dominates
    assert after[0] > before[0] + 0.1 and after[1] > before[1] + 0.1


def test_the_same_seed_gives_the_same_layer(tmp_path):
    layers = []
    for seed in (None, None, 42, 7):
        subject = subject_for(tmp_path)
        np.random.seed(len(layers))  # the global state has no part
        torch.manual_seed(len(layers))
        penalty = refit_last_layer(subject, seed=seed)
        layers.append((penalty, weights(subject.model)))
    assert layers[0][0] == layers[1][0] == layers[2][0]
    assert_same(layers[0][1], layers[1][1])
    assert_same(layers[0][1], layers[2][1])  # the seed of the config is 42
    assert not torch.equal(layers[0][1]["second.weight"], layers[3][1]["second.weight"])


class Watched(Dataset):
    """Notes each row that is fetched."""

    column_names = ("label", "place", "inputs")

    def __init__(self, data):
        self.data, self.fetched = data, []

    def __len__(self):
        return len(self.data)

    def __getitem__(self, key):
        if isinstance(key, str):
            return self.data[key]
        self.fetched.append(int(key))
        return self.data[int(key)]


def test_it_reads_the_held_out_rows_and_the_training_rows_once(tmp_path):
    train, held_out = Watched(table([[20, 10], [10, 20]])), Watched(table(HELD_OUT, seed=4))
    subject = trainer(tmp_path, mlp(), train, eval_dataset=held_out, plan="erm")
    refit_last_layer(subject)
    assert held_out.fetched == list(range(41)) and train.fetched == list(range(60))
    other = Watched(table([[12, 12], [12, 12]], seed=6))
    refit_last_layer(subject, other)
    assert other.fetched == list(range(48)) and len(held_out.fetched) == 41


def test_training_rows_need_no_attributes(tmp_path):
    train = table([[20, 10], [10, 20]])
    layers = []
    for data in (train, train.remove_columns("place")):
        subject = trainer(tmp_path, mlp(), data, eval_dataset=table(HELD_OUT, seed=4), plan="erm")
        refit_last_layer(subject)
        layers.append(weights(subject.model))
        assert "eval_worst_group_accuracy" in subject.evaluate()
    assert_same(*layers)


def test_a_stream_is_not_read_again_and_that_is_said(tmp_path, caplog):
    subject = subject_for(tmp_path)
    subject.train_dataset = None
    groups = GroupIndex.from_dataset(subject.eval_dataset, attribute_column="place")
    features = by_hand("mlp", subject.model, subject.eval_dataset).numpy()
    refit_last_layer(subject, seed=3)
    assert "DFR scales features by the held-out rows" in caplog.text
    weight, _, _ = fit_last_layer(features, groups, features, seed=3)
    assert np.abs(subject.model.second.weight.detach().numpy() - weight).max() < 1e-3


def test_the_variant_with_an_l2_penalty_changes_the_last_layer_alone(tmp_path):
    subject = subject_for(tmp_path)
    groups = GroupIndex.from_dataset(subject.eval_dataset, attribute_column="place")
    features = by_hand("mlp", subject.model, subject.eval_dataset).numpy()
    before = weights(subject.model)
    penalty = refit_smoothly(subject, seed=3)
    weight, _, expected = fit_smooth_layer(features, groups, seed=3)
    after = weights(subject.model)
    assert {name for name in after if not torch.equal(before[name], after[name])} == {"second.weight", "second.bias"}
    assert penalty == expected and np.abs(after["second.weight"].numpy() - weight).max() < 1e-3


def test_a_group_of_one_row_and_an_empty_group(tmp_path):
    for counts in ([[13, 1], [8, 11]], [[13, 0], [8, 11]]):
        subject = subject_for(tmp_path, eval_dataset=table(counts, seed=4))
        refit_last_layer(subject)
        assert all(torch.isfinite(value).all() for value in weights(subject.model).values())


# ---- bad input ----------------------------------------------------------------------------------------------------


class Convolution(nn.Module):
    """A model whose logits come from a convolution."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.head = nn.Conv1d(1, config.num_labels, 6)

    def forward(self, inputs, labels=None):
        logits = self.head(inputs[:, None]).squeeze(-1)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def test_a_model_without_a_linear_head(tmp_path):
    model = Convolution(mlp().config)
    held_out = Watched(table(HELD_OUT, seed=4))
    subject = trainer(tmp_path, model, table(), eval_dataset=held_out, plan="erm")
    with pytest.raises(ValueError, match="Convolution has no linear layer with 2 outputs"):
        refit_last_layer(subject)
    assert not held_out.fetched


def test_a_last_layer_without_bias_is_refused_before_any_work(tmp_path):
    model = mlp()
    model.second.bias = None
    before = weights(model)
    held_out = Watched(table(HELD_OUT, seed=4))
    subject = trainer(tmp_path, model, table(), eval_dataset=held_out, plan="erm")
    with pytest.raises(ValueError, match="no bias"):
        refit_last_layer(subject)
    assert_same(weights(model), before)
    assert not held_out.fetched


def test_no_attributes(tmp_path):
    subject = subject_for(tmp_path, attribute_column=None)
    with pytest.raises(ValueError, match="DFR balances groups, so it needs attribute_column"):
        refit_last_layer(subject)


def test_held_out_data_without_the_attribute_column(tmp_path):
    subject = subject_for(tmp_path)
    with pytest.raises(ValueError, match="no attribute column 'place'"):
        refit_last_layer(subject, table(HELD_OUT, seed=4).remove_columns("place"))


@pytest.mark.parametrize("several", [False, True])
def test_no_single_held_out_set(tmp_path, several):
    held_out = {"a": table(HELD_OUT, seed=4), "b": table(HELD_OUT, seed=5)} if several else None
    subject = subject_for(tmp_path, eval_dataset=held_out)
    with pytest.raises(ValueError, match="DFR needs one held-out data set with attributes; pass dataset="):
        refit_last_layer(subject)
    refit_last_layer(subject, table(HELD_OUT, seed=4))  # the way out that it names


def test_a_class_without_held_out_rows(tmp_path):
    subject = subject_for(tmp_path, eval_dataset=table([[13, 9], [0, 0]], seed=4))
    with pytest.raises(ValueError, match="every class needs rows"):
        refit_last_layer(subject)
