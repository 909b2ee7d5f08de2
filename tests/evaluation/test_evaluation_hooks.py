"""Group metrics beside the user's own hooks and settings of evaluation."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from figures_by_hand import HELD_OUT, assert_figures, expected_for
from helpers import bert, mlp, sentences, table, trainer
from transformers import EvalPrediction


def user_metrics(seen):
    def compute_metrics(prediction):
        assert isinstance(prediction, EvalPrediction)
        seen.append(prediction)
        return {"mine": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}

    return compute_metrics


def test_compute_metrics_sees_plain_labels(tmp_path):
    model, data, seen = mlp(2), table(HELD_OUT, seed=5), []
    subject = trainer(tmp_path, model, eval_dataset=data, compute_metrics=user_metrics(seen))
    metrics = subject.evaluate()
    assert seen[0].label_ids.shape == (41,) and seen[0].label_ids.tolist() == data["label"][:]
    assert_figures(metrics, expected_for(model, data))
    assert metrics["eval_mine"] == pytest.approx(metrics["eval_accuracy"])


def test_the_users_figure_wins_where_names_collide(tmp_path):
    subject = trainer(tmp_path, eval_dataset=table(HELD_OUT), compute_metrics=lambda prediction: {"accuracy": 0.123})
    metrics = subject.evaluate()
    assert metrics["eval_accuracy"] == 0.123 and "eval_worst_group_accuracy" in metrics


def test_include_for_metrics_still_works(tmp_path):
    data, seen = table(HELD_OUT, seed=5), []
    settings = dict(include_for_metrics=["inputs", "loss"], compute_metrics=user_metrics(seen))
    trainer(tmp_path, eval_dataset=data, **settings).evaluate()
    assert np.allclose(seen[0].inputs, np.array(data["inputs"][:]), atol=1e-5)
    assert seen[0].losses.shape == (41,)


def test_preprocess_logits_sees_plain_labels(tmp_path):
    model, data, seen = mlp(2), table(HELD_OUT, seed=5), []

    def to_classes(logits, labels):
        seen.append(labels)
        return logits.argmax(dim=-1)

    def compute_metrics(prediction):
        return {"mine": float((prediction.predictions == prediction.label_ids).mean())}

    hooks = dict(preprocess_logits_for_metrics=to_classes, compute_metrics=compute_metrics)
    metrics = trainer(tmp_path, model, eval_dataset=data, **hooks).evaluate()
    assert all(isinstance(labels, torch.Tensor) and labels.ndim == 1 for labels in seen)
    assert torch.cat(seen).tolist() == data["label"][:]
    assert_figures(metrics, expected_for(model, data))
    assert metrics["eval_mine"] == pytest.approx(metrics["eval_accuracy"])


@pytest.mark.parametrize("own", [True, False])
def test_batch_eval_metrics(tmp_path, own):
    model, data, batches = mlp(2), table(HELD_OUT, seed=5), []

    def compute_metrics(prediction, compute_result=False):
        assert prediction.label_ids.ndim == 1
        batches.append((prediction.predictions.argmax(-1) == prediction.label_ids).cpu().numpy())
        if compute_result:
            return {"mine": float(np.concatenate(batches).mean())}
        return None

    hooks = dict(compute_metrics=compute_metrics) if own else {}
    subject = trainer(tmp_path, model, eval_dataset=data, batch_eval_metrics=True, **hooks)
    for _ in range(2):  # no rows of the first evaluation may be left in the second
        batches.clear()
        metrics = subject.evaluate()
        assert_figures(metrics, expected_for(model, data))
        if own:
            assert len(batches) == 3 and metrics["eval_mine"] == pytest.approx(metrics["eval_accuracy"])


def test_eval_do_concat_batches_false(tmp_path):
    model, data, seen = mlp(2), table(HELD_OUT, seed=5), []

    def compute_metrics(prediction):
        seen.append(prediction)
        hits = [p.argmax(-1) == y for p, y in zip(prediction.predictions, prediction.label_ids, strict=True)]
        return {"mine": float(np.concatenate(hits).mean())}

    settings = dict(eval_do_concat_batches=False, compute_metrics=compute_metrics)
    subject = trainer(tmp_path, model, eval_dataset=data, **settings)
    metrics = subject.evaluate()
    assert [len(part) for part in seen[0].label_ids] == [16, 16, 9]
    assert_figures(metrics, expected_for(model, data))
    assert metrics["eval_mine"] == pytest.approx(metrics["eval_accuracy"])
    labels = subject.predict(data).label_ids
    assert np.concatenate(labels).tolist() == data["label"][:]


def test_eval_accumulation_steps(tmp_path):
    model, data = mlp(2), table(HELD_OUT, seed=5)
    metrics = trainer(tmp_path, model, eval_dataset=data, eval_accumulation_steps=1).evaluate()
    assert_figures(metrics, expected_for(model, data))


def test_predict_on_rows_without_labels(tmp_path):
    model, data, seen = mlp(2), table(HELD_OUT, seed=5), []
    subject = trainer(tmp_path, model, eval_dataset=data, compute_metrics=user_metrics(seen))
    output = subject.predict(data.remove_columns(["label", "place"]))
    assert output.label_ids is None and output.predictions.shape == (41, 2)
    assert not seen and "test_accuracy" not in output.metrics
    with_labels = subject.predict(data)
    assert np.array_equal(output.predictions, with_labels.predictions)
    assert_figures(subject.evaluate(), expected_for(model, data))  # and the next evaluation has groups again


def test_evaluation_loss_of_a_loss_func_and_of_label_smoothing(tmp_path):
    model, data = mlp(2), table(HELD_OUT, seed=5)
    with torch.no_grad():
        logits, labels = model(torch.tensor(data["inputs"][:])).logits, torch.tensor(data["label"][:])
    cross_entropy = torch.nn.functional.cross_entropy
    one_batch = dict(per_device_eval_batch_size=64)

    def summed(outputs, labels, num_items_in_batch):
        return cross_entropy(outputs.logits, labels, reduction="sum") / num_items_in_batch

    own = trainer(tmp_path, model, eval_dataset=data, compute_loss_func=summed, **one_batch).evaluate()
    assert own["eval_loss"] == pytest.approx(cross_entropy(logits, labels).item(), abs=1e-5)
    smooth = trainer(tmp_path, model, eval_dataset=data, label_smoothing_factor=0.2, **one_batch).evaluate()
    expected = cross_entropy(logits, labels, label_smoothing=0.2).item()
    assert smooth["eval_loss"] == pytest.approx(expected, abs=1e-5)
    assert_figures(smooth, expected_for(model, data))


def test_processing_class_and_padding(tmp_path):
    """Rows of different length through the user's collator."""
    data = sentences(HELD_OUT)
    shortened = Dataset.from_list([{**row, "input_ids": row["input_ids"][: 4 + i % 4]} for i, row in enumerate(data)])

    def pad(features):
        width = max(len(row["input_ids"]) for row in features)
        ids = [row["input_ids"] + [0] * (width - len(row["input_ids"])) for row in features]
        return {"input_ids": torch.tensor(ids), "labels": torch.tensor([row["label"] for row in features])}

    subject = trainer(tmp_path, bert(), shortened, eval_dataset=shortened, data_collator=pad)
    subject.train()
    assert sum(subject.evaluate()[f"eval_group_count/{y}|{a}"] for y in (0, 1) for a in (0, 1)) == 41
