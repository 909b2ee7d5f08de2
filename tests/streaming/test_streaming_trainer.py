"""GerneTrainer on streamed rows: composition, resume, and what is refused."""

import numpy as np
import pytest
from datasets import Dataset
from helpers import assert_same, config, mlp, table, trainer, watch_batches, weights

from gerne_hf import GerneTrainer, GroupIndex
from gerne_hf.baselines import JTTTrainer
from gerne_hf.groups.batches import GROUP_KEY
from gerne_hf.streaming import GroupPartitions, ReservoirStream, partition_by_group

pytestmark = pytest.mark.usefixtures("without_pictures")


@pytest.fixture(scope="module")
def partitions(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("partition") / "p")
    return partition_by_group(table(), path, attribute_column="place", block_bytes=400, shard_rows=20)


def reservoir(**settings):
    return ReservoirStream(table().to_iterable_dataset(num_shards=4), 6, attribute_column="place", **settings)


def stream(kind, partitions):
    return GroupPartitions.load(partitions.path, 4000) if kind == "partitions" else reservoir()


KINDS = pytest.mark.parametrize("kind", ["partitions", "reservoir"])


@KINDS
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_have_the_groups_of_training_in_memory(tmp_path, partitions, kind, workers):
    settings = dict(max_steps=6, dataloader_num_workers=workers, eval_dataset=table([[5, 5], [5, 5]]))
    streamed = trainer(tmp_path / "a", train=stream(kind, partitions), **settings)
    in_memory = trainer(tmp_path / "b", train=table(), **settings)
    seen = [watch_batches(subject) for subject in (streamed, in_memory)]
    streamed.train()
    in_memory.train()
    index = GroupIndex.from_dataset(table(), attribute_column="place")
    assert len(seen[0]) == len(seen[1]) == 6
    for ours, theirs in zip(*seen, strict=True):
        assert ours[GROUP_KEY].tolist() == index.codes[ours["row"]].tolist()
        # A reservoir's epoch is the run, so its draws are cut into blocks elsewhere.
        assert kind == "reservoir" or ours[GROUP_KEY].tolist() == theirs[GROUP_KEY].tolist()
        assert ours["labels"].reshape(2, 4).sum(dim=1).tolist() == [2, 2]  # each segment has both classes equally
        features = np.array(table()["inputs"])[ours["row"]]
        assert np.allclose(ours["inputs"].numpy(), features, atol=1e-6)
    assert "eval_worst_group_accuracy" in streamed.evaluate()


def test_an_epoch_is_as_long_as_the_partition(tmp_path, partitions):
    subject = trainer(tmp_path, train=partitions, max_steps=-1, num_train_epochs=2)
    seen = watch_batches(subject)
    subject.train()
    assert len(seen) == 2 * 11  # 88 rows, 8 a batch
    assert [b["row"].tolist() for b in seen[:11]] != [b["row"].tolist() for b in seen[11:]]


@KINDS
@pytest.mark.parametrize("workers", [0, 2])
def test_resume_in_mid_epoch_is_exact(tmp_path, partitions, kind, workers):
    settings = dict(dataloader_num_workers=workers, max_steps=9, save_strategy="steps", save_steps=5)
    whole = trainer(tmp_path / "a", mlp(dropout=0.3), stream(kind, partitions), **settings)
    seen = watch_batches(whole)
    whole.train()
    resumed = trainer(tmp_path / "b", mlp(dropout=0.3), stream(kind, partitions), **settings)
    again = watch_batches(resumed)
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-5"))
    assert [batch["row"].tolist() for batch in again] == [batch["row"].tolist() for batch in seen[5:]]
    assert_same(weights(whole.model), weights(resumed.model))


def test_resume_in_a_later_epoch_with_another_partition_is_refused(tmp_path, partitions):
    settings = dict(max_steps=-1, num_train_epochs=2, save_strategy="steps", save_steps=14)
    whole = trainer(tmp_path / "a", train=partitions, **settings)
    seen = watch_batches(whole)
    whole.train()
    resumed = trainer(tmp_path / "b", train=GroupPartitions.load(partitions.path), **settings)
    again = watch_batches(resumed)
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-14"))
    assert [batch["row"].tolist() for batch in again] == [batch["row"].tolist() for batch in seen[14:]]
    other = partition_by_group(table(seed=4), str(tmp_path / "p"), attribute_column="place")
    assert (other.groups.counts == partitions.groups.counts).all()
    for train in (other, GroupPartitions.load(partitions.path, 3000)):  # other rows, and another order
        with pytest.raises(ValueError, match="belongs to another run: data was"):
            trainer(tmp_path / "c", train=train, **settings).train(str(tmp_path / "a" / "checkpoint-14"))


def test_the_two_streams_as_loaders(tmp_path, partitions):
    subject = trainer(tmp_path, train=partitions)
    for loader in (subject.get_biased_dataloader(), subject.get_less_biased_dataloader()):
        batch = next(iter(loader))
        assert len(batch["labels"]) == 4 and batch["labels"].sum() == 2


# ---- what is refused ----------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(accelerator_config={"dispatch_batches": True}), "dispatch_batches=True has the main process read"),
        (dict(pseudo_attributes=True, threshold=0.1), "pseudo_attributes=True needs rows by number"),
        (dict(attribute_column="row"), "columns 'label', 'place' .label first., and the config names 'label', 'row'"),
        (dict(attribute_column=None, plan="erm"), "and the config names 'label'"),
        (dict(label_column="row"), "names 'row', 'place'"),
        (dict(accelerator_config={"split_batches": True}), "split_batches"),
        (dict(train_sampling_strategy="group_by_length"), "train_sampling_strategy"),
    ],
)
def test_settings_that_streams_cannot_serve(tmp_path, partitions, kind, settings, message):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, train=stream(kind, partitions), **settings)


def test_a_plain_stream_says_what_to_do(tmp_path):
    with pytest.raises(TypeError, match="can only be iterated.*partition_by_group.*ReservoirStream"):
        trainer(tmp_path, train=table().to_iterable_dataset())


def test_evaluation_sets_are_map_style(tmp_path, partitions):
    with pytest.raises(TypeError, match="GroupPartitions gives rows by group.*Evaluation and test sets are map-style"):
        trainer(tmp_path, eval_dataset=partitions)


def test_a_group_without_rows(tmp_path):
    data = Dataset.from_dict({"inputs": [[0.0] * 6] * 12, "label": [0, 1] * 6, "place": [0, 0, 1, 0] * 3})
    partitions = partition_by_group(data, str(tmp_path / "p"), attribute_column="place")
    with pytest.raises(ValueError, match=r"1 of 4 groups have no training rows: \(1, 1\)"):
        trainer(tmp_path, train=partitions)
    subject = trainer(tmp_path, train=partitions, empty_groups="ignore", beta=0.0)
    seen = watch_batches(subject)
    subject.train()
    assert all(3 not in batch[GROUP_KEY] for batch in seen)


def test_other_trainers(tmp_path, partitions):
    with pytest.raises(ValueError, match="JTT scores each training row by its number, and GroupPartitions has none"):
        JTTTrainer(model=mlp(), args=config(tmp_path, plan="erm"), train_dataset=partitions)
    with pytest.raises(ValueError, match="max_steps has to be specified"):
        GerneTrainer(model=mlp(), args=config(tmp_path, max_steps=-1), train_dataset=reservoir())
