"""What cannot be judged is refused or said: shapes of scores, NaN, ids of classes, names that collide."""

import json

import numpy as np
import pytest
import torch
from captured_logs import logged
from datasets import ClassLabel, Dataset
from figures_by_hand import HELD_OUT, expected_for
from helpers import MLP, MLPConfig, config, mlp, table, trainer

from gerne_hf import GerneTrainer, GroupIndex, group_metrics
from gerne_hf.evaluation.metrics import flatten_group_metrics
from gerne_hf.groups.limits import MAX_GROUPS
from gerne_hf.groups.names import combined_name, group_key, split_group_key

pytestmark = pytest.mark.usefixtures("without_pictures")


# ---- shapes and NaN -------------------------------------------------------------------------------------------------


class Shaped(MLP):
    """Returns its logits in another shape, and a loss that fits them."""

    cut = staticmethod(lambda logits: logits)

    def forward(self, inputs, labels=None, row=None):
        output = super().forward(inputs, labels)
        output.logits = type(self).cut(output.logits)
        return output


class OneColumn(Shaped):
    cut = staticmethod(lambda logits: logits[:, :1])


class OneTooMany(Shaped):
    cut = staticmethod(lambda logits: logits[:, :, None])


class Flat(Shaped):
    cut = staticmethod(lambda logits: logits[:, 1])


@pytest.mark.parametrize("cls, shape", [(OneColumn, "(16, 1)"), (OneTooMany, "(16, 2, 1)"), (Flat, "(16,)")])
def test_logits_that_choose_no_class_are_refused(tmp_path, cls, shape):
    subject = GerneTrainer(model=cls(MLPConfig()), args=config(tmp_path), eval_dataset=table(HELD_OUT))
    with pytest.raises(ValueError, match="a score of each class is needed") as caught:
        subject.evaluate()
    assert shape in str(caught.value) and "(B, K)" in str(caught.value)


class SometimesNaN(MLP):
    """Has no scores for rows whose first input is negative."""

    def forward(self, inputs, labels=None, row=None):
        output = super().forward(inputs, labels)
        output.logits = torch.where(inputs[:, :1] < 0, torch.nan, output.logits)
        return output


def test_rows_with_nan_among_their_scores_count_as_wrong_and_it_is_said(tmp_path):
    data, model = table(HELD_OUT, seed=5), SometimesNaN(MLPConfig())
    model.load_state_dict(mlp(2).state_dict())
    hopeless = np.array(data["inputs"][:])[:, 0] < 0
    assert 5 < hopeless.sum() < 36
    subject = trainer(tmp_path, model, eval_dataset=data)
    with logged("gerne_hf.evaluation.accumulator") as said:
        metrics = subject.evaluate()
    with torch.no_grad():
        right = mlp(2)(torch.tensor(data["inputs"][:])).logits.argmax(-1).numpy() == np.array(data["label"][:])
    assert metrics["eval_accuracy"] == pytest.approx((right & ~hopeless).mean())
    assert metrics["eval_rows_without_prediction"] == hopeless.sum()
    assert len(said) == 1 and f"{hopeless.sum()} of 41 rows" in said[0] and "count as wrong" in said[0]
    path = subject.save_worst_examples(data, "eval")
    examples = [row for group in json.loads(open(path).read())["groups"] for row in group["examples"]]
    assert any(row["prediction"] == "none" and row["probability"] == 0.0 for row in examples)


def test_scores_with_nan_count_as_wrong_in_group_metrics():
    scores = np.array([[0.9, 0.1], [np.nan, 0.4], [np.nan, np.nan], [0.2, 0.8]])
    result = group_metrics(scores, [0, 0, 0, 1], [0, 0, 1, 1])
    assert result["accuracy"] == 0.5 and result["rows_without_prediction"] == 2
    assert [group["accuracy"] for group in result["groups"]] == [0.5, 0.0, None, 1.0]
    assert "rows_without_prediction" not in group_metrics([0, 1], [0, 1], [0, 0])


@pytest.mark.parametrize("ids", [np.array([[0], [1], [0]]), np.array([[0.2], [0.7], [0.1]])])
def test_a_column_of_ids_is_no_scores(ids):
    with pytest.raises(ValueError, match=r"shape \(3, 1\).*ravel"):
        group_metrics(ids, [0, 1, 0], [0, 0, 1])


@pytest.mark.parametrize(
    "given",
    [
        ([0, 0], [0, 1], [0, 10**8]),
        ([0, 0], [0, 10**8], [0, 1]),
        ([0, 0], [0, 3000], [0, 3000]),
        ([0, 0], np.array([0, 2**63], dtype=np.uint64), [0, 1]),
    ],
)
def test_ids_of_rows_are_refused_and_take_no_memory(given):
    with pytest.raises(ValueError, match=f"{MAX_GROUPS:,}.*identifiers"):
        group_metrics(*given)


# ---- names of classes -----------------------------------------------------------------------------------------------


def named(names, counts=HELD_OUT):
    return table(counts, seed=5).cast_column("label", ClassLabel(names=names))


def with_names(*names):
    return mlp(2, id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)})


@pytest.mark.parametrize(
    "model_names, data_names",
    [
        (("cat", "dog"), ["dog", "cat"]),
        (("cat", "dog", "bird"), ["dog", "cat"]),
        (("cat", "dog", "bird"), ["bird", "fish"]),
        (("cat", "DOG"), ["dog", "wolf"]),
    ],
)
def test_a_class_under_two_ids_is_refused(tmp_path, model_names, data_names):
    data = named(data_names)
    with pytest.raises(ValueError, match="ids would get wrong names.*align_labels_with_mapping"):
        GerneTrainer(model=with_names(*model_names), args=config(tmp_path), eval_dataset=data)
    with pytest.raises(ValueError, match="ids would get wrong names"):
        GerneTrainer(model=with_names(*model_names), args=config(tmp_path)).evaluate(data)


@pytest.mark.parametrize(
    "model_names, data_names",
    [
        (("cat", "dog", "bird"), ["cat", "dog"]),  # a part, under the same ids
        (("1 star", "2 stars"), ["bad", "good"]),  # other words for the same
        (("1", "2", "3"), None),  # the data has ids without names
        (("LABEL_0", "LABEL_1"), ["dog", "cat"]),
    ],
)
def test_classes_that_may_be_the_same_are_judged(tmp_path, model_names, data_names):
    data = (
        named(data_names)
        if data_names
        else table(HELD_OUT, seed=5).cast_column("label", named(["a", "b"]).features["row"])
    )
    model = with_names(*model_names)
    metrics = GerneTrainer(model=model, args=config(tmp_path), eval_dataset=data).evaluate()
    with torch.no_grad():
        predicted = model(torch.tensor(data["inputs"][:])).logits.argmax(-1).numpy()
    assert metrics["eval_accuracy"] == pytest.approx((predicted == np.array(data["label"][:])).mean())


def test_overlapping_groups_take_no_class_under_another_id(tmp_path):
    train = table(tall=[bool(i % 2) for i in range(88)])
    data = named(["class1", "class0"]).add_column("tall", [bool(i % 3) for i in range(41)])
    settings = dict(attribute_column=None, plan="erm", overlapping_columns=["tall"])
    with pytest.raises(ValueError, match="'class1' has the id 0 in the evaluation set"):
        trainer(tmp_path, train=train, eval_dataset=data, **settings)


# ---- names of groups ------------------------------------------------------------------------------------------------


def test_every_group_has_a_key_of_its_own(tmp_path):
    """Classes `a|b` and `a` with attributes `c` and `b|c` make two groups that a bare bar cannot tell apart."""
    data = table(HELD_OUT, seed=5)
    words = ["c" if p == 0 else "b|c" for p in data["place"]]
    data = named(["a|b", "a"]).remove_columns("place").add_column("place", words)
    metrics = GerneTrainer(model=mlp(2), args=config(tmp_path), eval_dataset=data).evaluate()
    counts = {key: value for key, value in metrics.items() if "group_count" in key}
    assert sorted(counts.values()) == [7, 9, 11, 14]
    expected = expected_for(mlp(2), table(HELD_OUT, seed=5))
    keys = {"class0|0": group_key("a|b", "c"), "class1|1": group_key("a", "b|c")}
    assert len(set(keys.values())) == 2
    for plain, key in keys.items():
        assert metrics[f"eval_group_accuracy/{key}"] == pytest.approx(expected[f"group_accuracy/{plain}"])


def test_keys_are_unique_whatever_the_names_are():
    pieces = ["a", "b", "|", "\\", "a|b", "a\\", "\\|", "|b", "a\\|b", "", "a|", "b|c", "\\\\"]
    pairs = [(x, y) for x in pieces for y in pieces]
    assert len({group_key(*pair) for pair in pairs}) == len(pairs)
    assert [split_group_key(group_key(*pair)) for pair in pairs] == pairs
    more = [piece.replace("|", "&") for piece in pieces] + ["a & b", "& b", "a &", " & ", "a & b & a"]
    for number in (2, 3):
        combinations = list(np.stack(np.meshgrid(*[np.arange(len(more))] * number), -1).reshape(-1, number))
        names = {combined_name([more[i] for i in places]) for places in combinations}
        assert len(names) == len(combinations)
    assert group_key("landbird", "water") == "landbird|water" and combined_name(["R", "B"]) == "R & B"


def test_columns_whose_products_share_names_make_groups_of_their_own():
    data = Dataset.from_dict({"label": [0, 0, 0, 0], "x": ["a", "a & b", "a", "a"], "y": ["b & c", "c", "c", "b & c"]})
    index = GroupIndex.from_dataset(data, attribute_column=["x", "y"])
    assert len(set(index.attribute_names)) == index.num_attributes == 4
    assert sorted(index.counts.ravel()) == [0, 1, 1, 2]
    labels, places = np.zeros(4, dtype=int), (index.codes % 4).astype(int)
    flat = flatten_group_metrics(group_metrics(labels, labels, places, None, ["k"], index.attribute_names))
    assert sorted(value for key, value in flat.items() if key.startswith("group_count")) == [1, 1, 2]


def test_two_equal_names_are_refused():
    with pytest.raises(ValueError, match="attribute_names has the name 'sea' more than once"):
        group_metrics([0, 1], [0, 1], [0, 1], attribute_names=["sea", "sea"])
