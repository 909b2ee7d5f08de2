"""The index stream of a batch plan: which rows make up which batch, a pure function of (seed, epoch)."""

import numbers
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from ..groups.index import GroupIndex
from .plans import BatchPlan, Segment

_BLOCK_ROWS = 1 << 14  # rows drawn at once: enough to vectorize, few enough for the cache


class GroupSampler(Sampler[int]):
    """Yields row indices so that every `plan.rows` of them, in order, are one batch of the plan.

    Each row is drawn in two stages, first its group, then a row uniformly within the group (with replacement), at a
    cost that does not depend on the size of the data set. Within a segment the classes are allotted systematically:
    of `n` rows, class `y` gets `floor(n p(y))` or `ceil(n p(y))`, and `n p(y)` in expectation, as in the paper's "B
    rows per class". Attributes are drawn independently.

    Args:
        groups ([`GroupIndex`]): the rows of each group.
        plan ([`BatchPlan`]): the make-up of a batch.
        num_rows (`int`, *optional*): rows in an epoch, rounded up to whole batches; the number of rows in `groups` if
            not given.
        seed (`int`, defaults to `0`): together with the epoch this decides the stream.
        batch_multiple (`int`, defaults to `1`): the number of batches is rounded up to a multiple of this, the number
            of processes, so that each of them takes the same number of steps.

    Raises:
        ValueError: if the plan is over other groups or draws from one that has no rows, and for numbers out of range.
    """

    def __init__(
        self, groups: GroupIndex, plan: BatchPlan, num_rows: int | None = None, seed: int = 0, batch_multiple: int = 1
    ):
        self.groups = groups
        self.plan = plan
        self.seed = seed
        self.epoch = 0
        num_rows = len(groups) if num_rows is None else num_rows
        numbers_of = {"num_rows": (num_rows, 0), "seed": (seed, 0), "batch_multiple": (batch_multiple, 1)}
        for name, (value, least) in numbers_of.items():
            if not isinstance(value, numbers.Integral) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}; found {value!r}")
        for segment in plan.segments:
            if segment.distribution.shape != groups.counts.shape:
                raise ValueError(
                    f"segment {segment.name!r} is over {segment.distribution.shape} groups (classes, attributes), and "
                    f"the rows over {groups.counts.shape}; build the plan from this index's alpha"
                )
        self.asked_batches = -(-num_rows // plan.rows)
        self.num_batches = -(-self.asked_batches // batch_multiple) * batch_multiple
        self._draws = [_SegmentDraw(groups, segment) for segment in plan.segments]

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose stream the next iteration yields."""
        self.epoch = int(epoch)

    def __len__(self) -> int:
        return self.num_batches * self.plan.rows

    def __iter__(self) -> Iterator[int]:
        for block in self.blocks():
            yield from block.ravel().tolist()

    def blocks(self) -> Iterator[np.ndarray]:
        """The epoch's stream in arrays of shape `(batches, plan.rows)`."""
        counts = self.groups.counts.ravel()
        for group, point in self.draws():
            yield self.groups.order[self.groups.starts[group] + (point * counts[group]).astype(np.int64)]

    def draws(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The epoch's draws in pairs of arrays of shape `(batches, plan.rows)`: group ids, and uniform points in
        [0, 1) that choose the row within the group."""
        rng = np.random.default_rng([self.seed, self.epoch])
        per_block = max(1, _BLOCK_ROWS // self.plan.rows)
        # What fills up the processes' steps comes after, so the stream begins alike for any number of processes.
        starts = [*range(0, self.asked_batches, per_block), *range(self.asked_batches, self.num_batches, per_block)]
        for start, end in zip(starts, [*starts[1:], self.num_batches], strict=True):
            batches = end - start
            drawn = [draw(rng, batches) for draw in self._draws]
            group, point = (np.concatenate(parts, axis=1) for parts in zip(*drawn, strict=True))
            yield group, point


class _SegmentDraw:
    """Draws the groups of one segment's rows, and the points that choose the rows, for many batches at once."""

    def __init__(self, groups: GroupIndex, segment: Segment):
        joint = np.asarray(segment.distribution, dtype=np.float64)
        empty = (joint > 0) & (groups.counts == 0)
        if empty.any():
            names = ", ".join(groups.group_name(g) for g in np.flatnonzero(empty.ravel()))
            raise ValueError(f"segment {segment.name!r} draws from groups without rows: {names}")
        self.rows = segment.rows
        num_classes = len(joint)
        self.class_cdf = _cdf(joint.sum(axis=1))
        # One table for the attributes of all classes: class k occupies (k, k + 1].
        self.group_cdf = np.concatenate([k + _cdf(joint[k]) for k in range(num_classes)])

    def __call__(self, rng: np.random.Generator, batches: int) -> tuple[np.ndarray, np.ndarray]:
        points = (rng.random((batches, 1)) + np.arange(self.rows)) / self.rows
        np.minimum(points, np.nextafter(1.0, 0.0), out=points)  # the last point may round up to 1
        classes = np.searchsorted(self.class_cdf, points, side="right")
        # side="right" never lands on a group of zero mass; the minimum keeps the sum inside the class's interval.
        position = np.minimum(classes + rng.random(classes.shape), np.nextafter(classes + 1.0, 0.0))
        group = np.searchsorted(self.group_cdf, position, side="right")
        return group, rng.random(group.shape)


def _cdf(masses: np.ndarray) -> np.ndarray:
    """Cumulative distribution that reaches exactly 1 at the last entry of positive mass."""
    cumulative = np.cumsum(masses)
    return cumulative / cumulative[-1] if cumulative[-1] > 0 else np.ones_like(cumulative)
