"""What the trials of a search depend on: trials of another search cannot be compared with them.

Imports `checkpoints/`, `groups/` and `utils/`. [`studies`](gerne_hf.tuning.studies) keeps it in a study, and
[`SearchingTrainer`](gerne_hf.tuning.searching_trainer.SearchingTrainer) collects it.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from transformers import TrainingArguments

from ..checkpoints.identity import settings_of_results
from ..config import GerneConfig
from ..groups.contents import Content
from ..utils.hashing import Hashed, hash_value, hash_weights, mix

UNKNOWN = "unknown"
"""Entry that says in words of what no fingerprint could be made; a study is then gone on with only by its name."""

_DRAWN = ("c", "beta", "pseudo_rule", "threshold")
_NOT_OF_THE_MODEL = ("use_cache", "architectures", "dtype", "transformers_version", "_name_or_path")


def trials_depend_on(
    args: GerneConfig,
    model: Any,
    sets: Mapping[str, Content],
    functions: Mapping[str, Any],
    optimizer: tuple[type, dict[str, Any]] | None,
    draws_defaults: bool,
) -> dict[str, Any]:
    """Return what the trials of a search depend on, as JSON, by names for messages.

    Args:
        args ([`GerneConfig`]): settings of the trainer; all that results depend on count, the seed among them.
        model (`nn.Module`): the model that a trial begins with; its config and weights count.
        sets (`Mapping[str, Content]`): what is known of the training set and of the evaluation sets.
        functions (`Mapping[str, Any]`): by name, functions and classes that trials call; None for none.
        optimizer (`tuple`, *optional*): class and arguments of the optimizer.
        draws_defaults (`bool`): whether the default space is searched, whose trials draw c, beta and the rule.

    Returns:
        `dict[str, Any]`: with an entry "unknown" if no fingerprint could be made of a part.
    """
    settings = settings_of_results({**args.to_dict(), "world_size": args.world_size})
    if draws_defaults:
        settings = {name: value for name, value in settings.items() if name not in _DRAWN}
    config = getattr(model, "config", None)
    described = {} if config is None else {**config.to_dict(), **dict.fromkeys(_NOT_OF_THE_MODEL)}
    parts: dict[str, Hashed | Content] = {
        "model_config": hash_value(described),
        "initial_weights": hash_weights(model),
        "optimizer_class": hash_value(None if optimizer is None else [source_of(optimizer[0]), optimizer[1]]),
        **{name: hash_value(value, _settings_by_content) for name, value in functions.items()},
        **sets,
    }
    unknown = [f"{name} ({what})" for name, part in parts.items() for what in part.unknown]
    depends = {**settings, "model": type(model).__name__, **{name: part.whole for name, part in parts.items()}}
    return {**depends, UNKNOWN: unknown} if unknown else depends


def source_of(cls: Callable) -> str:
    """Return name and source text of an optimizer's class: what it counts while it steps is no part of it.

    Args:
        cls (`type`): the class.
    """
    try:
        text = inspect.getsource(cls)
    except (OSError, TypeError):
        text = ""
    return f"{cls.__module__}.{cls.__qualname__}\n{text}"


def _settings_by_content(value: Any) -> Hashed | None:
    """Return the hash of settings that a function closes over: of those that results depend on."""
    if not isinstance(value, TrainingArguments):
        return None
    return Hashed(mix(repr(sorted(settings_of_results(value.to_dict()).items()))).hex(), "")
