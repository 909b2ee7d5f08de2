"""Search of c, beta and t with Optuna: resumable, and selected by the rule that selects models."""

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import optuna
from accelerate.utils import broadcast_object_list
from transformers.trainer_utils import BestRun
from transformers.utils import logging

from ..method.plans import PLANS_WITH_BETA
from ..reports.record import SEARCH_FILE, SEARCH_FOLDER, SEARCH_PICTURE_FILE
from ..reports.tables import format_search_table
from ..trainer import GerneTrainer
from ..utils.files import write_json
from .space import draw_settings
from .studies import MADE_WITH, default_pruner, default_sampler, finished_trials, open_study, trial_records, trials_of

logger = logging.get_logger(__name__)


def tune(trainer: "GerneTrainer", n_trials: int) -> dict[str, Any]:
    """Search the default space until the study has `n_trials` trials.

    Args:
        trainer ([`GerneTrainer`]): made with a `model_init` and an `eval_dataset`.
        n_trials (`int`): trials in total, those of an earlier search in this `output_dir` included.

    Returns:
        `dict`: the best trial's settings by their names in [`GerneConfig`], on every process.
    """
    return dict(trainer.hyperparameter_search(n_trials=n_trials).hyperparameters)


class TuningMixin:
    """The tuning part of [`GerneTrainer`]; goes before `Trainer` in the bases."""

    _ends_of_trials: tuple[type[BaseException], ...] = ()

    def hyperparameter_search(
        self,
        hp_space: Callable | None = None,
        compute_objective: Callable[[dict[str, float]], float] | None = None,
        n_trials: int = 20,
        direction: str | list[str] = "maximize",
        backend: str | None = None,
        hp_name: Callable | None = None,
        **kwargs,
    ) -> BestRun | list[BestRun] | None:
        """The parent's search, with a space of its own ([`draw_settings`]) and a study that outlives the process.

        The study lies in `output_dir/search/study.db`. A search that was killed goes on when it is started again:
        trials that ended are kept, and the one that was killed runs again. Of two processes at a time only one may
        search in an `output_dir`. At the end the main process prints a table of the trials and writes `search.json`
        and, with matplotlib, `search.png`.

        Args:
            hp_space (`Callable`, *optional*): as in the parent; [`draw_settings`] if not given.
            compute_objective (`Callable`, *optional*): as in the parent; if not given, the metric that models are
                selected on. With `load_best_model_at_end` the best evaluation of the trial counts, else the last.
            n_trials (`int`, defaults to `20`): trials of the study in total, those of earlier runs included.
            direction (`str` or `list[str]`, defaults to `"maximize"`): as in the parent, which minimizes by default.
            backend (`str`, *optional*): as in the parent; Optuna if not given. The rest of this page holds for
                Optuna with one objective; any other search is the parent's.
            hp_name (`Callable`, *optional*): names a trial's folder in `output_dir/search`; `run-<number>` if not
                given.
            kwargs: `storage` (None for a study in memory), `study_name`, `sampler`, `pruner`, `catch` (errors that
                end a trial and not the search; ValueError and FloatingPointError by default) and all else that the
                parent takes. Trials that run elsewhere in a `storage` of your own are left alone.

        Returns:
            [`~transformers.trainer_utils.BestRun`]: the best trial of the study, on every process.

        Raises:
            ImportError: without Optuna.
            ValueError: for a plan without beta and no `hp_space`, a direction that the metric does not have, no
                evaluation set, or a study made with other data or settings.
            RuntimeError: without a `model_init`, or if no trial completed.
        """
        stock = backend not in (None, "optuna") or not isinstance(direction, str)
        if not stock:
            _check_optuna()
        self._check_search(hp_space, compute_objective, direction, stock)
        objective = "objective" if compute_objective is not None else self._objective_name()
        space = hp_space or (lambda trial: draw_settings(trial, self.groups.counts, self.args.pseudo_attributes))
        compute = compute_objective or (lambda metrics: self._trial_value(metrics, objective, direction))
        search = super().hyperparameter_search
        if stock:
            with self._settings_of_trials():
                return search(space, compute, n_trials, direction, backend, hp_name, **kwargs)

        study, best, missing = None, None, 0
        if self.is_world_process_zero():
            study, kwargs = self._open_study(objective, direction, hp_space, kwargs)
            ended = len(finished_trials(study))
            missing = max(0, n_trials - ended)
            logger.info(f"{ended} trials of the study {study.study_name!r} have ended, {missing} are to run.")
        (missing,) = broadcast_object_list([missing])
        if missing:
            kwargs["catch"] = caught = _as_tuple(kwargs.get("catch", (ValueError, FloatingPointError)))
            name = hp_name or (lambda trial: f"run-{trial.number}")
            keep = not getattr(kwargs.get("sampler"), "draws_again", False)
            with self._settings_of_trials(caught), trials_of(study, caught, keep):
                search(
                    *(space, compute, missing, direction, "optuna"),
                    lambda trial: os.path.join(SEARCH_FOLDER, name(trial)),
                    **kwargs,
                )
        if study is not None:
            best = self._report_search(study, objective)
        (best,) = broadcast_object_list([best])
        if best is None:
            raise RuntimeError(
                "no trial of the search completed. Optuna's warnings above say why each ended; search.json has their "
                "parameters"
            )
        return best

    def _check_search(self, hp_space, compute_objective, direction, stock) -> None:
        """Refuse, before any trial, a search that no trial could pass."""
        args = self.args
        if self.model_init is None:
            raise RuntimeError(
                "a search needs a fresh model for each trial: pass model_init, a function that makes the model, and "
                "no model"
            )
        if self.train_dataset is None or self.eval_dataset is None:
            raise ValueError("a search needs a train_dataset, and an eval_dataset on which trials are compared")
        if hp_space is None and stock:
            raise ValueError("the default space is for Optuna and one objective; pass hp_space for this search")
        if hp_space is None and args.plan not in PLANS_WITH_BETA:
            raise ValueError(
                f"the default space is c and beta, and plan {args.plan!r} has no beta. Pass an hp_space, or choose "
                f"one of the plans {', '.join(PLANS_WITH_BETA)}"
            )
        if compute_objective is not None:
            return
        if isinstance(direction, list):
            raise ValueError("several directions need a compute_objective that returns a value for each")
        greater_is_better = True if args.greater_is_better is None else args.greater_is_better
        if greater_is_better != (direction == "maximize"):
            better = "maximize" if greater_is_better else "minimize"
            raise ValueError(
                f"trials are compared by {self.selection_metric()!r}, for which the direction is {better!r}; found "
                f"{direction!r}"
            )

    def _objective_name(self) -> str:
        """The metric that trials are compared by, without the prefix `eval_`."""
        name = self.selection_metric()
        several = isinstance(self.eval_dataset, dict) and self.args.metric_for_best_model is None
        return f"{next(iter(self.eval_dataset))}_{name}" if several else name

    def _trial_value(self, metrics: dict[str, float], name: str, direction: str) -> float:
        """The last evaluation, or the best of the trial if that one's model is kept; NaN for a model that diverged."""
        if f"eval_{name}" not in metrics:
            raise KeyError(f"trials are compared by eval_{name}, and the evaluation has only {', '.join(metrics)}")
        values = [metrics[f"eval_{name}"]]
        if self.args.load_best_model_at_end and self.state.best_metric is not None:
            values.append(self.state.best_metric)
        values = [value for value in values if math.isfinite(value)]
        return (max if direction == "maximize" else min)(values, default=math.nan)

    def _open_study(self, objective, direction, hp_space, kwargs):
        args = self.args
        counts = self.groups.counts
        made_with = {
            "objective": objective,
            "space": "default" if hp_space is None else "custom",
            "plan": args.plan,
            "pseudo_attributes": args.pseudo_attributes,
            "train_rows": int(counts.sum()),
            "train_counts": (counts.sum(axis=1) if args.pseudo_attributes else counts).tolist(),
            "training_steps": self._training_steps(),
            "rows_per_step": self._train_batch_size * args.world_size * args.gradient_accumulation_steps,
            "learning_rate": args.learning_rate,
            "weight_decay": args.weight_decay,
            "load_best_model_at_end": args.load_best_model_at_end,
        }
        study, kwargs = open_study(os.path.join(args.output_dir, SEARCH_FOLDER), direction, made_with, kwargs)
        kwargs.setdefault("sampler", default_sampler(args.seed))
        kwargs.setdefault("pruner", default_pruner(made_with["training_steps"]))
        return study, kwargs

    def _training_steps(self) -> int:
        args = self.args
        if args.max_steps > 0:
            return args.max_steps
        batches = math.ceil(len(self.train_dataset) / (self._train_batch_size * args.world_size))
        return math.ceil(args.num_train_epochs * math.ceil(batches / args.gradient_accumulation_steps))

    @contextlib.contextmanager
    def _settings_of_trials(self, caught: tuple[type[BaseException], ...] = ()) -> Iterator[None]:
        """Trials set fields of `args`; afterwards, whatever happened, all are as before."""
        if self.args.pseudo_attributes:
            self._fit_biased_model()  # not within the first trial: its errors are no trial's
        before, results = dict(vars(self.args)), dict(self.group_results)
        for name in ("c", "beta"):  # the parent casts drawn values to the type it finds, and an int would cut them off
            setattr(self.args, name, float(getattr(self.args, name)))
        self._ends_of_trials = caught
        try:
            yield
        finally:
            vars(self.args).clear()
            vars(self.args).update(before)
            self._ends_of_trials, self.group_results = (), results
            self.hp_search_backend = self.hp_name = self._trial = None
            self.is_in_train = False
            self._train_batch_size = self.args.train_batch_size
            self.create_accelerator_and_postprocess()
            self._training_groups()
            self._build_plan()

    def train(self, resume_from_checkpoint=None, trial=None, ignore_keys_for_eval=None):
        """The parent's. Optuna's loop goes on after a trial that failed or was pruned, but runs on the main process
        only; this does the same for the others."""
        run = super().train
        if trial is None or not self._ends_of_trials or self.is_world_process_zero():
            return run(resume_from_checkpoint, trial, ignore_keys_for_eval)
        import optuna

        try:
            return run(resume_from_checkpoint, trial, ignore_keys_for_eval)
        except (optuna.TrialPruned, *self._ends_of_trials):
            self.objective = math.nan  # else the parent would evaluate, on this process alone

    def _report_to_hp_search(self, trial, step, metrics):
        """The parent's, which prunes on the main process; the others follow."""
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

    def _report_search(self, study: "optuna.Study", objective: str) -> BestRun | None:
        """Print the table, write `search.json` and `search.png`, and return the best trial."""
        records = trial_records(study)
        best = next((record for record in records if record["state"] == "complete"), None)
        print(f"\nTrials, compared on the evaluation set\n{format_search_table(records, objective)}\n", flush=True)
        folder = os.path.join(self.args.output_dir, SEARCH_FOLDER)
        os.makedirs(folder, exist_ok=True)
        report = {
            "objective": objective,
            "direction": study.direction.name.lower(),
            "study": study.study_name,
            "made_with": study.user_attrs[MADE_WITH],
            "best": best,
            "trials": records,
        }
        write_json(report, os.path.join(folder, SEARCH_FILE))
        if best is None:
            return None
        if {"c", "beta"} <= best["params"].keys():
            self._draw_search(records, objective)
        return BestRun(str(best["number"]), best["value"], dict(best["params"]))

    def _draw_search(self, records: list[dict[str, Any]], objective: str) -> None:
        try:
            from ..reports.plots import plot_search
        except ImportError:
            logger.warning_once(
                "No picture of the search was drawn: matplotlib is not installed. `pip install gerne_hf[plots]` adds "
                "it."
            )
            return
        plot_search(records, os.path.join(self.args.output_dir, SEARCH_FOLDER, SEARCH_PICTURE_FILE), objective)


def _check_optuna() -> None:
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise ImportError("a search needs Optuna, which is not installed: `pip install gerne_hf[hpo]`") from error


def _as_tuple(errors: Any) -> tuple[type[BaseException], ...]:
    return errors if isinstance(errors, tuple) else (errors,)
