"""Optuna studies that outlive the process: opening and checking them, and trials that were killed.

Optuna is an extra and slow to import, so it is imported where it is used. Next:
[`search`](gerne_hf.tuning.search).
"""

import contextlib
import math
import os
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from transformers.utils import logging

from .depends_on import UNKNOWN
from .space import START

if TYPE_CHECKING:
    import optuna

logger = logging.get_logger(__name__)

STUDY_FILE = "study.db"

STUDY_NAME = "gerne_hf"

STARTUP_TRIALS = 5
"""Trials drawn at random before the sampler learns from them, and trials run to the end before any is pruned."""

MADE_WITH = "made_with"

SETTINGS = "settings"
"""Attribute of a trial that is not drawn: its settings."""

_INTERRUPTED = "interrupted"


def open_study(
    folder: str, direction: str, made_with: dict[str, Any], arguments: dict[str, Any]
) -> tuple["optuna.Study", dict[str, Any]]:
    """Create the study or load the one that is there, if it is the same search.

    In the folder's own file another search is another study; one that has a name or a storage given is refused then.

    Args:
        folder (`str`): where the file of a study without a `storage` lies.
        direction (`str`): "maximize" or "minimize".
        made_with (`dict`): what makes trials comparable; kept in the study.
        arguments (`dict`): the user's arguments of `optuna.create_study`, and others.

    Returns:
        `tuple`: the study, and the arguments with which `optuna.create_study` finds it.

    Raises:
        ValueError: if the study that is named was made with something else, or the file is damaged.
    """
    import optuna

    own = "storage" not in arguments
    if own:
        os.makedirs(folder, exist_ok=True)
        path = os.path.abspath(os.path.join(folder, STUDY_FILE))
        _check_database(path)
        storage: optuna.storages.BaseStorage = optuna.storages.RDBStorage(
            f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}}
        )
    elif arguments["storage"] is None:
        storage = optuna.storages.InMemoryStorage()
    else:
        storage = optuna.storages.get_storage(arguments["storage"])
    place = path if own else "the storage given"
    by_content = own and "study_name" not in arguments
    name = _name_by_content(storage, made_with, place) if by_content else STUDY_NAME
    arguments = {"study_name": name, "load_if_exists": True, **arguments, "storage": storage}
    names = ("study_name", "storage", "load_if_exists")
    study = optuna.create_study(direction=cast(Any, direction), **{name: arguments[name] for name in names})
    _check_same_search(study, made_with, place)
    if own:  # with a storage that others share, a trial that runs may run elsewhere
        running = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
        set_aside(study, running, retry="sampler" in arguments)
    return study, {**arguments, "load_if_exists": True}


def _check_database(path: str) -> None:
    """Raise a ValueError if the file of a study is damaged; a file that is not there or empty becomes a new study."""
    if not os.path.isfile(path):
        return
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=60)) as database:
            found = "; ".join(str(row[0]) for row in database.execute("PRAGMA quick_check(3)"))
            tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.DatabaseError as error:
        found, tables = str(error), set()
    if found == "ok" and (not tables or {"studies", "trials"} <= tables):
        return
    found = "it is no study of Optuna" if found == "ok" else " ".join(found.split())
    raise ValueError(
        f"the study {path} cannot be read ({found}): it is damaged. Put a copy of it in its place to go on with its "
        "trials, or delete it to search anew"
    )


def _name_by_content(storage: Any, made_with: dict[str, Any], path: str) -> str:
    """Return the name of the study of this very search, or a new one, and say why it is new."""
    import optuna

    others = [optuna.load_study(study_name=s.study_name, storage=storage) for s in storage.get_all_studies()]
    for study in others:
        if study.user_attrs.get(MADE_WITH) in (None, made_with) and UNKNOWN not in made_with and _is_own(study):
            return study.study_name
    if not others:
        return STUDY_NAME
    taken = {study.study_name for study in others}
    name = next(
        f"{STUDY_NAME}-{number}" for number in range(2, len(taken) + 3) if f"{STUDY_NAME}-{number}" not in taken
    )
    if UNKNOWN in made_with:
        reason = (
            f"nothing shows whether the trials there are of this search, as no fingerprint can be made of "
            f"{', '.join(made_with[UNKNOWN])}. To go on with one of them, name it, such as study_name={STUDY_NAME!r}"
        )
    else:
        reason = f"its trials cannot be compared with those there: {_differences(others[-1], made_with)}"
    print(f"\nThis search is a new study, {name!r} in {path}: {reason}.", flush=True)
    return name


def _is_own(study: "optuna.Study") -> bool:
    return study.study_name == STUDY_NAME or study.study_name.startswith(f"{STUDY_NAME}-")


def _differences(study: "optuna.Study", made_with: dict[str, Any]) -> str:
    """Describe how a search differs from that of a study, both of known parts; "" if it does not."""
    known = study.user_attrs.get(MADE_WITH) or {}
    names = [name for name in made_with if name != UNKNOWN and known.get(name) != made_with[name]]
    return "; ".join(f"{name} was {known.get(name)!r} and is {made_with[name]!r}" for name in names)


def _check_same_search(study: "optuna.Study", made_with: dict[str, Any], place: str) -> None:
    if study.user_attrs.get(MADE_WITH) is None:
        study.set_user_attr(MADE_WITH, made_with)
        return
    differences = _differences(study, made_with)
    if differences:
        raise ValueError(
            f"the study {study.study_name!r} in {place} belongs to another search, whose trials cannot be compared "
            f"with those of this one: {differences}. Choose another output_dir or study_name, or delete the study"
        )
    if UNKNOWN in made_with:
        logger.warning(
            f"The study {study.study_name!r} in {place} goes on, though no fingerprint can be made of "
            f"{', '.join(made_with[UNKNOWN])}. Make sure that nothing of this has changed."
        )


def enqueue_starts(study: "optuna.Study", starts: Mapping[str, dict[str, Any]]) -> None:
    """Let the next trials be those of settings that are not drawn, unless the study has them already.

    A trial that was interrupted does not count, so its settings are tried again.

    Args:
        study (`optuna.Study`): the study.
        starts (`Mapping[str, dict]`): settings by what they are called, as
            [`starting_points`](gerne_hf.tuning.space.starting_points) gives them.
    """
    uncounted = set(study.user_attrs.get(_INTERRUPTED, []))
    known = [
        (trial.user_attrs[START], trial.user_attrs[SETTINGS])
        for trial in study.get_trials(deepcopy=False)
        if START in trial.user_attrs and trial.number not in uncounted
    ]
    for name, settings in starts.items():
        if (name, settings) not in known:
            study.enqueue_trial(settings, user_attrs={START: name, SETTINGS: settings})


def default_sampler(seed: int) -> "optuna.samplers.BaseSampler":
    """Return a TPE sampler whose draws follow from the seed and the trials before.

    A trial that was interrupted is drawn again as it was, and a search that goes on draws what it would have drawn
    without the interruption.

    Args:
        seed (`int`): together with the number of earlier trials this decides the draws.
    """
    import optuna

    class SeededTPESampler(optuna.samplers.TPESampler):
        """Draws as if it were new, from a seed that follows from the trials before."""

        draws_again = True

        def __init__(self, number: int = 0):
            own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
            super().__init__(n_startup_trials=STARTUP_TRIALS, seed=own)

        def before_trial(self, study: "optuna.Study", trial: "optuna.trial.FrozenTrial") -> None:
            """Begin a trial with the seed that belongs to its number."""
            uncounted = {*study.user_attrs.get(_INTERRUPTED, []), trial.number}
            begun = (t for t in study.get_trials(deepcopy=False) if t.state.name != "WAITING")
            SeededTPESampler.__init__(self, sum(t.number not in uncounted for t in begun))
            super().before_trial(study, trial)

    return SeededTPESampler()


def default_pruner(training_steps: int) -> "optuna.pruners.BasePruner":
    """Return a pruner that ends trials below the median of the others, after the first third of their training.

    Args:
        training_steps (`int`): optimizer steps of a trial.
    """
    import optuna

    return optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=training_steps // 3)


def set_aside(study: "optuna.Study", trials: list["optuna.trial.FrozenTrial"], retry: bool) -> None:
    """Mark trials as interrupted: they do not count.

    Args:
        study (`optuna.Study`): their study.
        trials (`list[optuna.trial.FrozenTrial]`): the trials.
        retry (`bool`): whether their parameters are the next to be tried.
    """
    import optuna

    if not trials:
        return
    marked = {*study.user_attrs.get(_INTERRUPTED, []), *(trial.number for trial in trials)}
    study.set_user_attr(_INTERRUPTED, sorted(marked))
    for trial in trials:
        if retry and trial.params and START not in trial.user_attrs:  # those are enqueued when the study is opened
            study.enqueue_trial(trial.params)
        if not trial.state.is_finished():
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


@contextlib.contextmanager
def trials_of(
    study: "optuna.Study | None", caught: tuple[type[BaseException], ...], retry: bool = True
) -> Iterator[None]:
    """Look after a study while its trials run: a trial that an error or an interrupt ends does not count.

    Args:
        study (`optuna.Study`, *optional*): None on processes that do not hold it.
        caught (`tuple`): errors that end a trial and not the search.
        retry (`bool`, defaults to `True`): whether its parameters are kept for the next trial; a sampler that draws
            them again needs none.
    """
    if study is None:
        yield
        return
    before = len([trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()])
    try:
        yield
    except BaseException as error:
        ended = sorted(finished_trials(study), key=lambda trial: cast(datetime, trial.datetime_complete))
        if isinstance(error, caught) and not any(is_complete(trial) for trial in ended):
            return  # from Optuna, which has no best trial to return
        running = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "RUNNING"]
        failed = [trial for trial in ended[-1:] if len(ended) > before and trial.state.name == "FAIL"]
        set_aside(study, running or failed, retry=retry and not isinstance(error, Exception))
        raise


def finished_trials(study: "optuna.Study") -> list["optuna.trial.FrozenTrial"]:
    """Return the trials that count: complete, pruned, or failed by themselves, but not killed or interrupted.

    Args:
        study (`optuna.Study`): the study.
    """
    uncounted = set(study.user_attrs.get(_INTERRUPTED, []))
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.state.is_finished() and trial.number not in uncounted]


def is_complete(trial: "optuna.trial.FrozenTrial") -> bool:
    """Return True if the trial ran to its end and has a value."""
    return trial.state.name == "COMPLETE"


def trial_records(study: "optuna.Study") -> list[dict[str, Any]]:
    """Return the trials that were begun, the best first, then those that did not complete, in order.

    Returns:
        `list[dict]`: `number`, `state` ("complete", "pruned", "failed", "interrupted" or "running"), `value` (of a
        pruned trial its last one), `params`, `beta_bounds` (the interval that beta was drawn from), `seconds` and, of
        a trial that was not drawn, `start`: what its settings are called.
    """
    interrupted = set(study.user_attrs.get(_INTERRUPTED, []))
    names = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
    records = []
    for trial in study.get_trials(deepcopy=False):
        if trial.state.name not in names:
            continue
        record = {
            "number": trial.number,
            "state": "interrupted" if trial.number in interrupted else names[trial.state.name],
            "value": trial.value if trial.value is not None and math.isfinite(trial.value) else None,
            "params": dict(trial.params),
            "seconds": None if trial.duration is None else round(trial.duration.total_seconds(), 1),
        }
        interval = trial.distributions.get("beta")
        if interval is not None:
            drawn = cast(Any, interval)
            record["beta_bounds"] = [drawn.low, drawn.high]
        if START in trial.user_attrs:
            record["start"] = trial.user_attrs[START]
        records.append(record)
    sign = -1 if study.direction.name == "MAXIMIZE" else 1

    def place(record: dict[str, Any]) -> tuple[int, float, int]:
        if record["state"] == "complete":
            return 0, sign * record["value"], record["number"]
        return 1 if record["state"] == "pruned" else 2, 0, record["number"]

    return sorted(records, key=place)
