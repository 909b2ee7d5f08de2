"""The parts of DFR and of its variant with an L2 penalty: features, halves, balanced subsets, regressions of these."""

import numpy as np
import pytest
import torch
from dfr_subject import HELD_OUT, by_hand, subject_for
from helpers import table
from torch.utils.data import Dataset

from gerne_hf import GroupIndex
from gerne_hf.baselines import refit_last_layer
from gerne_hf.baselines.dfr import balanced_rows, halves, halves_by_group
from gerne_hf.baselines.dfr_l2 import INVERSE_PENALTIES, fit_smooth_layer
from gerne_hf.baselines.features import collect_features
from gerne_hf.models.heads import classification_head

pytestmark = pytest.mark.usefixtures("without_pictures")


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
    first, second = halves_by_group(groups, np.random.default_rng(0))
    assert np.bincount(groups.codes[first], minlength=4).tolist() == [15, 3, 1, 6]
    assert np.bincount(groups.codes[second], minlength=4).tolist() == [15, 2, 1, 6]
    assert set(first.tolist()) & set(second.tolist()) == set(groups.rows(1, "0").tolist())
    assert set(first.tolist()) | set(second.tolist()) == set(range(48))


def test_random_halves_cover_the_rows_once():
    groups = index_of([[30, 25], [21, 22]])
    fitted, judged = halves(groups, np.random.default_rng(0))
    assert (len(fitted), len(judged)) == (49, 49) and sorted([*fitted, *judged]) == list(range(98))
    assert np.bincount(groups.codes[fitted]).tolist() != np.bincount(groups.codes[judged]).tolist()  # not by group


def test_a_half_never_lacks_a_group():
    groups = index_of([[30, 2], [1, 12]])
    for seed in range(10):
        parts = halves(groups, np.random.default_rng(seed))
        assert all(set(groups.codes[half].tolist()) == {0, 1, 2, 3} for half in parts)


def test_the_fit_is_the_mean_of_logistic_regressions_on_balanced_subsets():
    """With equal groups every subset is all rows, so one regression on scaled features must come out."""
    from sklearn.linear_model import LogisticRegression

    groups, rng = index_of([[25, 25], [25, 25], [25, 25]]), np.random.default_rng(3)
    labels = groups.codes // 2
    features = (rng.normal(size=(150, 4)) + 1.5 * np.eye(3, 4)[labels]) * [1, 10, 0.1, 3] + [5, 0, 0, -2]
    features = features.astype(np.float32)
    weight, bias, penalty = fit_smooth_layer(features, groups, seed=0)
    assert penalty in INVERSE_PENALTIES and weight.shape == (3, 4) and bias.shape == (3,)
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    reference = LogisticRegression(C=penalty, max_iter=1000).fit(scaled, labels)
    assert np.abs(features @ weight.T + bias - reference.decision_function(scaled)).max() < 1e-2


def test_two_classes_give_the_log_odds():
    from sklearn.linear_model import LogisticRegression

    groups, rng = index_of([[25, 25], [25, 25]]), np.random.default_rng(3)
    labels = groups.codes // 2
    features = (rng.normal(size=(100, 4)) + labels[:, None]).astype(np.float32)
    weight, bias, penalty = fit_smooth_layer(features, groups)
    logits = features @ weight.T + bias
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    reference = LogisticRegression(C=penalty, max_iter=1000).fit(scaled, labels)
    assert np.abs(logits[:, 1] - logits[:, 0] - reference.decision_function(scaled)).max() < 1e-2
