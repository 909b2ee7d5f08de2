"""`SearchingTrainer`: the rung that searches for settings with Optuna, in a space of its own, and resumably.

Stands on [`PlanTrainer`](gerne_hf.training.plan_trainer.PlanTrainer). What a search refuses, how trials are compared
and what is left behind are functions of values in [`search`](gerne_hf.tuning.search).
"""

import contextlib
import functools
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sized
from types import MappingProxyType
from typing import Any, TypeVar, cast

import numpy as np
from accelerate.utils import broadcast_object_list
from transformers import EarlyStoppingCallback
from transformers.trainer_utils import BestRun, TrainOutput
from transformers.utils import logging

from ..evaluation.accumulator import GroupAccumulator
from ..evaluation.gate import GatedAccumulator
from ..groups.index import GroupIndex
from ..reports.record import SEARCH_FOLDER
from ..training.plan_trainer import PlanTrainer
from ..utils.distributed import locked_by_main
from ..utils.locks import LOCK_FILE
from ..utils.random import seeded
from .depends_on import trials_depend_on
from .draws import Draw
from .search import check_optuna, check_search, open_search, report_search, training_steps, trial_folder, trial_value
from .space import (
    InferredSpace,
    choices_of_c,
    draw_inferred_settings,
    draw_settings,
    largest_shift,
    starting_points,
)
from .studies import SETTINGS, enqueue_starts, finished_trials, trials_of

logger = logging.get_logger(__name__)

_Method = TypeVar("_Method", bound=Callable[..., Any])


def one_at_a_time(search: _Method) -> _Method:
    """Have a trainer's search lock its folder, where its study lies; one in a `storage` of the user's locks nothing.

    Args:
        search (`Callable`): the method `hyperparameter_search`.

    Returns:
        `Callable`: the method, which raises a [`FolderInUseError`](gerne_hf.utils.locks.FolderInUseError) on every
        process where another search is at work in the folder.
    """

    @functools.wraps(search)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        if "storage" in kwargs:
            return search(self, *args, **kwargs)
        folder = os.path.join(self.run_folder, SEARCH_FOLDER)
        way_out = "Two searches would end each other's trials. Wait for its end, or choose another output_dir"
        main, is_new = self.is_world_process_zero(), not os.path.isdir(folder)
        try:
            with locked_by_main(folder, "searching", way_out, main, self.args.world_size):
                return search(self, *args, **kwargs)
        finally:
            if main and is_new and os.path.isdir(folder) and set(os.listdir(folder)) <= {LOCK_FILE}:
                shutil.rmtree(folder)  # the search was refused before it began

    return cast(_Method, wrapper)


class SearchingTrainer(PlanTrainer):
    """A trainer whose [`SearchingTrainer.hyperparameter_search`] outlives the process.

    Args:
        arguments: those of [`~transformers.Trainer`], by keyword; a search needs a `model_init`.
    """

    also_drawn: Mapping[str, Draw] = MappingProxyType({})
    """By the name of a setting, what the default space draws besides c, beta and the rule."""

    objective: Any
    """The value of the trial that runs."""

    _ends_of_trials: tuple[type[BaseException], ...] = ()

    @one_at_a_time
    def hyperparameter_search(
        self,
        hp_space: Callable | None = None,
        compute_objective: Callable[[dict[str, float]], float] | None = None,
        n_trials: int = 20,
        direction: str | list[str] = "maximize",
        backend: str | None = None,
        hp_name: Callable | None = None,
        **kwargs: Any,
    ) -> BestRun | list[BestRun]:
        """Search for settings as `Trainer` does, in a space of its own and with a study that outlives the process.

        The study lies in `output_dir/search/study.db`. A search that was killed goes on when it is started again:
        trials that ended are kept, and the one that was killed runs again. With other settings, rows, functions or
        another model (by its config and the weights that it begins with) it is a new study there, and a message says
        what differs. Of two searches at a time in an
        `output_dir` the second is refused. At the end the main process prints a table of the trials and writes
        `search.json` and, with matplotlib, `search.png`.

        Without an `hp_space` the first trial is the trainer's own settings, so that the result is never worse on the
        evaluation set than they are. With `pseudo_attributes` the second is class-balanced ERM, the same plan with
        beta = -1; where no trial is better, it is the result, and the table and `search.json` say so. The others draw
        the rule too. All trials share the biased models, and where no attributes are known all are judged over the
        groups that the trainer's own settings infer. To repeat the result with another trainer where a `threshold` was
        given, give `biased_folds` as well, which is 1 by default for the rule "threshold" alone.

        Args:
            hp_space (`Callable`, *optional*): as for `Trainer`; if not given,
                [`draw_settings`](gerne_hf.tuning.draw_settings), or with `pseudo_attributes`
                [`draw_inferred_settings`](gerne_hf.tuning.draw_inferred_settings).
            compute_objective (`Callable`, *optional*): as for `Trainer`; if not given, the metric that models are
                selected on. With `load_best_model_at_end` the best evaluation of the trial counts, else the last.
            n_trials (`int`, defaults to `20`): trials of the study in total, those of earlier runs included.
            direction (`str` or `list[str]`, defaults to `"maximize"`): as for `Trainer`, which minimizes by default.
            backend (`str`, *optional*): as for `Trainer`; Optuna if not given. The rest of this page holds for
                Optuna with one objective; any other search is that of `Trainer`.
            hp_name (`Callable`, *optional*): names a trial's folder in `output_dir/search`; `run-<number>` if not
                given.
            kwargs: `storage` (None for a study in memory), `study_name`, `sampler`, `pruner`, `catch` (errors that
                end a trial and not the search; ValueError and FloatingPointError by default) and all else that
                `Trainer` takes. Trials that run elsewhere in a `storage` of your own are left alone.

        Returns:
            [`~transformers.trainer_utils.BestRun`]: the best trial of the study, on every process.

        Raises:
            ImportError: without Optuna.
            ValueError: for a plan without beta and no `hp_space`, a direction that the metric does not have, a
                metric that no evaluation has, no evaluation set, or a study of a given name or storage that was made
                with other data or settings.
            RuntimeError: without a `model_init`, or if no trial completed.
            FolderInUseError: if another search is at work in `output_dir`.
        """
        args = self.args
        stock = backend not in (None, "optuna") or not isinstance(direction, str)
        if not stock:
            check_optuna()
        check_search(
            args,
            has_model_init=self.model_init is not None,
            has_both_sets=self.train_dataset is not None and self.eval_dataset is not None,
            own_space=hp_space is not None,
            own_objective=compute_objective is not None,
            direction=direction,
            stock=stock,
            metric=self.selection_metric(),
        )
        if compute_objective is None:
            self.check_selected_metric()
        objective = "objective" if compute_objective is not None else self._objective_name()
        counts = self.known_groups.counts
        inferred = self._inferred_space() if args.pseudo_attributes and hp_space is None else None
        if inferred is not None and not inferred.rules_that_split:
            n_trials = min(n_trials, 2)
            if self.is_world_process_zero():
                message = "no rule splits a class here. Only your settings and class-balanced ERM are tried"
                print(f"\nNothing to search: {message}.", flush=True)
        space = hp_space or self._default_space(inferred)
        compute = compute_objective or (
            lambda metrics: trial_value(metrics, objective, str(direction), self._best_value_kept())
        )
        search = super().hyperparameter_search
        if stock or not isinstance(direction, str):
            with self._settings_of_trials():
                return search(space, compute, n_trials, direction, backend, hp_name, **kwargs)

        study, best, missing, name = None, None, 0, ""
        depends_on = self._trials_depend_on(hp_space, compute_objective)
        if self.is_world_process_zero():
            steps = training_steps(args, len(cast(Sized, self.train_dataset)), self._train_batch_size)
            drawn_from = self._description_of_space(hp_space, inferred)
            study, kwargs = open_search(
                *(args, counts, steps, self._train_batch_size, objective, direction, drawn_from, depends_on, kwargs)
            )
            ended = len(finished_trials(study))
            missing = max(0, n_trials - ended)
            if missing and hp_space is None:
                others = {other: getattr(args, other) for other in self.also_drawn}
                starts = starting_points(args, inferred)
                enqueue_starts(study, {start: {**own, **others} for start, own in starts.items()})
            name = study.study_name
            if not missing:
                print(
                    f"\nThe study {name!r} has {ended} trials of this very search, and n_trials={n_trials}: 0 trials "
                    "are run. A larger n_trials adds to them; another search is a new study.",
                    flush=True,
                )
            logger.info(f"{ended} trials of the study {name!r} have ended, {missing} are to run.")
        missing, name = broadcast_object_list([missing, name])
        if missing:
            errors = kwargs.get("catch", (ValueError, FloatingPointError))
            kwargs["catch"] = caught = errors if isinstance(errors, tuple) else (errors,)
            keep = not getattr(kwargs.get("sampler"), "draws_again", False)
            with self._settings_of_trials(caught), trials_of(study, caught, keep):
                search(
                    *(space, compute, missing, direction, "optuna"),
                    lambda trial: trial_folder(hp_name, trial, name),
                    **kwargs,
                )
        if study is not None:
            best = report_search(study, objective, self.run_folder)
        (best,) = broadcast_object_list([best])
        if best is None:
            raise RuntimeError(
                "no trial of the search completed. Optuna's warnings above say why each ended; search.json has their "
                "parameters"
            )
        return best

    def _trials_depend_on(self, hp_space: Callable | None, objective: Callable | None) -> dict[str, Any]:
        """Return what the trials of this search depend on; all processes call this, as all make a model."""
        with seeded(self.args.seed):
            model = self.call_model_init()
        named = self.eval_dataset if isinstance(self.eval_dataset, dict) else {"": self.eval_dataset}
        sets = {"training_rows": self.known_rows.content(self.train_dataset)}
        sets |= {f"evaluation_rows{f' of {n}' if n else ''}": self.known_rows.content(d) for n, d in named.items()}
        early = [c for c in self.callback_handler.callbacks if isinstance(c, EarlyStoppingCallback)]
        stopping = [[c.early_stopping_patience, c.early_stopping_threshold] for c in early]
        functions = {
            "trainer": type(self),
            "data_collator": self.data_collator,
            "compute_loss_func": self.loss_func,
            "compute_metrics": self.compute_metrics,
            "preprocess_logits_for_metrics": self.preprocess_logits_for_metrics,
            "hp_space": hp_space,
            "compute_objective": objective,
            "early_stopping": stopping,
        }
        optimizer = self.optimizer_cls_and_kwargs
        return trials_depend_on(self.args, model, sets, functions, optimizer, hp_space is None)

    def _default_space(self, inferred: InferredSpace | None) -> Callable[[Any], dict[str, Any]]:
        """Return the function that draws the settings of a trial, or sets those of a trial that is not drawn."""
        counts, choices = self.known_groups.counts, choices_of_c(self.args.c)
        defaults = {name: getattr(self.args, name) for name in self.also_drawn}

        def draw(trial: Any) -> dict[str, Any]:
            own = trial.user_attrs.get(SETTINGS)
            if inferred is None:
                settings = draw_settings(trial, counts, choices, own)
            else:
                settings = draw_inferred_settings(trial, inferred, choices, own)
            for name, one in self.also_drawn.items():
                settings[name] = one.draw(trial, name, defaults[name], settings, counts)
            return settings

        return draw

    def _description_of_space(self, hp_space: Callable | None, inferred: InferredSpace | None) -> dict[str, Any]:
        """Return what trials of one study must agree in, of the space that they are drawn from."""
        if hp_space is not None:
            return {"space": "custom"}
        described: dict[str, Any] = {"space": "default", "values_of_c": choices_of_c(self.args.c)}
        if self.also_drawn:
            described["also_drawn"] = sorted(self.also_drawn)
        if inferred is not None:
            described |= {"space": "inferred groups", "rules": [*inferred.rules], "threshold": inferred.threshold}
            described["folds"] = self.args.folds_of_biased_model
        return described

    def _inferred_space(self) -> InferredSpace:
        """Return what is searched where groups are inferred: which rules the data can serve, and how far.

        A rule is tried on the scores that are there. One that refuses the data, or that splits no class and so is
        class-balanced ERM, is left out, unless it is that of the settings that are given.

        Raises:
            ValueError: if the rule that is given refuses the data.
        """
        args = self.args
        given, own = args.pseudo_rule, args.settled_rule
        learned = ["validation_attributes"] if args.attribute_columns else []
        rules: dict[str, float] = {}
        split = []
        try:
            for rule in dict.fromkeys([own, "validation_shift", *learned, "confident_mistakes"]):
                args.pseudo_rule = rule
                try:
                    groups = self.settle_training_groups()
                except ValueError as error:
                    if rule == own:
                        raise
                    logger.info(f"The rule {rule!r} is not searched: {error}")
                    continue
                assert groups is not None
                target = self.target_distribution()
                splits = not np.allclose(groups.alpha, target)
                if splits or rule == own:
                    rules[rule] = largest_shift(groups.alpha, target)
                if splits:
                    split.append(rule)
        finally:
            args.pseudo_rule = given
        self.settle_training_groups()
        class_counts = self.known_groups.counts.sum(axis=1)
        return InferredSpace(rules, class_counts, args.threshold if own == "threshold" else None, tuple(split))

    def _objective_name(self) -> str:
        """Return the metric that trials are compared by, without the prefix `eval_`."""
        name, sets = self.selection_metric(), self.eval_dataset
        several = isinstance(sets, dict) and self.args.metric_for_best_model is None
        return f"{next(iter(cast(dict, sets)))}_{name}" if several else name

    def _best_value_kept(self) -> float | None:
        return self.state.best_metric if self.args.load_best_model_at_end else None

    @contextlib.contextmanager
    def _settings_of_trials(self, caught: tuple[type[BaseException], ...] = ()) -> Iterator[None]:
        """Let trials set fields of `args`; afterwards, whatever happened, all are as before."""
        self.settle_training_groups()  # not within the first trial: its errors are no trial's
        before, results = dict(vars(self.args)), dict(self.group_results)
        for name in ("c", "beta"):  # Trainer casts drawn values to the type it finds, and an int would cut them off
            setattr(self.args, name, float(getattr(self.args, name)))
        self._ends_of_trials = caught
        try:
            with self._judged_alike():
                yield
        finally:
            vars(self.args).clear()
            vars(self.args).update(before)
            self._ends_of_trials, self.group_results = (), results
            self.hp_search_backend = self.hp_name = self._trial = None
            self.is_in_train = False
            self._train_batch_size = self.args.train_batch_size
            self.create_accelerator_and_postprocess()
            self.settle_training_groups()
            self.settle_plan()

    @contextlib.contextmanager
    def _judged_alike(self) -> Iterator[None]:
        """Judge all trials over the same inferred groups of the evaluation set: those of the settings that are given.

        Over groups of its own, a rule that splits no class would look best, as there is no small group to fail on.
        """
        sets = self.eval_dataset
        index = self.groups_of(next(iter(sets.values())) if isinstance(sets, dict) else sets)
        make = self.make_accumulator
        first = None if index is None else make(index)
        if not isinstance(first, GatedAccumulator):
            yield
            return

        def make_alike(index: GroupIndex) -> GroupAccumulator:
            accumulator = make(index)
            if isinstance(accumulator, GatedAccumulator):
                accumulator.inferred = first.inferred
            return accumulator

        vars(self)["make_accumulator"] = make_alike
        try:
            yield
        finally:
            vars(self).pop("make_accumulator")

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train, alone or as a trial of a search. Arguments and result are those of `Trainer.train`.

        Optuna's loop goes on after a trial that failed or was pruned, but it runs on the main process only. This does
        the same for the others.
        """
        run = super().train
        if trial is None or not self._ends_of_trials or self.is_world_process_zero():
            return run(resume_from_checkpoint, trial, ignore_keys_for_eval)
        import optuna

        ends: tuple[type[BaseException], ...] = (optuna.TrialPruned, *self._ends_of_trials)
        try:
            return run(resume_from_checkpoint, trial, ignore_keys_for_eval)
        except ends:
            self.objective = math.nan  # else Trainer would evaluate, on this process alone
            return TrainOutput(self.state.global_step, math.nan, {})

    def _report_to_hp_search(self, trial: Any, step: int, metrics: dict[str, float]) -> None:
        """Report a trial's metrics as `Trainer` does, which prunes on the main process; the others follow it."""
        if self.args.world_size == 1 or trial is None or not self._ends_of_trials:
            return super()._report_to_hp_search(trial, step, metrics)
        import optuna

        pruned = False
        try:
            super()._report_to_hp_search(trial, step, metrics)
        except optuna.TrialPruned:
            pruned = True
        if broadcast_object_list([pruned])[0]:
            raise optuna.TrialPruned
