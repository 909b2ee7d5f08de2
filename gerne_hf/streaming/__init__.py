"""Training on data larger than memory: rows streamed by group, under a fixed bound of memory."""

from .partitions import GroupPartitions
from .reservoir import ReservoirStream
from .writing import partition_by_group

__all__ = ["GroupPartitions", "ReservoirStream", "partition_by_group"]
