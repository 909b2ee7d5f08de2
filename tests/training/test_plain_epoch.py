"""Plain ERM (`class_balanced=False`): an epoch is every row once, as with the stock Trainer, to the last bit."""

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from helpers import assert_same, config, decode_images, images, mlp, resnet, table, trainer, watch_batches, weights
from torch.utils.data import BatchSampler
from transformers import Trainer, TrainingArguments

from gerne_hf import BatchPlan, GerneTrainer, GroupIndex
from gerne_hf.baselines import GroupDROTrainer, JTTTrainer, SquareRootTrainer
from gerne_hf.method.plans import Segment
from gerne_hf.method.sampling import EpochSampler
from gerne_hf.streaming import GroupPartitions, ReservoirStream, partition_by_group

pytestmark = pytest.mark.usefixtures("without_pictures")
COUNTS = [[30, 6], [10, 20]]  # 66 rows: 4 batches of 16, and 2 rows
PLAIN = dict(plan="erm", class_balanced=False, per_device_train_batch_size=16, num_train_epochs=2, max_steps=-1)


def rows_of(batches):
    return [batch["row"].tolist() for batch in batches]


@pytest.mark.parametrize("seeds", [dict(seed=5), dict(seed=5, data_seed=9), dict(gradient_accumulation_steps=3)])
def test_rows_and_weights_are_those_of_the_stock_trainer(tmp_path, seeds):
    subject = trainer(tmp_path, mlp(), table(COUNTS), **PLAIN, **seeds)
    batches = watch_batches(subject)
    subject.train()
    mine = config(tmp_path, **PLAIN, **seeds)
    names = set(TrainingArguments.__dataclass_fields__) & {
        *("seed", "data_seed", "gradient_accumulation_steps", "per_device_train_batch_size", "num_train_epochs"),
        *("max_steps", "optim", "learning_rate", "lr_scheduler_type", "output_dir", "use_cpu", "save_strategy"),
        *("disable_tqdm", "report_to"),
    }
    args = TrainingArguments(**{name: getattr(mine, name) for name in names})
    stock = Trainer(model=mlp(), args=args, train_dataset=table(COUNTS))
    theirs = watch_batches(stock)
    stock.train()
    assert rows_of(batches) == rows_of(theirs) and len(batches) == 10
    assert sorted(sum(rows_of(batches[:5]), [])) == list(range(66)) and len(batches[4]["row"]) == 2
    assert rows_of(batches[:5]) != rows_of(batches[5:])
    assert subject.state.global_step == stock.state.global_step
    assert_same(weights(subject.model), weights(stock.model), 1e-6)


def test_dropping_the_last_rows(tmp_path):
    subject = trainer(tmp_path, mlp(), table(COUNTS), dataloader_drop_last=True, **PLAIN)
    batches = watch_batches(subject)
    subject.train()
    assert len(batches) == 8 and all(len(set(rows)) == 16 for rows in rows_of(batches))


@pytest.mark.parametrize("cls", [GerneTrainer, GroupDROTrainer])
@pytest.mark.parametrize("mode", ["fused", "separate"])
def test_a_shorter_last_batch_is_trained(tmp_path, cls, mode):
    subject = trainer(tmp_path, train=table(COUNTS), cls=cls, forward_mode=mode, **PLAIN)
    batches = watch_batches(subject)
    subject.train()
    assert sorted(sum(rows_of(batches[5:]), [])) == list(range(66))
    means = trainer(tmp_path, train=table(COUNTS), compute_loss_func=mean_loss, forward_mode=mode, **PLAIN)
    means.train()
    assert means.state.global_step == 10


def mean_loss(outputs, labels, num_items_in_batch=None):
    return torch.nn.functional.cross_entropy(outputs.logits, labels)


def test_a_model_with_batch_norm_is_trained(tmp_path):
    data = images(COUNTS).with_transform(decode_images)
    subject = trainer(tmp_path, resnet(), data, **PLAIN, remove_unused_columns=False)
    subject.train()
    assert subject.state.global_step == 10


@pytest.mark.parametrize("step", [3, 7])
def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path, step):
    settings = dict(PLAIN, save_strategy="steps", save_steps=1, optim="adamw_torch", learning_rate=0.01)
    whole = trainer(tmp_path, mlp(dropout=0.3), table(COUNTS), **settings)
    batches = watch_batches(whole)
    whole.train()
    resumed = trainer(tmp_path, mlp(9, dropout=0.3), table(COUNTS), **settings)
    rest = watch_batches(resumed)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
    assert rows_of(rest) == rows_of(batches[step:])
    assert_same(weights(resumed.model), weights(whole.model))


# ---- the sampler --------------------------------------------------------------------------------------------------


def sampler(rows, batch, **settings):
    groups = GroupIndex.from_arrays(np.arange(rows) % 2, np.arange(rows) % 3)
    plan = BatchPlan("erm", (Segment("biased", batch, groups.counts / rows, 1.0),), every_row=True)
    return EpochSampler(groups, plan, **settings)


@pytest.mark.parametrize("rows, batch", [(66, 16), (64, 16), (5, 16), (40_001, 7)])
def test_every_row_comes_once(rows, batch):
    subject = sampler(rows, batch)
    first = list(subject)
    subject.set_epoch(1)
    second = list(subject)
    assert sorted(first) == sorted(second) == list(range(rows)) and first != second
    assert len(subject) == rows
    assert list(sampler(rows, batch, seed=7)) not in (first, second)


@pytest.mark.parametrize("rows, processes", [(66, 2), (64, 2), (66, 3), (5, 4)])
def test_processes_share_the_epoch(rows, processes):
    """As Accelerate deals batches out: all take as many steps, each row comes, and only the first rows come twice."""
    order = list(sampler(rows, 16))
    shards = [
        list(BatchSamplerShard(BatchSampler(sampler(rows, 16), 16, False), processes, process))
        for process in range(processes)
    ]
    assert len({len(shard) for shard in shards}) == 1 and all(len(b) == 16 for shard in shards for b in shard)
    taken = [row for step in zip(*shards, strict=True) for batch in step for row in batch]
    assert taken[:rows] == order and set(taken[rows:]) <= set(order)


def test_a_plan_of_several_segments_is_drawn(tmp_path):
    half = np.full((2, 2), 0.25)
    with pytest.raises(ValueError, match="plans of one segment.*has 2"):
        BatchPlan("mine", (Segment("a", 2, half, 1.0), Segment("b", 2, half, 1.0)), every_row=True)


# ---- who does and who does not ------------------------------------------------------------------------------------


def test_other_plans_and_trainers_draw_by_their_distribution(tmp_path):
    data, unbalanced = table(COUNTS), dict(PLAIN, max_steps=1)
    assert trainer(tmp_path, train=data, **unbalanced).plan.every_row
    assert trainer(tmp_path, train=data, cls=GroupDROTrainer, **unbalanced).plan.every_row
    assert not trainer(tmp_path, train=data, **{**unbalanced, "class_balanced": True}).plan.every_row
    assert not trainer(tmp_path, train=data, **{**unbalanced, "plan": "resampling"}).plan.every_row
    assert not trainer(tmp_path, train=data, cls=SquareRootTrainer, **unbalanced).plan.every_row
    jtt = trainer(tmp_path, train=data, cls=JTTTrainer, **unbalanced)
    jtt.train()
    assert jtt.plan.repeats is not None and jtt.plan.name == "jtt"


def test_partitions_give_every_row_once(tmp_path):
    partition_by_group(table(COUNTS).to_iterable_dataset(), str(tmp_path / "parts"), attribute_column="place")
    partitions = GroupPartitions.load(str(tmp_path / "parts"))
    seen = []
    for _ in range(2):
        subject = trainer(tmp_path, mlp(), partitions, **PLAIN)
        batches = watch_batches(subject)
        subject.train()
        seen.append(rows_of(batches))
    assert seen[0] == seen[1] and len(seen[0]) == 10
    for epoch in (seen[0][:5], seen[0][5:]):
        assert sorted(sum(epoch, [])) == list(range(66))
    assert seen[0][:5] != seen[0][5:]


def test_a_stream_without_an_end_is_drawn_by_group(tmp_path):
    stream = ReservoirStream(table(COUNTS).to_iterable_dataset(), attribute_column="place")
    subject = trainer(tmp_path, mlp(), stream, **{**PLAIN, "max_steps": 3})
    batches = watch_batches(subject)
    subject.train()
    assert [len(rows) for rows in rows_of(batches)] == [16, 16, 16]
