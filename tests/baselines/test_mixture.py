"""Mixture balancing: which rows stay, and how often each is drawn."""

import numpy as np
import pytest
from helpers import config, mlp, table, watch_batches
from workshop import Workshop

from gerne_hf.baselines import BaselineConfig, MixtureTrainer
from gerne_hf.baselines.mixture import left_out

pytestmark = pytest.mark.usefixtures("without_pictures")
COUNTS = [[50, 10], [80, 40], [12, 8]]  # classes of 60, 120 and 20 rows


def mixture(output_dir, ratio=2.0, train=None, **settings):
    plain = config(output_dir, **{"plan": "erm", "max_steps": 60, **settings})
    args = BaselineConfig(**{**given(plain), "mixture_ratio": ratio})
    data = table(COUNTS) if train is None else train
    return MixtureTrainer(model=mlp(num_labels=3), args=args, train_dataset=data)


def given(args):
    return {name: getattr(args, name) for name, field in type(args).__dataclass_fields__.items() if field.init}


@pytest.mark.parametrize(
    "ratio, kept", [(1.0, [20, 20, 20]), (2.0, [40, 40, 20]), (4.5, [60, 90, 20]), (99, [60, 120, 20])]
)
def test_no_class_has_more_than_the_ratio_times_the_smallest(ratio, kept):
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [60, 120, 20]))
    out = left_out(labels, ratio, seed=3)
    assert np.bincount(labels[~out]).tolist() == kept
    assert (out == left_out(labels, ratio, seed=3)).all()
    assert ratio == 99 or (out != left_out(labels, ratio, seed=4)).any()


def test_kept_rows_of_each_class_are_drawn_alike_and_no_others(tmp_path):
    subject = mixture(tmp_path, per_device_train_batch_size=30)
    batches = watch_batches(subject)
    subject.train()
    labels = np.array(subject.train_dataset["label"][:])
    out = left_out(labels, 2.0, subject.args.seed)
    times = np.bincount([row for batch in batches for row in batch["row"].tolist()], minlength=200)
    assert times[out].sum() == 0 and [times[labels == y].sum() for y in range(3)] == [600] * 3
    expected = 600 / np.array([40, 40, 20])[labels[~out]]
    assert (np.abs(times[~out] - expected) <= 5 * np.sqrt(expected)).all()
    assert subject.groups.counts.tolist() == [[40, 20], [40, 80], [20, 0]]


def test_no_attributes_are_needed_and_its_groups_are_not_called_attributes_of_the_data(tmp_path):
    subject = mixture(tmp_path, train=table(COUNTS).remove_columns("place"), attribute_column=None, max_steps=1)
    subject.train()
    assert subject.groups.attribute_names == ("kept", "left out") and subject.reference_groups.num_attributes == 1


def test_it_is_compared(tmp_path):
    shop = Workshop(tmp_path)
    results = shop.compare(["erm", "mixture"], settings={"mixture": {"mixture_ratio": 1.5}})
    assert list(results) == ["ERM", "mixture balancing"] and shop.trainers[-1].ratio == 1.5
    assert len(results["mixture balancing"][0]["groups"]) == 4


def test_bad_input(tmp_path):
    with pytest.raises(ValueError, match="mixture balancing lays out its batches by itself; use plan='erm'"):
        mixture(tmp_path, plan="resampling")
    for ratio in (0.5, float("nan"), float("inf")):
        with pytest.raises(
            ValueError, match="mixture_ratio, the largest class-imbalance ratio, must be finite and at least 1"
        ):
            mixture(tmp_path, ratio=ratio)
