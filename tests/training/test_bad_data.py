"""Bad data is refused with a message that says what is wrong and what to do, before the first training step."""

import re

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset
from helpers import first_batch, step_gradient, table, trainer
from refusals import accepted, refused
from transformers.data import default_data_collator

from gerne_hf.method.plans import PLANS

pytestmark = pytest.mark.usefixtures("without_pictures")


def with_column(name, values):
    data = table()
    return data.remove_columns(name).add_column(name, values)


PLACE = np.array(table()["place"][:])
LABEL = np.array(table()["label"][:])


# ---- columns ------------------------------------------------------------------------------------------------------


def test_no_attribute_column_named(tmp_path):
    refused(ValueError, "'independent' needs attribute_column", "'erm'", output_dir=tmp_path, attribute_column=None)


def test_attribute_column_missing(tmp_path):
    settings = dict(output_dir=tmp_path, attribute_column="background")
    refused(ValueError, "no attribute column 'background'", "'inputs', 'label', 'place', 'row'", **settings)


def test_one_of_several_attribute_columns_missing(tmp_path):
    settings = dict(output_dir=tmp_path, attribute_column=["place", "light"])
    refused(ValueError, "no attribute column 'light'", "'place'", **settings)


def test_label_column_missing(tmp_path):
    data = table().rename_column("label", "bird")
    refused(ValueError, "no label column", "label, labels, label_ids", "'bird'", output_dir=tmp_path, train=data)
    refused(ValueError, "no label column 'brid'", "'bird'", output_dir=tmp_path, train=data, label_column="brid")


def test_label_column_of_another_name_needs_a_collator(tmp_path):
    data = table().rename_column("label", "bird")
    settings = dict(output_dir=tmp_path, train=data, label_column="bird")
    refused(ValueError, "returned no 'labels'", **settings)

    def collate(rows):
        inputs = torch.tensor([row["inputs"] for row in rows])
        return {"inputs": inputs, "labels": torch.tensor([row["bird"] for row in rows])}

    accepted(data_collator=collate, remove_unused_columns=False, **settings)


@pytest.mark.parametrize("name", ["label", "place"])
def test_float_values(tmp_path, name):
    role = "label" if name == "label" else "attribute"
    data = with_column(name, np.linspace(0, 1, 88).tolist())
    refused(TypeError, f"{role} column {name!r} holds", "dataset.map", output_dir=tmp_path, train=data)


@pytest.mark.parametrize("name", ["label", "place"])
def test_null_values(tmp_path, name):
    role = "label" if name == "label" else "attribute"
    values = (LABEL if name == "label" else PLACE).tolist()
    values[17] = None
    data = with_column(name, values)
    refused(ValueError, f"{role} column {name!r} has null values", "row 17", output_dir=tmp_path, train=data)


def test_negative_labels(tmp_path):
    values = LABEL.tolist()
    values[3] = -1
    refused(ValueError, "class ids [-1]", "filtered out", output_dir=tmp_path, train=with_column("label", values))


def test_lists_as_labels(tmp_path):
    data = with_column("label", [[int(y), 1 - int(y)] for y in LABEL])
    refused(TypeError, "lists", "choose one label a row", output_dir=tmp_path, train=data)


# ---- groups -------------------------------------------------------------------------------------------------------


def test_empty_group(tmp_path):
    data = table([[40, 8], [30, 0]])
    refused(ValueError, "1 of 4 groups", "(class1, 1)", "empty_groups='ignore'", output_dir=tmp_path, train=data)


def test_empty_group_ignored(tmp_path, caplog):
    data = table([[40, 8], [30, 0]])
    for _ in range(2):
        subject = trainer(tmp_path, train=data, empty_groups="ignore", plan="resampling")
    assert caplog.text.count("1 of 4 groups have no training rows") == 1
    subject.train()
    drawn = subject.plan.segments[0].distribution
    assert np.allclose(drawn, [[0.25, 0.25], [0.5, 0.0]])
    for plan in PLANS:
        subject = trainer(tmp_path, train=data, empty_groups="ignore", plan=plan)
        assert step_gradient(subject, first_batch(subject))


def test_class_without_rows(tmp_path):
    gap = with_column("label", (2 * LABEL).tolist())
    refused(ValueError, "classes 1 have no training rows", "0..K-1", output_dir=tmp_path, train=gap)
    named = table().cast_column("label", ClassLabel(names=["a", "b", "c"]))
    refused(ValueError, "classes c have no training rows", output_dir=tmp_path, train=named)


def test_one_attribute_value(tmp_path):
    data = with_column("place", [4] * 88)
    refused(ValueError, "single value '4'", "'erm'", output_dir=tmp_path, train=data)
    accepted(output_dir=tmp_path, train=data, plan="erm")


def test_no_rows(tmp_path):
    refused(ValueError, "no rows", output_dir=tmp_path, train=table().select([]))


# ---- data sets and collators --------------------------------------------------------------------------------------


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        yield {"inputs": [0.0] * 6, "label": 0, "place": 0}


@pytest.mark.parametrize("make", [lambda: table().to_iterable_dataset(), Stream], ids=["datasets", "torch"])
def test_iterable_data_set(tmp_path, make):
    refused(TypeError, "can only be iterated", "streaming=True", output_dir=tmp_path, train=make())
    trainer(tmp_path, eval_dataset=make(), eval_strategy="epoch").train()  # to evaluate a stream is enough


def test_data_set_without_columns_or_fields(tmp_path):
    class Bare(torch.utils.data.Dataset):
        def __len__(self):
            return 88

        def __getitem__(self, index):
            return torch.zeros(6)

    refused(TypeError, "Bare has no columns", "column_names", "dictionar", output_dir=tmp_path, train=Bare())


def drop_rows(rows):
    return default_data_collator(rows[:-1])


def reverse_rows(rows):
    return default_data_collator(rows[::-1])


def sort_rows(rows):
    """As collators do that pack by length; labels of the rows may well stay the same."""
    return default_data_collator(sorted(rows, key=lambda row: (row["label"], row["inputs"][1])))


def hide_labels(rows):
    return {key: value for key, value in default_data_collator(rows).items() if key != "labels"}


def soften_labels(rows):
    batch = default_data_collator(rows)
    return {**batch, "labels": torch.nn.functional.one_hot(batch["labels"], 2).float()}


@pytest.mark.parametrize(
    "collator, parts",
    [
        (drop_rows, ["given 8 rows and returned 7", "must not drop"]),
        (reverse_rows, ["another order", "keep the order"]),
        (sort_rows, ["another order", "keep the order"]),
        (hide_labels, ["no 'labels'", "inputs"]),
        (soften_labels, ["(8, 2)", "one integer class id a row"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_collators(tmp_path, collator, parts):
    refused(ValueError, f"collator {collator.__name__}", *parts, output_dir=tmp_path, data_collator=collator)


def test_a_collator_in_a_worker_process(tmp_path):
    settings = dict(data_collator=reverse_rows, dataloader_num_workers=2)
    refused(ValueError, "collator reverse_rows", "another order", output_dir=tmp_path, **settings)


@pytest.mark.parametrize("mode", ["fused", "separate"])
def test_a_batch_of_another_size_than_the_plan(tmp_path, mode):
    """From a loader of the user's own, say: without the check each segment of `separate` would take all rows."""
    subject = trainer(tmp_path, forward_mode=mode)
    batch = {key: value[:6] for key, value in first_batch(subject).items()}
    with pytest.raises(ValueError, match="the batch has 6 rows.*lays out 8"):
        step_gradient(subject, batch)


# ---- evaluation sets ----------------------------------------------------------------------------------------------


def test_evaluation_set_without_the_attribute(tmp_path):
    bare = table().remove_columns("place")
    parts = "set has no attribute column 'place'", "'inputs', 'label', 'row'"
    refused(ValueError, "the evaluation " + parts[0], parts[1], output_dir=tmp_path, eval_dataset=bare)
    refused(ValueError, "the far " + parts[0], output_dir=tmp_path, eval_dataset={"near": table(), "far": bare})
    subject = trainer(tmp_path)
    for call in (subject.evaluate, subject.predict):
        with pytest.raises(ValueError, match=re.escape(parts[0])):
            call(bare)


def test_evaluation_set_without_labels(tmp_path):
    bare = table().remove_columns("label")
    refused(ValueError, "the evaluation set has no label column", output_dir=tmp_path, eval_dataset=bare)


def test_evaluation_set_with_a_class_that_training_lacks(tmp_path):
    more = Dataset.from_dict({"inputs": [[0.0] * 6] * 3, "label": [0, 1, 2], "place": [0, 1, 0]})
    refused(ValueError, "classes that training lacks: 2", output_dir=tmp_path, eval_dataset=more)


def test_evaluation_groups_that_training_lacks_are_reported(tmp_path, caplog):
    data = table([[40, 8], [30, 0]])
    held_out = table([[5, 6], [7, 4]], seed=3)
    settings = dict(train=data, empty_groups="ignore", eval_dataset=held_out)
    subject = trainer(tmp_path, **settings)
    assert "has groups that training lacks: (class1, 1) with 4 rows" in caplog.text
    metrics = subject.evaluate()
    assert metrics["eval_group_count/class1|1"] == 4
    assert sum(metrics[f"eval_group_count/class{y}|{a}"] for y in (0, 1) for a in (0, 1)) == 22
    assert subject.group_results["eval"]["groups"][3]["train_count"] == 0
