"""The table of methods that a comparison trains, by name: plans, GERNE with unknown attributes, and the baselines.

Imports `trainer.py` and rooms below it; baselines are imported by name when they are used. A new method is one line of
[`METHODS`], as CONTRIBUTING.md shows. Next: [`comparing`](gerne_hf.comparison.comparing).
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ..config import GerneConfig
from ..groups.index import GroupIndex
from ..groups.proportions import filled_counts, uniform_target
from ..method.beta import check_beta
from ..method.distributions import beta_bounds
from ..method.plans import PLANS_WITH_BETA
from ..method.pseudo_groups import provisional_index
from ..trainer import GerneTrainer
from ..tuning.draws import GERNE_SPACE, Choice, Draw, Range


@dataclass(frozen=True)
class Method:
    """Describe one way to train.

    Args:
        title (`str`): what tables call the method.
        settings (`dict[str, Any]`, *optional*): values of the fields of the config that make the method.
        trained_by (`str`, *optional*, defaults to `"trainer.GerneTrainer"`): the class that trains it, as
            `module.Class` of gerne_hf. It is imported when the method is used.
        start (`str`, *optional*): name of another method. Its trained model is taken over instead of training one.
        finished_by (`str`, *optional*): a function that is called with the trainer after training, as
            `module.function` of gerne_hf.
        space (`Mapping[str, Draw]`, *optional*): what `--tune` tries: by the name of a field of the config, what is
            drawn (see [`draws`](gerne_hf.tuning.draws)). An empty one says that there is nothing to tune; without one
            the method is refused under `--tune`.
        searches_itself (`bool`, *optional*, defaults to `False`): whether `hyperparameter_search` of the trainer has
            a space for the method, and its trials are made by it.
        fits_validation_rows (`bool`, *optional*, defaults to `False`): whether the validation rows are fitted on, so
            that the figures of the validation set say nothing of the method.

    Example:

    ```python
    >>> METHODS["dfr"].title, METHODS["dfr"].start, METHODS["dfr"].trainer.__name__
    ('DFR', 'erm', 'GerneTrainer')

    ```
    """

    title: str
    settings: dict[str, Any] = field(default_factory=dict)
    trained_by: str = "trainer.GerneTrainer"
    start: str | None = None
    finished_by: str | None = None
    space: Mapping[str, Draw] | None = None
    searches_itself: bool = False
    fits_validation_rows: bool = False

    @property
    def trainer(self) -> type[GerneTrainer]:
        """The class that trains the method."""
        return _imported(self.trained_by)

    @property
    def finish(self) -> Callable[[GerneTrainer], Any] | None:
        """The function that is called with the trainer after training, or None."""
        return None if self.finished_by is None else _imported(self.finished_by)


def _imported(name: str) -> Any:
    """Import a module of gerne_hf and return what a name like `module.name` stands for."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(f"gerne_hf.{module}"), attribute)


_KNOWN = {"pseudo_attributes": False}  # attributes are those of the data set

_PLAIN = {"plan": "erm", **_KNOWN}

_UNBALANCED = {**_PLAIN, "class_balanced": False}
_OWN_ROWS = {"biased_share": 0.5, **_KNOWN}  # the plan decides on the rows of its segments

_NOTHING_TO_TUNE: dict[str, Draw] = {}
_DRO_SPACE: dict[str, Draw] = {
    "group_dro_step_size": Range(1e-3, 1e-1, log=True),
    "group_dro_adjustment": Choice((0.0, 1.0, 2.0, 3.0, 4.0, 5.0)),
}
_UPWEIGHTS: dict[str, Draw] = {"jtt_upweight": Choice((2.0, 5.0, 20.0, 50.0, 100.0))}
_JTT_SPACE: dict[str, Draw] = {**_UPWEIGHTS, "jtt_first_epochs": Choice((0.5, 1.0, 2.0, 5.0))}

METHODS = {
    "erm": Method("ERM", _UNBALANCED, space=_NOTHING_TO_TUNE),
    "class_balanced": Method("class-balanced", {**_PLAIN, "class_balanced": True}, space=_NOTHING_TO_TUNE),
    "square_root": Method("square-root", _PLAIN, "baselines.square_root.SquareRootTrainer", space=_NOTHING_TO_TUNE),
    "resampling": Method("resampling", {"plan": "resampling", **_KNOWN}, space=_NOTHING_TO_TUNE),
    "reweighting": Method(
        *("reweighting of class-balanced rows", {"plan": "reweighting", "beta_schedule": "constant", **_OWN_ROWS}),
        space=GERNE_SPACE,
    ),
    "sampling_weighting": Method(
        "SW", {"plan": "sampling_weighting", "beta_schedule": "constant", **_OWN_ROWS}, space=GERNE_SPACE
    ),
    "group_weighted_loss": Method(
        "group-weighted loss", {"plan": "group_weighted_loss", **_KNOWN}, space=_NOTHING_TO_TUNE
    ),
    "group_dro": Method(
        "Group DRO", {"plan": "resampling", **_KNOWN}, "baselines.group_dro.GroupDROTrainer", space=_DRO_SPACE
    ),
    "dfr": Method(
        *("DFR", _UNBALANCED),
        start="erm",
        finished_by="baselines.dfr.refit_last_layer",
        space=_NOTHING_TO_TUNE,  # it searches its penalty itself
        fits_validation_rows=True,
    ),
    "dfr_l2": Method(
        *("DFR (L2 penalty)", _UNBALANCED),
        start="erm",
        finished_by="baselines.dfr_l2.refit_smoothly",
        space=_NOTHING_TO_TUNE,
        fits_validation_rows=True,
    ),
    "jtt": Method("JTT", _UNBALANCED, "baselines.jtt.JTTTrainer", space=_JTT_SPACE),
    "jtt_biased_model": Method(
        *("JTT, GERNE's biased model", _UNBALANCED, "baselines.jtt_biased_model.BiasedModelJTTTrainer"),
        space=_UPWEIGHTS,
    ),
    "mixture": Method(
        *("mixture balancing", _UNBALANCED, "baselines.mixture.MixtureTrainer"),
        space={"mixture_ratio": Choice((1.0, 2.0, 3.0, 4.0, 5.0))},
    ),
    "afr": Method(
        *("AFR", _UNBALANCED, "baselines.afr.AFRTrainer"),
        finished_by="baselines.afr.reweight_last_layer",
        space={"afr_gamma": Range(1.0, 20.0, log=True), "afr_penalty": Choice((0.0, 0.01, 0.1, 0.2, 0.3))},
    ),
    "self": Method(
        *("SELF (dropout)", _UNBALANCED),
        start="erm",
        finished_by="baselines.self_disagreement.train_where_dropout_disagrees",
        space={
            "self_rows": Choice((20, 100, 500)),
            "self_dropout": Choice((0.5, 0.7, 0.9)),
            "self_learning_rate": Choice((1e-4, 1e-3, 1e-2)),
        },
        fits_validation_rows=True,
    ),
    "shared": Method("GERNE (shared rows)", {"plan": "shared", **_OWN_ROWS}, space=GERNE_SPACE),
    "collapsed": Method(
        "GERNE (collapsed)", {"plan": "collapsed", "beta_schedule": "constant", **_OWN_ROWS}, space=GERNE_SPACE
    ),
    "independent": Method("GERNE", {"plan": "independent", **_KNOWN}, space=GERNE_SPACE),
    "pseudo": Method(
        "GERNE, unknown attributes", {"plan": "independent", "pseudo_attributes": True}, searches_itself=True
    ),
}
"""Every method by its name on the command line."""


def main_method(config: GerneConfig) -> str:
    """Return the name of the method that a config describes: its plan, or "pseudo" with unknown attributes.

    Args:
        config ([`GerneConfig`]): the settings.

    Returns:
        `str`: one of [`METHODS`].
    """
    return "pseudo" if config.pseudo_attributes else config.plan


def method_config(
    config: GerneConfig, name: str, settings: dict[str, dict[str, Any]] | None = None, **more: Any
) -> GerneConfig:
    """Return the config of one method: the common settings, changed to those that make the method and to its own.

    Args:
        config ([`GerneConfig`]): the common settings.
        name (`str`): one of [`METHODS`].
        settings (`dict[str, dict[str, Any]]`, *optional*): by method, fields of the config with values of its own.
        more: fields of the config with values that take precedence over all others.

    Returns:
        [`GerneConfig`]: a new config, of the same class.

    Raises:
        ValueError: for an unknown method or field, and for values that the config refuses.
    """
    check_methods([name], settings or {}, config)
    own = dict((settings or {}).get(name, {}))
    if name == "pseudo" and config.pseudo_attributes:  # the main method, whose plan the config says
        own.setdefault("plan", config.plan)
    if "num_train_epochs" in own:
        own.setdefault("max_steps", -1)
    return replace(config, **{**METHODS[name].settings, **own, **more})


def check_methods(names: list[str], settings: dict[str, dict[str, Any]], config: GerneConfig) -> None:
    """Check that methods and fields of the config exist.

    Args:
        names (`list[str]`): names of methods.
        settings (`dict[str, dict[str, Any]]`): by method, fields of the config with values of its own.
        config ([`GerneConfig`]): a config of the class that has the fields.

    Raises:
        ValueError: for a method or a field that does not exist.
    """
    unknown = [name for name in (*names, *settings) if name not in METHODS]
    if unknown:
        raise ValueError(f"unknown method {unknown[0]!r}; the methods are {', '.join(METHODS)}")
    allowed = {f.name for f in fields(config)}
    for name, own in settings.items():
        for key in own:
            if key not in allowed:
                raise ValueError(f"the settings of method {name!r} have {key!r}, which is no field of the config")


def check_on_data(config: GerneConfig, groups: GroupIndex) -> None:
    """Check the settings of a run that only the training set can refuse.

    Args:
        config ([`GerneConfig`]): the settings of one run.
        groups ([`GroupIndex`]): the groups of the training rows by the attribute in the data set.

    Raises:
        ValueError: for a threshold that leaves a part of a class empty, or an extrapolation factor beta outside its
            bounds.
    """
    if config.pseudo_attributes:
        if config.settled_rule != "threshold" or config.threshold is None:
            return  # which rows form a group, and so the bounds of beta, is known after the biased models
        groups = provisional_index(groups, config.threshold)
        return
    if config.plan in PLANS_WITH_BETA:
        bounds = beta_bounds(groups.alpha, config.c, uniform_target(filled_counts(groups.counts)))
        check_beta(config.beta, bounds, config.c, config.beta_out_of_bounds)
