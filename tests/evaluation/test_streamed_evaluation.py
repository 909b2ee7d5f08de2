"""Evaluation and prediction of sets that can only be iterated: the same figures as of their rows by number."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from captured_logs import logged
from datasets import ClassLabel
from figures_by_hand import HELD_OUT, assert_figures, expected_for
from helpers import config, mlp, table, trainer

from gerne_hf import GerneTrainer
from gerne_hf.groups.streamed import decoded_names, encoded_names
from gerne_hf.training.checks import check_streamed_evaluation

pytestmark = pytest.mark.usefixtures("without_pictures")


class Stream(torch.utils.data.IterableDataset):
    """Rows one after the other, with nothing known of their columns."""

    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


def worded(data):
    """The same rows with words for the attribute."""
    words = ["land" if place == 0 else "water" for place in data["place"]]
    return data.remove_columns("place").add_column("place", words)


STREAMS = {
    "datasets": lambda data: data.to_iterable_dataset(),
    "datasets in shards": lambda data: data.to_iterable_dataset(num_shards=4),
    "mapped": lambda data: data.to_iterable_dataset().map(lambda row: row),
    "torch": lambda data: Stream(list(data)),
}


@pytest.mark.parametrize("kind", STREAMS)
def test_group_metrics_from_a_stream(tmp_path, kind):
    model, data = mlp(2), worded(table(HELD_OUT, seed=5))
    whole = trainer(tmp_path, model, worded(table()), eval_dataset=data)
    expected = {key: value for key, value in whole.evaluate().items() if "second" not in key and "time" not in key}
    streamed = trainer(tmp_path, model, worded(table()), eval_dataset=STREAMS[kind](data))
    found = streamed.evaluate()
    assert found.items() >= {key: pytest.approx(value) for key, value in expected.items()}.items()
    plain, stream = whole.group_results["eval"], streamed.group_results["eval"]
    assert stream == plain and "of_eval_dataset" not in stream
    assert whole.evaluate(STREAMS[kind](data))["eval_worst_group_accuracy"] == expected["eval_worst_group_accuracy"]


@pytest.mark.parametrize("workers", [0, 2])
def test_predict_keeps_the_order_of_the_stream(tmp_path, workers):
    model, data = mlp(2), table(HELD_OUT, seed=5)
    subject = trainer(tmp_path, model, dataloader_num_workers=workers)
    output = subject.predict(data.to_iterable_dataset(num_shards=4))
    assert output.label_ids.tolist() == data["label"][:]
    assert np.allclose(output.predictions, subject.predict(data).predictions, atol=1e-6)
    assert_figures(output.metrics, expected_for(model, data), "test")
    assert subject.args.dataloader_num_workers == workers
    unlabelled = subject.predict(data.remove_columns(["label", "place"]).to_iterable_dataset())
    assert unlabelled.label_ids is None and unlabelled.predictions.shape == (41, 2)


def test_a_run_selects_its_model_on_a_stream(tmp_path):
    best = dict(eval_strategy="steps", save_strategy="steps", eval_steps=1, save_steps=1, load_best_model_at_end=True)
    data = table(HELD_OUT, seed=5)
    subject = trainer(tmp_path, eval_dataset=data.to_iterable_dataset(), max_steps=3, **best)
    subject.train()
    assert subject.args.metric_for_best_model == "worst_group_accuracy"
    expected = expected_for(subject.model, data)["worst_group_accuracy"]
    assert subject.state.best_metric == pytest.approx(expected)
    stream = data.to_iterable_dataset()
    subject.evaluate(stream, metric_key_prefix="test")
    path = subject.save_worst_examples(stream, "test")  # of rows that cannot be read again none are shown
    assert json.loads(open(path).read())["groups"] == []


def test_without_training_rows_and_with_several_columns(tmp_path):
    data = table(HELD_OUT, seed=5, light=["day" if i % 3 else "night" for i in range(41)])
    settings = dict(attribute_column=["place", "light"])
    whole = GerneTrainer(model=mlp(2), args=config(tmp_path, **settings), eval_dataset=data)
    expected = whole.evaluate()
    assert len([key for key in expected if "group_count" in key]) == 8
    streamed = GerneTrainer(model=mlp(2), args=config(tmp_path, **settings))
    found = streamed.evaluate(data.to_iterable_dataset())
    for key in expected:
        if "group_" in key or "accuracy" in key:
            assert found[key] == pytest.approx(expected[key]), key


def test_overlapping_attributes_of_a_stream(tmp_path):
    data = table(HELD_OUT, seed=5, tall=[i % 2 == 0 for i in range(41)], old=[i % 3 == 0 for i in range(41)])
    settings = dict(attribute_column=None, plan="erm", overlapping_columns=["tall", "old"])
    whole = trainer(tmp_path, mlp(2), eval_dataset=data, **settings)
    streamed = trainer(tmp_path, mlp(2), eval_dataset=data.to_iterable_dataset(), **settings)
    whole.evaluate(), streamed.evaluate()
    assert streamed.group_results["eval"] == whole.group_results["eval"]


def test_groups_that_training_lacks_are_said(tmp_path):
    data = [{**row, "place": 7 if row["place"] else 0} for row in table(HELD_OUT, seed=5)]
    with logged("gerne_hf.evaluation.streamed") as said:
        metrics = trainer(tmp_path, mlp(2)).evaluate(Stream(data))
    assert metrics["eval_group_count/class1|7"] == 7 and "eval_group_count/class1|1" not in metrics
    assert len(said) == 1 and "(class0, 7) with 14 rows" in said[0]


ROWS = list(table(HELD_OUT, seed=5))


@pytest.mark.parametrize(
    "rows, error, parts",
    [
        ([{k: v for k, v in row.items() if k != "place"} for row in ROWS], ValueError, ("'place'", "'inputs'")),
        ([{k: v for k, v in row.items() if k != "label"} for row in ROWS], ValueError, ("without a label",)),
        ([{**row, "label": 2} for row in ROWS], ValueError, ("class id 2", "0..1")),
        ([{**row, "label": "cat"} for row in ROWS], TypeError, ("'cat'", "integers")),
        ([{**row, "place": 0.5} for row in ROWS], TypeError, ("'place'", "0.5")),
        ([{**row, "place": None} for row in ROWS], TypeError, ("'place'", "None")),
        ([(row["inputs"], row["label"]) for row in ROWS], TypeError, ("tuple", "dictionaries")),
    ],
)
def test_rows_that_make_no_groups_are_refused(tmp_path, rows, error, parts):
    subject = GerneTrainer(model=mlp(2), args=config(tmp_path), eval_dataset=Stream(rows))
    with pytest.raises(error) as caught:
        subject.evaluate()
    for part in parts:
        assert part in str(caught.value)


def test_a_stream_has_classes_by_the_model_and_attributes_where_groups_are_inferred(tmp_path):
    renamed = table(HELD_OUT).cast_column("label", ClassLabel(names=["class1", "class0"])).to_iterable_dataset()
    with pytest.raises(ValueError, match="the class 'class1' has another id in the evaluation set"):
        trainer(tmp_path, mlp(2), eval_dataset=renamed).evaluate()
    names = dict(id2label={0: "class0", 1: "class1"}, label2id={"class0": 0, "class1": 1})
    with pytest.raises(ValueError, match="ids would get wrong names"):
        GerneTrainer(model=mlp(2, **names), args=config(tmp_path)).evaluate(renamed)
    with pytest.raises(ValueError, match="evaluation rows by number.*a Stream, which can only be iterated"):
        trainer(tmp_path, eval_dataset=Stream(ROWS), attribute_column=None, pseudo_attributes=True)


def test_names_travel_as_numbers():
    names = ["男性", "", "water & day", "a|b", "water & day", "x" * 100]
    for width in (None, 32):
        places, found = decoded_names(encoded_names(names, width).numpy())
        assert [found[place] for place in places] == names and len(found) == 5
    filled = np.pad(encoded_names(names[:2]).numpy(), [(0, 0), (0, 3)], constant_values=-100)
    assert sorted(decoded_names(filled)[1]) == ["", "男性"]
    with pytest.raises(ValueError, match="256 bytes at most; found one of 300"):
        encoded_names(["男" * 100], 32)


def test_a_stream_that_each_process_reads_for_itself_is_refused():
    args = SimpleNamespace(world_size=2, accelerator_config=SimpleNamespace(dispatch_batches=False))
    with pytest.raises(ValueError, match="would be counted twice"):
        check_streamed_evaluation(args)
    args.accelerator_config.dispatch_batches = None
    check_streamed_evaluation(args)
