"""The biased model f~: how it is trained, selected and scored, found again and resumed."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Value
from helpers import (
    EVEN,
    MLP,
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
    watch_batches,
    weights,
)
from transformers import TrainerCallback, set_seed
from transformers.data import default_data_collator

from gerne_hf import GerneTrainer, PseudoAttributes

pytestmark = pytest.mark.usefixtures("without_pictures")

UNBALANCED = [[60, 12], [6, 6]]
HELD_OUT = [[9, 30], [4, 3]]
UNKNOWN = dict(pseudo_attributes=True, attribute_column=None, threshold=0.2)
EPOCHS = dict(max_steps=-1, num_train_epochs=3, learning_rate=1.0)  # of 11 steps; f~ takes a tenth of the rate


class Spy(TrainerCallback):
    """Keeps what a run was made of; stops it at a step, as Ctrl-C would."""

    def __init__(self, stop_at=None):
        self.stop_at, self.steps, self.evaluations = stop_at, 0, []

    def on_train_begin(self, args, state, control, optimizer=None, **kwargs):
        self.args, self.optimizer = args, optimizer

    def on_step_end(self, args, state, control, **kwargs):
        self.steps += 1
        if state.global_step == self.stop_at:
            raise KeyboardInterrupt

    def on_evaluate(self, args, state, control, metrics=None, model=None, **kwargs):
        self.evaluations.append((metrics, weights(model)))

    @property
    def rate(self):
        (rate,) = {group["lr"] for group in self.optimizer.param_groups}
        return rate

    @property
    def decay(self):
        return max(group["weight_decay"] for group in self.optimizer.param_groups)


def fit(folder, model=None, data=None, **settings):
    """`PseudoAttributes.fit`; its own arguments are taken out of the settings."""
    names = ("eval_dataset", "model_init", "callbacks", "optimizer_cls_and_kwargs", "data_collator")
    arguments = {name: settings.pop(name) for name in names if name in settings}
    model = mlp(dropout=0.3) if model is None and "model_init" not in arguments else model
    data = table() if data is None else data
    return PseudoAttributes.fit(args=config(folder, **settings), train_dataset=data, model=model, **arguments)


def no_forward(monkeypatch):
    """From here on a forward pass fails the test."""
    monkeypatch.setattr(MLP, "forward", lambda *args, **kwargs: pytest.fail("a forward pass"))


def saved_model(pseudo, cls=MLP):
    return cls.from_pretrained(Path(pseudo.directory) / "model").eval()


def by_hand(model, key, values, labels):
    """Softmax probability of the true class, row by row, and the predicted classes."""
    with torch.no_grad():
        logits = torch.cat([model(**{key: torch.as_tensor(value)[None]}).logits for value in values])
    chances = np.exp(logits.double().numpy())
    return (chances / chances.sum(1, keepdims=True))[np.arange(len(labels)), labels], chances.argmax(1)


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


# ---- found again, or not ------------------------------------------------------------------------------------------


def test_a_finished_fit_is_found_again(tmp_path, monkeypatch):
    held_out = table(EVEN, seed=4)
    first = fit(tmp_path, eval_dataset=held_out)
    no_forward(monkeypatch)
    again = fit(tmp_path, eval_dataset=table(EVEN, seed=4))
    assert again.directory == first.directory and again.scores.tobytes() == first.scores.tobytes()
    assert again.label(0.2)["pseudo_attribute"][:] == first.label(0.2)["pseudo_attribute"][:]


def test_a_trainer_finds_the_fit_that_was_made_by_itself(tmp_path, monkeypatch):
    first = fit(tmp_path, mlp(), **EPOCHS)
    no_forward(monkeypatch)
    subject = trainer(tmp_path, **EPOCHS, **UNKNOWN)
    subject.get_train_dataloader()
    assert subject.pseudo.directory == first.directory


def test_another_pretrained_model_is_another_fit(tmp_path):
    """Of the same architecture, from another folder (or Hub id)."""
    found = []
    for seed in (1, 2):
        mlp(seed).save_pretrained(tmp_path / f"pretrained{seed}")
        found.append(fit(tmp_path, MLP.from_pretrained(tmp_path / f"pretrained{seed}")))
    assert found[0].directory != found[1].directory and not np.allclose(found[0].scores, found[1].scores)


def test_another_folder_may_be_given(tmp_path):
    pseudo = fit(tmp_path / "run", pseudo_attributes_dir=str(tmp_path / "shared"))
    assert Path(pseudo.directory).parent == tmp_path / "shared"
    assert Path(fit(tmp_path / "run").directory).parent == tmp_path / "run" / "pseudo_attributes"


SMALL = dict(eval_dataset=table(EVEN, seed=4), optim="adamw_torch", eval_strategy="steps", eval_steps=1)
SMALL |= dict(lr_scheduler_type="cosine")
CHANGES = {
    "learning rate": dict(learning_rate=0.2),
    "biased learning rate": dict(biased_learning_rate=0.3),
    "weight decay": dict(weight_decay=0.1),
    "steps": dict(max_steps=3),
    "epochs": dict(biased_epochs=1),
    "seed": dict(seed=7),
    "batch": dict(per_device_train_batch_size=4),
    "accumulation": dict(gradient_accumulation_steps=2),
    "scheduler": dict(lr_scheduler_type="linear"),
    "scheduler's arguments": dict(lr_scheduler_kwargs={"num_cycles": 2}),
    "optimizer": dict(optim="sgd"),
    "epsilon": dict(adam_epsilon=0.1),
    "optimizer's arguments": dict(optimizer_cls_and_kwargs=(torch.optim.AdamW, {"lr": 0.1, "betas": (0.5, 0.5)})),
    "label smoothing": dict(label_smoothing_factor=0.1),
    "clipping": dict(max_grad_norm=0.01),
    "model": dict(model=mlp(hidden=5)),
    "rows": dict(data=table(seed=3)),
    "contents": dict(data=table().map(lambda row: {"inputs": [2 * value for value in row["inputs"]]})),
    "no evaluation set": dict(eval_dataset=None),
    "another evaluation set": dict(eval_dataset=table(EVEN, seed=9)),
    "evaluations": dict(eval_steps=2),
}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gerne_hf.plots.plot_training", lambda log_history, path: None)
        return folder, fit(folder, **SMALL).directory


@pytest.mark.parametrize("change", CHANGES)
def test_other_settings_and_data_are_another_fit(fitted, change):
    folder, directory = fitted
    assert fit(folder, **{**SMALL, "callbacks": [Spy()]}).directory == directory
    spy = Spy()
    other = fit(folder, **{**SMALL, "callbacks": [spy], **CHANGES[change]})
    assert other.directory != directory and spy.steps > 0


# ---- interrupted --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_at, left, evaluates", [(5, 33, True), (17, 22, False), (17, 22, True), (30, 11, True)])
def test_an_interrupted_fit_is_resumed(tmp_path, stop_at, left, evaluates):
    """Checkpoints are at steps 11, 22 and 33; the model has dropout, so that the random state counts too."""
    settings = {**EPOCHS, "eval_dataset": table(EVEN, seed=4) if evaluates else None, "optim": "adamw_torch"}
    settings["learning_rate"] = 0.1
    whole = fit(tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", callbacks=[Spy(stop_at)], **settings)
    set_seed(1)
    spy = Spy()
    resumed = fit(tmp_path / "cut", callbacks=[spy], **settings)
    assert spy.steps == left
    assert resumed.scores.tobytes() == whole.scores.tobytes() and resumed.record == whole.record
    assert_same(weights(saved_model(resumed)), weights(saved_model(whole)))


@pytest.mark.parametrize("kept", [["config.json", "model.safetensors"], ["config.json"]])
def test_a_fit_killed_while_it_saves_a_checkpoint_is_resumed(tmp_path, kept):
    """`trainer_state.json` is what the Trainer writes last, so a checkpoint without it is none."""
    whole = fit(tmp_path / "whole", **EPOCHS)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", callbacks=[Spy(17)], **EPOCHS)
    directory = tmp_path / "cut" / "pseudo_attributes" / Path(whole.directory).name
    (directory / "checkpoint-22").mkdir()
    for name in kept:
        shutil.copy(directory / "checkpoint-11" / name, directory / "checkpoint-22" / name)
    assert fit(tmp_path / "cut", **EPOCHS).scores.tobytes() == whole.scores.tobytes()


def test_a_fit_is_resumed_where_the_main_run_keeps_models_only(tmp_path):
    settings = {**EPOCHS, "save_only_model": True, "optim": "adamw_torch", "learning_rate": 0.1}
    whole = fit(tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", callbacks=[Spy(17)], **settings)
    assert fit(tmp_path / "cut", **settings).scores.tobytes() == whole.scores.tobytes()


KILLED = """
    import os, signal, sys
    import test_biased_model as t

    class Kill(t.TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 25:
                os.kill(os.getpid(), signal.SIGKILL)

    t.fit(sys.argv[1], callbacks=[Kill()], **t.EPOCHS)
"""


def test_a_killed_fit_is_resumed(tmp_path):
    script = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "cut")]
    here = Path(__file__).parent
    path = {**os.environ, "PYTHONPATH": f"{here}:{here.parent}:{os.environ['PYTHONPATH']}"}
    killed = subprocess.run(
        script, env={**path, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    name = next((tmp_path / "cut" / "pseudo_attributes").iterdir()).name
    with pytest.raises(FileNotFoundError, match="holds no complete fit"):
        PseudoAttributes.load(str(tmp_path / "cut" / "pseudo_attributes" / name))
    spy, whole = Spy(), fit(tmp_path / "whole", **EPOCHS)
    resumed = fit(tmp_path / "cut", callbacks=[spy], **EPOCHS)
    assert spy.steps == 11 and Path(resumed.directory).name == name
    assert resumed.scores.tobytes() == whole.scores.tobytes()


# ---- another model as f~ ------------------------------------------------------------------------------------------


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
