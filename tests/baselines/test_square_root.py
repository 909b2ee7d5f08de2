"""Square-root sampling: how often each class is drawn, in the stream that training reads."""

import numpy as np
import pytest
from helpers import mlp, table, trainer, watch_batches

from gerne_hf.baselines import SquareRootTrainer

pytestmark = pytest.mark.usefixtures("without_pictures")
COUNTS = [[320, 80], [80, 20], [5, 20]]  # 400, 100, 25 rows: roots 20, 10, 5


def subject_for(output_dir, **settings):
    return trainer(
        output_dir,
        mlp(num_labels=3),
        table(COUNTS),
        cls=SquareRootTrainer,
        **{"plan": "erm", "max_steps": 3, **settings},
    )


def within_errors(counts, expected):
    """Whether shares lie within 4 standard errors of the expected ones."""
    total, expected = counts.sum(), np.asarray(expected)
    return (np.abs(counts / total - expected) <= 4 * np.sqrt(expected * (1 - expected) / total)).all()


@pytest.mark.parametrize("class_balanced", [True, False])
def test_classes_are_drawn_by_the_square_root_of_their_rows(tmp_path, class_balanced):
    subject = subject_for(tmp_path, class_balanced=class_balanced)
    subject.train()
    labels, places = (np.array(subject.train_dataset[name][:]) for name in ("label", "place"))
    groups, times, drawn = np.zeros(6), np.zeros(len(labels)), 0
    while drawn < 100_000:
        rows = np.array(list(subject._sampler))  # of the run: the plan and the groups that were trained on
        groups += np.bincount(2 * labels[rows] + places[rows], minlength=6)
        times += np.bincount(rows, minlength=len(labels))
        drawn += len(rows)
        subject._sampler.set_epoch(subject._sampler.epoch + 1)
    classes = groups.reshape(3, 2).sum(axis=1)
    assert within_errors(classes, [4 / 7, 2 / 7, 1 / 7])
    assert not within_errors(classes, [16 / 21, 4 / 21, 1 / 21]) and not within_errors(classes, [1 / 3] * 3)
    for y in range(3):  # within a class rows are drawn alike
        assert within_errors(groups[2 * y : 2 * y + 2], np.array(COUNTS[y]) / np.sum(COUNTS[y]))
        mine = times[labels == y]
        assert ((mine - mine.mean()) ** 2).mean() == pytest.approx(mine.mean(), rel=0.6)


def test_the_batches_are_those_of_the_stream(tmp_path):
    subject = subject_for(tmp_path, per_device_train_batch_size=14)
    batches = watch_batches(subject)
    subject.train()
    subject._sampler.set_epoch(0)
    stream = list(subject._sampler)[: 3 * 14]
    assert [row for batch in batches for row in batch["row"].tolist()] == stream
    for batch in batches:  # 14 rows: exactly 8, 4 and 2 of the classes
        assert np.bincount(batch["labels"], minlength=3).tolist() == [8, 4, 2]
