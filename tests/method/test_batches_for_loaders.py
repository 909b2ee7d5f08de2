"""`make_plan` and `GroupBatchSampler`: the plan and the batches of GerneTrainer, for loaders of anybody's."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.data_loader import BatchSamplerShard
from helpers import table, trainer
from torch.utils.data import DataLoader, TensorDataset

from gerne_hf import BatchPlan, GroupBatchSampler, GroupIndex, GroupSampler, make_plan
from gerne_hf.method.plans import PLANS

GROUPS = GroupIndex.from_dataset(table(), attribute_column="place")
EMPTY = GroupIndex.from_arrays([0, 0, 0, 1, 1], [0, 0, 1, 1, 1])  # (1, 0) has no rows


def settings_of(plan: BatchPlan) -> list:
    parts = [(s.name, s.rows, s.coefficient, s.distribution.tolist(), s.group_weights is None) for s in plan.segments]
    return [plan.name, plan.every_row, *parts, *(s.group_weights.tolist() for s in plan.segments if not parts[0][-1])]


# ---- the plan -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("name", PLANS)
def test_the_plan_is_that_of_the_trainer(tmp_path, name, balanced):
    options = {"plan": name, "c": 0.4, "beta": 0.9, "class_balanced": balanced}
    options |= {"biased_share": 0.25} if name == "independent" else {}
    subject = trainer(tmp_path, **options)
    assert settings_of(make_plan(GROUPS, 8, **options)) == settings_of(subject.plan)


def test_the_plan_over_groups_without_rows_is_that_of_the_trainer(tmp_path):
    options = {"plan": "independent", "empty_groups": "ignore", "beta": 0.5}
    subject = trainer(tmp_path, train=table([[9, 5], [0, 7]]), **options)
    assert settings_of(make_plan(subject.groups, 8, **options)) == settings_of(subject.plan)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"plan": "gerne"}, "unknown plan 'gerne'; the plans are independent, shared"),
        ({"beta": 99.0}, "beta=99 lies outside its bounds"),
        ({"c": 0.0}, r"must lie in \(0, 1\]; found 0.0"),
        ({"batch_size": 1}, "at least 2 rows"),
        ({"groups": EMPTY}, r"1 of 4 groups have no training rows: \(1, 0\)"),
        ({"groups": GroupIndex.from_arrays([0, 1])}, "no groups to balance"),
        ({"beta_out_of_bounds": "no"}, "beta_out_of_bounds must be one of 'error', 'warn', 'ignore'; found 'no'"),
        ({"empty_groups": "drop"}, "empty_groups must be one of 'error', 'ignore'; found 'drop'"),
    ],
)
def test_settings_that_make_no_plan(settings, message):
    with pytest.raises(ValueError, match=message):
        make_plan(**{"groups": GROUPS, "batch_size": 8, **settings})


def test_what_is_allowed_when_asked_for():
    assert make_plan(EMPTY, 4, empty_groups="ignore").segments[1].distribution[1].tolist() == [0.0, 0.5]
    assert make_plan(EMPTY, 4, plan="erm").segments[0].rows == 4
    assert make_plan(GROUPS, 8, beta=99.0, beta_out_of_bounds="ignore").segments[1].coefficient == 100.0


# ---- the batches ----------------------------------------------------------------------------------------------------


def test_batches_are_those_of_the_sampler():
    plan = make_plan(GROUPS, 8)
    batches, single = GroupBatchSampler(GROUPS, plan, seed=5), GroupSampler(GROUPS, plan, seed=5)
    assert len(batches) == 11 and batches.batch_size == 8
    for epoch in (0, 1):
        batches.set_epoch(epoch)
        single.set_epoch(epoch)
        assert np.array(list(batches)).ravel().tolist() == list(single)
    second = list(batches)
    assert second == list(batches)
    batches.set_epoch(2)
    assert list(batches) != second
    batches.set_epoch(1)
    assert list(batches) == second
    other = GroupBatchSampler(GROUPS, plan, seed=6)
    other.set_epoch(1)
    assert list(other) != second


def test_the_trainer_draws_the_same_batches(tmp_path):
    subject = trainer(tmp_path, seed=3)
    loader = subject.get_train_dataloader()
    batches = GroupBatchSampler(GROUPS, make_plan(GROUPS, 8), seed=3)
    drawn = [table()[rows]["inputs"] for rows in batches]
    for batch, expected in zip(loader, drawn, strict=True):
        assert torch.equal(batch["inputs"], torch.tensor(expected))


def test_each_batch_has_the_groups_that_the_plan_lays_out():
    plan = make_plan(GROUPS, 80, c=1.0)
    batches = GroupBatchSampler(GROUPS, plan, num_rows=40_000)
    groups = np.stack([batches.group_ids(rows).numpy() for rows in batches])
    assert groups.shape == (500, 80) and batches.group_ids([0, 3]).dtype is torch.int64
    for segment, rows in zip(plan.segments, plan.slices(), strict=True):
        shares = np.bincount(groups[:, rows].ravel(), minlength=4) / groups[:, rows].size
        np.testing.assert_allclose(shares, segment.distribution.ravel(), atol=0.015)


def test_an_epoch_of_every_row():
    plan = make_plan(GROUPS, 8, "erm", class_balanced=False)
    batches = GroupBatchSampler(GROUPS, plan, seed=1)
    found = list(batches)
    assert [len(rows) for rows in found] == [8] * 11 and sorted(sum(found, [])) == list(range(88))
    plan = make_plan(GROUPS, 10, "erm", class_balanced=False)
    batches = GroupBatchSampler(GROUPS, plan)
    assert [len(rows) for rows in batches] == [10] * 8 + [8] and len(batches) == 9
    batches = GroupBatchSampler(GROUPS, plan, drop_last=True)
    assert [len(rows) for rows in batches] == [10] * 8 and len(batches) == 8


def test_numbers_of_batches():
    plan = make_plan(GROUPS, 16)
    assert len(GroupBatchSampler(GROUPS, plan)) == 6  # 88 rows
    assert len(GroupBatchSampler(GROUPS, plan, drop_last=True)) == 5
    assert len(GroupBatchSampler(GROUPS, plan, batch_multiple=4)) == 8
    assert len(list(GroupBatchSampler(GROUPS, plan, num_rows=160))) == 10
    with pytest.raises(ValueError, match="seed must be a whole number"):
        GroupBatchSampler(GROUPS, plan, seed=-1)
    with pytest.raises(ValueError, match="build the plan from this index's alpha"):
        GroupBatchSampler(GROUPS, BatchPlan.build("erm", 4, np.full((3, 2), 0.5)))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_of_torch(workers):
    rows = TensorDataset(torch.arange(len(GROUPS)), torch.from_numpy(GROUPS.codes.astype(np.int64)))
    batches = GroupBatchSampler(GROUPS, make_plan(GROUPS, 8), seed=2)
    loader = DataLoader(rows, batch_sampler=batches, num_workers=workers)
    found = [(numbers.tolist(), groups) for numbers, groups in loader]
    assert [numbers for numbers, _ in found] == list(batches)
    assert all(torch.equal(batches.group_ids(numbers), groups) for numbers, groups in found)


def test_loaders_that_accelerate_prepared_have_new_batches_each_epoch():
    rows = TensorDataset(torch.arange(len(GROUPS)))
    batches = GroupBatchSampler(GROUPS, make_plan(GROUPS, 8))
    loader = Accelerator(cpu=True).prepare(DataLoader(rows, batch_sampler=batches))
    epochs = [[numbers.tolist() for (numbers,) in loader] for _ in range(2)]
    for epoch, found in enumerate(epochs):
        batches.set_epoch(epoch)
        assert found == list(batches)
    assert epochs[0] != epochs[1]


def test_processes_get_whole_batches_and_learn_the_epoch():
    batches = GroupBatchSampler(GROUPS, make_plan(GROUPS, 16), batch_multiple=2)
    shards = [BatchSamplerShard(batches, num_processes=2, process_index=i) for i in (0, 1)]
    assert [list(shard) for shard in shards] == [list(batches)[0::2], list(batches)[1::2]]
    loader = Accelerator(cpu=True).prepare(DataLoader(TensorDataset(torch.arange(88)), batch_sampler=shards[1]))
    loader.set_epoch(3)  # as Trainer does; Accelerate reaches the sampler through the shard
    assert batches.sampler.epoch == 3
