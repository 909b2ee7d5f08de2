"""ReservoirStream: what a bounded window of each group does to the distribution of rows."""

import pickle
import re

import numpy as np
import pytest
from datasets import Dataset, IterableDataset
from helpers import group_columns, table
from torch.utils.data import BatchSampler

from gerne_hf import BatchPlan, GroupIndex
from gerne_hf.streaming import ReservoirStream
from gerne_hf.streaming import reservoir as reservoir_module
from gerne_hf.streaming.reservoir import _Reservoirs
from gerne_hf.streaming.stream import Ticket, TicketSampler

COUNTS = [[500, 60], [30, 410]]


def columns(counts=COUNTS, seed=0):
    labels, places = group_columns(counts, seed)
    return Dataset.from_dict({"label": labels, "place": places, "row": np.arange(len(labels))})


def drawn(stream, steps, rows=16, seed=0, start=0):
    """`(steps, rows)` row numbers of the plan "independent"."""
    plan = BatchPlan.build("independent", rows, stream.groups.alpha, 0.5, 0.5)
    batches = BatchSampler(TicketSampler(stream.groups, plan, steps * rows, seed), rows, False)
    reader = stream.reader()
    return np.array(
        [[row["row"] for row in reader.__getitems__(b)] for i, b in enumerate(batches) if i >= start]
    ), plan


def test_groups_are_as_frequent_as_the_plan_says():
    data = columns()
    index = GroupIndex.from_dataset(data, attribute_column="place")
    stream = ReservoirStream(data.to_iterable_dataset(), 20, attribute_column="place")
    assert (stream.groups.counts == index.counts).all() and stream.groups.label_names == index.label_names
    rows, plan = drawn(stream, 3000)
    for segment, part in zip(plan.segments, plan.slices(), strict=True):
        codes = index.codes[rows[:, part]]
        for label in (0, 1):
            own = codes[codes // 2 == label]
            assert len(own) == 3000 * 4  # 8 rows a segment, half of them of each class
            p = segment.distribution[label] / segment.distribution[label].sum()
            assert abs((own % 2).sum() - len(own) * p[1]) <= 4 * np.sqrt(len(own) * p[0] * p[1])


def test_rows_of_a_group_are_drawn_equally_often_over_a_long_stream():
    data = columns([[150, 30], [20, 120]])
    index = GroupIndex.from_dataset(data, attribute_column="place")
    # In an order that never changes, a row before a gap of its group would stay longer, pass after pass.
    source = data.to_iterable_dataset().shuffle(seed=1, buffer_size=len(data))
    rows, _ = drawn(ReservoirStream(source, 8, attribute_column="place"), 4000)
    hits = np.bincount(rows.ravel(), minlength=len(data))
    for group in range(4):
        own = hits[index.codes == group]
        # A stay in the reservoir is geometric, so the hits vary more than independent draws would.
        assert own.min() > 0.6 * own.mean() and own.max() < 1.4 * own.mean(), (group, own)


def test_a_row_stays_for_as_many_arrivals_as_the_reservoir_holds():
    """Batches are drawn from what arrived lately: the mean age of a drawn row is R arrivals of its group."""
    size = 25
    data = columns([[3000, 1500], [1500, 3000]])
    index = GroupIndex.from_dataset(data, attribute_column="place")
    stream = ReservoirStream(data.to_iterable_dataset(), size, attribute_column="place")
    rows, _ = drawn(stream, 400)
    arrived = 4 * size + 16 * np.arange(1, 401)  # rows of the stream before each batch: those at first, then 16 each
    before = np.stack([np.cumsum(index.codes == group) for group in range(4)])
    ages = before[index.codes[rows], np.minimum(arrived, len(data) - 1)[:, None]] - before[index.codes[rows], rows]
    assert (ages >= 0).all() and np.mean(ages[100:]) == pytest.approx(size, rel=0.15)


def test_a_minority_is_repeated_until_new_rows_arrive():
    data = columns()
    index = GroupIndex.from_dataset(data, attribute_column="place")
    stream = ReservoirStream(data.to_iterable_dataset(), 30, attribute_column="place", rows_per_draw=2.0)
    rows, plan = drawn(stream, 1500)
    hits = np.bincount(rows.ravel(), minlength=len(data))
    p = np.mean([segment.distribution for segment in plan.segments], axis=0).ravel()
    passes = 1500 * 16 * 2.0 / len(data)
    share = index.counts.ravel() / len(data)
    for group in range(4):
        assert hits[index.codes == group].mean() / passes == pytest.approx(p[group] / share[group] / 2.0, rel=0.1)


def test_counts_from_the_user_and_rows_of_other_groups(caplog, monkeypatch):
    monkeypatch.setattr(reservoir_module.logger, "propagate", True)
    reservoir_module.logger.parent.propagate = True
    data = table([[40, 8, 4], [10, 30, 4]])
    counts = {("class0", 0): 50, (0, 1): 10, ("class1", 0): 20, ("class1", 1): 20}
    stream = ReservoirStream(data.to_iterable_dataset(), 5, attribute_column="place", counts=counts)
    assert stream.groups.counts.tolist() == [[50, 10], [20, 20]]
    with caplog.at_level("WARNING"):
        rows, _ = drawn(stream, 50)
    assert not np.isin(rows, np.flatnonzero(np.array(data["place"]) == 2)).any()
    assert caplog.text.count("rows of a group that counts (or the first prefix_rows rows) lack") == 1
    assert re.search(r"such as \{'label': [01], 'place': 2\}", caplog.text)


@pytest.mark.parametrize("rows", [333, 1500])
def test_counts_of_a_prefix(rows):
    data = columns([[1000, 120], [60, 820]])
    stream = ReservoirStream(data.to_iterable_dataset(), 5, attribute_column="place", prefix_rows=rows)
    first = GroupIndex.from_dataset(data.select(range(rows)), attribute_column="place")
    assert (stream.groups.counts == first.counts).all()


def test_a_stream_that_does_not_know_its_features():
    source = IterableDataset.from_generator(lambda: iter(columns()))
    assert source.features is None
    stream = ReservoirStream(source, 5, attribute_column="place")
    known = ReservoirStream(columns().to_iterable_dataset(), 5, attribute_column="place")
    assert stream.column_names == ["label", "place", "row"]
    assert (drawn(stream, 20)[0] == drawn(known, 20)[0]).all()


def test_a_resumed_reader_reads_up_to_its_place():
    stream = ReservoirStream(columns().to_iterable_dataset(num_shards=3), 10, attribute_column="place")
    whole, _ = drawn(stream, 60)
    assert (drawn(stream, 60, start=25)[0] == whole[25:]).all()
    assert (drawn(stream, 60, seed=1)[0] != whole).any()
    plan = BatchPlan.build("independent", 16, stream.groups.alpha, 0.5, 0.5)
    batches = list(BatchSampler(TicketSampler(stream.groups, plan, 60 * 16), 16, False))
    reader = stream.reader()
    for number in (40, 12, 12, 13):  # back, again, and on
        assert [row["row"] for row in reader.__getitems__(batches[number])] == whole[number].tolist()


def test_seed_epoch_and_batch_choose_the_rows():
    """Also where the groups asked for and the rows held are the same: nothing is replaced in these reservoirs."""
    stream = ReservoirStream(columns().to_iterable_dataset(), 2000, attribute_column="place")

    def rows(seed, epoch, batch):
        tickets = [Ticket(seed, epoch, batch, i % 4, i) for i in range(40)]
        return tuple(row["row"] for row in stream.reader().__getitems__(tickets))

    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    assert len({rows(*key) for key in keys}) == 4 and rows(0, 1, 0) == rows(0, 1, 0)


def test_seed_and_epoch_choose_the_rows_that_are_replaced():
    stream = ReservoirStream(columns().to_iterable_dataset(), 10, attribute_column="place")

    def held(seed, epoch):
        reservoirs = _Reservoirs(stream, (seed, epoch, (0, 1)))
        reservoirs.advance(20, 16)
        return str(reservoirs._held)

    assert len({held(0, 0), held(1, 0), held(0, 1)}) == 3 and held(0, 1) == held(0, 1)


def test_a_copy_in_another_process_begins_anew():
    stream = ReservoirStream(columns().to_iterable_dataset(), 10, attribute_column="place").reader()
    tickets = [Ticket(0, 0, 3, i % 4, i) for i in range(16)]
    rows = stream.__getitems__(tickets)
    assert pickle.loads(pickle.dumps(stream)).__getitems__(tickets) == rows


def test_other_settings_are_another_stream():
    """A resumed run compares these."""
    source, counts = columns().to_iterable_dataset(), {(0, 0): 500, (0, 1): 60, (1, 0): 30, (1, 1): 410}
    settings = [{}, {"buffer_rows_per_group": 11}, {"rows_per_draw": 2.0}, {"counts": {**counts, (0, 1): 61}}]
    settings = [{"buffer_rows_per_group": 10, "attribute_column": "place", **each} for each in settings]
    assert len({ReservoirStream(source, **each).groups.source for each in settings}) == 4
    again = ReservoirStream(source, counts=counts, **settings[0])
    assert again.groups.source == ReservoirStream(source, **settings[0]).groups.source


@pytest.mark.parametrize("shards", [1, 4])
def test_processes_read_parts_of_the_stream(shards):
    """Of the first pass; more processes than shards read every n-th row."""
    data = columns([[100, 50], [50, 100]])
    stream = ReservoirStream(data.to_iterable_dataset(num_shards=shards), 10, attribute_column="place")
    plan = BatchPlan.build("independent", 16, stream.groups.alpha, 0.5, 0.5)
    batches = list(BatchSampler(TicketSampler(stream.groups, plan, 16 * 10), 16, False))
    seen = []
    for rank in (0, 1):
        reader = stream.reader(rank, 2)
        seen.append({row["row"] for batch in batches[rank::2] for row in reader.__getitems__(batch)})
    assert not seen[0] & seen[1] and min(map(len, seen)) > 20


def test_bad_input():
    with pytest.raises(TypeError, match="reads a datasets.IterableDataset; found Dataset"):
        ReservoirStream(table(), 5)
    source = table().to_iterable_dataset()
    with pytest.raises(ValueError, match="buffer_rows_per_group must be positive; found 0"):
        ReservoirStream(source, 0, attribute_column="place")
    with pytest.raises(ValueError, match="rows_per_draw must be positive"):
        ReservoirStream(source, 5, attribute_column="place", rows_per_draw=0.0)
    with pytest.raises(ValueError, match="no attribute column 'plaec'"):
        ReservoirStream(source, 5, attribute_column="plaec")
    with pytest.raises(ValueError, match="has 1 values, one of each of label, place"):
        ReservoirStream(source, 5, attribute_column="place", counts={0: 5})
    with pytest.raises(ValueError, match="the stream has no rows"):
        ReservoirStream(IterableDataset.from_generator(lambda: iter(())), 5)
    with pytest.raises(ValueError, match="the stream, or a process's part of it, has no rows"):
        few = ReservoirStream(table().select(range(3)).to_iterable_dataset(), 5)
        few.reader(3, 4).__getitems__([Ticket(0, 0, 3, 0, 0)])
    counts = {(0, 0): 5, (0, 1): 5, (1, 0): 5, (1, 1): 5}
    lacking = table().filter(lambda row: row["label"] == 0 or row["place"] == 0).to_iterable_dataset()
    stream = ReservoirStream(lacking, 5, attribute_column="place", counts=counts)
    with pytest.raises(ValueError, match=r"part 1 of 1 of the stream, read to its end, has no rows.*\(class1, 1\)"):
        drawn(stream, 1)


def test_a_null_is_named_by_its_row_in_the_stream():
    data = Dataset.from_dict({"label": [0, 1, 1, 0] * 10 + [None], "place": [0, 0, 1, 1] * 10 + [1]})
    stream = ReservoirStream(data.to_iterable_dataset(), 5, attribute_column="place", prefix_rows=8)
    with pytest.raises(ValueError, match="label column 'label' has null values, the first in row 40"):
        drawn(stream, 20)
