"""A head larger than the data, and classes that a subset for debugging lacks: trained where that is meant; said."""

import numpy as np
import pytest
from datasets import Value
from helpers import config, first_batch, mlp, step_gradient, table, trainer, watch_batches
from refusals import refused

from gerne_hf import GerneTrainer
from gerne_hf.baselines import GroupDROTrainer, SquareRootTrainer
from gerne_hf.method.plans import PLANS
from gerne_hf.pseudo_attributes import PseudoAttributes
from gerne_hf.tuning.space import beta_range

pytestmark = pytest.mark.usefixtures("without_pictures")
WHOLE = [[9, 6], [5, 20], [10, 8]]
PLANNED = [("erm", dict()), *((plan, dict(empty_groups="ignore")) for plan in PLANS if plan != "erm")]


def subset(lacking):
    """Rows without those of a class, whose ClassLabel still names all three."""
    return table(WHOLE).filter(lambda row: row["label"] != lacking)


@pytest.mark.parametrize("plan, settings", PLANNED, ids=[plan for plan, _ in PLANNED])
def test_a_larger_head_is_trained_and_told_once(tmp_path, caplog, plan, settings):
    held_out = table(seed=3)
    for _ in range(2):
        subject = trainer(tmp_path, mlp(num_labels=5), eval_dataset=held_out, plan=plan, **settings)
    said = "The model's head has num_labels=5, and the training set has 2 classes"
    assert caplog.text.count(said) == 1
    subject.train()
    subject.evaluate()
    assert 0 <= subject.group_results["eval"]["worst_group_accuracy"] <= 1
    assert len(subject.group_results["eval"]["groups"]) == 4


@pytest.mark.parametrize("lacking", [0, 1, 2])
@pytest.mark.parametrize("plan, settings", PLANNED, ids=[plan for plan, _ in PLANNED])
def test_a_class_that_a_subset_lacks(tmp_path, caplog, plan, settings, lacking):
    """The others are drawn equally often, and evaluations are over all classes."""
    data, held_out = subset(lacking), table(WHOLE, seed=3)
    subject = trainer(tmp_path, mlp(num_labels=3), data, eval_dataset=held_out, plan=plan, **settings)
    assert caplog.text.count(f"The classes ['class{lacking}'] have no training rows") == 1
    weights = subject.plan.expected_weights().sum(axis=1)
    assert weights == pytest.approx([0 if label == lacking else 0.5 for label in range(3)])
    batches = watch_batches(subject)
    subject.train()
    assert all((batch["labels"] != lacking).all() for batch in batches) and len(batches) == 2
    subject.evaluate()
    counts = [group["train_count"] for group in subject.group_results["eval"]["groups"]]
    expected = np.where(np.arange(3)[:, None] == lacking, 0, WHOLE)
    assert counts == expected.ravel().tolist()
    subject.create_model_card()


def test_labels_that_are_numbers_alone(tmp_path):
    """The training set knows of two classes, the evaluation set and the head of three."""
    data, held_out = (each.cast_column("label", Value("int64")) for each in (subset(2), table(WHOLE, seed=3)))
    subject = trainer(tmp_path, mlp(num_labels=3), data, eval_dataset=held_out, plan="erm")
    subject.train()
    subject.evaluate()
    groups = subject.group_results["eval"]["groups"]
    assert [group["train_count"] for group in groups] == [9, 6, 5, 20, 0, 0]
    assert sum(group["count"] for group in groups) == 58
    parts = "classes that training lacks: 2", "filter"
    refused(ValueError, *parts, output_dir=tmp_path, model=mlp(), train=data, eval_dataset=held_out)


@pytest.mark.parametrize("cls, plan", [(SquareRootTrainer, "erm"), (GroupDROTrainer, "resampling")])
def test_baselines(tmp_path, cls, plan):
    settings = dict(cls=cls, plan=plan, empty_groups="ignore")
    subject = trainer(tmp_path, mlp(num_labels=3), subset(1), **settings)
    assert step_gradient(subject, first_batch(subject))
    subject.train()


def test_as_often_as_they_occur(tmp_path):
    settings = dict(plan="erm", class_balanced=False, num_train_epochs=1, max_steps=-1)
    subject = trainer(tmp_path, mlp(num_labels=3), subset(0), **settings)
    batches = watch_batches(subject)
    subject.train()
    assert sum(len(batch["labels"]) for batch in batches) == 43


def test_elsewhere_both_are_refused(tmp_path):
    way_out = "empty_groups='ignore'"
    refused(ValueError, "num_labels=3", "2 classes", way_out, output_dir=tmp_path, model=mlp(num_labels=3))
    refused(
        ValueError, "classes class1 have no", way_out, output_dir=tmp_path, train=subset(1), model=mlp(num_labels=3)
    )
    for settings in (dict(plan="erm"), dict(empty_groups="ignore")):
        parts = "num_labels=2", "3 classes"
        refused(ValueError, *parts, output_dir=tmp_path, model=mlp(), train=table(WHOLE), **settings)


def test_where_attributes_are_unknown_both_are_refused(tmp_path):
    args = config(tmp_path, pseudo_attributes=True, threshold=0.2, empty_groups="ignore", attribute_column=None)
    with pytest.raises(ValueError, match="num_labels=3, and the training set has 2 classes"):
        PseudoAttributes.fit(args=args, train_dataset=table(), model=mlp(num_labels=3))
    with pytest.raises(ValueError, match="class1 have no training rows"):
        GerneTrainer(model=mlp(num_labels=3), args=args, train_dataset=subset(1))


def test_a_search_over_the_classes_there_are():
    lower, upper = beta_range(np.array([[9, 1], [0, 0]]), c=0.5)
    assert (lower, upper) == beta_range(np.array([[9, 1]]), c=0.5)
