"""DFR: features, balanced subsets, and the last layer fitted anew."""

import numpy as np
import pytest
import torch
from helpers import (
    assert_same,
    bert,
    decode_images,
    images,
    mlp,
    resnet,
    sentences,
    table,
    trainer,
    weights,
)
from torch import nn
from torch.utils.data import Dataset
from transformers.modeling_outputs import SequenceClassifierOutput

from gerne_hf import GroupIndex
from gerne_hf.baselines import refit_last_layer
from gerne_hf.baselines.dfr import (
    INVERSE_PENALTIES,
    _halves,
    balanced_rows,
    collect_features,
    fit_last_layer,
)
from gerne_hf.models import classification_head

pytestmark = pytest.mark.usefixtures("without_pictures")
HELD_OUT = [[13, 9], [8, 11]]  # 41 rows: two batches of 16 and one of 9


def subject_for(output_dir, kind="mlp", **settings):
    """An untrained trainer with an evaluation set."""
    make = {
        "mlp": (lambda: mlp(dropout=0.3), table),
        "bert": (lambda: bert(dropout=0.3), sentences),
        "resnet": (resnet, lambda *args, **kwargs: images(*args, **kwargs).with_transform(decode_images)),
    }
    model, data = make[kind]
    more = dict(remove_unused_columns=False) if kind == "resnet" else {}
    held_out = settings.pop("eval_dataset", data(HELD_OUT, seed=4))
    return trainer(
        output_dir, model(), data([[20, 10], [10, 20]]), eval_dataset=held_out, plan="erm", **more, **settings
    )


def by_hand(kind, model, data):
    """The last layer's inputs, from the layers before it."""
    with torch.no_grad():
        model.eval()
        if kind == "mlp":
            return model.first(torch.tensor(data["inputs"][:])).tanh()
        if kind == "bert":
            ids, mask = (torch.tensor(data[name][:]) for name in ("input_ids", "attention_mask"))
            return model.bert(input_ids=ids, attention_mask=mask).pooler_output
        pixels = torch.stack([row["pixel_values"] for row in data])
        return model.resnet(pixel_values=pixels).pooler_output.flatten(1)


# ---- features -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mlp", "bert", "resnet"])
def test_features_are_the_last_layers_inputs_in_row_order(tmp_path, kind):
    subject = subject_for(tmp_path, kind)
    subject.train()
    features = collect_features(subject, subject.eval_dataset)
    expected = by_hand(kind, subject.model, subject.eval_dataset).numpy()
    assert features.shape == expected.shape == (41, {"mlp": 8, "bert": 16, "resnet": 8}[kind])
    assert features.dtype == np.float32 and np.abs(features - expected).max() < 1e-5
    assert np.abs(features[0] - features[1]).max() > 1e-3
    with torch.no_grad():  # and it is that layer which makes the logits of them
        logits = classification_head(subject.model)(torch.from_numpy(features)).numpy()
    assert np.abs(logits - subject.predict(subject.eval_dataset).predictions).max() < 1e-5


@pytest.mark.parametrize("settings", [dict(eval_do_concat_batches=False), dict(eval_accumulation_steps=1)])
def test_features_do_not_depend_on_how_evaluation_collects(tmp_path, settings):
    subject = subject_for(tmp_path, **settings)
    features = collect_features(subject, subject.eval_dataset)
    expected = by_hand("mlp", subject.model, subject.eval_dataset).numpy()
    assert np.abs(np.asarray(features) - expected).max() < 1e-5


def test_the_users_hooks_are_restored(tmp_path):
    def preprocess(logits, labels):
        return logits * 2

    subject = subject_for(tmp_path, preprocess_logits_for_metrics=preprocess, compute_metrics=lambda _: {"mine": 1.0})
    before, metric_before = subject.preprocess_logits_for_metrics, subject.compute_metrics
    doubled = subject.predict(subject.eval_dataset).predictions
    features = collect_features(subject, subject.eval_dataset)
    assert np.abs(features - by_hand("mlp", subject.model, subject.eval_dataset).numpy()).max() < 1e-5
    assert subject.preprocess_logits_for_metrics == before and subject.compute_metrics == metric_before
    assert np.array_equal(subject.predict(subject.eval_dataset).predictions, doubled)
    assert subject.evaluate()["eval_mine"] == 1.0 and "features" not in subject.group_results
    assert not classification_head(subject.model)._forward_pre_hooks


def test_the_users_metrics_see_class_scores_only(tmp_path):
    """A curve or a top-k fails on features, and the fit would fail with it."""
    shapes = []

    def metrics(prediction):
        shapes.append(prediction.predictions.shape)
        return {}

    subject = subject_for(tmp_path, compute_metrics=metrics)
    collect_features(subject, subject.eval_dataset)
    subject.evaluate()
    assert set(shapes) == {(41, 2)}


def test_the_users_hooks_are_restored_after_an_error(tmp_path):
    def preprocess(logits, labels):
        return logits

    class Broken(Dataset):
        column_names = ("label", "place", "inputs")

        def __init__(self, data):
            self.data = data

        def __len__(self):
            return len(self.data)

        def __getitem__(self, key):
            if isinstance(key, str):
                return self.data[key]
            if key == 20:
                raise OSError("row 20 cannot be read")
            return self.data[int(key)]

    subject = subject_for(tmp_path, preprocess_logits_for_metrics=preprocess)
    before, logits_before = subject.preprocess_logits_for_metrics, subject.predict(subject.eval_dataset).predictions
    with pytest.raises(OSError, match="row 20"):
        refit_last_layer(subject, Broken(table(HELD_OUT, seed=4)))
    assert subject.preprocess_logits_for_metrics == before
    assert not classification_head(subject.model)._forward_pre_hooks
    assert np.array_equal(subject.predict(subject.eval_dataset).predictions, logits_before)


# ---- balanced subsets ---------------------------------------------------------------------------------------------


def index_of(counts, seed=0):
    data = table(counts, seed)
    return GroupIndex.from_dataset(data, attribute_column="place")


def test_subsets_have_as_many_rows_of_each_group_as_the_smallest_has():
    groups, rng = index_of([[30, 5], [9, 12]]), np.random.default_rng(0)
    seen = []
    for _ in range(20):
        rows = balanced_rows(groups, rng, np.arange(len(groups)))
        assert len(set(rows.tolist())) == len(rows) == 20  # without repetition
        assert np.bincount(groups.codes[rows], minlength=4).tolist() == [5, 5, 5, 5]
        seen.append(frozenset(rows.tolist()))
    assert len(set(seen)) == 20
    assert len(set.union(*map(set, seen))) > 50  # of 56: large groups are not cut to the same rows


def test_subsets_stay_within_the_rows_given_and_leave_empty_groups_out():
    groups, rng = index_of([[30, 0], [9, 12]]), np.random.default_rng(0)
    given = np.concatenate([groups.rows(0, "0")[:8], groups.rows(1, "0")[:6], groups.rows(1, "1")[:7]])
    rows = balanced_rows(groups, rng, given)
    assert set(rows.tolist()) <= set(given.tolist())
    assert np.bincount(groups.codes[rows], minlength=4).tolist() == [6, 0, 6, 6]


def test_halves_split_each_group():
    groups = index_of([[30, 5], [1, 12]])
    first, second = _halves(groups, np.random.default_rng(0))
    assert np.bincount(groups.codes[first], minlength=4).tolist() == [15, 3, 1, 6]
    assert np.bincount(groups.codes[second], minlength=4).tolist() == [15, 2, 1, 6]
    assert set(first.tolist()) & set(second.tolist()) == set(groups.rows(1, "0").tolist())
    assert set(first.tolist()) | set(second.tolist()) == set(range(48))


def test_the_fit_is_the_mean_of_logistic_regressions_on_balanced_subsets():
    """With equal groups every subset is all rows, so one regression on scaled features must come out."""
    from sklearn.linear_model import LogisticRegression

    groups, rng = index_of([[25, 25], [25, 25], [25, 25]]), np.random.default_rng(3)
    labels = groups.codes // 2
    features = (rng.normal(size=(150, 4)) + 1.5 * np.eye(3, 4)[labels]) * [1, 10, 0.1, 3] + [5, 0, 0, -2]
    features = features.astype(np.float32)
    weight, bias, penalty = fit_last_layer(features, groups, seed=0)
    assert penalty in INVERSE_PENALTIES and weight.shape == (3, 4) and bias.shape == (3,)
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    reference = LogisticRegression(C=penalty, max_iter=1000).fit(scaled, labels)
    assert np.abs(features @ weight.T + bias - reference.decision_function(scaled)).max() < 1e-2


def test_two_classes_give_the_log_odds():
    from sklearn.linear_model import LogisticRegression

    groups, rng = index_of([[25, 25], [25, 25]]), np.random.default_rng(3)
    labels = groups.codes // 2
    features = (rng.normal(size=(100, 4)) + labels[:, None]).astype(np.float32)
    weight, bias, penalty = fit_last_layer(features, groups)
    logits = features @ weight.T + bias
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    reference = LogisticRegression(C=penalty, max_iter=1000).fit(scaled, labels)
    assert np.abs(logits[:, 1] - logits[:, 0] - reference.decision_function(scaled)).max() < 1e-2


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
    features = by_hand("mlp", subject.model, subject.eval_dataset).numpy()
    refit_last_layer(subject, seed=3)
    weight, bias, _ = fit_last_layer(features, groups, seed=3)
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


def test_it_reads_the_held_out_rows_once_and_no_training_rows(tmp_path):
    train, held_out = Watched(table([[20, 10], [10, 20]])), Watched(table(HELD_OUT, seed=4))
    subject = trainer(tmp_path, mlp(), train, eval_dataset=held_out, plan="erm")
    refit_last_layer(subject)
    assert held_out.fetched == list(range(41)) and not train.fetched
    other = Watched(table([[12, 12], [12, 12]], seed=6))
    refit_last_layer(subject, other)
    assert other.fetched == list(range(48)) and len(held_out.fetched) == 41


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
