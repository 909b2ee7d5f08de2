"""A comparison that was interrupted: which of its runs are done, and from where the others go on.

Reads `comparison.json` and the `run.json` of each run's folder; [`comparing`](gerne_hf.comparison.comparing) asks it.
"""

import json
import os
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers.utils import logging

from ..checkpoints.seals import checkpoint_to_resume
from ..config import GerneConfig
from ..groups.fingerprints import group_fingerprint
from ..groups.index import GroupIndex
from ..groups.sources import column_names
from ..reports.record import COMPARISON_FILE
from ..utils.files import write_json

logger = logging.get_logger(__name__)

RUN_FILE = "run.json"
"""In the folder of each run of a comparison: its settings, by which a later one knows it again."""

_NO_PART_IN_RESULTS = ("output_dir", "pseudo_attributes_dir", "resume_from_checkpoint", "resume_with_changes")
_NO_PART_IN_RESULTS += ("logging_", "log_", "hub_", "push_to_hub", "report_to", "disable_tqdm", "project", "trackio")
_NO_PART_IN_RESULTS += ("run_name", "dataloader_", "save_total_limit", "tf32", "ddp_", "worst_examples", "local_rank")

Key = tuple[str, int]
"""Method and seed of a run."""


class Progress:
    """What an earlier comparison in the same folder has left, for `--resume_from_checkpoint`.

    Args:
        config ([`GerneConfig`]): its `resume_from_checkpoint` is "true", the path of a checkpoint of one of the runs,
            or None (or "false"): then everything is trained anew.
        runs (`dict`): the config of each run, by method and seed.
        titles (`dict[str, str]`): what `comparison.json` calls each method.
        test_dataset: the data set of the results.
        made_with (`dict`): what else the results depend on: the recipe's model and data.

    Raises:
        ValueError: for a path that is in no run's folder.
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
        folders = {os.path.abspath(run.output_dir): key for key, run in runs.items()}
        if self.path is not None and os.path.dirname(self.path) not in folders:
            raise ValueError(
                f"resume_from_checkpoint={wanted!r} is no checkpoint of this comparison, whose runs lie in "
                f"{', '.join(folders)}. Pass a checkpoint in one of these folders, or true for the newest of each run"
            )
        # Overlapping groups are judged by other columns than training is grouped by, which the test set may lack.
        known = [name for name in config.attribute_columns if name in column_names(test_dataset)]
        index = GroupIndex.from_dataset(test_dataset, config.label_column, known)
        self._common = {"test_set": group_fingerprint(index), **made_with}
        self.done: dict[Key, dict[str, Any]] = {}
        if self.resumes and PartialState().is_main_process:
            results = _read_json(os.path.join(config.output_dir, COMPARISON_FILE)) or {}
            for (name, seed), run in runs.items():
                found = [entry for entry in results.get(titles[name], []) if entry.get("seed") == seed]
                if found and not self._changes(run, name):
                    self.done[name, seed] = found[0]
        (self.done,) = broadcast_object_list([self.done])

    def checkpoint(self, run: GerneConfig, name: str) -> str | None:
        """Where a run goes on: None for its beginning, also if its settings have changed."""
        if not self.resumes:
            return None
        if self.path is not None and os.path.dirname(self.path) == os.path.abspath(run.output_dir):
            return self.path
        changes = self._changes(run, name)
        if changes is None:
            return None
        if changes:
            PartialState().print(f"{run.output_dir} was trained with other settings ({changes}): it is trained anew.")
            return None
        return checkpoint_to_resume(run.output_dir)

    def begin(self, run: GerneConfig, name: str) -> None:
        """Leave the settings of a run in its folder."""
        if PartialState().is_main_process:
            os.makedirs(run.output_dir, exist_ok=True)
            write_json(self._settings(run, name), os.path.join(run.output_dir, RUN_FILE))

    def _settings(self, run: GerneConfig, name: str) -> dict[str, Any]:
        kept = {key: value for key, value in run.to_dict().items() if not key.startswith(_NO_PART_IN_RESULTS)}
        described = {"method": name, "world_size": run.world_size, **kept, **self._common}
        return json.loads(json.dumps(described, default=str))

    def _changes(self, run: GerneConfig, name: str) -> str | None:
        """What differs from the settings that the run's folder has; None if it has none."""
        saved, present = _read_json(os.path.join(run.output_dir, RUN_FILE)), self._settings(run, name)
        if saved is None:
            return None
        names = [key for key in {**saved, **present} if saved.get(key) != present.get(key)]
        return "; ".join(f"{key} was {saved.get(key)!r} and is {present.get(key)!r}" for key in names)


def _read_json(path: str) -> Any:
    if not os.path.isfile(path):
        return None
    with open(path, encoding="utf-8") as file:
        return json.load(file)
