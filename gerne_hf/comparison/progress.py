"""A comparison that was interrupted: which of its runs have ended, and from where the others go on.

Imports `checkpoints/`, `groups/`, `reports/` and `config.py`. Reads `comparison.json` and the `run.json` in the folder
of each run; [`comparing`](gerne_hf.comparison.comparing) asks it.
"""

import json
import os
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers.utils import logging

from ..checkpoints.identity import settings_of_results
from ..checkpoints.seals import checkpoint_to_resume
from ..config import GerneConfig
from ..groups.fingerprints import group_fingerprint
from ..groups.index import GroupIndex
from ..groups.sources import column_names
from ..reports.record import COMPARISON_FILE
from ..utils.files import write_json

logger = logging.get_logger(__name__)

RUN_FILE = "run.json"
"""File in the folder of each run that holds the run's settings, by which a later comparison recognizes the run."""

Key = tuple[str, int]
"""A run of a comparison, by the name of its method and its seed."""


def fingerprint_of_rows(config: GerneConfig, dataset: Any) -> str:
    """Return a text that is the same for data sets whose rows have the same labels and attributes, in the same order.

    Args:
        config ([`GerneConfig`]): names the columns of labels and attributes. A test set may lack those of attributes,
            with overlapping groups.
        dataset: a map-style data set.
    """
    known = [name for name in config.attribute_columns if name in column_names(dataset)]
    return group_fingerprint(GroupIndex.from_dataset(dataset, config.label_column, known))


class Progress:
    """Find what an earlier comparison in the same folder has left, for `--resume_from_checkpoint`.

    `done` holds the results of the runs that have ended, by method and seed; it is the same on all processes.

    Args:
        config ([`GerneConfig`]): the common settings. If `resume_from_checkpoint` is "true", every run goes on where
            it stopped; if it is the path of a checkpoint, that checkpoint's run goes on from there; if it is None or
            "false", every run is trained anew.
        runs (`dict[Key, GerneConfig]`): the config of each run.
        titles (`dict[str, str]`): what `comparison.json` calls each method, by the name of the method.
        test_dataset: the data set of the results.
        made_with (`dict[str, Any]`): what else the results depend on: the model and the data of the recipe.

    Raises:
        ValueError: for a path that lies in no folder of a run.
    """

    def __init__(
        self,
        config: GerneConfig,
        runs: dict[Key, GerneConfig],
        titles: dict[str, str],
        test_dataset: Any,
        made_with: dict[str, Any],
    ):
        wanted = str(config.resume_from_checkpoint or "false")
        self.resumes = wanted.lower() != "false"
        self.path = os.path.abspath(wanted) if self.resumes and wanted.lower() != "true" else None
        folders = {os.path.abspath(run.folder): key for key, run in runs.items()}
        if self.path is not None and os.path.dirname(self.path) not in folders:
            raise ValueError(
                f"resume_from_checkpoint={wanted!r} is no checkpoint of this comparison, whose runs lie in "
                f"{', '.join(folders)}. Pass a checkpoint in one of these folders, or true for the newest of each run"
            )
        self._common = {"test_set": fingerprint_of_rows(config, test_dataset), **made_with}
        self.done: dict[Key, dict[str, Any]] = {}
        if self.resumes and PartialState().is_main_process:
            results = _read_json(os.path.join(config.folder, COMPARISON_FILE)) or {}
            for (name, seed), run in runs.items():
                found = [entry for entry in results.get(titles[name], []) if entry.get("seed") == seed]
                if found and not self._changes(run, name):
                    self.done[name, seed] = found[0]
        (self.done,) = broadcast_object_list([self.done])

    def checkpoint(self, run: GerneConfig, name: str) -> str | None:
        """Return the checkpoint from which a run goes on.

        Prints a message if the settings of the run have changed since it was begun, and it is trained anew.

        Args:
            run ([`GerneConfig`]): the config of the run.
            name (`str`): the method that is trained.

        Returns:
            `str`, *optional*: the folder of the checkpoint; None if the run begins from the start.
        """
        if not self.resumes:
            return None
        if self.path is not None and os.path.dirname(self.path) == os.path.abspath(run.folder):
            return self.path
        changes = self._changes(run, name)
        if changes is None:
            return None
        if changes:
            PartialState().print(f"{run.folder} was trained with other settings ({changes}): it is trained anew.")
            return None
        return checkpoint_to_resume(run.folder)

    def begin(self, run: GerneConfig, name: str) -> None:
        """Write the settings of a run to its folder.

        Args:
            run ([`GerneConfig`]): the config of the run.
            name (`str`): the method that is trained.
        """
        if PartialState().is_main_process:
            os.makedirs(run.folder, exist_ok=True)
            write_json(self._settings(run, name), os.path.join(run.folder, RUN_FILE))

    def _settings(self, run: GerneConfig, name: str) -> dict[str, Any]:
        """Return all that the results of a run depend on, as JSON gives it back."""
        written = settings_of_results({**run.to_dict(), **self._common})
        return {"method": name, "world_size": run.world_size, **written}

    def _changes(self, run: GerneConfig, name: str) -> str | None:
        """Describe how a run's settings differ from those in its folder: empty if equal, None if it holds none."""
        saved, present = _read_json(os.path.join(run.folder, RUN_FILE)), self._settings(run, name)
        if saved is None:
            return None
        names = [key for key in {**saved, **present} if saved.get(key) != present.get(key)]
        return "; ".join(f"{key} was {saved.get(key)!r} and is {present.get(key)!r}" for key in names)


def _read_json(path: str) -> Any:
    """Return the content of a JSON file, or None if there is no such file."""
    if not os.path.isfile(path):
        return None
    with open(path, encoding="utf-8") as file:
        return json.load(file)
