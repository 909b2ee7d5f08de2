"""`GroupSampler`: draws the rows of each batch of a plan, as a pure function of seed and epoch.

`EpochSampler` yields every row once, for the plan of which an epoch is that. `GroupBatchSampler` yields the batches of
either, for loaders of your own.

Imports [`plans`](gerne_hf.method.plans), [`GroupIndex`](gerne_hf.groups.index.GroupIndex) and the class `Sampler` of
torch; the drawing is NumPy. The trainer that uses it is in `training/plan_trainer.py`; data that is streamed is drawn
by the same sampler, in `streaming/`.
"""

import numbers
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, Sampler

from ..groups.index import GroupIndex
from .plans import BatchPlan, Segment

_BLOCK_ROWS = 1 << 14  # rows drawn at once: enough to vectorize, few enough for the cache


class GroupSampler(Sampler[int]):
    """Yields row numbers, of which each `plan.rows` in succession are one batch of the plan.

    Each row is drawn in two stages: first its group, then a row of that group, uniformly and with replacement. What a
    row costs does not depend on the size of the data set. The classes of a segment are drawn systematically: of its
    `n` rows, class `y` gets `floor(n p(y))` or `ceil(n p(y))`, and `n p(y)` in expectation, as in the paper, which has
    "B rows per class". The attribute value of each row is drawn independently, given the class.

    Args:
        groups ([`GroupIndex`]): the rows of each group.
        plan ([`BatchPlan`]): the make-up of a batch.
        num_rows (`int`, *optional*): rows in an epoch, rounded up to whole batches; the number of rows in `groups` if
            not given.
        seed (`int`, defaults to `0`): decides the rows of every epoch, together with the number of the epoch.
        batch_multiple (`int`, defaults to `1`): number of processes. The number of batches is rounded up to a multiple
            of it, so that each process takes the same number of steps.
        drop_last (`bool`, defaults to `False`): whether rows and batches are rounded down and not up, as
            `dataloader_drop_last` has it.

    Raises:
        ValueError: if the plan is over other groups or draws from a group without rows, and for numbers out of range.

    Example:

    ```python
    >>> groups = GroupIndex.from_arrays(labels=[0, 0, 0, 1, 1, 1], attributes=[0, 0, 1, 0, 1, 1])
    >>> plan = BatchPlan.build("resampling", rows=4, alpha=groups.alpha)
    >>> rows = np.array(list(GroupSampler(groups, plan, num_rows=12)))
    >>> (rows.reshape(3, 4) > 2).sum(axis=1).tolist()  # rows of class 1 in each of three batches
    [2, 2, 2]

    ```
    """

    def __init__(
        self,
        groups: GroupIndex,
        plan: BatchPlan,
        num_rows: int | None = None,
        seed: int = 0,
        batch_multiple: int = 1,
        drop_last: bool = False,
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
        if drop_last:
            self.num_batches = num_rows // plan.rows // batch_multiple * batch_multiple
            self.asked_batches = self.num_batches
            if not self.num_batches:
                raise ValueError(
                    f"dataloader_drop_last=True leaves no batch of an epoch: {num_rows} rows are less than "
                    f"{batch_multiple} x {plan.rows}, a batch on each process. Leave it False, or make batches smaller"
                )
        else:
            self.asked_batches = -(-num_rows // plan.rows)
            self.num_batches = -(-self.asked_batches // batch_multiple) * batch_multiple
        self._draws = [_SegmentDraw(groups, segment) for segment in plan.segments]

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose rows the next iteration yields.

        Args:
            epoch (`int`): number of the epoch, from 0. Each epoch has rows of its own.
        """
        self.epoch = int(epoch)

    def __len__(self) -> int:
        return self.num_batches * self.plan.rows

    def __iter__(self) -> Iterator[int]:
        for block in self.blocks():
            yield from block.ravel().tolist()

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the row numbers of the epoch, many batches at once.

        Returns:
            `Iterator[np.ndarray]`: int64 arrays of shape `(batches, plan.rows)`.
        """
        counts = self.groups.counts.ravel()
        for group, point in self.draws():
            yield self.groups.order[self.groups.starts[group] + (point * counts[group]).astype(np.int64)]

    def draws(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield what is drawn in the epoch, before rows are looked up: a group, and a point that chooses a row of it.

        Returns:
            `Iterator[tuple[np.ndarray, np.ndarray]]`: pairs of arrays of shape `(batches, plan.rows)`, the group ids,
            and uniform points in [0, 1): of `n` rows, the one at place `floor(point * n)` is meant.
        """
        rng = np.random.default_rng([self.seed, self.epoch])
        per_block = max(1, _BLOCK_ROWS // self.plan.rows)
        # Batches that are added for the sake of the processes come last, so that all others are the same for any
        # number of processes.
        starts = [*range(0, self.asked_batches, per_block), *range(self.asked_batches, self.num_batches, per_block)]
        for start, end in zip(starts, [*starts[1:], self.num_batches], strict=True):
            batches = end - start
            drawn = [draw(rng, batches) for draw in self._draws]
            group, point = (np.concatenate(parts, axis=1) for parts in zip(*drawn, strict=True))
            yield group, point


def epoch_rows(groups: GroupIndex, plan: BatchPlan) -> np.ndarray | None:
    """Return the rows of an epoch of every row, before they are shuffled, where some occur more often than once.

    Args:
        groups ([`GroupIndex`]): the group of each row.
        plan ([`BatchPlan`]): its `repeats` say how often each group's rows occur.

    Returns:
        `np.ndarray`, int64: first all rows that occur, in order, then those that occur again, in order, and so on;
        None where every row occurs once.

    Example:

    ```python
    >>> groups = GroupIndex.from_arrays(labels=[0, 0, 0, 0], attributes=[0, 1, 0, 1])
    >>> plan = BatchPlan("", (Segment("", 4, groups.counts / 4, 1.0),), every_row=True, repeats=np.array([[3, 1]]))
    >>> epoch_rows(groups, plan).tolist()
    [0, 1, 2, 3, 0, 2, 0, 2]

    ```
    """
    if plan.repeats is None:
        return None
    times = plan.repeats.ravel()[groups.codes]
    return np.concatenate([np.flatnonzero(times > done) for done in range(int(plan.repeats.max()))])


class EpochSampler(GroupSampler):
    """Yields every row once an epoch, as the stock `Trainer` does: for a seed and an epoch in the very same order.

    For a plan whose `every_row` is True; where it has `repeats`, the rows are those of [`epoch_rows`]. The last batch
    has the rows that are left over. On several processes Accelerate fills it up with the first rows of the epoch, so
    that all take the same number of steps.

    Args:
        groups ([`GroupIndex`]), plan ([`BatchPlan`]), num_rows (`int`, *optional*), seed (`int`), batch_multiple
            (`int`), drop_last (`bool`): as for [`GroupSampler`]; `num_rows` is the number of rows in `groups`.

    Example:

    ```python
    >>> groups = GroupIndex.from_arrays(labels=[0, 0, 1, 1, 1], attributes=[0, 1, 0, 1, 1])
    >>> plan = BatchPlan("erm", (Segment("biased", 4, groups.counts / 5, 1.0),), every_row=True)
    >>> sampler = EpochSampler(groups, plan)
    >>> sorted(sampler), [block.shape for block in sampler.blocks()]
    ([0, 1, 2, 3, 4], [(1, 4), (1, 1)])

    ```
    """

    def __init__(self, groups: GroupIndex, plan: BatchPlan, num_rows: int | None = None, *rest: Any, **more: Any):
        self._rows = epoch_rows(groups, plan)
        super().__init__(groups, plan, num_rows if self._rows is None else len(self._rows), *rest, **more)

    def __len__(self) -> int:
        return len(self.groups) if self._rows is None else len(self._rows)

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the row numbers of the epoch, many batches at once, the shorter one last.

        Returns:
            `Iterator[np.ndarray]`: int64 arrays of shape `(batches, plan.rows)`, the last of `(1, rows left over)`.
        """
        # As accelerate.data_loader.SeedableRandomSampler has it, which the stock Trainer's loader draws by.
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self), generator=generator).numpy()
        yield from in_batches([order if self._rows is None else self._rows[order]], self.plan.rows)


class GroupBatchSampler(BatchSampler):
    """Yields the batches of a plan as lists of row numbers, for a [`~torch.utils.data.DataLoader`] of any trainer.

    Pass it as `batch_sampler`. A batch is one of the plan, segment after segment, so the collator must keep the order
    of the rows, and on several processes each must get whole batches, as Accelerate deals them out unless told
    otherwise (`split_batches`). Call [`set_epoch`](GroupBatchSampler.set_epoch) before each epoch, as for samplers of
    torch; loaders that Accelerate prepared do it by themselves.

    Args:
        groups ([`GroupIndex`]): the groups of the rows, made from the very data set that the loader reads.
        plan ([`BatchPlan`]): the make-up of a batch; [`make_plan`](gerne_hf.method.making.make_plan) makes one.
        seed (`int`, defaults to `0`): decides the rows of every epoch, together with the number of the epoch.
        num_rows (`int`, *optional*): rows in an epoch, rounded up to whole batches; the number of rows in `groups` if
            not given.
        batch_multiple (`int`, defaults to `1`): number of processes, to a multiple of which the number of batches is
            rounded up.
        drop_last (`bool`, defaults to `False`): whether rows and batches are rounded down and not up.

    Raises:
        ValueError: as [`GroupSampler`].

    Example:

    ```python
    >>> groups = GroupIndex.from_arrays(labels=[0, 0, 0, 1, 1, 1], attributes=[0, 0, 1, 0, 1, 1])
    >>> plan = BatchPlan.build("resampling", rows=4, alpha=groups.alpha)
    >>> batches = GroupBatchSampler(groups, plan, seed=1)
    >>> len(batches), [len(rows) for rows in batches]
    (2, [4, 4])

    ```
    """

    sampler: GroupSampler

    def __init__(
        self,
        groups: GroupIndex,
        plan: BatchPlan,
        seed: int = 0,
        num_rows: int | None = None,
        batch_multiple: int = 1,
        drop_last: bool = False,
    ):
        cls = EpochSampler if plan.every_row else GroupSampler
        # By the name `sampler` Accelerate finds what it tells the epoch on several processes.
        super().__init__(cls(groups, plan, num_rows, seed, batch_multiple, drop_last), plan.rows, drop_last)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches the next iteration yields.

        Args:
            epoch (`int`): number of the epoch, from 0. Each epoch has batches of its own.
        """
        self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        for block in self.sampler.blocks():
            if block.shape[1] == self.batch_size or not self.drop_last:
                yield from block.tolist()

    def group_ids(self, rows: Sequence[int]) -> torch.Tensor:
        """Return the group of each row of a batch, which plans that weight groups need for their loss.

        Args:
            rows (`Sequence[int]`): row numbers, such as those of a batch.

        Returns:
            `torch.Tensor` of shape `(len(rows),)`, int64: the group of class `y` and attribute value `a` has the id
            `y * A + a`.
        """
        return torch.from_numpy(self.sampler.groups.codes[np.asarray(rows, dtype=np.int64)].astype(np.int64))


def in_batches(parts: Iterable[np.ndarray], rows: int) -> Iterator[np.ndarray]:
    """Yield numbers batch by batch, many batches at once.

    Args:
        parts (`Iterable[np.ndarray]`): the numbers, in arrays of shape `(n,)`.
        rows (`int`): numbers in a batch.

    Returns:
        `Iterator[np.ndarray]`: arrays of shape `(batches, rows)`, and one of `(1, numbers left over)` if any are.

    Example:

    ```python
    >>> [block.tolist() for block in in_batches([np.arange(3), np.arange(2)], 2)]
    [[[0, 1]], [[2, 0]], [[1]]]

    ```
    """
    most, rest = max(1, _BLOCK_ROWS // rows) * rows, np.empty(0, dtype=np.int64)
    for part in parts:
        for start in range(0, len(part), most):
            waiting = np.concatenate([rest, part[start : start + most]])
            whole = len(waiting) // rows * rows
            if whole:
                yield waiting[:whole].reshape(-1, rows)
            rest = waiting[whole:]
    if len(rest):
        yield rest[None]


class _SegmentDraw:
    """Draws the groups of a segment's rows, and the points that choose a row within each, for many batches at once."""

    def __init__(self, groups: GroupIndex, segment: Segment):
        joint = np.asarray(segment.distribution, dtype=np.float64)
        empty = (joint > 0) & (groups.counts == 0)
        if empty.any():
            names = ", ".join(groups.group_name(g) for g in np.flatnonzero(empty.ravel()))
            raise ValueError(f"segment {segment.name!r} draws from groups without rows: {names}")
        self.rows = segment.rows
        num_classes = len(joint)
        self.class_cdf = _cdf(joint.sum(axis=1))
        # A single table for the attribute values of all classes: that of class k lies in (k, k + 1].
        self.group_cdf = np.concatenate([k + _cdf(joint[k]) for k in range(num_classes)])

    def __call__(self, rng: np.random.Generator, batches: int) -> tuple[np.ndarray, np.ndarray]:
        points = (rng.random((batches, 1)) + np.arange(self.rows)) / self.rows
        np.minimum(points, np.nextafter(1.0, 0.0), out=points)  # rounding may lift the last point to 1
        classes = np.searchsorted(self.class_cdf, points, side="right")
        # With side="right" no group of probability 0 is found; the minimum keeps a point within its class's interval.
        position = np.minimum(classes + rng.random(classes.shape), np.nextafter(classes + 1.0, 0.0))
        group = np.searchsorted(self.group_cdf, position, side="right")
        return group, rng.random(group.shape)


def _cdf(masses: np.ndarray) -> np.ndarray:
    """Return the cumulative distribution, which is exactly 1 from the last entry with positive mass on."""
    cumulative = np.cumsum(masses)
    return cumulative / cumulative[-1] if cumulative[-1] > 0 else np.ones_like(cumulative)
