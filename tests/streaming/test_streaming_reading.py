"""The rows of a partition: frequencies, passes, one stream for any number of readers, resume, memory."""

import itertools
import pickle

import numpy as np
import pyarrow as pa
import pytest
from accelerate.data_loader import BatchSamplerShard, SkipBatchSampler
from datasets import Dataset
from helpers import table
from torch.utils.data import BatchSampler, DataLoader

from gerne_hf import BatchPlan, GroupIndex, GroupSampler
from gerne_hf.method.plans import PLANS
from gerne_hf.streaming import GroupPartitions, partition_by_group
from gerne_hf.streaming.shards import Shard
from gerne_hf.streaming.shuffling import Pass
from gerne_hf.streaming.stream import Ticket, TicketSampler
from gerne_hf.streaming.windows import GroupReader

COUNTS = [[700, 40, 3], [90, 260, 11]]


@pytest.fixture(scope="module")
def data():
    return table(COUNTS, width=2)


@pytest.fixture(scope="module")
def path(data, tmp_path_factory):
    """Blocks of at most 30 rows in files of at most 100."""
    path = str(tmp_path_factory.mktemp("partition") / "p")
    partition_by_group(data, path, attribute_column="place", block_bytes=1200, shard_rows=100)
    return path


def plan_of(groups, rows=16, name="independent"):
    return BatchPlan.build(name, rows, groups.alpha, 0.5, 0.8)


def batches_of(path, epoch=0, rows=16, num_rows=None, processes=1, rank=0, workers=0, skip=0, buffer_bytes=5000):
    """The row numbers of a process's batches, as accelerate and a DataLoader deal them out."""
    partitions = GroupPartitions.load(path, buffer_bytes)
    sampler = TicketSampler(partitions.groups, plan_of(partitions.groups, rows), num_rows, 3, processes)
    sampler.set_epoch(epoch)
    batches = BatchSamplerShard(BatchSampler(sampler, rows, False), processes, rank)
    reader = partitions.reader(rank, processes)
    loader = DataLoader(
        reader, batch_sampler=SkipBatchSampler(batches, skip), num_workers=workers, collate_fn=row_numbers
    )
    return list(loader)


def row_numbers(rows):
    return [row["row"] for row in rows]


@pytest.mark.parametrize("name", PLANS)
def test_groups_are_those_of_the_sampler_for_rows_in_memory(path, data, name):
    index = GroupIndex.from_dataset(data, attribute_column="place")
    partitions = GroupPartitions.load(path)
    plan = plan_of(index, 21, name)
    stream, rows = TicketSampler(partitions.groups, plan, 5000, 9, 4), GroupSampler(index, plan, 5000, 9, 4)
    for epoch in (0, 3):
        stream.set_epoch(epoch)
        rows.set_epoch(epoch)
        tickets = list(stream)
        assert len(tickets) == len(stream) == len(rows)
        assert [ticket.group for ticket in tickets] == index.codes[list(rows)].tolist()
        assert [ticket.batch for ticket in tickets[::21]] == list(range(len(tickets) // 21))
        for group in range(index.counts.size):
            numbers = [ticket.number for ticket in tickets if ticket.group == group]
            assert numbers == list(range(len(numbers)))
    found = partitions.__getitems__(tickets[:42])
    assert index.codes[row_numbers(found)].tolist() == [ticket.group for ticket in tickets[:42]]


def test_each_pass_has_every_row_once_in_a_new_order(path, data):
    index = GroupIndex.from_dataset(data, attribute_column="place")
    streams = {}
    for epoch in (0, 1):
        drawn = np.concatenate(batches_of(path, epoch, num_rows=6000))
        for group, count in enumerate(index.counts.ravel()):
            own = drawn[index.codes[drawn] == group]
            assert len(own) > 2 * count
            first, second = own[:count], own[count : 2 * count]
            assert sorted(first) == sorted(second) == sorted(np.flatnonzero(index.codes == group))
            if count > 10:
                assert first.tolist() != second.tolist()
                assert first.tolist() != streams.get(group)  # nor that of the first epoch
            streams[group] = first.tolist()


def test_rows_far_apart_in_the_files_come_close_together(path, data):
    """A window mixes blocks of all files: the first rows of a pass are spread over the group."""
    index = GroupIndex.from_dataset(data, attribute_column="place")
    rank = {row: i for i, row in enumerate(index.rows(0, 0).tolist())}
    spread = []
    for epoch in range(12):
        drawn = [row for row in itertools.chain(*batches_of(path, epoch, num_rows=160, buffer_bytes=30_000))]
        spread.append(np.std([rank[row] for row in drawn if row in rank][:40]))
    assert np.mean(spread) > 0.7 * 700 / np.sqrt(12)


@pytest.mark.parametrize("sizes", [[5], [3, 3, 3], [10, 1, 4, 7, 2]])
@pytest.mark.parametrize("window", [1, 2, 9])
def test_every_row_is_equally_likely_at_every_place(sizes, window):
    """However unequal the blocks are; each pass holds each row once, in windows of at most `window` blocks."""
    sizes = np.array(sizes)
    names = np.concatenate([[0], np.cumsum(sizes)])
    trials = 1500
    counted = np.zeros((sizes.sum(), sizes.sum()))
    rng = np.random.default_rng(0)
    for _ in range(trials):
        laid = Pass.lay_out(sizes, window, rng)
        rows = np.empty(sizes.sum(), dtype=int)  # in the order of reading
        for number in range(-(-len(sizes) // window)):
            start, stop, blocks = laid.window(number)
            assert laid.window_of(start) == laid.window_of(stop - 1) == number and len(blocks) <= window
            held = np.concatenate([np.arange(names[b], names[b + 1]) for b in blocks])
            assert len(held) == stop - start
            rows[start:stop] = rng.permutation(held)
        places = [laid.place(position) for position in range(sizes.sum())]
        assert sorted(places) == sorted(rows) == list(range(sizes.sum()))
        counted[rows[places], np.arange(sizes.sum())] += 1
    p = 1 / sizes.sum()
    assert (np.abs(counted - trials * p) <= 4.5 * np.sqrt(trials * p * (1 - p)) + 1e-9).all()


@pytest.mark.parametrize("processes", [2, 4])
def test_one_stream_for_any_number_of_processes(path, processes):
    whole = batches_of(path, num_rows=1600)
    parts = [batches_of(path, num_rows=1600, processes=processes, rank=rank) for rank in range(processes)]
    assert [batch for turn in zip(*parts, strict=True) for batch in turn] == whole


def test_one_stream_for_any_number_of_workers(path):
    assert batches_of(path, num_rows=800, workers=2) == batches_of(path, num_rows=800)


def test_a_resumed_stream_goes_on_and_reads_no_more_than_it_needs(path, monkeypatch):
    whole = batches_of(path, epoch=2)
    assert batches_of(path, epoch=2, skip=31) == whole[31:]
    read = []
    file = pa.parquet.ParquetFile.read_row_groups
    monkeypatch.setattr(pa.parquet.ParquetFile, "read_row_groups", lambda *a, **k: read.append(1) or file(*a, **k))
    batches_of(path, epoch=2, skip=len(whole) - 1)
    last = len(read)
    read.clear()
    batches_of(path, epoch=2)
    assert 0 < last < len(read) / 3


def test_rows_in_memory_stay_under_the_bound(path):
    partitions = GroupPartitions.load(path, buffer_bytes=8000)
    assert partitions.memory_bound <= 8000
    sampler = TicketSampler(partitions.groups, plan_of(partitions.groups), seed=1)
    most = 0
    for batch in BatchSampler(sampler, 16, False):
        partitions.__getitems__(batch)
        held = [reader._table for reader in partitions._readers if reader._table is not None]
        most = max(most, sum(table.nbytes for table in held))
    assert 3000 < most <= 1.05 * partitions.memory_bound  # values read have a bit each for nulls


def test_one_window_is_let_go_before_the_next_is_read(path, monkeypatch):
    partitions = GroupPartitions.load(path, buffer_bytes=8000)
    held = []
    for reader in partitions._readers:
        read = reader._read
        monkeypatch.setattr(reader, "_read", lambda blocks, read=read, r=reader: held.append(r._table) or read(blocks))
    for batch in BatchSampler(TicketSampler(partitions.groups, plan_of(partitions.groups), 800), 16, False):
        partitions.__getitems__(batch)
    assert len(held) > 12 and held == [None] * len(held)


def test_the_largest_block_decides_how_many_are_held():
    shards = [Shard("a", [3, 3], 100), Shard("b", [9], 300), Shard("c", [3], 100)]
    reader = GroupReader(None, "", 0, shards, ["label"], 700)
    assert (reader.rows, reader.blocks_per_window, reader.memory_bound) == (18, 2, 600)
    assert GroupReader(None, "", 0, shards, ["label"], 10).memory_bound == 300


def test_the_seed_decides_the_order_of_the_rows(path):
    partitions = GroupPartitions.load(path, buffer_bytes=5000)
    orders = []
    for seed in (0, 1, 0):
        tickets = [Ticket(seed, 0, 0, 0, number) for number in range(200)]
        orders.append(row_numbers(partitions.__getitems__(tickets)))
    assert orders[0] == orders[2] != orders[1]


def test_a_group_that_fits_is_read_once(path, monkeypatch):
    partitions = GroupPartitions.load(path)
    reads = []
    for reader in partitions._readers:
        read = reader._read
        monkeypatch.setattr(reader, "_read", lambda pieces, read=read, g=reader.group: reads.append(g) or read(pieces))
    for batch in BatchSampler(TicketSampler(partitions.groups, plan_of(partitions.groups), 8000), 16, False):
        partitions.__getitems__(batch)
    assert sorted(reads) == list(range(6))


def test_a_copy_in_another_process_holds_no_rows(path):
    partitions = GroupPartitions.load(path)
    tickets = list(itertools.islice(TicketSampler(partitions.groups, plan_of(partitions.groups)), 32))
    rows = partitions.__getitems__(tickets)
    twin = pickle.loads(pickle.dumps(partitions))
    assert all(reader._table is None for reader in twin._readers)
    assert twin.__getitems__(tickets) == rows == [partitions[ticket] for ticket in tickets]


def test_a_transform_sees_the_rows_of_a_batch_and_leaves_the_stream_as_it_was(path):
    partitions = GroupPartitions.load(path)
    tickets = list(itertools.islice(TicketSampler(partitions.groups, plan_of(partitions.groups)), 16))
    rows = row_numbers(partitions.__getitems__(tickets))
    changed = partitions.with_transform(lambda columns: {"row": [-row for row in columns["row"]]})
    for stream in (changed, changed.reader(0, 2)):
        assert stream.__getitems__(tickets) == [{"row": -row} for row in rows]
    assert row_numbers(partitions.__getitems__(tickets)) == rows
    assert row_numbers(changed.with_transform(None).__getitems__(tickets)) == rows


def test_a_file_that_was_replaced(path, tmp_path):
    data = Dataset.from_dict({"label": [0, 1] * 20, "place": [0, 0, 1, 1] * 10, "row": list(range(40))})
    partitions = partition_by_group(data, str(tmp_path / "p"), attribute_column="place")
    file = next(tmp_path.glob("p/data-*/*/*.parquet"))
    pa.parquet.write_table(pa.table({"label": [0], "place": [0], "row": [0]}), file)
    tickets = list(TicketSampler(partitions.groups, plan_of(partitions.groups)))
    with pytest.raises(ValueError, match="holds 1 rows in 1 blocks, and partition.json says.*of another partition"):
        partitions.__getitems__(tickets)
