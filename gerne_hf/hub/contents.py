"""What of an output folder is published: the model, its processor, its card, pictures and JSON, and nothing else.

Imports no other module of this package. [`uploads`](gerne_hf.hub.uploads) uploads by these patterns, and the commands
that messages print leave out the same.
"""

import os
from fnmatch import fnmatchcase

from transformers.utils.hub import CHAT_TEMPLATE_DIR

TRAINING_ARGS = "training_args.bin"
"""The settings of a run as a pickle, which the stock Trainer publishes."""

NOT_PUSHED = ("_*", "*/*")
"""Patterns that every push of an output folder leaves out: names that begin with an underscore, and what lies in
folders, which are checkpoints, other runs of a comparison, biased models and images of a demo."""

_PRIVATE = (
    *("trainer_state.json", "run.json", "checkpoint.json"),  # places of this machine; the state of a run
    *("optimizer*", "scheduler.pt", "scaler.pt", "rng_state*", "*.npz", "*.parquet", "*.log", "*.lock", "*.partial"),
)
"""Patterns of files beside the model that are the run's own business."""

PASSING = ("*.partial",)
"""Patterns of files that are being written, which may be gone before they are read."""

STALE = (
    *("comparison.json", "comparison.png", "training.png", "pseudo_attributes.png", "inferred_groups.json"),
    *("minority_accuracy.json", "group_metrics.json", TRAINING_ARGS, "trainer_state.json", "run.json", "optimizer.pt"),
    *("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json"),
    *("pytorch_model.bin", "pytorch_model-*-of-*.bin", "pytorch_model.bin.index.json"),
    *("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"),
)
"""Patterns of files at the root of a repository that are of an earlier push, if they are not in the folder."""

LAST_CHECKPOINT = "last-checkpoint"
"""The folder in a repository that the strategy "checkpoint" pushes to."""


def left_out(folder: str, with_training_args: bool = False) -> list[str]:
    """Return the patterns of what is not pushed of an output folder to the root of a repository.

    Folders are left out but for those that belong to a model: adapters beside the first one, and chat templates.

    Args:
        folder (`str`): the output folder.
        with_training_args (`bool`, *optional*, defaults to `False`): whether `training_args.bin` is published.

    Returns:
        `list[str]`: for `ignore_patterns` of [`~huggingface_hub.HfApi.upload_folder`], in which `*` also matches `/`.

    Example:

    ```python
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("model.safetensors", "training_args.bin", "_examples/row.png", "erm-seed0/model.safetensors"):
    ...         path = pathlib.Path(folder, name)
    ...         path.parent.mkdir(exist_ok=True)
    ...         path.touch()
    ...     left_out(folder)
    ['_*', '*/*', 'training_args.bin']

    ```
    """
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    folders = [name for name in names if os.path.isdir(os.path.join(folder, name))]
    parts = [name for name in folders if _is_part_of_a_model(os.path.join(folder, name))]
    patterns = ["_*"]
    if parts:
        patterns += [f"{name}/*" for name in folders if name not in parts and not name.startswith("_")]
    else:
        patterns.append("*/*")
    private = _PRIVATE if with_training_args else (*_PRIVATE, TRAINING_ARGS)
    return patterns + [name for name in private if any(fnmatchcase(file, name) for file in names)]


def _is_part_of_a_model(folder: str) -> bool:
    """Return whether a folder in an output folder is saved together with the model, and is no run of its own."""
    if os.path.basename(folder) == CHAT_TEMPLATE_DIR:
        return True
    present = set(os.listdir(folder))
    return "adapter_config.json" in present and not present & {"run.json", "group_metrics.json", "trainer_state.json"}


def holds_weights(files: list[str]) -> bool:
    """Return whether a repository holds a model at its root.

    Args:
        files (`list[str]`): paths in the repository.
    """
    return any("/" not in file and file.endswith((".safetensors", ".bin")) and file != TRAINING_ARGS for file in files)
