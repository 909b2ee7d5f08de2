"""The run without settings: what it infers, shows, warns of, selects on, and never does worse; and what is refused."""

import json

import numpy as np
import pytest
import torch
from biased_fits import Spy
from helpers import EVEN, assert_same, bert, mlp, sentences, table, trainer, watch_batches, weights

from gerne_hf import GerneConfig

pytestmark = pytest.mark.usefixtures("without_pictures")

TRAIN, VALIDATION = [[190, 10], [10, 190]], [[50, 50], [50, 50]]
AUTO = dict(pseudo_attributes=True, attribute_column=None)
LEARNS = dict(
    optim="adamw_torch", learning_rate=0.03, num_train_epochs=3, max_steps=-1, per_device_train_batch_size=32
)


def no_place(data):
    return data.remove_columns("place")


def biased(counts, seed=0):
    """Rows in which the attribute is far easier to see than the label."""
    data = table(counts, seed)
    places = np.array(data["place"])
    values = np.array(data["inputs"]) + np.outer(6 * places - 3, np.eye(6)[1])
    return data.remove_columns("inputs").add_column("inputs", values.tolist())


def default(folder, train=None, held_out=None, **settings):
    """`pseudo_attributes=True` alone, on biased rows."""
    train = biased(TRAIN) if train is None else train
    held_out = biased(VALIDATION, seed=7) if held_out is None else held_out
    subject = settings.pop("model", None) or mlp(hidden=16)
    return trainer(folder, subject, train, eval_dataset=held_out, **{**AUTO, **LEARNS, **settings})


def precision(subject):
    """Share of minority rows among the hard ones, by the planted attribute."""
    data = subject.train_dataset
    minority = np.array(data["place"]) != np.array(data["label"])
    return (subject.inferred.hard & minority).sum() / max(subject.inferred.hard.sum(), 1)


# ---- without settings ---------------------------------------------------------------------------------------------


def test_no_setting_is_needed():
    config = GerneConfig("out", pseudo_attributes=True)
    assert (config.settled_rule, config.folds_of_biased_model) == ("validation_shift", 2)
    assert (config.c * (config.beta + 1), config.threshold) == (1, None)
    with_column = GerneConfig("out", pseudo_attributes=True, attribute_column="place")
    assert (with_column.settled_rule, with_column.folds_of_biased_model) == ("validation_attributes", 2)
    papers = GerneConfig("out", pseudo_attributes=True, threshold=0.1, attribute_column="place")
    assert (papers.settled_rule, papers.folds_of_biased_model) == ("threshold", 1)
    assert GerneConfig("out", pseudo_attributes=True, biased_model="f").folds_of_biased_model == 1
    assert GerneConfig("out").folds_of_biased_model == 1


def test_the_minority_is_found_shown_and_drawn_more_often(tmp_path, capsys):
    subject = default(tmp_path, eval_strategy="epoch")
    batches = watch_batches(subject)
    subject.train()
    assert subject.inferred.rule == "validation_shift" and not subject.inferred.whole
    assert precision(subject) > 0.8 and subject.inferred.hard.sum() >= 14
    printed = capsys.readouterr().out
    assert "Groups inferred by the rule 'validation_shift'" in printed and "% of training mass" in printed
    assert "of its validation rows and" in printed and "Nothing to fix" not in printed
    assert printed.index("Groups inferred by the rule") < printed.index("Groups of the evaluation set")
    # A row of the minority is one of 20, and is drawn more than twice as often.
    rows = np.concatenate([batch["row"].numpy() for batch in batches])
    assert subject.inferred.hard[rows].mean() > 0.15 > 2.5 * subject.inferred.hard.mean()
    mass = subject.training_mass()
    assert mass.sum() == pytest.approx(1) and np.allclose(mass / mass.sum(1, keepdims=True), subject.inferred.target)
    record = json.loads((tmp_path / "group_metrics.json").read_text())["pseudo_attributes"]
    assert record["rule"] == "validation_shift" and record["folds"] == 2 and record["threshold"] is None
    assert [split["hard"] for split in record["classes"]] == [split.hard for split in subject.inferred.classes]
    assert np.allclose(record["shares_of_training_mass"], subject.inferred.target)


def test_attributes_in_validation_alone(tmp_path, capsys):
    """Training rows lack the column; that it is used is said."""
    settings = dict(attribute_column="place")
    subject = default(tmp_path, no_place(biased(TRAIN)), **settings)
    assert "inferred by the rule 'validation_attributes': the evaluation set has the attribute (0, 1)" in (
        capsys.readouterr().out
    )
    subject.train()
    places = np.array(biased(TRAIN)["place"])
    found = subject.inferred.index.codes % 2
    assert (found == places).mean() > 0.97 and np.allclose(subject.inferred.target, 0.5)
    assert subject.groups.attribute_names == ("0", "1")
    assert "minority rows" in capsys.readouterr().out
    assert "eval_worst_group_accuracy" in subject.evaluate()
    assert subject.found_minority() is None  # nobody knows
    known = default(tmp_path, **settings)
    known.train()
    assert known.found_minority()["precision"] > 0.9
    assert np.array_equal(known.inferred.hard, subject.inferred.hard)


def test_a_clean_set_is_trained_on_as_by_class_balanced_erm(tmp_path, capsys):
    """Nothing is split, so that the plan's batches have the distribution of class-balanced ERM."""
    subject = default(tmp_path, biased([[100, 100], [60, 140]]), biased([[50, 50], [30, 70]], seed=7))
    subject.train()
    assert subject.inferred.whole and not subject.inferred.hard.any()
    printed = capsys.readouterr().out
    assert "Nothing to fix was found: no class was split, so training is class-balanced ERM." in printed
    assert np.allclose(subject.training_mass(), [[0, 0.5], [0, 0.5]])


@pytest.mark.parametrize("seed", range(2))
def test_a_clean_set_of_texts_loses_nothing_against_class_balanced_erm(tmp_path, seed, capsys):
    """At most a point of class-balanced accuracy on other rows; or it is said that nothing was found."""
    data, held_out = sentences(VALIDATION, seed), sentences(EVEN, seed + 10)
    test = sentences(VALIDATION, seed + 20)
    settings = dict(
        optim="adamw_torch", learning_rate=0.01, max_steps=40, per_device_train_batch_size=32, attribute_column=None
    )
    found = {}
    for name, chosen in (("erm", dict(plan="erm")), ("default", dict(pseudo_attributes=True))):
        subject = trainer(tmp_path / name, bert(), data, eval_dataset=held_out, **settings, **chosen)
        subject.train()
        metrics = subject.predict(test, metric_key_prefix="test").metrics
        found[name] = metrics["test_class_balanced_accuracy"]
    assert found["erm"] > 0.9
    assert found["default"] >= found["erm"] - 0.01
    assert ("Nothing to fix was found" in capsys.readouterr().out) == subject.inferred.whole


def test_a_minority_that_is_found_helps(tmp_path):
    """Worst group of rows that nobody selected on: better than class-balanced ERM, and no worse on average."""
    test = biased(VALIDATION, seed=21)
    found = {}
    for name, chosen in (("erm", dict(plan="erm", pseudo_attributes=False)), ("default", {})):
        subject = default(tmp_path / name, **chosen)
        subject.train()
        output = subject.predict(test).predictions.argmax(-1)
        labels, places = np.array(test["label"]), np.array(test["place"])
        groups = [(output == labels)[(labels == y) & (places == a)].mean() for y in (0, 1) for a in (0, 1)]
        found[name] = min(groups), np.mean(groups)
    assert found["default"][0] > found["erm"][0] + 0.05 and found["default"][1] > found["erm"][1] - 0.02


# ---- the guard ----------------------------------------------------------------------------------------------------


def test_warnings_before_training_are_logged_and_recorded(tmp_path, caplog):
    with caplog.at_level("WARNING"):
        subject = default(tmp_path, pseudo_rule="threshold", threshold=0.05, max_steps=2)
        subject.train()
        subject.train()
    assert caplog.text.count("10 rows of class class0, hard, get 50 % of the class's training mass") == 1  # not twice
    record = json.loads((tmp_path / "group_metrics.json").read_text())["pseudo_attributes"]
    assert any("10 rows of class class0, hard" in warning for warning in record["warnings"])


def test_without_an_evaluation_set_mistakes_are_warned_of(tmp_path, caplog):
    subject = trainer(tmp_path, mlp(), biased(TRAIN), **AUTO, **LEARNS, pseudo_rule="confident_mistakes")
    with caplog.at_level("WARNING"):
        subject.train()
    assert "There is no validation set, so nothing shows" in caplog.text
    assert subject.pseudo.evaluation is None


def test_a_model_that_is_worse_than_class_balanced_erm_is_warned_of_after_training(tmp_path, caplog):
    """The main run goes astray: its rate is a thousand times that of the biased models."""
    settings = dict(biased_learning_rate=0.03, optim="sgd", learning_rate=500.0, eval_strategy="epoch")
    subject = default(tmp_path, table(TRAIN), table(VALIDATION, seed=7), **settings)
    with caplog.at_level("WARNING"):
        subject.train()
    reference = subject.pseudo.record["class_balanced_accuracy"]
    assert subject.evaluate()["eval_class_balanced_accuracy"] < reference - 0.02
    assert f"is below that of the biased models, {100 * reference:.1f} %" in caplog.text
    assert "is below that of the biased models" in subject.run_record().pseudo_attributes["warnings"][-1]


def test_a_model_that_nobody_judged_is_warned_of_after_training(tmp_path, caplog):
    subject = default(tmp_path, table(TRAIN), table(VALIDATION, seed=7), eval_strategy="no")
    with caplog.at_level("WARNING"):
        subject.train()
    said = "nothing tells whether the groups that were inferred help or make it worse than class-balanced ERM"
    assert subject.inferred.hard.any() and said in caplog.text
    assert said in subject.run_record().pseudo_attributes["warnings"][-1]


def test_a_beta_beyond_the_bounds_is_warned_of(tmp_path, caplog):
    """App. C proves the bounds for known attributes; there the same beta is refused."""
    settings = dict(c=1.0, beta=5.0, max_steps=2, plan="shared", pseudo_rule="threshold", threshold=0.2)
    with caplog.at_level("WARNING"):
        default(tmp_path, **settings).train()
    assert "beta" in caplog.text and "bounds" in caplog.text
    with pytest.raises(ValueError, match="beta"):
        trainer(tmp_path, c=1.0, beta=5.0, plan="shared")


# ---- the gate -----------------------------------------------------------------------------------------------------


def by_hand(subject, held_out, predictions):
    """The gated accuracy from predictions, by counting."""
    labels, hard = np.array(held_out["label"]), subject.inferred.evaluation.codes % 2
    right = predictions == labels
    groups = [right[(labels == y) & (hard == a)] for y in (0, 1) for a in (0, 1)]
    worst = min(group.mean() for group in groups if len(group))
    balanced = np.mean([right[labels == y].mean() for y in (0, 1)])
    reference = subject.pseudo.record["class_balanced_accuracy"]
    return worst if balanced >= reference - 0.02 else balanced - 1


def test_models_are_selected_on_the_gated_accuracy(tmp_path):
    settings = dict(load_best_model_at_end=True, eval_strategy="steps", eval_steps=4, save_strategy="steps")
    settings |= dict(learning_rate=0.003, biased_learning_rate=0.03, num_train_epochs=8)
    held_out = no_place(table(VALIDATION, seed=7))
    spy, model = Spy(), mlp(hidden=16)
    with torch.no_grad():
        model.second.bias += torch.tensor([4.0, 0.0])  # all rows are of class 0 in the beginning
    subject = default(tmp_path, table(TRAIN), held_out, model=model, callbacks=[spy], save_steps=4, **settings)
    assert subject.args.metric_for_best_model == "gated_accuracy"
    subject.train()
    model, inputs = mlp(hidden=16), torch.tensor(held_out["inputs"][:])
    figures = []
    for metrics, state in spy.evaluations:
        model.load_state_dict(state)
        with torch.no_grad():
            expected = by_hand(subject, held_out, model(inputs).logits.argmax(-1).numpy())
        assert metrics["eval_gated_accuracy"] == pytest.approx(expected)
        figures.append(metrics["eval_gated_accuracy"])
    assert min(figures) < 0 < max(figures)  # both sides of the gate were seen
    assert_same(weights(subject.model), spy.evaluations[int(np.argmax(figures))][1])
    assert subject.state.best_metric == max(figures)


def test_several_evaluation_sets_are_gated_by_the_first(tmp_path):
    held_out = {"near": no_place(biased(VALIDATION, seed=7)), "far": no_place(biased(EVEN, seed=8))}
    subject = default(
        tmp_path, held_out=held_out, load_best_model_at_end=True, eval_strategy="epoch", save_strategy="epoch"
    )
    assert subject.args.metric_for_best_model == "near_gated_accuracy"
    subject.train()
    found = subject.evaluate()
    assert "eval_near_gated_accuracy" in found and "eval_far_gated_accuracy" not in found
    assert subject.evaluate(held_out["far"], metric_key_prefix="far").keys() & {"far_gated_accuracy"} == set()


@pytest.mark.parametrize(
    "settings, lacks",
    [
        (dict(pseudo_attributes=False), "pseudo_attributes is not set"),
        (dict(attribute_column="place"), "the evaluation set has attributes"),
    ],
)
def test_the_gated_accuracy_of_known_groups_is_refused(tmp_path, settings, lacks):
    """It would not be among the metrics, and the run would end after its first evaluation."""
    settings = {"plan": "erm" if "pseudo_attributes" in settings else "independent", **settings}
    with pytest.raises(ValueError, match=f"metric_for_best_model='gated_accuracy' is for inferred groups.*{lacks}"):
        default(tmp_path, metric_for_best_model="gated_accuracy", **settings)


def test_worst_class_accuracy_stays_available(tmp_path):
    settings = dict(load_best_model_at_end=True, eval_strategy="epoch", save_strategy="epoch")
    subject = default(
        tmp_path,
        held_out=no_place(biased(VALIDATION, seed=7)),
        metric_for_best_model="worst_class_accuracy",
        **settings,
    )
    subject.train()
    entries = [entry for entry in subject.state.log_history if "eval_worst_class_accuracy" in entry]
    assert subject.state.best_metric == max(entry["eval_worst_class_accuracy"] for entry in entries)


def test_another_evaluation_set_is_not_judged_by_the_groups_of_the_first(tmp_path):
    """Put in place of the first, with rows of other numbers: groups are inferred anew."""
    subject = default(tmp_path, max_steps=4)
    subject.train()
    first = subject.pseudo
    subject.eval_dataset = biased([[30, 30], [30, 30]], seed=9)
    assert "eval_gated_accuracy" not in subject.evaluate()
    subject.train()
    assert subject.pseudo is not first and len(subject.pseudo.evaluation.labels) == 120
    assert "eval_gated_accuracy" in subject.evaluate()


def test_another_training_set_is_scored_anew(tmp_path):
    subject = default(tmp_path, max_steps=4)
    subject.train()
    subject.train_dataset = biased([[95, 5], [5, 95]], seed=4)
    subject.train()
    assert len(subject.pseudo.scores) == 200 == len(subject.groups)


# ---- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("counts, name", [([[40, 2], [40, 2]], "1"), ([[2, 30], [2, 30]], "0")])
def test_validation_attributes_with_few_rows_of_a_value_are_refused_before_any_training(tmp_path, counts, name):
    with pytest.raises(ValueError, match=f"attribute value '{name}' has 4 validation rows, and 5 are needed"):
        default(tmp_path, held_out=biased(counts, seed=7), attribute_column="place")
    assert not (tmp_path / "pseudo_attributes").exists()


def test_one_attribute_value_is_refused_before_any_training(tmp_path):
    with pytest.raises(ValueError, match="at least two attribute values; found '0'"):
        default(tmp_path, held_out=biased([[40, 0], [40, 0]], seed=7), attribute_column="place")


def test_a_ready_optimizer_is_refused_before_any_training(tmp_path):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    with pytest.raises(ValueError, match="needs an optimizer of its own"):
        default(tmp_path, model=model, optimizers=(optimizer, schedule))
    assert not (tmp_path / "pseudo_attributes").exists()


def test_another_rule_is_another_run(tmp_path):
    """A checkpoint of one rule is not gone on from with another, unless that is asked for."""
    settings = dict(max_steps=4, save_strategy="steps", save_steps=2)
    default(tmp_path, **settings).train()
    checkpoint = str(tmp_path / "checkpoint-2")
    with pytest.raises(ValueError, match="pseudo_rule"):
        default(tmp_path, pseudo_rule="mistakes", **settings).train(resume_from_checkpoint=checkpoint)
    allowed = default(tmp_path, pseudo_rule="mistakes", resume_with_changes=["pseudo_rule", "data"], **settings)
    allowed.train(resume_from_checkpoint=checkpoint)
    assert allowed.state.global_step == 4


def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path):
    settings = dict(save_strategy="steps", save_steps=5, max_steps=15)
    whole = default(tmp_path, model=mlp(dropout=0.3, hidden=16), **settings)
    whole.train()
    resumed = default(tmp_path, model=mlp(seed=4, dropout=0.3, hidden=16), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-10"))
    assert np.array_equal(resumed.groups.codes, whole.groups.codes)
    assert_same(weights(resumed.model), weights(whole.model))
