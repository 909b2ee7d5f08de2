"""What a run depends on: a checkpoint of another run is refused."""

from typing import Any

_BATCH_FIELDS = ("plan", "c", "beta", "beta_schedule", "beta_ramp", "biased_share", "class_balanced")

_METHOD_FIELDS = (*_BATCH_FIELDS, "threshold", "method_settings")

RUN_FIELDS = ("trainer", "data", *_METHOD_FIELDS, "seed", "batch_size", "gradient_accumulation_steps", "world_size")
"""What a checkpoint and the run that resumes from it have in common, unless `resume_with_changes` names it."""


def check_same_run(saved: dict[str, Any], present: dict[str, Any], allowed: list[str], folder: str) -> None:
    """Refuse a checkpoint of another run.

    Args:
        saved, present (`dict`): [`RUN_FIELDS`] of the checkpoint and of the run.
        allowed (`list[str]`): fields that may differ.
        folder (`str`): the checkpoint.

    Raises:
        ValueError: names each field that differs, with both values.
    """
    changed = [name for name in present if saved.get(name) != present[name] and name not in allowed]
    if changed:
        differences = "; ".join(f"{name} was {saved.get(name)!r} and is {present[name]!r}" for name in changed)
        raise ValueError(
            f"the checkpoint {folder} belongs to another run: {differences}. Resume with the settings and the data it "
            f"was saved with, start anew in another output_dir, or, if you mean to change them in mid-run, set "
            f"resume_with_changes={changed}"
        )
