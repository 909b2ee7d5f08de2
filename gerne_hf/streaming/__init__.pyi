from .partitions import GroupPartitions as GroupPartitions
from .reservoir import ReservoirStream as ReservoirStream
from .stream import GroupStream as GroupStream
from .stream import Ticket as Ticket
from .stream import TicketSampler as TicketSampler
from .writing import partition_by_group as partition_by_group
