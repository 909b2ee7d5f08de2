"""Names: those of a batch's labels, and those of the classes that their ids stand for."""

import pytest
from figures_by_hand import HELD_OUT, assert_figures, expected_for
from helpers import MLP, config, mlp, table, trainer
from refusals import refused

from gerne_hf import GerneTrainer

pytestmark = pytest.mark.usefixtures("without_pictures")


class TwoLabels(MLP):
    def forward(self, inputs, labels=None, label_weights=None):
        return super().forward(inputs, labels)


class AnyArguments(MLP):
    def forward(self, inputs, **kwargs):
        return super().forward(inputs, kwargs.get("labels"))


def mlp_with(model):
    """An [`MLP`] with the weights of `model`."""
    plain = mlp()
    plain.load_state_dict(model.state_dict())
    return plain


@pytest.mark.parametrize("cls", [TwoLabels, AnyArguments])
def test_the_labels_are_found_whatever_the_forward_calls_its_arguments(tmp_path, cls):
    """The parent takes every argument with "label" in its name for labels, and without all of them has no metrics."""
    model, data = cls(mlp().config), table(HELD_OUT, seed=5)
    metrics = trainer(tmp_path, model, eval_dataset=data).evaluate()
    assert_figures(metrics, expected_for(mlp_with(model), data))
    assert metrics["eval_loss"] > 0


def test_other_label_names_are_refused(tmp_path):
    parts = "label_names=['targets']", "under 'labels'", "data_collator"
    refused(ValueError, *parts, output_dir=tmp_path, label_names=["targets"])


def test_class_names_in_another_order_are_refused(tmp_path):
    names = dict(id2label={0: "CLASS1", 1: "CLASS0"}, label2id={"CLASS1": 0, "CLASS0": 1})
    parts = "'CLASS1', 'CLASS0'", "'class0', 'class1'", "align_labels_with_mapping"
    refused(ValueError, *parts, output_dir=tmp_path, model=mlp(**names))
    same = dict(id2label={0: "CLASS0", 1: "CLASS1"}, label2id={"CLASS0": 0, "CLASS1": 1})
    assert trainer(tmp_path, mlp(**same))


def test_without_training_the_head_is_checked_against_the_evaluation_set(tmp_path):
    names = dict(id2label={0: "class1", 1: "class0"}, label2id={"class1": 0, "class0": 1})
    more, data = table([[3, 3], [3, 3], [3, 3]]), table(HELD_OUT)
    for made, evaluated, part in ((mlp(**names), data, "order"), (mlp(), more, "num_labels=2")):
        with pytest.raises(ValueError, match=part):
            GerneTrainer(model=made, args=config(tmp_path), eval_dataset=evaluated)
        with pytest.raises(ValueError, match=part):
            GerneTrainer(model=made, args=config(tmp_path)).evaluate(evaluated)
    assert GerneTrainer(model=mlp(num_labels=5), args=config(tmp_path), eval_dataset=data).evaluate()
