"""Equal tuning of all methods of a comparison: each gets the same number of trials over the space that it states.

Imports `tuning/`, `evaluation/`, `reports/` and rooms below. Trials are kept by
[`shared_trials`](gerne_hf.comparison.shared_trials); recipes call [`tune_methods`] before
[`compare`](gerne_hf.comparison.comparing.compare).
"""

import copy
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from accelerate import PartialState
from transformers.trainer_utils import BestRun
from transformers.utils import logging

from ..config import GerneConfig
from ..evaluation.names import metric_title
from ..evaluation.selection import selected_on
from ..reports.record import SEARCH_FILE, SEARCH_FOLDER, SEARCH_PICTURE_FILE
from ..trainer import GerneTrainer
from ..tuning.draws import LEARNING_RATE, WEIGHT_DECAY, Draw
from ..tuning.search import check_optuna, draw_search
from ..tuning.space import OWN_SETTINGS
from ..tuning.studies import SETTINGS, default_sampler
from ..utils.distributed import locked_by_main
from ..utils.files import write_json
from .methods import METHODS, method_config
from .quiet import hush, on_a_terminal, warnings_once
from .shared_trials import KeptTrials, what_decides

if TYPE_CHECKING:
    import optuna

logger = logging.get_logger(__name__)

TUNING_FOLDER = "tuning"
"""Folder in `output_dir` with the trials of all methods; those of a run that goes on lie in it, too."""

Settings = dict[str, dict[str, Any]]
MakeTrainer = Callable[[GerneConfig, type[GerneTrainer]], GerneTrainer]


def further_space(learning_rate: bool, weight_decay: bool) -> dict[str, Draw]:
    """Return what is drawn of every method that trains, besides its own space.

    Args:
        learning_rate, weight_decay (`bool`): whether these are tuned.
    """
    return {
        **({"learning_rate": LEARNING_RATE} if learning_rate else {}),
        **({"weight_decay": WEIGHT_DECAY} if weight_decay else {}),
    }


def space_of(name: str, further: Mapping[str, Draw]) -> dict[str, Draw]:
    """Return what is drawn of a method; empty if there is nothing to tune.

    A method that takes over the model of another one draws what comes after it alone: the other is tuned by its own
    trials.

    Args:
        name (`str`): the method.
        further (`Mapping[str, Draw]`): what is drawn of every method that trains.

    Raises:
        ValueError: for a method that states no space.
    """
    method = METHODS[name]
    if method.space is None:
        with_space = [other for other, one in METHODS.items() if one.space is not None or one.searches_itself]
        raise ValueError(
            f"--tune gives every method the same trials over its own space, and {name!r} states none; the methods "
            f"that do are {', '.join(with_space)}. Give it a `space` in gerne_hf/comparison/methods.py (an empty one "
            "if it has nothing to tune), or leave it out of --compare"
        )
    return {**method.space, **({} if method.start is not None else further)}


def check_spaces(names: Sequence[str]) -> None:
    """Refuse to tune methods of which one states no space.

    Args:
        names (`Sequence[str]`): the methods.

    Raises:
        ValueError: names the method.
    """
    for name in names:
        if not METHODS[name].searches_itself:
            space_of(name, {})


@warnings_once()
def tune_methods(
    names: Sequence[str],
    config: GerneConfig,
    make_trainer: MakeTrainer,
    seed: int,
    settings: Settings,
    n_trials: int,
    folders: Mapping[str, str],
    made_with: Mapping[str, Any],
    learning_rate: bool = False,
    weight_decay: bool = False,
) -> tuple[Settings, dict[str, dict[str, Any]]]:
    """Give every method the same number of trials, and return the settings that are best on the validation set.

    The first trial of each method is its settings without a search. Trials are compared by the metric that models are
    selected on, after the same rule and with the same seed for all methods. They are kept in `output_dir/tuning`, so
    that an interrupted search goes on, and two methods whose settings coincide share a trial. `search.json` and, for c
    and beta, a picture lie in `search` in the folder of each method's run.

    Args:
        names (`Sequence[str]`): the methods.
        config ([`GerneConfig`]): the common settings.
        make_trainer (`Callable`): makes a trainer with a fresh model, given a config and a class.
        seed (`int`): the seed of all trials.
        settings (`dict[str, dict[str, Any]]`): by method, fields of the config with values of its own.
        n_trials (`int`): trials of each method.
        folders (`Mapping[str, str]`): by method, the folder of its run.
        made_with (`Mapping[str, Any]`): what trials depend on besides the config.
        learning_rate, weight_decay (`bool`, *optional*): whether these are tuned, too, of every method that trains.

    Returns:
        `tuple`: `settings` with the chosen values, and by method `trials` (0 where there is nothing to tune),
        `trained` (those that were not known from another method or an earlier search), `chosen` and `value`, its
        figure on the validation set.

    Raises:
        ValueError: for a method without a space, and without a validation set.
        ImportError: without Optuna.
    """
    check_spaces(names)
    check_optuna()
    search = _Search(config, make_trainer, seed, n_trials, made_with, further_space(learning_rate, weight_decay))
    settings = {name: dict(own) for name, own in settings.items()}
    starts = [start for name in names if (start := METHODS[name].start) is not None and start not in names]
    tuned: dict[str, dict[str, Any]] = {}
    in_order = sorted(dict.fromkeys([*starts, *names]), key=lambda name: METHODS[name].start is not None)
    way_out = "Two searches would overwrite each other's trials. Wait for its end, or choose another output_dir"
    state = PartialState()
    with locked_by_main(search.folder, "searching", way_out, state.is_main_process, state.num_processes):
        many = f"{len(in_order)} methods" if len(in_order) > 1 else METHODS[in_order[0]].title
        state.print(
            f"Tuning {many}, {n_trials} trials each, by the {metric_title(search.metric)} of the validation set. "
            f"Trials are kept in {search.folder}.",
            flush=True,
        )
        for name in in_order:
            folder = folders.get(name, os.path.join(config.folder, f"{name}-seed{seed}"))
            found = search.of_method(name, settings, folder)
            settings[name] = {**settings.get(name, {}), **found["chosen"]}
            if name in names:
                tuned[name] = found
    return settings, tuned


@contextmanager
def finishing(trainer: GerneTrainer, values: Mapping[str, Any]) -> Iterator[None]:
    """Let a trainer that another method has trained have the settings of the method that finishes its model.

    Args:
        trainer ([`GerneTrainer`]): the trainer.
        values (`Mapping[str, Any]`): by name, fields of its config.
    """
    before = {name: getattr(trainer.args, name) for name in values}
    for name, value in values.items():
        setattr(trainer.args, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(trainer.args, name, value)


class _Search:
    """The trials of all methods: what they share."""

    def __init__(
        self,
        config: GerneConfig,
        make_trainer: MakeTrainer,
        seed: int,
        n_trials: int,
        made_with: Mapping[str, Any],
        further: Mapping[str, Draw],
    ):
        self.config, self.make_trainer, self.seed, self.n_trials = config, make_trainer, seed, n_trials
        self.further, self.folder = further, os.path.join(config.folder, TUNING_FOLDER)
        plain = self.config_of("erm", {}, os.path.join(self.folder, "run"))
        probe = make_trainer(plain, METHODS["erm"].trainer)
        if probe.eval_dataset is None:
            raise ValueError(
                "--tune compares trials on the validation set, and there is none. Give one, or leave --tune out"
            )
        probe.check_selected_metric()
        groups, sets = probe.reference_groups, probe.eval_dataset
        self.counts = np.ones((1, 1), dtype=np.int64) if groups is None else groups.counts
        self.metric = probe.selection_metric()
        self.greater = True if config.greater_is_better is None else bool(config.greater_is_better)
        contents = [probe.known_rows.content(probe.train_dataset)]
        contents += [probe.known_rows.content(data) for data in (sets.values() if isinstance(sets, dict) else [sets])]
        unknown = [what for content in contents for what in content.unknown]
        common = {"metric": self.metric, "rows": [content.whole for content in contents], **made_with}
        if unknown:
            common["only_once"] = time.time()  # nothing shows whether kept trials are of these rows
            logger.warning(
                f"The trials of this search are not found again by a later one, as no fingerprint can be made of "
                f"{', '.join(unknown)}."
            )
        self.kept = KeptTrials(self.folder, common)
        self._started: tuple[str, GerneTrainer, dict[str, Any]] | None = None
        del probe

    def config_of(self, name: str, settings: Settings, folder: str, **drawn: Any) -> GerneConfig:
        """Return the config of a trial."""
        shared = self.config.pseudo_attributes_dir or os.path.join(self.config.folder, "pseudo_attributes")
        places = {"output_dir": folder, "pseudo_attributes_dir": shared, "push_to_hub": False}
        return method_config(self.config, name, settings, seed=self.seed, **{**drawn, **places})

    def of_method(self, name: str, settings: Settings, folder: str) -> dict[str, Any]:
        """Make the trials of one method and return what [`tune_methods`] tells of it."""
        title = METHODS[name].title
        if METHODS[name].searches_itself:
            return self._of_trainer(name, settings, folder)
        space = space_of(name, self.further)
        if not space:
            PartialState().print(f"Tuning {title}: no settings.", flush=True)
            return {"trials": 0, "trained": 0, "chosen": {}, "value": None}
        import optuna

        plain = self.config_of(name, settings, os.path.join(self.folder, "run"))
        default = {key: getattr(plain, key) for key in space}
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # it says a line a trial
        try:
            study = optuna.create_study(
                sampler=default_sampler(self.seed), direction="maximize" if self.greater else "minimize"
            )
            study.enqueue_trial(default, user_attrs={SETTINGS: default})
            records = [self._trial(study, name, space, default, settings) for _ in range(self.n_trials)]
        finally:
            optuna.logging.set_verbosity(verbosity)
        best = _best(records, self.greater)
        trained = sum(not record.pop("shared") for record in records)
        first = records[0]["value"]
        PartialState().print(
            f"Tuning {title}: {len(records)} trials, {len(records) - trained} of them known before; "
            f"{_settings_in_words(best['params'])} with {_figure(best['value'])} ({metric_title(self.metric)} on the "
            f"validation set), its own settings {_figure(first)}.",
            flush=True,
        )
        self._report(records, best, folder)
        return {"trials": len(records), "trained": trained, "chosen": dict(best["params"]), "value": best["value"]}

    def _of_trainer(self, name: str, settings: Settings, folder: str) -> dict[str, Any]:
        """Let the trainer's own search make the trials, and return what it chose."""
        run = self.config_of(name, settings, folder)
        trainer = self.make_trainer(run, METHODS[name].trainer)
        trainer.also_drawn = dict(self.further)
        if not on_a_terminal():
            hush(trainer)
        return search_of_trainer(trainer, self.n_trials)

    def _trial(
        self, study: "optuna.Study", name: str, space: Mapping[str, Draw], default: dict[str, Any], settings: Settings
    ) -> dict[str, Any]:
        """Make one trial, or take its value from the trials that are kept, and return its record."""
        trial = study.ask()
        params: dict[str, Any] = {}
        for key, draw in space.items():
            params[key] = draw.draw(trial, key, default[key], params, self.counts)
        key = self._key(name, settings, params)
        kept = self.kept.get(key)
        done = kept if kept is not None else self._train(name, settings, params, is_default=trial.number == 0)
        if kept is None:
            self.kept.put(key, done)
        value = done["value"]
        import optuna

        if value is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(trial, value)
        record = {
            "number": trial.number,
            "state": "failed" if value is None else "complete",
            "value": value,
            "params": params,
            "seconds": done["seconds"],
            "shared": kept is not None,
        }
        if "beta" in trial.distributions:
            drawn_from = cast(Any, trial.distributions["beta"])
            record["beta_bounds"] = [drawn_from.low, drawn_from.high]
        return {**record, "start": OWN_SETTINGS} if trial.number == 0 else record

    def _key(self, name: str, settings: Settings, params: Mapping[str, Any]) -> str:
        """Return the name under which a trial is kept; settings that the data refuse have one as well."""
        try:
            decides = what_decides(self.config_of(name, settings, self.folder, **params), name)
        except ValueError as error:
            decides = {"method": name, "params": dict(params), "refused": str(error)}
        start = METHODS[name].start
        if start is not None:
            decides["start"] = what_decides(self.config_of(start, settings, self.folder), start)
        return self.kept.key(decides)

    def _train(self, name: str, settings: Settings, params: dict[str, Any], is_default: bool) -> dict[str, Any]:
        """Train a trial and return its value and seconds; one that fails has None, unless it is the first."""
        begin, folder = time.perf_counter(), os.path.join(self.folder, "run")
        value: float | None = None
        try:
            value = self._value(name, settings, params, folder)
        except (ValueError, FloatingPointError) as error:
            if is_default:
                raise
            logger.warning(f"A trial of {METHODS[name].title} with {_settings_in_words(params)} failed: {error}")
        finally:
            if PartialState().is_main_process:
                shutil.rmtree(folder, ignore_errors=True)  # its checkpoints; what is known of it is its value
        seconds = round(time.perf_counter() - begin, 1)
        return {"value": None if value is None or not math.isfinite(value) else value, "seconds": seconds}

    def _value(self, name: str, settings: Settings, params: dict[str, Any], folder: str) -> float:
        method = METHODS[name]
        if method.start is None:
            trainer = self._trained(self.config_of(name, settings, folder, **params), name)
            own = params
        else:
            trainer = self._start(method.start, settings, folder)
            own = {**settings.get(name, {}), **params}
        if method.finish is not None:
            with finishing(trainer, own):
                method.finish(trainer)
            trainer.evaluate()
        named = trainer.eval_dataset
        prefix, metric = selected_on(self.metric, [*named] if isinstance(named, dict) else [])
        found = trainer.group_results.get(prefix, {}).get(metric)
        return float(trainer.evaluate()[f"eval_{self.metric}"] if found is None else found)

    def _trained(self, run: GerneConfig, name: str) -> GerneTrainer:
        trainer = self.make_trainer(run, METHODS[name].trainer)
        trainer.tells = trainer.leaves_reports = False
        if not on_a_terminal():
            hush(trainer)
        trainer.train()
        trainer.evaluate_if_stale()
        return trainer

    def _start(self, start: str, settings: Settings, folder: str) -> GerneTrainer:
        """Return a trainer with the trained model that a method takes over, as it was before any trial changed it."""
        run = self.config_of(start, settings, folder)
        key = self.kept.key(what_decides(run, start))
        if self._started is None or self._started[0] != key:
            trainer = self._trained(run, start)
            state = copy.deepcopy(trainer.accelerator.unwrap_model(trainer.model).state_dict())
            self._started = key, trainer, state
        _, trainer, state = self._started
        trainer.create_accelerator_and_postprocess()  # the configs of later trials have taken its state away
        trainer.accelerator.unwrap_model(trainer.model).load_state_dict(state)
        return trainer

    def _report(self, records: list[dict[str, Any]], best: dict[str, Any], folder: str) -> None:
        """Write `search.json` and, for c and beta, a picture into the folder of the method's run."""
        if not PartialState().is_main_process:
            return
        sign = -1.0 if self.greater else 1.0
        ended = sorted((r for r in records if r["value"] is not None), key=lambda r: (sign * r["value"], r["number"]))
        ordered = [*ended, *(record for record in records if record["value"] is None)]
        direction = "maximize" if self.greater else "minimize"
        report: dict[str, Any] = {"objective": self.metric, "direction": direction, "study": None, "verdict": None}
        report |= {"made_with": self.kept.common, "best": best, "trials": ordered}
        os.makedirs(os.path.join(folder, SEARCH_FOLDER), exist_ok=True)
        write_json(report, os.path.join(folder, SEARCH_FOLDER, SEARCH_FILE))
        if {"c", "beta"} <= best["params"].keys():
            draw_search(ordered, os.path.join(folder, SEARCH_FOLDER, SEARCH_PICTURE_FILE), self.metric)


def search_of_trainer(trainer: GerneTrainer, n_trials: int) -> dict[str, Any]:
    """Search the trainer's default space until its study has `n_trials` trials.

    Args:
        trainer ([`GerneTrainer`]): a trainer that was made with a `model_init` and an `eval_dataset`.
        n_trials (`int`): number of trials in total, including those of an earlier search in this `output_dir`.

    Returns:
        `dict`: `chosen`, the best trial's settings by their names in [`GerneConfig`], the same on every process; its
        `value`; and `trials` and `trained`. Where groups are inferred, the settings are together with what makes other
        runs infer the same: the number of biased models, and no `threshold` unless its rule is the best.
    """
    args = trainer.args
    inferred = {"biased_folds": args.folds_of_biased_model, "threshold": None} if args.pseudo_attributes else {}
    direction = "minimize" if args.greater_is_better is False else "maximize"  # of errors and gaps less is better
    best = cast(BestRun, trainer.hyperparameter_search(n_trials=n_trials, direction=direction))  # one objective
    chosen = {**inferred, **best.hyperparameters}
    return {"trials": n_trials, "trained": n_trials, "chosen": chosen, "value": best.objective}


def _best(records: Sequence[dict[str, Any]], greater: bool) -> dict[str, Any]:
    """Return the best trial, the earliest of equal ones; the first one if none has a value."""
    ended = [record for record in records if record["value"] is not None]
    if not ended:
        return records[0]
    sign = -1.0 if greater else 1.0
    return min(ended, key=lambda record: (sign * record["value"], record["number"]))


def _settings_in_words(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} = {v:.4g}" if isinstance(v, float) else f"{k} = {v}" for k, v in params.items())


def _figure(value: float | None) -> str:
    return "no value" if value is None else f"{value:.4f}"
