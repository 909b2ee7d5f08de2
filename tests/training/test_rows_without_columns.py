"""Torch data sets that have no columns: groups are those of the rows' fields, or are given beside them."""

import re

import numpy as np
import pytest
import torch
from datasets import Value
from figures_by_hand import HELD_OUT, assert_figures, expected_for
from helpers import mlp, table, trainer, watch_batches
from refusals import refused
from torch.utils.data import ConcatDataset, Subset

from gerne_hf import GerneTrainer, GroupIndex
from gerne_hf.baselines import JTTTrainer
from gerne_hf.groups.batches import GROUP_KEY

pytestmark = pytest.mark.usefixtures("without_pictures")


class Bare(torch.utils.data.Dataset):
    """Rows by number and nothing else; counts how often each is read."""

    def __init__(self, data, keep=lambda row: row):
        self.rows, self.keep, self.reads = data.to_list(), keep, np.zeros(len(data), int)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        self.reads[index] += 1
        return self.keep(self.rows[index])


def joined(data):
    return ConcatDataset([Bare(data.select(range(20))), Bare(data.select(range(20, len(data))))])


def plain(*given, **more):
    """A table whose labels have no names: rows have none either."""
    return table(*given, **more).cast_column("label", Value("int64"))


def named(metrics):
    """Metrics with the names of groups that the figures by hand have."""
    return {re.sub(r"/(?=\d\|)", "/class", name): value for name, value in metrics.items()}


KINDS = {
    "a class": Bare,
    "a list": lambda data: data.to_list(),
    "a subset": lambda data: Subset(Bare(data), range(len(data))),
    "a subset of a table": lambda data: Subset(data, range(len(data))),
    "a concatenation": joined,
    "tensors": lambda data: Bare(data, lambda row: {name: torch.tensor(value) for name, value in row.items()}),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_groups_are_those_of_the_fields(tmp_path, make):
    data, held_out = plain(), plain(HELD_OUT, seed=5)
    subject = trainer(tmp_path, mlp(2), make(data), eval_dataset=make(held_out), max_steps=11)
    assert_figures(named(subject.evaluate()), expected_for(subject.model, held_out))
    batches = watch_batches(subject)
    subject.train()
    rows = torch.cat([batch["row"] for batch in batches]).numpy()
    groups = torch.cat([batch[GROUP_KEY] for batch in batches]).numpy()
    assert np.array_equal(groups, (2 * np.array(data["label"]) + np.array(data["place"]))[rows])
    assert all("place" not in batch for batch in batches)
    test_set = plain(HELD_OUT, seed=8)
    assert_figures(named(subject.evaluate(make(test_set))), expected_for(subject.model, test_set))
    subject.create_model_card()


def test_rows_are_read_once_and_progress_is_shown(tmp_path, capsys):
    data = Bare(table())
    trainer(tmp_path, train=data)
    assert data.reads[1:].max() == 1 and data.reads.min() == 1
    assert "Reading label, place" in capsys.readouterr().err


def test_of_a_subset_of_a_table_no_row_is_decoded():
    def refuse(rows):
        raise AssertionError("the transform ran")

    data = table()
    lazy = data.with_transform(refuse)
    names = dict(label_column="label", attribute_column="place")
    rows = list(range(30, 50))
    for view in (Subset(lazy, rows), ConcatDataset([Subset(lazy, rows[:7]), lazy.select(rows[7:])])):
        index = GroupIndex.from_dataset(view, **names)
        assert index.codes.tolist() == [2 * data[row]["label"] + data[row]["place"] for row in rows]
        assert index.label_names == ("class0", "class1")


def test_random_transforms_leave_the_generators_alone(tmp_path):
    drawn = []
    for makes in (False, True):
        torch.manual_seed(3)
        data = Bare(table(), lambda row: {**row, "noise": torch.rand(1).item()})
        if makes:
            GroupIndex.from_dataset(data, attribute_column="place")
        drawn.append(torch.rand(3).tolist())
    assert drawn[0] == drawn[1]


def test_rows_that_are_tuples(tmp_path):
    def collate(rows):
        inputs, labels = zip(*((row[0], row[1]) for row in rows), strict=True)
        return {"inputs": torch.tensor(inputs), "labels": torch.tensor(labels)}

    data = Bare(table(), lambda row: (row["inputs"], row["label"], row["place"]))
    columns = dict(label_column="1", attribute_column="2")
    subject = trainer(tmp_path, train=data, data_collator=collate, **columns, eval_dataset=data)
    subject.train()
    assert subject.groups.counts.tolist() == [[40, 8], [10, 30]]
    refused(ValueError, "no label column", "'0', '1', '2'", output_dir=tmp_path, train=data, data_collator=collate)


@pytest.mark.parametrize("class_balanced", [True, False])
def test_under_erm_nothing_is_needed(tmp_path, class_balanced):
    data = Bare(table().remove_columns("place"))
    settings = dict(plan="erm", attribute_column=None, class_balanced=class_balanced, eval_dataset=data)
    subject = trainer(tmp_path, train=data, **settings)
    subject.train()
    subject.evaluate()
    assert subject.state.global_step == 2 and "eval" in subject.group_results


def test_unknown_attributes_and_jtt(tmp_path):
    data = Bare(table().remove_columns("place"))
    inferring = trainer(tmp_path / "a", train=data, pseudo_attributes=True, threshold=0.2, attribute_column=None)
    inferring.train()
    assert inferring.groups.counts.sum() == 88 and inferring.state.global_step == 2
    jtt = trainer(tmp_path / "b", train=data, plan="erm", attribute_column=None, cls=JTTTrainer)
    jtt.train()
    assert len(jtt.pseudo.scores) == 88


def test_folds_of_rows_without_columns(tmp_path):
    data = Bare(table([[20, 8], [10, 30]]).remove_columns("place"))
    settings = dict(pseudo_attributes=True, threshold=0.2, biased_folds=2, attribute_column=None)
    subject = trainer(tmp_path, train=data, **settings)
    subject.train()
    assert len(subject.pseudo.scores) == 68


# ---- attributes beside the rows -----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda data: data, Bare], ids=["of datasets", "a class"])
def test_attributes_given_beside_the_rows(tmp_path, make):
    data, held_out = table(), table(HELD_OUT, seed=5)
    names = np.array(["land", "sea"])[np.array(data["place"])]
    held_out = held_out.remove_columns("place").add_column("place", [["land", "sea"][i] for i in held_out["place"]])
    subject = trainer(tmp_path, mlp(), make(data.remove_columns("place")), cls=with_attributes(names), max_steps=11)
    batches = watch_batches(subject)
    subject.train()
    rows = torch.cat([batch["row"] for batch in batches]).numpy()
    groups = torch.cat([batch[GROUP_KEY] for batch in batches]).numpy()
    assert np.array_equal(groups, (2 * np.array(data["label"]) + np.array(data["place"]))[rows])
    subject.evaluate(held_out)
    counts = [group["train_count"] for group in subject.group_results["eval"]["groups"]]
    assert counts == [40, 8, 10, 30] and subject.groups.attribute_names == ("land", "sea")


def with_attributes(values):
    def make(**arguments):
        return GerneTrainer(attributes=values, **arguments)

    return make


@pytest.mark.parametrize(
    "values, settings, message",
    [
        ([0, 1] * 40, {}, "attributes= has 80 values for 88 training rows"),
        ([0, 1] * 44, dict(attribute_column=None, plan="erm"), "attribute_column is its name.*found None"),
        ([0, 1] * 44, dict(attribute_column=["place", "row"]), "Set it to one name"),
        ([0, 1] * 44, dict(pseudo_attributes=True, threshold=0.1), "infers groups. Leave attributes out"),
        ([0.5, 1.0] * 44, {}, "attribute column 'place' holds double values"),
    ],
)
def test_attributes_that_do_not_fit(tmp_path, values, settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        trainer(tmp_path, cls=with_attributes(values), **settings)


def test_attributes_of_another_training_set(tmp_path):
    subject = trainer(tmp_path, cls=with_attributes([0, 1] * 44))
    subject.train_dataset = table(seed=4)
    with pytest.raises(ValueError, match="attributes= are those of the training set"):
        subject.train()


def test_a_row_without_the_field(tmp_path):
    rows = [{"inputs": [0.0] * 6, "label": 0, "place": 0}, {"inputs": [0.0] * 6, "label": 1}]
    refused(ValueError, "row 1 of the list has no field 'place'", output_dir=tmp_path, train=rows)
