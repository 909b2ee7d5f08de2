"""What a method is called where two are told apart by name: that of the model in a repository, and that of a run.

Imports [`record`](gerne_hf.reports.record). Tables call methods by shorter names, those of
[`METHODS`](gerne_hf.comparison.methods.METHODS).
"""

from typing import Any

from .record import ORIGINAL_TRAINER

UNKNOWN_METHOD = "a method that nobody knows, as there is no group_metrics.json of this package beside it"
"""What the method of a model is called that other means have put into a repository."""


def method_name(trainer: str, plan: str, class_balanced: bool = True, pseudo_attributes: bool = False) -> str:
    """Return the name of a method: its trainer's class, its plan, and what makes two methods of one plan.

    Args:
        trainer (`str`): name of the trainer's class.
        plan (`str`): name of the batch plan.
        class_balanced (`bool`, *optional*, defaults to `True`): whether classes are drawn equally often.
        pseudo_attributes (`bool`, *optional*, defaults to `False`): whether groups are inferred.

    Example:

    ```python
    >>> method_name("GerneTrainer", "erm", class_balanced=False), method_name("GerneTrainer", "independent")
    ("plan 'erm'", "plan 'independent'")
    >>> method_name("JTTTrainer", "erm"), method_name("GerneTrainer", "shared", pseudo_attributes=True)
    ("JTTTrainer with plan 'erm', class-balanced", "plan 'shared' with unknown attributes")

    ```
    """
    name = f"plan {plan!r}"
    if trainer != ORIGINAL_TRAINER:
        name = f"{trainer} with {name}"
    if plan == "erm" and class_balanced:
        name += ", class-balanced"
    return f"{name} with unknown attributes" if pseudo_attributes else name


def method_of_record(record: dict[str, Any] | None) -> str:
    """Return the name of the method of a model from what its `group_metrics.json` holds.

    Args:
        record (`dict`, *optional*): as [`RunRecord.as_json`] returns it; None without such a file.

    Returns:
        `str`: `UNKNOWN_METHOD` for a value that is no such record.
    """
    try:
        run, method = (record or {})["run"], (record or {}).get("method") or {}
        balanced, inferred = bool(method.get("class_balanced", True)), bool((record or {}).get("pseudo_attributes"))
        return method_name(str(run["trainer"]), str(run["plan"]), balanced, inferred)
    except (KeyError, TypeError, AttributeError):
        return UNKNOWN_METHOD


def check_no_other_method(record: dict[str, Any] | None, allowed: list[str], repository: str) -> None:
    """Refuse a repository that holds a model of another method.

    Args:
        record (`dict`, *optional*): what the `group_metrics.json` in the repository holds; None without one.
        allowed (`list[str]`): names of the methods whose models may be replaced, that of this run first.
        repository (`str`): what messages call the repository.

    Raises:
        ValueError: names both methods, and says what to do.
    """
    found = method_of_record(record)
    if found not in allowed:
        raise ValueError(
            f"the repository {repository} on the Hub holds a model of another method: it was trained by {found}, and "
            f"this run trains by {allowed[0]}. Nothing was changed there. Choose another hub_model_id or "
            "hub_revision, or set hub_overwrite=True (--hub_overwrite) to put this model in its place"
        )
