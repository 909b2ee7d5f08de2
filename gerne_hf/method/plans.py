"""Batch plans: how one training batch is made up. Sampler and loss both read the plan, so they cannot disagree.

All facts about plans are in this file. It imports [`distributions`](gerne_hf.method.distributions) alone. Next:
[`sampling`](gerne_hf.method.sampling) draws the rows of a plan, [`losses`](gerne_hf.method.losses) weights their
losses.

A batch on a device is a fixed sequence of segments, and the training loss is

    loss = sum over segments of coefficient * mean(per-row loss over the segment's rows)
"""

import numbers
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from .distributions import (
    beta_bounds,
    biased_distribution,
    extrapolated_distribution,
    is_distribution,
    less_biased_distribution,
)

PLANS = (
    *("independent", "shared", "collapsed", "erm", "resampling"),
    *("reweighting", "sampling_weighting", "group_weighted_loss"),
)
"""Names of the batch plans, as `GerneConfig.plan` takes them."""

PLANS_WITH_BETA = ("independent", "shared", "collapsed", "reweighting", "sampling_weighting")
"""Plans that depend on the extrapolation factor beta, in their coefficients, their sampling or their weights."""

SCHEDULED_PLANS = ("independent", "shared")
"""Plans with beta in their coefficients alone, so that it can change during the training."""

PLANS_OF_EVERY_ROW = ("erm", "group_weighted_loss")
"""Plans of which an epoch is every row once, where classes are drawn as often as they occur."""

PLANS_WITHOUT_ATTRIBUTES = ("erm",)
"""Plans that need no attribute: they train on the training set as it is."""

PLAN_TITLES = {
    "independent": "GERNE: a biased and a less biased batch, one extrapolated gradient",
    "shared": "GERNE with the rows common to both batches computed once",
    "collapsed": "rows drawn from GERNE's extrapolated distribution",
    "erm": "ERM",
    "resampling": "resampling: all groups of a class equally often",
    "reweighting": "reweighting: class-balanced rows, weighted to GERNE's extrapolated distribution",
    "sampling_weighting": "SW: rows of GERNE's less biased batch, weighted to its extrapolated distribution",
    "group_weighted_loss": "reweighting: each row once an epoch, its loss weighted so that all groups count alike",
}
"""What cards and tables call the method that a plan amounts to, by the name of the plan."""

_NEGLIGIBLE = 1e-12  # of a probability mass: what is left over by rounding

_ROUNDING = 1e-8  # by so much a beta that is written with few digits may miss its bound


@dataclass(frozen=True, eq=False)
class Segment:
    """One part of a batch: so many rows, drawn from one group distribution, with one coefficient in the loss.

    Args:
        name (`str`): what the rows are, for logs and errors.
        rows (`int`): number of rows, at least 1.
        distribution (`np.ndarray` of shape `(K, A)`): joint probability `p(y, a)` of the group of a row that is drawn;
            sums to 1.
        coefficient (`float`): factor of the segment's mean loss in the training loss; may be negative.
        group_weights (`np.ndarray` of shape `(K, A)`, *optional*): factor of a row's loss, by the row's group; no
            factors if not given.
    """

    name: str
    rows: int
    distribution: np.ndarray
    coefficient: float
    group_weights: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class BatchPlan:
    """The make-up of one training batch on one device.

    Args:
        name (`str`): one of `PLANS`, or the name of a single stream.
        segments (`tuple[Segment, ...]`): the S parts of the batch, in the order of its rows.
        components (`dict[str, np.ndarray]`): losses worth logging, by name. Each is an array of shape `(S,)` with a
            factor for each segment; the loss is the sum of factor times mean loss over the segments.
        slopes (`np.ndarray` of shape `(S,)`, *optional*): by how much the coefficient of each segment grows when beta
            grows by 1; given for plans with beta in their coefficients only.
        every_row (`bool`, *optional*, defaults to `False`): whether an epoch is every row once, in random order, its
            last batch being shorter. For plans of one segment whose rows are drawn as often as they occur.
        repeats (`np.ndarray` of shape `(K, A)`, int, *optional*): with `every_row`, how often an epoch has each row of
            a group; once if not given, 0 leaves the group's rows out.
    """

    name: str
    segments: tuple[Segment, ...]
    components: dict[str, np.ndarray] = field(default_factory=dict)
    slopes: np.ndarray | None = None
    every_row: bool = False
    repeats: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.repeats is not None:
            self._check_repeats(self.repeats)
        if self.every_row and len(self.segments) != 1:
            raise ValueError(
                f"every_row is for plans of one segment, and the plan {self.name!r} has {len(self.segments)}; the "
                "rows of several are drawn segment by segment"
            )

    def _check_repeats(self, repeats: np.ndarray) -> None:
        shape = self.segments[0].distribution.shape
        whole = np.issubdtype(repeats.dtype, np.integer) and repeats.shape == shape and (repeats >= 0).all()
        if not self.every_row or not whole or not repeats.any():
            raise ValueError(
                f"repeats say how often an epoch of every row has the rows of each group: whole numbers of shape "
                f"{shape}, not all 0, with every_row=True; found {repeats.tolist()} with every_row={self.every_row}"
            )

    @classmethod
    def build(
        cls,
        name: str,
        rows: int,
        alpha: np.ndarray,
        c: float = 0.5,
        beta: float = 1.0,
        class_probabilities: np.ndarray | None = None,
        target: np.ndarray | None = None,
        biased_share: float = 0.5,
    ) -> "BatchPlan":
        """Build the plan of a name for a batch of `rows` rows.

        | plan | segments (rows, drawn from, coefficient) |
        |---|---|
        | `independent` | (s n, p_b, -beta), ((1 - s) n, p_lb, 1 + beta): the paper's two batches (Eq. 5) |
        | `shared` | the rows common to p_b and p_lb once, then the two differences: the same expectation |
        | `collapsed` | (n, p_ext, 1): the same expectation without extrapolation noise (Eq. 10) |
        | `erm` | (n, p_b, 1): class-balanced ERM; with the classes as they occur `every_row` makes it plain ERM |
        | `resampling` | (n, 1/A, 1): all groups of a class equally often |
        | `reweighting` | (n, p_b, 1), each row weighted by p_ext / p_b of its group |
        | `sampling_weighting` | (n, p_lb, 1), each row weighted by p_ext / p_lb of its group: SW of App. B |
        | `group_weighted_loss` | (n, p_b, 1), each row weighted by 1 / (G p_b) of its group |

        In the last, all G groups count alike whatever p(y) is. With the classes as they occur `every_row` makes it an
        epoch of every row once, each weighted by N / (G n_g), of N rows and n_g of its group.

        Args:
            name (`str`): one of `PLANS`.
            rows (`int`): rows in the batch, all segments together.
            alpha (`np.ndarray` of shape `(K, A)`): group proportions within each class (Eq. 2).
            c (`float`, defaults to `0.5`): degree of bias reduction, in (0, 1].
            beta (`float`, defaults to `1.0`): extrapolation factor.
            class_probabilities (`np.ndarray` of shape `(K,)`, *optional*): p(y), the probability of each class;
                uniform if not given.
            target (`np.ndarray` of shape `(K, A)`, *optional*): the unbiased distribution; `1 / A` if not given.
            biased_share (`float`, defaults to `0.5`): s, the share of the rows that the biased batch has in the plan
                `independent`, in (0, 1). The expected gradient is the same for every share. If the gradients of rows
                vary alike in both batches, `beta / (1 + 2 beta)` has the least noise for a number of rows.

        Returns:
            [`BatchPlan`]

        Raises:
            ValueError: for an unknown name, arrays that are no distributions, a batch that is too small for the
                plan's segments, or a beta with which the plan `collapsed` would have a negative probability.

        Example:

        ```python
        >>> plan = BatchPlan.build("independent", rows=8, alpha=np.array([[0.9, 0.1], [0.2, 0.8]]), c=0.5, beta=1.0)
        >>> [(segment.name, segment.rows, segment.coefficient) for segment in plan.segments]
        [('biased', 4, -1.0), ('less_biased', 4, 2.0)]
        >>> plan.expected_weights().round(6).tolist()
        [[0.25, 0.25], [0.25, 0.25]]

        ```
        """
        if name not in PLANS:
            raise ValueError(f"unknown plan {name!r}; the plans are {', '.join(PLANS)}")
        alpha = np.asarray(alpha, dtype=np.float64)
        target = np.full_like(alpha, 1.0 / alpha.shape[1]) if target is None else np.asarray(target, np.float64)
        classes = np.full(len(alpha), 1.0 / len(alpha)) if class_probabilities is None else class_probabilities
        classes = np.asarray(classes, dtype=np.float64)
        if classes.shape != alpha.shape[:1] or not is_distribution(classes):
            raise ValueError(
                f"class_probabilities must be a distribution over the {len(alpha)} classes (non-negative, sum 1); "
                f"found {classes.tolist()}"
            )
        classes = classes[:, None]
        p_b = classes * biased_distribution(alpha)
        p_lb = classes * less_biased_distribution(alpha, c, target)
        p_ext = classes * extrapolated_distribution(alpha, c, beta, target)

        segments: tuple[Segment, ...]
        components: dict[str, np.ndarray] = {}
        slopes = None
        if name == "independent":
            check_rows(name, rows, 2)
            biased = biased_rows(rows, biased_share)
            segments = (
                Segment("biased", biased, p_b, -beta),
                Segment("less_biased", rows - biased, p_lb, 1.0 + beta),
            )
            components = {"loss_biased": np.array([1.0, 0.0]), "loss_less_biased": np.array([0.0, 1.0])}
            slopes = components["loss_less_biased"] - components["loss_biased"]
        elif name == "shared":
            segments, components = _shared_segments(rows, p_b, p_lb, beta)
            slopes = components["loss_less_biased"] - components["loss_biased"]
        elif name == "collapsed":
            check_rows(name, rows, 1)
            if p_ext.min() < -_ROUNDING:
                lower, upper = beta_bounds(alpha, c, target)
                raise ValueError(
                    f"plan 'collapsed' draws from p_ext (Eq. 8), which beta={beta} makes negative; choose beta in "
                    f"[{lower:g}, {upper:.4g}] or the plan 'independent'"
                )
            p_ext = np.clip(p_ext, 0.0, None)
            segments = (Segment("extrapolated", rows, p_ext / p_ext.sum(), 1.0),)
        elif name == "erm":
            check_rows(name, rows, 1)
            segments = (Segment("biased", rows, p_b, 1.0),)
        elif name == "resampling":
            check_rows(name, rows, 1)
            segments = (Segment("balanced", rows, classes * target, 1.0),)
        elif name == "sampling_weighting":
            check_rows(name, rows, 1)
            segments = (Segment("less_biased", rows, p_lb, 1.0, _ratio(p_ext, p_lb)),)
        elif name == "group_weighted_loss":
            check_rows(name, rows, 1)
            segments = (Segment("biased", rows, p_b, 1.0, _ratio((p_b > 0) / np.count_nonzero(p_b), p_b)),)
        else:
            check_rows(name, rows, 1)
            segments = (Segment("biased", rows, p_b, 1.0, _ratio(p_ext, p_b)),)
        return cls(name, segments, components, slopes)

    @classmethod
    def single(cls, name: str, rows: int, distribution: np.ndarray) -> "BatchPlan":
        """Build a plan of one segment with coefficient 1, for a stream of rows of one distribution.

        Args:
            name (`str`): name of the plan and of its segment, for logs and errors.
            rows (`int`): rows in a batch.
            distribution (`np.ndarray` of shape `(K, A)`): joint probability `p(y, a)` of the group of a row; sums
                to 1.

        Returns:
            [`BatchPlan`]

        Raises:
            ValueError: if the distribution is none, or a batch has no rows.
        """
        check_rows(name, rows, 1)
        distribution = np.asarray(distribution, np.float64)
        if distribution.ndim != 2 or not is_distribution(distribution):
            raise ValueError(
                f"the distribution of {name!r} must be a (K, A) array, not negative and of sum 1; found "
                f"{distribution.tolist()}"
            )
        return cls(name, (Segment(name, rows, distribution, 1.0),))

    @property
    def rows(self) -> int:
        """`int`: rows in a batch, all segments together."""
        return sum(segment.rows for segment in self.segments)

    @property
    def coefficients(self) -> np.ndarray:
        """`np.ndarray` of shape `(S,)`: the coefficient of each segment in the training loss."""
        return np.array([segment.coefficient for segment in self.segments])

    def slices(self) -> Iterator[slice]:
        """Yield the place of each segment's rows within the batch, in order.

        Returns:
            `Iterator[slice]`: S slices that cover the batch.
        """
        start = 0
        for segment in self.segments:
            yield slice(start, start + segment.rows)
            start += segment.rows

    def expected_weights(self) -> np.ndarray:
        """Return the weight of each group's mean loss in the expected training loss (Eq. 10).

        Returns:
            `np.ndarray` of shape `(K, A)`, float64: the sum over the segments of coefficient, probability and, where
            there are any, group weights.
        """
        total = np.zeros_like(self.segments[0].distribution)
        for segment in self.segments:
            weights = 1.0 if segment.group_weights is None else segment.group_weights
            total = total + segment.coefficient * segment.distribution * weights
        return total


def _ratio(wanted: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Return the weight by which drawn rows of each group stand for what is wanted; 0 for groups not drawn."""
    return np.divide(wanted, drawn, out=np.zeros_like(drawn), where=drawn > 0)


def biased_rows(rows: int, share: float) -> int:
    """Return how many rows of a batch are biased, under the plan `independent`.

    Args:
        rows (`int`): rows of the biased and the less biased batch together, at least 2.
        share (`float`): share of the biased batch, in (0, 1).

    Returns:
        `int`: rounded down, and such that each of the two batches has a row at least.

    Raises:
        ValueError: if the share lies outside (0, 1).

    Example:

    ```python
    >>> biased_rows(9, 0.5), biased_rows(4, 0.1)
    (4, 1)

    ```
    """
    check_biased_share(share)
    return min(max(int(rows * share + _ROUNDING), 1), rows - 1)


def check_biased_share(share: float) -> None:
    """Refuse a share of biased rows outside (0, 1).

    Args:
        share (`float`): share of the rows of a batch that the biased batch has.

    Raises:
        ValueError: for a share outside (0, 1).

    Example:

    ```python
    >>> check_biased_share(1.0)
    Traceback (most recent call last):
    ValueError: biased_share, the biased batch's share of the rows, must lie in (0, 1); found 1.0

    ```
    """
    if not 0.0 < share < 1.0:
        raise ValueError(f"biased_share, the biased batch's share of the rows, must lie in (0, 1); found {share}")


def check_rows(plan: str, rows: int, least: int) -> None:
    """Refuse a batch that is too small for a plan, or whose number of rows is no whole number.

    Args:
        plan (`str`): name of the plan, for the message.
        rows (`int`): rows in a batch.
        least (`int`): the number of segments of the plan, each of which needs a row.

    Raises:
        ValueError: for fewer rows than `least`, and for anything but a whole number.
    """
    if not isinstance(rows, numbers.Integral) or isinstance(rows, bool):
        raise ValueError(f"plan {plan!r} needs a whole number of rows in a batch; found {rows!r}")
    if rows < least:
        raise ValueError(
            f"plan {plan!r} needs a batch of at least {least} rows, one a segment; found {rows}. "
            f"Raise per_device_train_batch_size (the rows on a device, all segments together)"
        )


def _shared_segments(
    rows: int, p_b: np.ndarray, p_lb: np.ndarray, beta: float
) -> tuple[tuple[Segment, ...], dict[str, np.ndarray]]:
    """Return the segments and the components of the plan `shared`.

    The first segment has the rows that both batches have in common, with their total mass M as its coefficient; the
    two others have what is left of each batch, of mass 1 - M. Of n rows drawn from p_b and n from p_lb, M n would be
    common, so n (2 - M) rows do the work of 2 n.
    """
    segments: tuple[Segment, ...]
    common = np.minimum(p_b, p_lb)
    mass = float(common.sum())
    if 1.0 - mass < _NEGLIGIBLE:  # p_b == p_lb: there is nothing to extrapolate from
        check_rows("shared", rows, 1)
        segments = (Segment("shared", rows, common / mass, 1.0),)
        return segments, {"loss_biased": np.array([1.0]), "loss_less_biased": np.array([1.0])}
    if mass < _NEGLIGIBLE:
        raise ValueError("plan 'shared': the two batches have no group in common; choose the plan 'independent'")
    check_rows("shared", rows, 3)
    rest = 1.0 - mass
    # With n = rows / (2 - M), each remainder has n (1 - M) rows; at least one, and one is left for the common rows.
    each = min(max(round(rows * rest / (2.0 - mass)), 1), (rows - 1) // 2)
    segments = (
        Segment("shared", rows - 2 * each, common / mass, mass),
        Segment("biased_only", each, (p_b - common) / rest, -beta * rest),
        Segment("less_biased_only", each, (p_lb - common) / rest, (1.0 + beta) * rest),
    )
    components = {"loss_biased": np.array([mass, rest, 0.0]), "loss_less_biased": np.array([mass, 0.0, rest])}
    return segments, components
