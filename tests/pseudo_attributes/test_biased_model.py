"""The biased model f~: how it is trained and selected, and that its scores are those of the model it keeps."""

import numpy as np
import pytest
import torch
from biased_fits import EPOCHS, HELD_OUT, Spy, by_hand, fit, saved_model
from helpers import (
    EVEN,
    assert_same,
    bert,
    config,
    decode_images,
    images,
    mlp,
    resnet,
    sentences,
    table,
    trainer,
    weights,
)
from transformers.data import default_data_collator

from gerne_hf import GerneTrainer, PseudoAttributes

pytestmark = pytest.mark.usefixtures("without_pictures")

UNBALANCED = [[60, 12], [6, 6]]


# ---- how f~ is trained --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings, rate, decay",
    [
        (dict(), 0.02, 0.06),
        (dict(biased_learning_rate=0.5), 0.5, 0.06),
        (dict(biased_weight_decay=0.0), 0.02, 0.0),
        (dict(biased_learning_rate=0.007, biased_weight_decay=0.4), 0.007, 0.4),
    ],
)
@pytest.mark.parametrize("given", [False, True])
def test_rate_and_weight_decay(tmp_path, settings, rate, decay, given):
    """Of the optimizer itself, for the config's optimizer and for one given as class and arguments."""
    spies = {"main": Spy(), "biased": Spy()}
    settings = dict(optim="adamw_torch", learning_rate=0.2, weight_decay=0.03, **settings)
    chosen = (torch.optim.AdamW, {"lr": 0.2, "betas": (0.7, 0.8)}) if given else None
    GerneTrainer(
        model=mlp(),
        args=config(tmp_path, **settings),
        train_dataset=table(),
        callbacks=[spies["main"]],
        optimizer_cls_and_kwargs=chosen,
    ).train()
    fit(tmp_path, optimizer_cls_and_kwargs=chosen, callbacks=[spies["biased"]], **settings)
    assert (spies["main"].rate, spies["main"].decay) == (0.2, 0.03)
    assert (spies["biased"].rate, spies["biased"].decay) == pytest.approx((rate, decay))
    for spy in spies.values():
        assert all(group["betas"] == ((0.7, 0.8) if given else (0.9, 0.999)) for group in spy.optimizer.param_groups)


@pytest.mark.parametrize("own", [0.03, 0.0])
def test_weight_decay_is_twice_that_of_the_main_run_whoever_sets_it(tmp_path, own):
    """Transformers gives the parameters the config's decay, whatever the optimizer's own arguments say."""
    main, biased = Spy(), Spy()
    chosen = torch.optim.AdamW, {"lr": 0.2, "weight_decay": own}
    args = config(tmp_path, weight_decay=0.01)
    arguments = dict(args=args, train_dataset=table(), optimizer_cls_and_kwargs=chosen)
    GerneTrainer(model=mlp(), callbacks=[main], **arguments).train()
    PseudoAttributes.fit(model=mlp(), callbacks=[biased], **arguments)
    assert (biased.rate, biased.decay) == pytest.approx((0.1 * main.rate, 2 * main.decay))


def test_batches_are_class_balanced_and_unweighted(tmp_path):
    spy, seen, model = Spy(), [], mlp()

    def look(module, args, kwargs):
        if module.training:
            seen.append(kwargs["labels"].clone() if "labels" in kwargs else None)

    model.register_forward_pre_hook(look, with_kwargs=True)
    main = config(tmp_path, plan="shared", beta_schedule="linear", class_balanced=False, max_steps=1)
    PseudoAttributes.fit(
        args=main, train_dataset=table(UNBALANCED), model=model, callbacks=[spy], compute_loss_func=None
    )
    assert (spy.args.plan, spy.args.beta_schedule, spy.args.class_balanced) == ("erm", "constant", True)
    assert [labels.bincount().tolist() for labels in seen] == [[4, 4]]
    assert (main.plan, main.attribute_column, main.learning_rate) == ("shared", "place", 0.1)  # untouched


def test_biased_epochs(tmp_path):
    spy = Spy()
    fit(tmp_path, max_steps=2, biased_epochs=2, callbacks=[spy])
    assert spy.steps == 22


@pytest.mark.parametrize("strategy", [dict(), dict(eval_strategy="steps", eval_steps=3)])
def test_the_best_by_class_balanced_accuracy_is_kept(tmp_path, strategy):
    spy = Spy()
    settings = {**EPOCHS, "learning_rate": 12.0, "num_train_epochs": 5, **strategy}
    held_out = table(HELD_OUT, seed=4)
    pseudo = fit(tmp_path, mlp(), eval_dataset=held_out, callbacks=[spy], metric_for_best_model="accuracy", **settings)
    evaluations = spy.evaluations[: 18 if strategy else 5]
    figures = [metrics["eval_class_balanced_accuracy"] for metrics, _ in evaluations]
    best = int(np.argmax(figures))
    assert figures[best] > figures[-1]  # the last one would be another
    assert pseudo.record["class_balanced_accuracy"] == figures[best]
    assert_same(weights(saved_model(pseudo)), evaluations[best][1])


# ---- the scores ---------------------------------------------------------------------------------------------------


def named(rows):
    """A collator for labels that are names."""
    ids = {"cat": 0, "dog": 1, "eel": 2}
    return default_data_collator([{"inputs": row["inputs"], "label": ids[row["label"]]} for row in rows])


def with_names(counts=((20, 5), (3, 17), (9, 9))):
    data = table(counts)
    names = [["cat", "dog", "eel"][label] for label in data["label"]]
    return data.remove_columns("label").add_column("label", names)


def halved(rows):
    return {**rows, "inputs": [torch.tensor(values) / 2 for values in rows["inputs"]]}


SETS = {
    "plain": lambda: (mlp(dropout=0.3), table(), {}),
    "torch": lambda: (mlp(), table().with_format("torch"), {}),
    "shuffled": lambda: (mlp(), table().shuffle(seed=1), {}),
    "transform": lambda: (mlp(), table().with_transform(halved), {"remove_unused_columns": False}),
    "names": lambda: (mlp(num_labels=3), with_names(), {"data_collator": named, "remove_unused_columns": False}),
    "text": lambda: (bert(dropout=0.1), sentences(), {}),
}


@pytest.mark.parametrize("kind", SETS)
def test_scores_are_those_of_the_saved_model(tmp_path, kind):
    model, data, settings = SETS[kind]()
    if kind == "transform":
        data = data.remove_columns(["place", "row"])
    pseudo = fit(tmp_path, model, data, **settings, biased_learning_rate=1.0, max_steps=6)
    key = "input_ids" if kind == "text" else "inputs"
    labels = data.with_format(None)["label"][:]
    labels = [sorted(set(labels)).index(label) for label in labels]
    scores, predictions = by_hand(saved_model(pseudo, type(model)), key, [row[key] for row in data], labels)
    assert pseudo.scores.dtype == np.float32 and np.abs(pseudo.scores - scores).max() < 1e-6
    assert scores.max() - scores.min() > 0.1
    assert pseudo.predictions.tolist() == predictions.tolist() and pseudo.labels.tolist() == labels
    assert pseudo.errors().codes.tolist() == [2 * y + (y == p) for y, p in zip(labels, predictions, strict=True)]
    assert pseudo.label(0.2).column_names[-1] == "pseudo_attribute"


def test_the_attribute_does_not_reach_the_forward(tmp_path):
    """A transform's rows hold it, and the model refuses what it does not know: f~ drops it, as the main run does."""
    data, held_out = (table(seed=seed).remove_columns("row").with_transform(halved) for seed in (0, 4))
    settings = dict(pseudo_attributes=True, threshold=0.2, remove_unused_columns=False)
    trainer(tmp_path / "known", train=data, eval_dataset=held_out, remove_unused_columns=False).train()
    subject = trainer(tmp_path / "unknown", train=data, eval_dataset=held_out, **settings)
    subject.train()
    assert "eval_worst_group_accuracy" in subject.evaluate()


def test_scores_of_pictures_under_a_model_with_batch_norm(tmp_path):
    data, held_out = images().with_transform(decode_images), images(EVEN, seed=2).with_transform(decode_images)
    settings = dict(pseudo_attributes=True, threshold=0.2, remove_unused_columns=False)
    subject = trainer(tmp_path, resnet(), data, eval_dataset=held_out, **settings)
    subject.train()
    model, labels = saved_model(subject.pseudo, type(subject.model)), data.with_format(None)["label"][:]
    scores, _ = by_hand(model, "pixel_values", [row["pixel_values"] for row in data], labels)
    assert np.abs(subject.pseudo.scores - scores).max() < 1e-5
