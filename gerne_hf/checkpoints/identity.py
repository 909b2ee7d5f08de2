"""What makes a run: the settings and the data in which a checkpoint and the run that resumes from it must agree.

Imports `utils/`. How a checkpoint records them: [`seals`](gerne_hf.checkpoints.seals); the trainer that
compares them: [`ResumableTrainer`](gerne_hf.training.resumable_trainer.ResumableTrainer).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..utils.harmless import HIDDEN, harmless_text, is_harmless, is_secret

_BATCH_FIELDS = ("plan", "c", "beta", "beta_schedule", "beta_ramp", "biased_share", "class_balanced")

_METHOD_FIELDS = (*_BATCH_FIELDS, "threshold", "pseudo_rule", "method_settings")

_DATA_FIELDS = ("data", "rows", "transform")

RUN_FIELDS = (
    *("trainer", *_DATA_FIELDS, *_METHOD_FIELDS),
    *("seed", "batch_size", "gradient_accumulation_steps", "world_size"),
)
"""The names of what is compared: it must be the same in a checkpoint and in the run that resumes from it, but for the
names in `resume_with_changes`."""

_NO_PART_IN_RESULTS: tuple[str, ...] = (  # how the names of fields begin that results do not depend on
    *("output_dir", "pseudo_attributes_dir", "resume_from_checkpoint", "resume_with_changes"),
    *("logging_", "log_", "hub_", "push_to_hub", "report_to", "disable_tqdm", "project", "trackio"),
    *("run_name", "dataloader_", "save_total_limit", "tf32", "ddp_", "worst_examples", "local_rank"),
    *("attribute_source", "extra_metrics", "training_accuracies"),
)

_PART_OF_RESULTS = ("dataloader_drop_last",)

_MAY_BE_UNKNOWN = ("rows", "transform")
"""Fields that earlier releases did not record, or of which there may be no fingerprint: None, or no such entry."""


def check_same_run(
    saved: Mapping[str, Any], present: Mapping[str, Any], allowed: Sequence[str], folder: str
) -> list[str]:
    """Refuse to resume from a checkpoint of another run, and return what is not known of either run.

    A checkpoint is not refused for what nobody knows: its data's transform may be of a kind that no fingerprint can be
    made of, and earlier releases did not record the content of the rows.

    Args:
        saved (`Mapping[str, Any]`): what the checkpoint recorded of its run, by name.
        present (`Mapping[str, Any]`): the same of the run that is to resume. Only those of its names that are in
            [`RUN_FIELDS`] are compared; others, such as "beta_bounds", are ignored.
        allowed (`Sequence[str]`): the names of values that may differ.
        folder (`str`): the checkpoint's folder, for the message.

    Returns:
        `list[str]`: the names that could not be compared.

    Raises:
        ValueError: if values differ; names each, with its value in the checkpoint and in the run.

    Example:

    ```python
    >>> saved = {"c": 0.5, "seed": [0, 0]}
    >>> check_same_run(saved, {**saved, "beta_bounds": [-1.0, 2.0]}, [], "out/checkpoint-20")
    []
    >>> check_same_run(saved, {**saved, "c": 0.25, "rows": "3f"}, ["c"], "out/checkpoint-20")
    ['rows']

    ```
    """
    compared = [name for name in RUN_FIELDS if name in present]
    unknown = [name for name in _MAY_BE_UNKNOWN if name in present and None in (saved.get(name), present[name])]
    compared = [name for name in compared if name not in (*allowed, *unknown)]
    changed = [name for name in compared if saved.get(name) != present[name]]
    if changed:
        differences = "; ".join(f"{name} was {saved.get(name)!r} and is {present[name]!r}" for name in changed)
        raise ValueError(
            f"the checkpoint {folder} belongs to another run: {differences}. Resume with the settings and the data it "
            f"was saved with, start anew in another output_dir, or, if you mean to change them in mid-run, set "
            f"resume_with_changes={changed}"
        )
    return [name for name in unknown if name not in allowed]


def settings_of_results(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that results depend on, as JSON gives them back, without keys and passwords.

    Folders, logging, the Hub and the loaders' workers are left out.

    Args:
        settings (`Mapping[str, Any]`): all settings by name, such as those of `config.to_dict()`.

    Example:

    ```python
    >>> settings_of_results({"seed": 3, "output_dir": "out", "hub_token": "x", "betas": (0.9, 0.99)})
    {'seed': 3, 'betas': [0.9, 0.99]}

    ```
    """
    kept = {
        name: value
        for name, value in settings.items()
        if name in _PART_OF_RESULTS or not name.startswith(_NO_PART_IN_RESULTS)
    }
    described = json.loads(json.dumps(kept, default=str))
    return {name: _without_secrets(name, value) for name, value in described.items()}


def _without_secrets(name: str, value: Any) -> Any:
    """Return a setting as it is written to a file: no key or password, on which no result depends."""
    if is_secret(name):
        return HIDDEN
    if isinstance(value, dict):
        return {key: _without_secrets(key, item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_secrets(name, item) for item in value]
    return harmless_text(value) if isinstance(value, str) and not is_harmless(value) else value
