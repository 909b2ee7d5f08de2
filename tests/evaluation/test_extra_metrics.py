"""Metrics beyond accuracy in evaluations: their figures, selection on them, what is logged, refused and warned of."""

import json

import numpy as np
import pytest
import torch
from captured_logs import logged
from datasets import Dataset
from figures_by_hand import HELD_OUT
from helpers import config, mlp, table, trainer
from transformers import TrainerCallback

from gerne_hf import group_metrics
from gerne_hf.evaluation.logs import loggable, summaries
from gerne_hf.evaluation.metrics import flatten_group_metrics
from gerne_hf.evaluation.score_names import EXTRA_METRICS

pytestmark = pytest.mark.usefixtures("without_pictures")

ALL = list(EXTRA_METRICS)
LARGE = [[12, 20], [15, 10]]
BEST = dict(load_best_model_at_end=True, eval_strategy="steps", save_strategy="steps", eval_steps=1, save_steps=1)


def expected_result(model, data, attributes=None, **names):
    with torch.no_grad():
        probabilities = model(torch.tensor(data["inputs"][:])).logits.double().softmax(-1).numpy()
    places = np.array(data["place"][:]) if attributes is None else attributes
    return group_metrics(probabilities, np.array(data["label"][:]), places, extra_metrics=ALL, **names)


def of_scores(result):
    keys = [key for key in flatten_group_metrics(result) if "group" not in key and "accuracy" not in key]
    return {key: pytest.approx(flatten_group_metrics(result)[key], abs=1e-6) for key in keys}


@pytest.mark.parametrize("settings", [{}, {"batch_eval_metrics": True}, {"eval_do_concat_batches": False}])
def test_evaluations_have_the_figures_of_group_metrics(tmp_path, settings):
    model, data = mlp(2), table(HELD_OUT, seed=5)
    more = dict(compute_metrics=lambda given, compute_result=True: {}) if "batch_eval_metrics" in settings else {}
    subject = trainer(
        tmp_path, model, eval_dataset=data, extra_metrics=ALL, per_device_eval_batch_size=7, **settings, **more
    )
    expected = of_scores(expected_result(model, data))
    assert len(expected) == 2 * 5 + 1 + 2 * 5
    metrics = subject.evaluate()
    assert {key.removeprefix("eval_"): metrics[key] for key in metrics}.items() >= expected.items()
    assert subject.group_results["eval"]["not_defined"] == []
    assert subject.predict(data).metrics["test_worst_auroc"] == expected["worst_auroc"]


def test_without_worst_examples_and_with_rates_alone(tmp_path):
    model, data = mlp(2), table(HELD_OUT, seed=5)
    for names in (["ece"], ["tpr"]):
        subject = trainer(tmp_path, model, eval_dataset=data, extra_metrics=names, worst_examples=0)
        expected = expected_result(model, data)[f"worst_{names[0]}"]
        assert subject.evaluate()[f"eval_worst_{names[0]}"] == pytest.approx(expected, abs=1e-6)


def test_streams_and_overlapping_groups(tmp_path):
    model, data = mlp(2), table(HELD_OUT, seed=5)
    subject = trainer(tmp_path, model, eval_dataset=data.to_iterable_dataset(), extra_metrics=ALL)
    metrics = subject.evaluate()
    expected = of_scores(expected_result(model, data))
    assert {key.removeprefix("eval_"): metrics[key] for key in metrics}.items() >= expected.items()
    flags = np.random.default_rng(3).random((41, 2)) < 0.6
    for name, column in zip("ab", flags.T, strict=True):
        data = data.add_column(name, column.tolist())
    expected = of_scores(expected_result(model, data, flags, attribute_names=["a", "b"]))
    for rows in (data, data.to_iterable_dataset()):
        subject = trainer(tmp_path, model, eval_dataset=rows, extra_metrics=ALL, overlapping_columns=["a", "b"])
        metrics = subject.evaluate()
        assert {key.removeprefix("eval_"): metrics[key] for key in metrics}.items() >= expected.items()


def test_plain_runs_have_none_of_it(tmp_path):
    subject = trainer(tmp_path, mlp(2), eval_dataset=table(HELD_OUT))
    metrics = subject.evaluate()
    assert not any("attribute_" in key or "worst_f1" in key for key in metrics)
    assert "attributes" not in subject.group_results["eval"]


@pytest.mark.parametrize(
    ("metric", "better"),
    [("worst_auroc", max), ("eval_worst_ece", min), ("attribute_f1/1", max)],
)
def test_models_are_selected_on_them(tmp_path, metric, better):
    settings = dict(BEST, metric_for_best_model=metric, max_steps=4, learning_rate=0.3)
    subject = trainer(tmp_path, eval_dataset=table(LARGE, seed=3), **settings)
    subject.train()
    key = f"eval_{metric.removeprefix('eval_')}"
    history = [entry[key] for entry in subject.state.log_history if key in entry]
    assert len(set(history[:4])) > 1 and subject.state.best_metric == better(history[:4])
    record = json.loads((tmp_path / "group_metrics.json").read_text())
    assert record["selection"]["metric"] == metric.removeprefix("eval_")
    assert record["evaluations"]["eval"]["attributes"][1]["attribute"] == "1"


def test_the_set_that_is_selected_on_may_have_a_name(tmp_path):
    sets = {"near": table(LARGE, seed=3), "far": table(LARGE, seed=4)}
    subject = trainer(tmp_path, eval_dataset=sets, **BEST, metric_for_best_model="far_worst_ece")
    assert subject.args.greater_is_better is False and subject.extra_metrics == ("ece",)
    subject.train()
    assert subject.state.best_metric == min(
        e["eval_far_worst_ece"] for e in subject.state.log_history if "eval_far_loss" in e
    )


# ---- what is not defined --------------------------------------------------------------------------------------------


def one_class_at_one_place():
    """Rows of class 0 alone at place 1."""
    return table([[12, 20], [15, 0]], seed=3)


def test_what_is_not_defined_is_said_once_and_is_null(tmp_path):
    subject = trainer(tmp_path, eval_dataset=one_class_at_one_place(), extra_metrics=ALL)
    with logged("gerne_hf.training.evaluating_trainer") as lines:
        metrics = subject.evaluate()
        subject.evaluate()
    [line] = [line for line in lines if "not defined" in line]
    assert line == "In the validation set: TPR, AUROC of 1: not defined, as its 20 rows are all of class class0."
    assert "eval_attribute_auroc/1" not in metrics and metrics["eval_worst_auroc"] == metrics["eval_attribute_auroc/0"]
    subject.save_group_metrics()
    text = (tmp_path / "group_metrics.json").read_text()
    saved = json.loads(text)["evaluations"]["eval"]["attributes"][1]
    assert saved["auroc"] is None and "NaN" not in text


@pytest.mark.parametrize(
    ("counts", "metric", "message"),
    [
        ([[12, 0], [0, 14]], "worst_auroc", "worst_auroc.*with each attribute value all rows are of one class"),
        ([[12, 0], [12, 0]], "equalized_odds_gap", "no rate is known of two attribute values"),
        ([[12, 12], [0, 0]], "worst_tpr", "with no attribute value are there rows of class 1"),
        ([[0, 0], [12, 12]], "worst_fpr", "with no attribute value are there rows of class 0"),
        ([[12, 20], [12, 0]], "attribute_auroc/1", "attribute_auroc/1.*is not defined"),
        ([[12, 20], [12, 12]], "attribute_auroc/sea", "no attribute value 'sea', but '0', '1'"),
    ],
)
def test_a_metric_that_the_rows_cannot_give_is_refused_before_training(tmp_path, counts, metric, message):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, eval_dataset=table(counts, seed=3), **BEST, metric_for_best_model=metric)


def test_a_stream_that_cannot_give_it_is_refused_when_it_was_read(tmp_path):
    stream = table([[12, 0], [0, 14]], seed=3).to_iterable_dataset()
    subject = trainer(tmp_path, eval_dataset=stream, **BEST, metric_for_best_model="worst_auroc")
    with pytest.raises(ValueError, match="with each attribute value all rows are of one class"):
        subject.train()


# ---- what is refused ------------------------------------------------------------------------------------------------


def test_unknown_names_and_wrong_directions_are_refused_by_the_config(tmp_path):
    with pytest.raises(ValueError, match="extra_metrics may name 'f1', .*; found 'auc'"):
        config(tmp_path, extra_metrics=["f1", "auc"])
    assert config(tmp_path, metric_for_best_model="equalized_odds_gap").greater_is_better is False
    with pytest.raises(ValueError, match="greater_is_better=True with metric_for_best_model='worst_ece'.*less"):
        config(tmp_path, metric_for_best_model="worst_ece", greater_is_better=True)
    assert config(tmp_path, metric_for_best_model="worst_ece", greater_is_better=False).greater_is_better is False
    assert config(tmp_path, extra_metrics="f1").extra_metrics == ["f1"]


@pytest.mark.parametrize("metric", ["worst_f1", "equalized_odds_gap", "attribute_ece/all"])
def test_without_attributes_they_are_refused(tmp_path, metric):
    settings = dict(BEST, plan="erm", attribute_column=None)
    with pytest.raises(ValueError, match="needs attributes in the evaluation set"):
        trainer(tmp_path, eval_dataset=table(LARGE), **settings, metric_for_best_model=metric)
    subject = trainer(tmp_path, eval_dataset=table(LARGE), **settings, metric_for_best_model="overall_f1")
    assert subject.evaluate()["eval_overall_f1"] == subject.group_results["eval"]["attributes"][0]["f1"]


class Adds(TrainerCallback):
    """Adds a figure to those of each evaluation."""

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        metrics["eval_worst_aurco"] = 0.25


def test_a_metric_that_no_evaluation_has_is_refused_before_training(tmp_path):
    settings = dict(BEST, eval_dataset=table(LARGE), metric_for_best_model="worst_aurco")
    with pytest.raises(
        ValueError, match="'worst_aurco' is in no evaluation. Did you mean 'worst_auroc'.*compute_metr"
    ):
        trainer(tmp_path, **settings).train()
    subject = trainer(tmp_path, **settings, compute_metrics=lambda given: {"worst_aurco": 0.5})
    subject.train()
    assert subject.state.best_metric == 0.5
    subject = trainer(tmp_path / "told", **settings, callbacks=[Adds()])
    subject.train()
    assert subject.state.best_metric == 0.25


# ---- few rows -------------------------------------------------------------------------------------------------------


def warned(tmp_path, counts, metric, **settings):
    from transformers.utils.logging import warning_once

    warning_once.cache_clear()
    with logged("gerne_hf.training.evaluating_trainer") as lines:
        trainer(tmp_path, eval_dataset=table(counts, seed=3), **{**BEST, **settings}, metric_for_best_model=metric)
        trainer(tmp_path, eval_dataset=table(counts, seed=3), **{**BEST, **settings}, metric_for_best_model=metric)
    return [line for line in lines if "selected on" in line and "fewer" in line]


def test_few_rows_in_a_group_that_is_selected_on_are_warned_of_once_with_the_interval(tmp_path):
    [line] = warned(tmp_path, [[12, 9], [15, 40]], "worst_group_accuracy")
    assert "fewer than 10 rows of the evaluation set are of (class0, 1): 9." in line
    assert "Of 9 rows with 5 right, 55.6 %, the 95 % interval is 26.7 to 81.1 %" in line
    assert warned(tmp_path, [[12, 10], [15, 40]], "worst_group_accuracy") == []
    assert warned(tmp_path, [[12, 9], [15, 40]], "accuracy") == []
    assert "(class0, 1): 9" in warned(tmp_path, [[12, 9], [15, 40]], "worst_auroc")[0]
    assert "are of 1: 8." in warned(tmp_path, [[12, 4], [15, 4]], "worst_ece")[0]
    assert "are of class1: 8." in warned(tmp_path, [[12, 14], [4, 4]], "worst_class_accuracy")[0]


# ---- logs -----------------------------------------------------------------------------------------------------------


def test_logs_have_names_that_no_tracker_changes_and_few_of_many():
    few = {"eval_attribute_f1/over 50 %": 0.5, "eval_worst_f1": 0.5}
    assert loggable(few) == {"eval_attribute_f1/over_50-af3bb301": 0.5, "eval_worst_f1": 0.5}
    assert summaries(few) == {"eval_worst_f1": 0.5}
    many = {f"eval_attribute_{name}/{i}": i / 100 for name in ("f1", "ece") for i in range(40)}
    kept = loggable(many)
    assert list(kept) == [f"eval_attribute_f1/{i}" for i in range(10)] + [
        f"eval_attribute_ece/{i}" for i in range(30, 40)
    ]


def test_more_classes(tmp_path):
    rng = np.random.default_rng(0)
    columns = {"label": rng.integers(0, 3, 90), "place": rng.integers(0, 2, 90)}
    data = Dataset.from_dict(
        {"inputs": rng.normal(size=(90, 6)).tolist(), **{k: v.tolist() for k, v in columns.items()}}
    )
    model = mlp(2, num_labels=3)
    subject = trainer(tmp_path, model, data, eval_dataset=data, extra_metrics=ALL)
    expected = of_scores(expected_result(model, data))
    metrics = subject.evaluate()
    assert {key.removeprefix("eval_"): metrics[key] for key in metrics}.items() >= expected.items()
