"""The table of methods that a comparison trains, by name: plans, GERNE with unknown attributes, and the baselines.

A new method is one line of [`METHODS`]; CONTRIBUTING.md shows it. Next: [`comparing`](gerne_hf.comparison.comparing).
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ..config import GerneConfig
from ..groups.index import GroupIndex
from ..groups.proportions import uniform_target
from ..method.beta import check_beta
from ..method.distributions import beta_bounds
from ..method.plans import PLANS_WITH_BETA
from ..method.pseudo_groups import provisional_index
from ..trainer import GerneTrainer


@dataclass(frozen=True)
class Method:
    """One way to train.

    Args:
        title (`str`): what tables call it.
        settings (`dict`): fields of the config that make the method.
        trained_by (`str`, defaults to `"trainer.GerneTrainer"`): the class that trains it, as `module.Class` of
            gerne_hf; it is imported when the method is used.
        start (`str`, *optional*): name of a method whose trained model this one takes over, instead of training.
        finished_by (`str`, *optional*): a function that is called with the trainer after training, as
            `module.function` of gerne_hf.
    """

    title: str
    settings: dict[str, Any] = field(default_factory=dict)
    trained_by: str = "trainer.GerneTrainer"
    start: str | None = None
    finished_by: str | None = None

    @property
    def trainer(self) -> type[GerneTrainer]:
        """The class that trains the method."""
        return _imported(self.trained_by)

    @property
    def finish(self) -> Callable[[GerneTrainer], Any] | None:
        """What is called with the trainer after training, or None."""
        return None if self.finished_by is None else _imported(self.finished_by)


def _imported(name: str) -> Any:
    """Import `module.name` of gerne_hf."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(f"gerne_hf.{module}"), attribute)


_KNOWN = {"pseudo_attributes": False}

_PLAIN = {"plan": "erm", **_KNOWN}

_UNBALANCED = {**_PLAIN, "class_balanced": False}
_OWN_ROWS = {"biased_share": 0.5, **_KNOWN}  # the plan decides on the rows of its segments

METHODS = {
    "erm": Method("ERM", _UNBALANCED),
    "class_balanced": Method("class-balanced", {**_PLAIN, "class_balanced": True}),
    "square_root": Method("square-root", _PLAIN, "baselines.square_root.SquareRootTrainer"),
    "resampling": Method("resampling", {"plan": "resampling", **_KNOWN}),
    "reweighting": Method("reweighting", {"plan": "reweighting", "beta_schedule": "constant", **_OWN_ROWS}),
    "group_dro": Method("Group DRO", {"plan": "resampling", **_KNOWN}, "baselines.group_dro.GroupDROTrainer"),
    "dfr": Method("DFR", _UNBALANCED, start="erm", finished_by="baselines.dfr.refit_last_layer"),
    "jtt": Method("JTT", _UNBALANCED, "baselines.jtt.JTTTrainer"),
    "shared": Method("GERNE (shared rows)", {"plan": "shared", **_OWN_ROWS}),
    "collapsed": Method("GERNE (collapsed)", {"plan": "collapsed", "beta_schedule": "constant", **_OWN_ROWS}),
    "independent": Method("GERNE", {"plan": "independent", **_KNOWN}),
    "pseudo": Method("GERNE, unknown attributes", {"plan": "independent", "pseudo_attributes": True}),
}
"""Every method by its name on the command line."""


def main_method(config: GerneConfig) -> str:
    """The name of the method that a config describes by itself."""
    return "pseudo" if config.pseudo_attributes else config.plan


def method_config(
    config: GerneConfig, name: str, settings: dict[str, dict[str, Any]] | None = None, **more: Any
) -> GerneConfig:
    """The config of one method: the common settings, those that make the method, and its own.

    Args:
        config ([`GerneConfig`]): the common settings.
        name (`str`): one of [`METHODS`].
        settings (`dict`, *optional*): by method, fields with values that are its own.
        more: fields that win over all others.

    Raises:
        ValueError: for an unknown method or field, and for values that the config refuses.
    """
    check_methods([name], settings or {}, config)
    own = dict((settings or {}).get(name, {}))
    if name == "pseudo" and config.pseudo_attributes:  # the main method: its plan was chosen
        own.setdefault("plan", config.plan)
    if "num_train_epochs" in own:
        own.setdefault("max_steps", -1)
    return replace(config, **{**METHODS[name].settings, **own, **more})


def check_methods(names: list[str], settings: dict[str, dict[str, Any]], config: GerneConfig) -> None:
    """Raise a `ValueError` that names what there is, for methods or fields that do not exist."""
    unknown = [name for name in (*names, *settings) if name not in METHODS]
    if unknown:
        raise ValueError(f"unknown method {unknown[0]!r}; the methods are {', '.join(METHODS)}")
    allowed = {f.name for f in fields(config)}
    for name, own in settings.items():
        for key in own:
            if key not in allowed:
                raise ValueError(f"the settings of method {name!r} have {key!r}, which is no field of the config")


def check_on_data(config: GerneConfig, groups: GroupIndex) -> None:
    """Raise a `ValueError` for a threshold that leaves a part of a class empty, or a beta outside its bounds.

    Args:
        config ([`GerneConfig`]): settings of one run.
        groups ([`GroupIndex`]): the training rows by the attribute that is evaluated.
    """
    if config.pseudo_attributes:
        assert config.threshold is not None  # GerneConfig sees to it
        groups = provisional_index(groups, config.threshold)
    if config.plan in PLANS_WITH_BETA:
        bounds = beta_bounds(groups.alpha, config.c, uniform_target(groups.counts))
        check_beta(config.beta, bounds, config.c, config.beta_out_of_bounds)
