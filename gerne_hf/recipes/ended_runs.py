"""Results of the runs of an experiment that have ended, so that an interrupted experiment does not repeat them.

Imports `checkpoints/`, `comparison/`, `config.py` and `arguments.py`. [`experiments`](gerne_hf.recipes.experiments)
asks it. A comparison has [`Progress`](gerne_hf.comparison.progress.Progress), which also goes on from checkpoints.
"""

import json
import os
from collections.abc import Callable
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from ..checkpoints.identity import settings_of_results
from ..comparison.progress import fingerprint_of_rows
from ..config import GerneConfig
from ..utils.files import write_json
from .arguments import RecipeArguments

RESULT_FILE = "result.json"
"""File in the folder of a run that holds its result, and the settings that the result depends on."""


class EndedRuns:
    """Keep the result of every run in its folder, and find it there again with `--resume_from_checkpoint true`.

    Args:
        arguments ([`RecipeArguments`]): the recipe's arguments, which say what data and model the results are of.
        config ([`GerneConfig`]): the settings that all runs have in common. Unless its `resume_from_checkpoint` is
            "true", every run is trained anew.
        test_dataset: the data set of the results.

    Raises:
        ValueError: for the path of a checkpoint: an experiment has many runs.
    """

    def __init__(self, arguments: RecipeArguments, config: GerneConfig, test_dataset: Any):
        wanted = str(config.resume_from_checkpoint or "false")
        if wanted.lower() not in ("true", "false"):
            raise ValueError(
                f"an experiment has many runs, so it cannot go on from one checkpoint; found "
                f"resume_from_checkpoint={wanted!r}. With true the runs that have ended are not repeated"
            )
        self._resumes = wanted.lower() == "true"
        self._common = {"test_set": fingerprint_of_rows(config, test_dataset), **arguments.made_with()}

    def result(self, run: GerneConfig, train: Callable[[], dict[str, Any]], **more: Any) -> dict[str, Any]:
        """Return the result of a run: the one in its folder, if it was made with the same settings, or a new one.

        Args:
            run ([`GerneConfig`]): the settings of the run.
            train (`Callable[[], dict]`): trains it, and returns its result, as JSON has it.
            **more: what else the result depends on, by name.
        """
        path = os.path.join(run.folder, RESULT_FILE)
        settings = settings_of_results({**run.to_dict(), **self._common, **more})
        found: dict[str, Any] = {}
        if self._resumes and PartialState().is_main_process and os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                found = json.load(file)
        (found,) = broadcast_object_list([found])
        if found.get("settings") == settings:
            PartialState().print(f"{run.folder}: ended before")
            return found["result"]
        result = train()
        if PartialState().is_main_process:
            os.makedirs(run.folder, exist_ok=True)
            write_json({"settings": settings, "result": result}, path)
        return result
