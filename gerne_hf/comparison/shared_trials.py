"""Trials of a search that are kept, and found again wherever the same settings come up.

Imports `checkpoints/`, `utils/` and [`methods`](gerne_hf.comparison.methods). A trial is known by all that its value
depends on: the same trial of another method, or of a search that was interrupted, is not trained again.
[`equal_tuning`](gerne_hf.comparison.equal_tuning) makes the trials.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from ..checkpoints.identity import settings_of_results
from ..config import GerneConfig
from ..utils.files import write_json
from .methods import METHODS

TRIALS_FILE = "trials.json"

_OF_BETA = ("c", "beta", "beta_schedule", "beta_ramp", "biased_share")


def what_decides(run: GerneConfig, name: str) -> dict[str, Any]:
    """Return what the result of a method depends on, so that methods that train alike are alike.

    Plans without beta do not depend on it. `collapsed` and `reweighting` depend on c and beta by their shift
    `c (beta + 1)` alone, and `collapsed` with the shift 1 is `resampling`: it draws all groups of a class equally
    often. `independent` with beta = 0 and c = 1 is not, as a share of its rows is drawn for a loss of weight 0.

    Args:
        run ([`GerneConfig`]): the settings of the run.
        name (`str`): the method.

    Returns:
        `dict[str, Any]`: by name, as JSON.
    """
    method = METHODS[name]
    settings = settings_of_results(run.to_dict())
    if run.plan in ("erm", "resampling", "collapsed", "reweighting"):
        settings = {key: value for key, value in settings.items() if key not in _OF_BETA}
    if run.plan in ("collapsed", "reweighting"):
        settings["shift"] = round(run.c * (run.beta + 1.0), 12)
    if run.plan == "collapsed" and settings["shift"] == 1.0:
        settings["plan"] = "resampling"
        del settings["shift"]
    return {**settings, "trained_by": method.trained_by, "start": method.start, "finished_by": method.finished_by}


class KeptTrials:
    """The trials of a comparison's search, in a file that is written anew after each of them.

    All processes call its methods, and hold the same trials.

    Args:
        folder (`str`): where the file lies.
        common (`Mapping[str, Any]`): what all trials depend on: data, model, metric.
    """

    def __init__(self, folder: str, common: Mapping[str, Any]):
        self.path = os.path.join(folder, TRIALS_FILE)
        self.common = {"processes": PartialState().num_processes, **common}
        self._trials: dict[str, dict[str, Any]] = {}
        if PartialState().is_main_process and os.path.isfile(self.path):
            with open(self.path, encoding="utf-8") as file:
                self._trials = json.load(file)
        (self._trials,) = broadcast_object_list([self._trials])

    def key(self, decides: Mapping[str, Any]) -> str:
        """Return the name of a trial in the file.

        Args:
            decides (`Mapping[str, Any]`): what its value depends on, from [`what_decides`], and for a method that
                takes over the model of another one, what that depends on.
        """
        text = json.dumps([self.common, dict(decides)], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def get(self, key: str) -> dict[str, Any] | None:
        """Return a trial that has ended, or None.

        Args:
            key (`str`): its name.
        """
        return self._trials.get(key)

    def put(self, key: str, trial: dict[str, Any]) -> None:
        """Keep a trial that has ended.

        Args:
            key (`str`): its name.
            trial (`dict`): its `value` (None if it failed) and `seconds`.
        """
        self._trials[key] = trial
        if PartialState().is_main_process:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            write_json(self._trials, self.path)
