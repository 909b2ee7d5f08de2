"""The run on pseudo-attributes in one go: equal to the two steps, resumed, selected, and what is refused."""

import json

import numpy as np
import pytest
import torch
from biased_fits import EPOCHS, HELD_OUT, UNKNOWN
from helpers import EVEN, Rows, assert_same, config, mlp, table, trainer, watch_batches, weights

from gerne_hf import PseudoAttributes
from gerne_hf.baselines import JTTTrainer

pytestmark = pytest.mark.usefixtures("without_pictures")


@pytest.mark.parametrize("kind", ["datasets", "map-style"])
@pytest.mark.parametrize("how", ["model", "model_init"])
def test_one_go_equals_two_steps(tmp_path, kind, how):
    data = table() if kind == "datasets" else Rows(table())

    def made():
        return dict(model=mlp(dropout=0.3)) if how == "model" else dict(model_init=lambda: mlp(dropout=0.3))

    def trained(folder, train, **settings):
        subject = trainer(tmp_path / folder, train=train, **made(), **{**EPOCHS, "learning_rate": 0.1}, **settings)
        subject.train()
        return subject

    one_go = trained("one", data, **UNKNOWN)
    settings = {**EPOCHS, "learning_rate": 0.1, "attribute_column": None}
    pseudo = PseudoAttributes.fit(args=config(tmp_path / "two", **settings), train_dataset=data, **made())
    assert pseudo.scores.tobytes() == one_go.pseudo.scores.tobytes()
    two_steps = trained("two", pseudo.label(0.2, data), attribute_column="pseudo_attribute")
    assert np.array_equal(one_go.groups.codes, two_steps.groups.codes)
    assert_same(weights(one_go.model), weights(two_steps.model))
    assert any(not torch.equal(a, b) for a, b in zip(made_weights(made()), one_go.model.parameters(), strict=True))


def made_weights(made):
    return (made["model"] if "model" in made else made["model_init"]()).parameters()


def test_a_run_that_finds_its_scores_equals_the_one_that_made_them(tmp_path):
    runs = []
    for _ in range(2):
        runs.append(trainer(tmp_path, mlp(dropout=0.3), **EPOCHS, **UNKNOWN))
        runs[-1].train()
    assert_same(weights(runs[0].model), weights(runs[1].model))


def test_training_rows_without_the_attribute_that_the_evaluation_has(tmp_path):
    settings = dict(pseudo_attributes=True, threshold=0.2, load_best_model_at_end=True, max_steps=6)
    settings |= dict(eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=2)
    train, held_out = table().remove_columns("place"), table(HELD_OUT, seed=4)
    subject = trainer(tmp_path, train=train, eval_dataset=held_out, **settings)
    subject.train()
    assert subject.groups.attribute_names == ("hard", "easy")
    metrics = subject.evaluate()
    assert metrics["eval_group_count/class0|1"] == 30 and "eval_worst_group_accuracy" in metrics
    report = json.loads((tmp_path / "group_metrics.json").read_text())
    assert report["selection"]["metric"] == "worst_group_accuracy" and report["selection"]["best_model_loaded"]
    best = max(entry["eval_worst_group_accuracy"] for entry in subject.state.log_history if "eval_loss" in entry)
    assert metrics["eval_worst_group_accuracy"] == best
    assert report["train_groups"]["attribute_names"] == ["hard", "easy"]


def test_without_attributes_the_gated_accuracy_selects(tmp_path, caplog):
    settings = dict(load_best_model_at_end=True, eval_strategy="steps", eval_steps=2, save_strategy="steps")
    settings |= dict(save_steps=2, max_steps=12, learning_rate=2.0)
    train, held_out = table().remove_columns("place"), table(HELD_OUT, seed=4).remove_columns("place")
    with caplog.at_level("INFO", logger="gerne_hf.training.evaluating_trainer"):
        subject = trainer(tmp_path, train=train, eval_dataset=held_out, **UNKNOWN, **settings)
    assert "Models are selected on gated_accuracy of the evaluation set" in caplog.text
    subject.train()
    entries = [entry for entry in subject.state.log_history if "eval_gated_accuracy" in entry][:6]
    best = max(entries, key=lambda entry: entry["eval_gated_accuracy"])
    report = json.loads((tmp_path / "group_metrics.json").read_text())
    selection = report["selection"]
    collapse = selection.pop("collapse", None)
    assert selection == {"metric": "gated_accuracy", "best_model_loaded": True, "step": best["step"]}
    lowest = min(entry["eval_gated_accuracy"] for entry in entries if entry["step"] >= best["step"])
    assert (collapse is not None) == (best["eval_gated_accuracy"] - lowest > 0.1)
    assert subject.evaluate()["eval_gated_accuracy"] == best["eval_gated_accuracy"]
    found = {
        "threshold": 0.2,
        "biased_model_class_balanced_accuracy": subject.pseudo.record["class_balanced_accuracy"],
        "fingerprint": subject.pseudo.fingerprint,
    }
    assert found.items() <= report["pseudo_attributes"].items() and None not in found.values()
    assert report["train_groups"]["attribute_columns"] == []
    assert report["train_groups"]["counts"] == [[9, 39], [8, 32]]


@pytest.mark.parametrize("metric", ["worst_group_accuracy", "eval_group_balanced_accuracy", "adjusted_accuracy"])
def test_a_group_metric_without_attributes_is_refused(tmp_path, metric):
    settings = dict(eval_dataset=table(EVEN), metric_for_best_model=metric, **UNKNOWN)
    with pytest.raises(ValueError, match=f"'{metric}' needs attributes in the evaluation set.*worst_class_accuracy"):
        trainer(tmp_path, **settings)


@pytest.mark.parametrize("settings", [UNKNOWN, {"cls": JTTTrainer, "plan": "erm"}], ids=["GERNE", "JTT"])
def test_a_ready_optimizer_is_refused_at_construction(tmp_path, settings):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    with pytest.raises(ValueError, match="needs an optimizer of its own.*Pass optimizer_cls_and_kwargs"):
        trainer(tmp_path, model, optimizers=(optimizer, schedule), **settings)
    assert not (tmp_path / "pseudo_attributes").exists()


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(pseudo_attributes=True, pseudo_rule="threshold"), "needs a threshold, the share t of each class"),
        (dict(pseudo_attributes=True), "'validation_attributes' needs an eval_dataset"),
        (dict(pseudo_attributes=True, attribute_column=None), "'validation_shift' needs an eval_dataset"),
        (dict(pseudo_attributes=True, pseudo_rule="nearest"), "pseudo_rule must be one of 'auto', .*found 'nearest'"),
        (
            dict(pseudo_attributes=True, pseudo_rule="mistakes", threshold=0.1),
            "threshold=0.1 is for the rule 'threshold', and pseudo_rule='mistakes'",
        ),
        (
            dict(pseudo_attributes=True, pseudo_rule="validation_attributes", attribute_column=None),
            "learns from the attributes of the evaluation set: name their column",
        ),
        (dict(pseudo_attributes=True, threshold=0.1, biased_folds=0), "biased_folds, .*must be at least 1; found 0"),
        (
            dict(pseudo_attributes=True, threshold=0.1, biased_folds=2, biased_model="folder"),
            "is one model that is trained already, and biased_folds=2 trains several",
        ),
        (dict(pseudo_attributes=True, threshold=0.1, plan="erm"), "plan 'erm' uses no attributes"),
        (dict(attribute_column=None), "or any plan with pseudo_attributes=True"),
    ],
)
def test_settings_that_do_not_fit_together(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, **settings)


@pytest.mark.parametrize("step", [3, 14])
def test_a_resumed_main_run_equals_the_uninterrupted_one(tmp_path, monkeypatch, step):
    settings = dict(save_strategy="steps", save_steps=1, beta_schedule="linear", optim="adamw_torch", **UNKNOWN)
    settings = {**EPOCHS, "num_train_epochs": 2, "learning_rate": 0.05, **settings}
    whole = trainer(tmp_path, mlp(dropout=0.3), **settings)
    whole.train()
    resumed = trainer(tmp_path, mlp(seed=5, dropout=0.3), **settings)
    batches = watch_batches(resumed)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
    assert len(batches) == 22 - step
    assert np.array_equal(resumed.groups.codes, whole.groups.codes)
    assert_same(weights(resumed.model), weights(whole.model))
