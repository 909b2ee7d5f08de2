"""Scores out of fold: who scores which row, what is refused, what is kept, and fits that were interrupted."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from biased_fits import HELD_OUT, Spy, fit, no_forward
from helpers import MLP, Rows, bert, mlp, sentences, table, trainer
from hypothesis import given
from hypothesis import strategies as st
from pseudo_scores import scored

from gerne_hf import PseudoAttributes
from gerne_hf.groups.sources import RowsOf
from gerne_hf.pseudo_attributes.folds import fold_numbers

pytestmark = pytest.mark.usefixtures("without_pictures")

FOLDED = dict(pseudo_attributes=True, attribute_column=None, pseudo_rule="mistakes", optim="adamw_torch")
FOLDED |= dict(learning_rate=0.02, num_train_epochs=2, max_steps=-1, save_strategy="steps", save_steps=2)


def folded(folder, **settings):
    """A fit in two folds, 88 rows: 44 of a fold, 6 steps an epoch."""
    return fit(folder, eval_dataset=table(HELD_OUT, seed=4), **{**FOLDED, **settings})


# ---- which rows are in which fold ---------------------------------------------------------------------------------


@given(st.lists(st.integers(2, 60), min_size=1, max_size=5), st.integers(1, 6), st.integers(0, 5))
def test_folds_are_of_equal_size_in_each_class(sizes, folds, seed):
    sizes = [max(size, 2 * folds) for size in sizes]
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    names = tuple(map(str, range(len(sizes))))
    numbers = fold_numbers(labels, names, folds, seed)
    assert numbers.shape == labels.shape and np.array_equal(numbers, fold_numbers(labels, names, folds, seed))
    for label in range(len(sizes)):
        counts = np.bincount(numbers[labels == label], minlength=folds)
        assert len(counts) == folds and counts.max() - counts.min() <= 1 and counts.min() >= 2 - (folds == 1)


def test_another_seed_deals_other_folds():
    labels = np.repeat([0, 1], 30)
    first, second = (fold_numbers(labels, ("a", "b"), 2, seed) for seed in (0, 1))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("folds, rows, most", [(2, 3, 1), (5, 9, 4)])
def test_a_class_smaller_than_the_folds_is_named_before_any_training(tmp_path, folds, rows, most):
    message = f"class class1 has {rows} training rows, too few for biased_folds={folds}.*at most {most}, or leave the"
    with pytest.raises(ValueError, match=message):
        fold_numbers(np.repeat([0, 1], [40, rows]), ("class0", "class1"), folds, 0)
    data = table([[40, 8], [1, rows - 1]])
    for rule in (dict(pseudo_rule="mistakes"), dict(threshold=0.4)):
        settings = dict(pseudo_attributes=True, attribute_column=None, biased_folds=folds, **rule)
        with pytest.raises(ValueError, match=message):
            trainer(tmp_path, train=data, eval_dataset=table(), **settings)
    assert not (tmp_path / "pseudo_attributes").exists()


def test_rows_of_other_data_sets():
    """A data set that is no `datasets.Dataset` is looked at through its row numbers."""
    data, order = Rows(table()), np.array([5, 80, 3])
    part = RowsOf(data, order)
    assert len(part) == 3 and part.column_names == data.column_names
    assert part["row"] == [5, 80, 3] and part[1] == data[80]
    assert part.__getitems__([2, 0]) == [data[3], data[5]]


# ---- what is scored -----------------------------------------------------------------------------------------------


class Watched(Rows):
    """Rows that note which were read since the last look."""

    def __init__(self, dataset):
        super().__init__(dataset)
        self.read = set()

    def __getitem__(self, key):
        if not isinstance(key, str):
            self.read.add(int(key))
        return super().__getitem__(key)


@pytest.mark.parametrize("folds", [2, 3])
def test_no_row_is_scored_by_a_model_that_has_seen_it(tmp_path, folds):
    data, fitted = Watched(table()), []

    class Look(Spy):
        def on_train_begin(self, args, state, control, **kwargs):
            data.read.clear()

        def on_train_end(self, args, state, control, **kwargs):
            fitted.append(set(data.read))

    pseudo = folded(tmp_path, data=data, biased_folds=folds, callbacks=[Look()], save_strategy="no")
    assert len(fitted) == folds
    for number, seen in enumerate(fitted):
        own = set(np.flatnonzero(pseudo.rows.folds == number).tolist())
        assert len(own) in (88 // folds, 88 // folds + 1, 88 // folds + 2) and not seen & own
        assert len(seen) > 0.8 * (88 - len(own))


def by_model(pseudo, number, values):
    """Probabilities and what the head is given, of the model that a fold has saved."""
    model = MLP.from_pretrained(Path(pseudo.directory) / f"fold-{number}" / "model").eval()
    with torch.no_grad():
        hidden = model.first(torch.tensor(values)).tanh()
        return model.second(hidden).softmax(-1).numpy(), hidden.numpy()


def test_scores_and_features_are_those_of_the_saved_models(tmp_path):
    data, held_out = table(), table(HELD_OUT, seed=4)
    pseudo = folded(tmp_path)
    rows, evaluation = pseudo.rows, pseudo.evaluation
    values, labels = np.array(data["inputs"][:], np.float32), np.array(data["label"][:])
    right, balanced = np.zeros(88, dtype=bool), []
    for number in (0, 1):
        own = rows.folds == number
        chances, hidden = by_model(pseudo, number, values)
        assert np.abs(rows.probabilities[own] - chances[own]).max() < 1e-6
        assert np.abs(rows.features[own] - hidden[own]).max() < 1e-3 and rows.features.dtype == np.float16
        assert np.abs(pseudo.scores[own] - chances[own, labels[own]]).max() < 1e-6
        assert np.array_equal(pseudo.predictions[own], chances[own].argmax(1))
        right[own] = chances[own].argmax(1) == labels[own]
        chances, hidden = by_model(pseudo, number, np.array(held_out["inputs"][:], np.float32))
        assert np.abs(evaluation.probabilities[number] - chances).max() < 1e-6
        assert np.abs(evaluation.features[number] - hidden).max() < 1e-3
        hits = chances.argmax(1) == evaluation.labels
        balanced.append(np.mean([hits[evaluation.labels == label].mean() for label in (0, 1)]))
    assert not np.allclose(*evaluation.probabilities)
    assert evaluation.labels.tolist() == held_out["label"][:] and rows.labels.tolist() == labels.tolist()
    record = pseudo.record
    assert record["out_of_fold_accuracy"] == pytest.approx(np.mean([right[labels == k].mean() for k in (0, 1)]))
    assert record["class_balanced_accuracy"] == pytest.approx(np.mean(balanced))
    assert record["folds"] == 2 and 0.5 < record["in_sample_accuracy"] <= 1


def test_a_model_without_a_linear_head_has_no_features(tmp_path):
    class Product(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(8, 2))

        def forward(self, hidden):
            return hidden @ self.weight

    class Headless(MLP):
        def __init__(self, config):
            super().__init__(config)
            self.second = Product()

    torch.manual_seed(0)
    model = Headless(mlp().config)
    pseudo = folded(tmp_path, model=model, max_steps=2, save_strategy="no")
    again = PseudoAttributes.load(pseudo.directory)
    assert pseudo.rows.features is None and pseudo.evaluation.features is None and again.rows.features is None
    assert pseudo.infer("validation_shift").index.counts.sum() == 88


def test_features_of_a_text_model_and_very_large_ones(tmp_path):
    model = bert()
    with torch.no_grad():
        model.bert.pooler.dense.weight *= 3
    settings = {**FOLDED, "max_steps": 2, "save_strategy": "no"}
    pseudo = fit(tmp_path, model, sentences(), eval_dataset=sentences(HELD_OUT, seed=4), **settings)
    assert pseudo.rows.features.shape == (88, 16)

    large = mlp()
    large.first.register_forward_hook(lambda *call: call[2] * 1e9)
    large.dropout.register_forward_hook(lambda *call: call[2] * 1e6)  # after the tanh: beyond what float16 holds
    with torch.no_grad():
        large.second.weight *= 1e-6
    pseudo = folded(tmp_path / "large", model=large, learning_rate=1e-12, max_steps=2, save_strategy="no")
    assert np.isfinite(pseudo.rows.features).all() and np.abs(pseudo.rows.features).max() > 60_000
    pseudo.infer("validation_shift")


def test_without_a_validation_set(tmp_path):
    pseudo = fit(tmp_path, **{**FOLDED, "max_steps": 4})
    assert pseudo.evaluation is None and pseudo.record["class_balanced_accuracy"] is None
    with pytest.raises(ValueError, match="needs scores of a validation set"):
        pseudo.infer("validation_shift")
    assert pseudo.infer("mistakes").rule == "mistakes"


def test_steps_are_fewer_as_rows_are(tmp_path):
    """Each fold's training is as long as its rows are many; in all one run in two folds."""
    spy = Spy()
    folded(tmp_path, max_steps=10, callbacks=[spy], save_strategy="no")
    assert spy.steps == 10
    spy = Spy()
    folded(tmp_path / "epochs", callbacks=[spy], save_strategy="no")
    assert spy.steps == 2 * 2 * 6


def test_settings_are_those_of_the_main_run(tmp_path):
    """Not the tenth of the rate and the twofold decay of the paper's model, which is made to memorize less."""
    spies = [Spy(), Spy()]
    folded(tmp_path, weight_decay=0.03, callbacks=[spies[0]], max_steps=2, save_strategy="no")
    folded(tmp_path, weight_decay=0.03, callbacks=[spies[1]], max_steps=2, save_strategy="no", biased_folds=1)
    assert (spies[0].rate, spies[0].decay) == (0.02, 0.03)
    assert (spies[1].rate, spies[1].decay) == pytest.approx((0.002, 0.06))


def test_other_folds_are_another_fit(tmp_path):
    """Also where rate and decay, which differ with the folds otherwise, are given."""
    given = dict(biased_learning_rate=0.02, biased_weight_decay=0.0, max_steps=2, save_strategy="no")
    found = [folded(tmp_path, **given, biased_folds=folds) for folds in (1, None, 2, 3)]
    directories = [pseudo.directory for pseudo in found]
    assert directories[1] == directories[2] and len(set(directories)) == 3
    assert [pseudo.record["folds"] for pseudo in found] == [1, 2, 2, 3]
    assert [len(np.unique(pseudo.rows.folds)) for pseudo in found] == [1, 2, 2, 3]


# ---- kept and found again -----------------------------------------------------------------------------------------


def test_a_second_rule_costs_no_forward_pass(tmp_path, monkeypatch):
    held_out = table(HELD_OUT, seed=4)
    pseudo = folded(tmp_path, model=mlp())
    no_forward(monkeypatch)
    for rule in ("validation_shift", "confident_mistakes", "mistakes"):
        pseudo.infer(rule)
    pseudo.infer("threshold", threshold={"class0": 0.2, "class1": None})
    places = np.array(held_out["place"][:])
    pseudo.infer("validation_attributes", attributes=places, attribute_names=("0", "1"))
    subject = trainer(tmp_path, mlp(), eval_dataset=held_out, **FOLDED)
    for rule in ("validation_shift", "confident_mistakes", "mistakes"):
        subject.args.pseudo_rule = rule
        subject.get_train_dataloader()
        assert subject.inferred.rule == rule and subject.groups is subject.inferred.index
        assert np.array_equal(subject.groups.codes, pseudo.infer(rule).index.codes)
    again = trainer(tmp_path, mlp(), eval_dataset=held_out, **FOLDED)  # in another process
    again.get_train_dataloader()
    assert again.pseudo.directory == pseudo.directory


def test_save_and_load_keep_rows_and_validation_rows(tmp_path):
    pseudo = folded(tmp_path, max_steps=4)
    again = PseudoAttributes.load(pseudo.directory, table())
    for name in ("probabilities", "labels", "folds", "features"):
        left, right = getattr(pseudo.rows, name), getattr(again.rows, name)
        assert left.dtype == right.dtype and left.tobytes() == right.tobytes(), name
    for name in ("probabilities", "labels", "features"):
        assert getattr(pseudo.evaluation, name).tobytes() == getattr(again.evaluation, name).tobytes(), name
    assert again.record == pseudo.record
    assert "rows.npz" in os.listdir(pseudo.directory)
    with pytest.raises(ValueError, match="belong to another data set"):
        PseudoAttributes.load(pseudo.directory, table(seed=1))


def test_scores_without_the_other_probabilities_serve_the_rules_that_need_no_more():
    """As they come from the Hub."""
    pseudo = scored(table())
    assert pseudo.rows is None
    found = pseudo.infer("threshold", threshold=0.25)
    assert np.array_equal(found.index.codes, pseudo.index(0.25).codes)
    low = pseudo.scores < 0.25
    assert np.array_equal(pseudo.infer("confident_mistakes").hard, low)
    for rule in ("validation_shift", "validation_attributes"):
        with pytest.raises(ValueError, match=f"'{rule}' needs scores of validation rows, and these are scores of"):
            pseudo.infer(rule)


OTHERS = {
    "another training set": dict(data=table(seed=3)),
    "another validation set": dict(eval_dataset=table(HELD_OUT, seed=5)),
    "another model": dict(model=mlp(hidden=5)),
}


@pytest.mark.parametrize("change", OTHERS)
def test_scores_of_another_data_set_or_model_are_not_reused(tmp_path, change):
    settings = {**FOLDED, "max_steps": 2, "eval_dataset": table(HELD_OUT, seed=4), "model": mlp()}
    first = fit(tmp_path, **settings)
    spy = Spy()
    other = fit(tmp_path, **{**settings, "callbacks": [spy], **OTHERS[change]})
    assert other.directory != first.directory and spy.steps > 0


# ---- interrupted --------------------------------------------------------------------------------------------------


class Cut(Spy):
    """Ends the fit in a fold, at a step of it (0: as the fold begins to train)."""

    def __init__(self, fold, step):
        super().__init__()
        self.at, self.fold = step, fold

    def on_train_begin(self, args, state, control, **kwargs):
        self.here = os.path.basename(args.output_dir) == f"fold-{self.fold}"
        if self.here and not self.at:
            raise KeyboardInterrupt

    def on_step_end(self, args, state, control, **kwargs):
        super().on_step_end(args, state, control, **kwargs)
        if self.here and state.global_step == self.at:
            raise KeyboardInterrupt


def parts(pseudo):
    yield from (pseudo.scores, pseudo.predictions, pseudo.rows.probabilities, pseudo.rows.folds, pseudo.rows.features)
    yield from (pseudo.evaluation.probabilities, pseudo.evaluation.labels, pseudo.evaluation.features)


@pytest.mark.parametrize("saves", ["steps", "no"])
@pytest.mark.parametrize("fold, step, left", [(0, 5, 20), (1, 0, 12), (1, 7, 6), (1, 12, 2)])
def test_interrupted_in_any_fold_it_goes_on(tmp_path, fold, step, left, saves):
    """Bit-equal; a fold that was complete is not trained again, and the model's dropout counts too."""
    settings = dict(save_strategy=saves)
    whole = folded(tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        folded(tmp_path / "cut", callbacks=[Cut(fold, step)], **settings)
    torch.manual_seed(5)
    spy = Spy()
    resumed = folded(tmp_path / "cut", callbacks=[spy], **settings)
    assert spy.steps == (left if saves == "steps" else 24 if fold == 0 else 12)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(parts(resumed), parts(whole), strict=True))
    assert resumed.record == whole.record


@pytest.mark.parametrize("lost", ["pseudo_attributes.json", "rows.npz"])
def test_cut_off_as_the_scores_are_written(tmp_path, monkeypatch, lost):
    """All folds are complete: nothing is computed again."""
    pseudo = folded(tmp_path, max_steps=4)
    (Path(pseudo.directory) / lost).unlink()
    (Path(pseudo.directory) / "pseudo_attributes.json").unlink(missing_ok=True)
    monkeypatch.setattr("gerne_hf.pseudo_attributes.biased_model.BiasedFit.run", lambda self: pytest.fail("a run"))
    again = folded(tmp_path, max_steps=4)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(parts(again), parts(pseudo), strict=True))
    assert json.loads((Path(again.directory) / "pseudo_attributes.json").read_text())["folds"] == 2


def test_a_trainer_that_was_interrupted_in_a_fold_ends_as_one_that_was_not(tmp_path):
    settings = dict(eval_dataset=table(HELD_OUT, seed=4), **FOLDED)
    whole = trainer(tmp_path / "whole", mlp(dropout=0.3), **settings)
    whole.train()
    with pytest.raises(KeyboardInterrupt):  # the same fit, by its own call
        fit(tmp_path / "cut", mlp(dropout=0.3), callbacks=[Cut(1, 3)], **settings)
    resumed = trainer(tmp_path / "cut", mlp(dropout=0.3), **settings)
    resumed.train()
    assert np.array_equal(resumed.groups.codes, whole.groups.codes)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_of_several_small_classes_the_smallest_is_named():
    labels = np.repeat([0, 1, 2], [7, 5, 6])
    with pytest.raises(ValueError, match="class b has 5 training rows.*at most 2, or leave the class out"):
        fold_numbers(labels, ("a", "b", "c"), 4, seed=0)
