"""What an evaluation leaves in logs and trackers: the summaries and groups that are logged, and their names there.

Pure functions of metrics; imports the names of groups and of metrics beyond accuracy. Which metrics there are:
[`metrics`](gerne_hf.evaluation.metrics). [`EvaluatingTrainer`](gerne_hf.training.evaluating_trainer.EvaluatingTrainer)
logs by these functions.
"""

import hashlib
import re
import unicodedata
from typing import Any

from ..groups.names import split_group_key
from .score_names import EXTRA_METRICS, smaller_is_better

MAX_LOGGED_GROUPS = 32
"""So many groups are all logged; of more the worst ones are. `evaluate()` always returns every group."""

WORST_LOGGED_GROUPS = 10
"""Of more groups than `MAX_LOGGED_GROUPS`, so many are logged: those of the lowest accuracy in that evaluation."""

_GROUP = "group_accuracy/"
_NOT_LOGGED = ("group_count/", "group_ci_low/", "group_ci_high/")
_OF_ATTRIBUTES = tuple(f"attribute_{name}/" for name in EXTRA_METRICS)
_LONGEST = 60


def loggable(metrics: dict[str, float]) -> dict[str, float]:
    """Return the metrics of an evaluation that belong in a log, under names that no tracker changes.

    Args:
        metrics (`dict[str, float]`): what an evaluation returned, with any prefix.

    Returns:
        `dict[str, float]`: without counts and intervals; of more than `MAX_LOGGED_GROUPS` groups the
        `WORST_LOGGED_GROUPS` worst, and so with the figures of each attribute value, `attribute_f1/ATTRIBUTE` and so
        on. The accuracy of a group is called as [`logged_key`] says.

    Example:

    ```python
    >>> loggable({"eval_group_accuracy/landbird|water": 0.5, "eval_group_count/landbird|water": 7})
    {'eval_group_accuracy/landbird/water': 0.5}

    ```
    """
    logged: set[str] = set()
    for kind in (_GROUP, *_OF_ATTRIBUTES):
        keys = [key for key in metrics if kind in key]
        if len(keys) > MAX_LOGGED_GROUPS:
            sign = -1 if smaller_is_better(keys[0]) else 1
            keys = sorted(keys, key=lambda key: sign * metrics[key])[:WORST_LOGGED_GROUPS]
        logged.update(keys)
    single = (_GROUP, *_OF_ATTRIBUTES, *_NOT_LOGGED)
    return {
        logged_key(key) if key in logged else key: value
        for key, value in metrics.items()
        if key in logged or not any(part in key for part in single)
    }


def summaries(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics of an evaluation without those of single groups.

    Args:
        metrics (`dict`): what an evaluation returned, with any prefix.

    Example:

    ```python
    >>> summaries({"eval_accuracy": 0.75, "eval_group_accuracy/a|b": 0.5, "eval_group_count/a|b": 7})
    {'eval_accuracy': 0.75}

    ```
    """
    single = (_GROUP, *_OF_ATTRIBUTES, *_NOT_LOGGED)
    return {key: value for key, value in metrics.items() if not any(part in key for part in single)}


def logged_key(key: str) -> str:
    """Return the name under which logs have the accuracy of a group, or another figure of an attribute value.

    TensorBoard and MLflow write an underscore in place of many characters, so that two groups would become one.

    Args:
        key (`str`): the metric, `group_accuracy/LABEL|ATTRIBUTE` or `attribute_f1/ATTRIBUTE` with any prefix.

    Returns:
        `str`: `group_accuracy/LABEL/ATTRIBUTE` or `attribute_f1/ATTRIBUTE` with the same prefix, each name as
        [`tracker_name`] writes it.

    Example:

    ```python
    >>> logged_key("eval_group_accuracy/landbird|water")
    'eval_group_accuracy/landbird/water'

    ```
    """
    kind = next((kind for kind in _OF_ATTRIBUTES if kind in key), None)
    if kind is not None and _GROUP not in key.partition(kind)[0]:
        prefix, _, attribute = key.partition(kind)
        return prefix + kind + tracker_name(attribute)
    prefix, _, group = key.partition(_GROUP)
    return prefix + _GROUP + "/".join(map(tracker_name, split_group_key(group)))


def tracker_name(name: str) -> str:
    """Return a name that consists of letters, digits, "_" and "-" alone, another one for each name.

    Args:
        name (`str`): the name of a class or an attribute value.

    Returns:
        `str`: the name itself, if it consists of nothing else and is short. From any other what can be kept is kept,
        and eight digits that depend on the whole name follow.

    Example:

    ```python
    >>> tracker_name("landbird"), tracker_name("over 50 %")
    ('landbird', 'over_50-af3bb301')

    ```
    """
    if re.fullmatch(r"[0-9A-Za-z_-]+", name) and len(name) <= _LONGEST and not re.search("-[0-9a-f]{8}$", name):
        return name
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    kept = re.sub(r"[^0-9A-Za-z_-]+", "_", letters).strip("_-")[:_LONGEST]
    return f"{kept or 'name'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
