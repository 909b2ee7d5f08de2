"""`compare`: training several methods on the same data for several seeds, with their group metrics in one table.

Imports `reports/`, `trainer.py` and rooms below, and uses trainers through their public methods only. The methods are
in [`methods`](gerne_hf.comparison.methods); [`judging`](gerne_hf.comparison.judging) tells whether inferred groups
help; [`progress`](gerne_hf.comparison.progress) finds what an interrupted comparison has left.
"""

import copy
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers.trainer_utils import HubStrategy

from ..config import GerneConfig
from ..evaluation.names import SUMMARY_TITLES, metric_title
from ..hub.pushes import PublishingError
from ..reports.model_card import write_card
from ..reports.ranking_table import RANKING, format_ranking
from ..reports.record import COMPARISON_FILE, COMPARISON_PICTURE_FILE, RunRecord
from ..reports.tables import VERDICT, format_comparison, seed_note
from ..reports.terminal import show
from ..trainer import GerneTrainer
from ..utils.files import write_json
from .beforehand import counts_table, rows_by_split, where_not_to_select
from .equal_tuning import finishing
from .judging import (
    BALANCED,
    INFERRED,
    gate_lines,
    in_order,
    judged,
    put_in_place,
    save_validation_rows,
    verdict,
    with_class_balanced,
)
from .kept_rows import load_test_rows, noted_accumulators, save_test_rows
from .methods import METHODS, check_methods, check_on_data, method_config
from .progress import Progress
from .publishing import publication, pushes_by_itself
from .quiet import heading, hush, on_a_terminal, warnings_once
from .ranking import WORST, ranked, ranking_metric, tuned_in_words

MakeTrainer = Callable[[GerneConfig, type[GerneTrainer]], GerneTrainer]
"""Makes a trainer of the given class, with a model that is not trained yet, from the config of a run."""


@warnings_once()
def compare(
    methods: Sequence[str],
    config: GerneConfig,
    make_trainer: MakeTrainer,
    test_dataset: Any,
    seeds: Sequence[int] = (0,),
    settings: dict[str, dict[str, Any]] | None = None,
    card: dict[str, Any] | None = None,
    made_with: dict[str, Any] | None = None,
    report: Callable[[dict[str, list[dict[str, Any]]]], None] | None = None,
    tuning: Mapping[str, dict[str, Any]] | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Train each method for each seed, evaluate it once on the test set, print one table and save it.

    The run of the last method with the first seed is the main run. It is written to `config.output_dir`, and every
    other run to a folder of its own below that. These are in `config.output_dir` too:

    - `comparison.json`, the results. It is written anew after every run, so that an interrupted comparison keeps them.
      At the end `ranking` joins them: the order of the methods on the validation set, and what can be told apart.
    - `test_rows.npz`, in the folder of each run: which test rows its model gets right. It is never published.
    - `comparison.png`, the accuracy of each group, if matplotlib is installed.
    - `_examples`, the test rows of each group that the main run is most wrong about (`worst_examples` of the config).

    With "pseudo" among the methods, "class_balanced" is trained too, and on the validation set a gate decides between
    the two: inferred groups must help in the worst group (an inferred one, where there are no attributes), and cost no
    more than 0.02 of class-balanced accuracy. Where they do not, table, file and card say so; and if "pseudo" is the
    main method, the model in `config.output_dir`, with its reports, is that of class-balanced ERM with the first seed,
    and the other is in `pseudo-seedN` below it.

    With `push_to_hub` the outcome is pushed at the end, with its card, pictures and JSON: the model in
    `config.output_dir`. The main run also pushes while it is trained if `hub_strategy` says so, and no other run does.

    Args:
        methods (`Sequence[str]`): names in [`METHODS`]; the last one is the main method.
        config ([`GerneConfig`]): settings of all runs. With `resume_from_checkpoint="true"`, or the path of a
            checkpoint of one of the runs, an interrupted comparison goes on: the results of runs that ended with the
            same settings are taken from `comparison.json`, and the others go on from their newest whole checkpoint.
        make_trainer (`Callable`): makes a trainer of the given class, with a model that is not trained yet, from the
            config of a run.
        test_dataset: the test set, which the figures of the table are of; each run reads it once, after training.
        seeds (`Sequence[int]`, *optional*, defaults to `(0,)`): the seeds, a run of each method for each.
        settings (`dict[str, dict[str, Any]]`, *optional*): by method, fields of the config with values of its own.
        card (`dict[str, Any]`, *optional*): what else the model card of the main run says, as for
            [`GerneTrainer.create_model_card`]: `dataset`, `dataset_tags`, `license`, `language` and more.
        made_with (`dict[str, Any]`, *optional*): what the results depend on besides the config, by name. A run that
            ended with something else is trained again.
        report (`Callable`, *optional*): is given the results on the main process when all runs have ended, before
            anything is pushed.
        tuning (`Mapping[str, dict]`, *optional*): by method, how it was tuned, from
            [`tune_methods`](gerne_hf.comparison.equal_tuning.tune_methods), for table and file.

    Returns:
        `dict[str, list[dict]]`: by the title of the method, the test result of [`group_metrics`] for each seed,
        together with the `seed`, the `train_seconds` of the run and its `validation` figures; of "pseudo" also the
        `gate`, as [`judged`](gerne_hf.comparison.judging.judged) returns it.

    Raises:
        ValueError: for methods or fields that do not exist, for a beta or a threshold that the data refuses, and for a
            repository on the Hub with a model of another method. It is raised before anything is trained.
        PublishingError: after everything local is saved, if the Hub lacks something that was to be pushed.
    """
    given, methods = methods, with_class_balanced(methods)
    if len(methods) > len(given):
        PartialState().print(f"{METHODS[BALANCED].title} is compared too: inferred groups must be better than it.")
    runs = run_configs(methods, config, seeds, settings or {})
    main = methods[-1], seeds[0]
    published = publication(config, methods, runs, seeds[0])
    main_record: RunRecord | None = None
    unpublished: PublishingError | None = None
    titles = {name: METHODS[name].title for name in methods}
    progress = Progress(config, runs, titles, test_dataset, made_with or {})
    for seed in seeds:  # the gate decides between two runs: what it said of others is void
        if INFERRED in titles and (BALANCED, seed) not in progress.done:
            progress.done.pop((INFERRED, seed), None)
    results: dict[str, list[dict[str, Any]]] = {}
    unchecked, quiet = True, len(runs) > 1 and not on_a_terminal()

    def collect(said: dict[str, Any]) -> None:
        """Bring the results up to date and write them to the file, with what is said of them."""
        for name, title in titles.items():
            results[title] = [progress.done[name, seed] for seed in seeds if (name, seed) in progress.done]
        done = {title: runs_of for title, runs_of in results.items() if runs_of}
        if done and PartialState().is_main_process:
            write_json({**done, **said}, os.path.join(config.folder, COMPARISON_FILE))

    collect({})
    trained: dict[tuple[str, int], tuple[GerneTrainer, float]] = {}
    # the runs of which one ends in config.output_dir
    presentable = {main, *([(BALANCED, seeds[0])] if methods[-1] == INFERRED else [])}
    kept = {METHODS[name].start for name in methods} - {None}

    def train(run: GerneConfig, name: str) -> tuple[GerneTrainer, float]:
        """Train one run, or the rest of it, and return its trainer and the seconds that it took."""
        nonlocal unchecked, unpublished
        trainer = make_trainer(run, METHODS[name].trainer)
        trainer.card_facts = card or {}
        if quiet:
            hush(trainer)
        if unchecked and trainer.reference_groups is not None:
            for other in runs.values():  # what the data refuses is found before anything is trained
                check_on_data(other, trainer.reference_groups)
        if unchecked:
            _say_beforehand(trainer, test_dataset, ranking_metric(config.metric_for_best_model, {}))
            unchecked = False
        checkpoint = progress.checkpoint(run, name)
        progress.begin(run, name)
        begin = time.perf_counter()
        try:
            trainer.train(resume_from_checkpoint=checkpoint)
        except PublishingError as error:  # all is saved, and goes on; it is told at the end
            unpublished = error
        seconds = time.perf_counter() - begin
        if trainer.eval_dataset is not None:
            trainer.evaluate_if_stale()  # train() evaluates as eval_strategy says, and the table needs the figures
        return trainer, seconds

    taken: list[float] = []
    training = [key for key in runs if key not in progress.done and METHODS[key[0]].start not in methods]
    for number, ((name, seed), run) in enumerate(runs.items(), 1):
        method = METHODS[name]
        if (name, seed) in progress.done:
            PartialState().print(f"=== {method.title}, seed {seed}: ended before", flush=True)
            continue
        left = len(training) - sum(key in progress.done for key in training)
        PartialState().print(heading(method.title, seed, number, len(runs), taken, left), flush=True)
        started = time.perf_counter()
        if method.start is None:
            trainer, seconds = train(run, name)
        else:
            if (method.start, seed) not in trained:
                folders = _folders(config, method.start, seed, main)
                first = method_config(config, method.start, settings, seed=seed, **folders)
                trained[method.start, seed] = train(first, method.start)
            trainer, seconds = trained.pop((method.start, seed))
        again = _another_waits(name, seed, runs, progress.done)
        untouched = copy.deepcopy(trainer.accelerator.unwrap_model(trainer.model).state_dict()) if again else {}
        begun = seconds
        if method.finish is not None:
            begin = time.perf_counter()
            with finishing(trainer, {key: getattr(run, key) for key in (settings or {}).get(name, {})}):
                method.finish(trainer)
            trainer.evaluate()
            seconds += time.perf_counter() - begin
        with noted_accumulators(trainer) as tested:
            trainer.evaluate(test_dataset, metric_key_prefix="test")
        save_test_rows(trainer, tested, run.folder)
        if (name, seed) in presentable:
            trainer.evaluate_training_rows_if_cheap()  # for the model card
        trainer.save_group_metrics(run.folder)
        result = {**trainer.group_results["test"], "seed": seed, "train_seconds": round(seconds, 1)}
        validation = trainer.group_results.get(trainer.evaluation_prefixes()[0], {})
        shown = dict.fromkeys([*SUMMARY_TITLES, trainer.selection_metric()])
        result["validation"] = {key: validation[key] for key in shown if key in validation}
        if INFERRED in titles and name != "erm":
            save_validation_rows(trainer, run.folder)
        if name == INFERRED:
            result |= _gate(run.folder, runs[BALANCED, seed].folder)
        if method.start is not None:
            progress.begin(run, name)
        if (name, seed) == main and not result.get("gate", {"better": True})["better"]:
            _make_way(trainer, run, runs[BALANCED, seed].folder, f"{name}-seed{seed}")
        elif (name, seed) in presentable:
            _save(trainer, run.folder)
            trainer.save_state()
            trainer.save_worst_examples(test_dataset, "test")
            if (name, seed) == main:
                main_record = trainer.run_record()  # now, as another method may take the trainer over
        if name in kept:
            trained[name, seed] = trainer, seconds
        elif again and method.start is not None:  # the next one finds the model as it was trained
            trainer.accelerator.unwrap_model(trainer.model).load_state_dict(untouched)
            trained[method.start, seed] = trainer, begun
        if (name, seed) in training:
            taken.append(time.perf_counter() - started)
        progress.done[name, seed] = result
        collect({})
    said = _said({name: runs[name, seeds[0]].folder for name in methods})
    ranking: dict[str, Any] = {}
    if PartialState().is_main_process:
        folders_of = {titles[name]: [runs[name, seed].folder for seed in seeds] for name in titles}
        ranking = _ranking(results, folders_of, config)
        if tuning:
            ranking |= tuned_in_words({titles[name]: one for name, one in tuning.items() if name in titles}, ranking)
    collect({**said, RANKING: ranking})
    if PartialState().is_main_process:
        show(f"\nTest set, {seed_note(seeds)}\n{format_comparison({**results, **said})}\n")
        show(f"{_answer(results, ranking)}\n")
        for line in gate_lines(results.get(METHODS[INFERRED].title, [])):
            print(line, flush=True)
        _save_picture(results, config.folder)
        if report is not None:
            report(results)
    steps = 0
    if PartialState().is_main_process:
        folder = runs[main].folder
        record = main_record or RunRecord.load(folder)
        if published is not None:
            record = published.placed(record)
            record.save(folder)
        write_card(record, folder, **(card or {}))
        steps = record.run.steps
    if published is not None:
        published.push(steps)
        if unpublished is not None and config.hub_strategy != HubStrategy.EVERY_SAVE:
            raise unpublished
    return results


def _say_beforehand(trainer: GerneTrainer, test_dataset: Any, metric: str) -> None:
    """Print the rows of each group in all splits, and a warning where a group that is selected on has few."""
    if trainer.reference_groups is None:
        return
    splits = rows_by_split(trainer, test_dataset)
    warning = where_not_to_select(splits["validation"], metric)
    if PartialState().is_main_process:
        show(f"{counts_table(splits)}{f'{chr(10)}{warning}' if warning else ''}\n")


def _another_waits(name: str, seed: int, runs: Iterable[tuple[str, int]], done: Iterable[tuple[str, int]]) -> bool:
    """Return whether a later run of this seed takes over the same trained model as a method does."""
    start = METHODS[name].start
    if start is None:
        return False
    later = list(runs)[list(runs).index((name, seed)) + 1 :]
    return any(METHODS[other].start == start and of == seed and (other, of) not in done for other, of in later)


def _save(trainer: GerneTrainer, folder: str) -> None:
    """Save a model without the push that `Trainer` makes of it: the comparison pushes once, at its end."""
    args = trainer.args
    pushes, args.push_to_hub = args.push_to_hub, False
    try:
        trainer.save_model(folder)
    finally:
        args.push_to_hub = pushes


def _gate(folder: str, balanced_folder: str) -> dict[str, Any]:
    """Return the entry `gate` of a run with inferred groups, on all processes; empty where nobody can tell."""
    found = judged(folder, folder, balanced_folder) if PartialState().is_main_process else None
    (found,) = broadcast_object_list([found])
    if found is None:
        PartialState().print(
            "Nothing decides between inferred groups and class-balanced ERM: there is no validation set that can tell."
        )
    return {} if found is None else {"gate": found}


def _said(folders: dict[str, str]) -> dict[str, Any]:
    """Return what `comparison.json` says besides results, the same on all processes."""
    text = verdict(folders) if PartialState().is_main_process else None
    (text,) = broadcast_object_list([text])
    return {} if text is None else {VERDICT: text}


def _ranking(
    results: dict[str, list[dict[str, Any]]], folders: dict[str, list[str]], config: GerneConfig
) -> dict[str, Any]:
    """Return the order of the methods on the validation set, and what the test rows kept in their folders show."""
    rows = {title: [load_test_rows(folder) for folder in of_method] for title, of_method in folders.items()}
    metric = ranking_metric(config.metric_for_best_model, results)
    greater = True if config.greater_is_better is None or metric == WORST else config.greater_is_better
    fitted = [method.title for method in METHODS.values() if method.fits_validation_rows]
    return ranked(results, rows, metric, greater, METHODS["erm"].title, fitted)


def _answer(results: dict[str, list[dict[str, Any]]], ranking: dict[str, Any]) -> str:
    """Return the table of methods as they are ranked, with the sentences on what can be told apart."""
    chosen = "" if ranking["best"] is None else f", ranked by {metric_title(ranking['metric'])} on the validation set"
    return "\n".join([f"Methods{chosen}", format_ranking(results, ranking), *ranking["said"]])


def _make_way(trainer: GerneTrainer, run: GerneConfig, balanced_folder: str, name: str) -> None:
    """Put the model of class-balanced ERM in the place of the main run's, which goes to a folder of its own below."""
    aside = os.path.join(run.folder, name)
    _save(trainer, aside)
    trainer.save_group_metrics(aside)
    if PartialState().is_main_process:
        put_in_place(balanced_folder, run.folder, aside)
        print(f"\nThe model in {run.folder} is that of class-balanced ERM; the other is in {aside}.", flush=True)
    PartialState().wait_for_everyone()


def run_configs(
    methods: Sequence[str],
    config: GerneConfig,
    seeds: Sequence[int],
    settings: dict[str, dict[str, Any]],
) -> dict[tuple[str, int], GerneConfig]:
    """Return the config of every run, by method and seed, in the order of training.

    Methods that take over the model of another method come last.

    Args:
        methods (`Sequence[str]`), config ([`GerneConfig`]), seeds (`Sequence[int]`):
            As for [`compare`].
        settings (`dict[str, dict[str, Any]]`): as for [`compare`].

    Returns:
        `dict[tuple[str, int], GerneConfig]`

    Raises:
        ValueError: for methods or fields that do not exist, and for values that the config refuses.
    """
    check_methods(list(methods), settings, config)
    order = sorted(in_order(methods), key=lambda name: METHODS[name].start is not None)
    main = methods[-1], seeds[0]
    return {
        (name, seed): method_config(config, name, settings, seed=seed, **_folders(config, name, seed, main))
        for name in order
        for seed in seeds
    }


def _folders(config: GerneConfig, name: str, seed: int, main: tuple[str, int]) -> dict[str, Any]:
    """Return the fields of the config that say where a run is written, and whether it pushes while it is trained.

    All runs have the same folder of pseudo-attributes, so that methods with equal settings share a biased model.
    """
    own = os.path.join(config.folder, f"{name}-seed{seed}")
    shared = config.pseudo_attributes_dir or os.path.join(config.folder, "pseudo_attributes")
    return {
        "output_dir": config.folder if (name, seed) == main else own,
        "pseudo_attributes_dir": shared,
        "push_to_hub": (name, seed) == main and pushes_by_itself(config, name),
    }


def _save_picture(results: dict[str, list[dict[str, Any]]], directory: str) -> None:
    """Draw the accuracy of each group for the first run of each method, if matplotlib is installed."""
    try:
        from ..reports.plots import plot_comparison
    except ImportError:  # the trainers have logged already that there are no pictures
        return
    first = {method: runs[0] for method, runs in results.items()}
    plot_comparison(first, os.path.join(directory, COMPARISON_PICTURE_FILE))
