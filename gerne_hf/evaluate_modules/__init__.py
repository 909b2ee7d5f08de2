"""Modules for the library `evaluate`: `evaluate.load(GROUP_ACCURACY_PATH)`."""

from pathlib import Path

GROUP_ACCURACY_PATH = str(Path(__file__).parent / "group_accuracy")
"""Folder of the metric `group_accuracy`, as `evaluate.load` takes it."""
