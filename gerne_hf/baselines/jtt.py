"""Just Train Twice (Liu et al., ICML 2021): rows that a first model gets wrong are drawn more often."""

from ..groups.index import GroupIndex
from ..method.plans import BatchPlan
from ..streaming.stream import GroupStream
from ..trainer import GerneTrainer
from .config import BaselineConfig


def error_distribution(errors: GroupIndex, upweight: float):
    """Joint distribution of class and of right or wrong, wrong rows `upweight` times as likely as right ones.

    Args:
        errors ([`GroupIndex`]): rows by class and by "wrong" and "right" (in this order).
        upweight (`float`): lambda_up of the paper.

    Returns:
        `np.ndarray` of shape `(K, 2)`, float64: sums to one.
    """
    mass = errors.counts * [upweight, 1.0]
    return mass / mass.sum()


class JTTTrainer(GerneTrainer):
    """Trains twice: the biased model of [`PseudoAttributes`] (the first model), then on its errors, upweighted.

    The first model, its scores and their folder are those of GERNE with unknown attributes: where both are trained
    with the same `biased_*` settings, one fit serves both.

    Args:
        args ([`BaselineConfig`]): `jtt_upweight`, and the `biased_*` settings of the first model; `plan` is "erm".
            Other arguments as for [`GerneTrainer`].

    Raises:
        ValueError: for another plan.
    """

    _fields_of_method = ("jtt_upweight",)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.args.plan != "erm" or self.args.pseudo_attributes:
            raise ValueError("JTT draws rows by its own errors; use plan='erm' and pseudo_attributes=False")
        if isinstance(self.train_dataset, GroupStream):
            raise ValueError(
                f"JTT scores each training row by its number, and {type(self.train_dataset).__name__} has none; give "
                "a map-style train_dataset"
            )

    def _training_groups(self) -> GroupIndex | None:
        if self.train_dataset is not None:
            self._fit_biased_model()
            self.groups = self.pseudo.errors()
        return self.groups

    def _build_plan(self) -> BatchPlan:
        if self.pseudo is None:  # at construction: errors are not known yet, the batch size is
            return super()._build_plan()
        upweight = getattr(self.args, "jtt_upweight", BaselineConfig.jtt_upweight)
        distribution = error_distribution(self.groups, upweight)
        return self._use_plan(BatchPlan.single("jtt", self._train_batch_size, distribution))
