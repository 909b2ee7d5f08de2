from .accumulator import GroupAccumulator as GroupAccumulator
from .metrics import SUMMARY_METRICS as SUMMARY_METRICS
from .metrics import flatten_group_metrics as flatten_group_metrics
from .metrics import group_counts as group_counts
from .metrics import group_metrics as group_metrics
from .metrics import wilson_interval as wilson_interval
from .metrics import worst_groups as worst_groups
from .overlapping import OverlappingAccumulator as OverlappingAccumulator
