"""Training on streamed rows on two processes, by a real `accelerate launch` on the CPU."""

import json

import numpy as np
import pytest
from helpers import launch_two, table
from places import SUPPORT
from torch.utils.data import BatchSampler

from gerne_hf import BatchPlan, GroupIndex
from gerne_hf.streaming import GroupPartitions, partition_by_group
from gerne_hf.streaming.stream import TicketSampler


@pytest.mark.slow
def test_two_processes_share_one_stream_and_resume_in_it(tmp_path):
    path = str(tmp_path / "partition")
    partition_by_group(table(), path, attribute_column="place", block_bytes=400, shard_rows=20)
    launch_two(SUPPORT / "streaming_two_processes.py", tmp_path)
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    for kind in ("partitions", "reservoir"):
        for whole, resumed in (rank[kind] for rank in ranks):
            assert len(whole[0]) == 8 and resumed[0] == whole[0][5:] and resumed[1] == whole[1]
        assert ranks[0][kind][0][1] == ranks[1][kind][0][1]  # the weights agree

    partitions = GroupPartitions.load(path, 4000)
    plan = BatchPlan.build("independent", 8, partitions.groups.alpha, 0.5, 1.0)
    sampler = TicketSampler(partitions.groups, plan, seed=42, batch_multiple=2)
    expected = [[row["row"] for row in partitions.__getitems__(b)] for b in BatchSampler(sampler, 8, False)]
    first, second = (rank["partitions"][0][0] for rank in ranks)
    sampler.set_epoch(1)
    expected += [[row["row"] for row in partitions.__getitems__(b)] for b in BatchSampler(sampler, 8, False)]
    assert [batch for pair in zip(first, second, strict=True) for batch in pair] == expected[:16]

    index = GroupIndex.from_dataset(table(), attribute_column="place")
    drawn = np.array([rank["reservoir"][0][0] for rank in ranks])
    assert ((index.codes[drawn] // 2).reshape(2, 8, 2, 4).sum(axis=-1) == 2).all()
