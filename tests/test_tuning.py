"""Search of c, beta and t: real Optuna searches over tiny models."""

import gc
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
from helpers import EVEN, SKEWED, launch_two, mlp, table, trainer
from PIL import Image
from transformers import TrainerCallback

from gerne_hf import GerneConfig, GerneTrainer
from gerne_hf.distributions import beta_bounds, group_proportions
from gerne_hf.search_space import C_CHOICES, MAX_SHIFT, beta_range, draw_settings, threshold_range
from gerne_hf.studies import MAX_TABLE_TRIALS, default_sampler, format_search_table, trial_records
from gerne_hf.thresholds import hard_counts
from gerne_hf.tuning import tune

CLS = GerneTrainer
HERE = Path(__file__).parent
SEARCH_PATH = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", ""), str(HERE.parent)])
"""Where processes of their own find the helpers and the package."""


@pytest.fixture(autouse=True, scope="module")
def quick_and_quiet():
    """Each trial collects garbage three times; left out of it are the imported libraries, half a second each time."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    gc.freeze()
    yield
    gc.unfreeze()


def searching(folder, train=None, **settings):
    """A trainer for a search: a fresh MLP for each trial, another table to compare them on, 4 steps a trial."""
    defaults = dict(cls=CLS, model_init=lambda: mlp(), eval_dataset=table(seed=5), max_steps=4, logging_steps=100)
    return trainer(folder, train=train, **{**defaults, **settings})


def the_search(folder):
    return json.loads((folder / "search" / "search.json").read_text())


class Evaluations(TrainerCallback):
    """What each trial's evaluations gave, by the order in which the trials began."""

    def __init__(self, key="eval_worst_group_accuracy"):
        self.key, self.trials = key, []

    def on_train_begin(self, args, state, control, **kwargs):
        self.trials.append([])

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        if args.eval_strategy != "no":
            self.trials[-1].append(metrics[self.key])


# ---- the space ----------------------------------------------------------------------------------------------------


def drawn(counts, pseudo_attributes=False, trials=120):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    return [draw_settings(study.ask(), np.array(counts), pseudo_attributes) for _ in range(trials)]


@pytest.mark.parametrize(
    "counts", [SKEWED, [[995, 5], [5, 995]], [[50, 3, 1], [1, 4, 5], [2, 2, 9]], [[9, 0], [3, 5]]]
)
def test_beta_is_inside_its_bounds(counts):
    alpha, target = group_proportions(np.array(counts)), np.array(counts) > 0
    target = target / target.sum(axis=1, keepdims=True)
    settings = drawn(counts)
    assert {s["c"] for s in settings} == set(C_CHOICES)
    for c in C_CHOICES:
        lower, upper = beta_bounds(alpha, c, target)
        betas = [s["beta"] for s in settings if s["c"] == c]
        assert all(lower <= beta <= upper for beta in betas)
        cut = min(upper, MAX_SHIFT / c - 1)
        assert min(betas) < lower + 0.25 * (cut - lower) and max(betas) > lower + 0.75 * (cut - lower)
    for s in settings:  # the names and the types are those of the config
        assert list(s) == ["c", "beta"]
        GerneConfig(output_dir="unused", use_cpu=True, report_to="none", **s)


def test_an_infinite_bound_is_cut_off():
    assert beta_bounds(group_proportions(np.array(EVEN)), 0.25)[1] == math.inf
    assert beta_range(np.array(EVEN), 0.25) == (-1.0, MAX_SHIFT / 0.25 - 1)
    assert beta_range(np.array([[501, 499]]), 1.0) == (-1.0, MAX_SHIFT - 1)  # finite, and far away
    assert all(math.isfinite(s["beta"]) for s in drawn(EVEN, trials=20))


@pytest.mark.parametrize("sizes", [(48, 40), (2, 90), (5000, 700, 301), (3, 3)])
def test_thresholds_leave_no_part_empty(sizes):
    sizes = np.array(sizes)
    low, high = threshold_range(sizes)
    assert hard_counts(sizes, low).min() == 1 and hard_counts(sizes, low * 0.999).min() == 0 and high == 0.5
    # The trainer's own groups are those of another threshold; only the sizes of the classes count.
    settings = drawn(np.stack([sizes // 2, sizes - sizes // 2], axis=1), pseudo_attributes=True)
    for s in settings:
        hard = hard_counts(sizes, s["threshold"])
        assert (hard >= 1).all() and (hard < sizes).all()
        lower, upper = beta_bounds(np.stack([hard, sizes - hard], axis=1) / sizes[:, None], s["c"])
        assert lower <= s["beta"] <= min(upper, MAX_SHIFT / s["c"] - 1)
    middle = math.sqrt(low * high)  # log-uniform: as many below as above
    assert 0.3 < np.mean([s["threshold"] < middle for s in settings]) < 0.7 or low == high


def test_a_class_of_one_row_cannot_be_split():
    with pytest.raises(ValueError, match="class 1 has 1 training rows"):
        threshold_range(np.array([9, 1]))


# ---- a search -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A search of 3 trials by a config with integers, and its trainer."""
    folder = tmp_path_factory.mktemp("searched")
    subject = searching(folder, c=1, beta=0)
    before = dict(vars(subject.args))
    with pytest.MonkeyPatch.context() as patch:
        printed = []
        patch.setattr("builtins.print", lambda *text, **_: printed.append(" ".join(map(str, text))))
        best = subject.hyperparameter_search(n_trials=3)
    return folder, subject, before, best, "\n".join(printed)


def test_the_best_trial_is_returned(searched):
    folder, subject, _, best, _ = searched
    trials = the_search(folder)["trials"]
    values = [trial["value"] for trial in trials]
    assert len(trials) == 3 and values == sorted(values, reverse=True) and best.objective == values[0]
    assert best.run_id == str(trials[0]["number"]) and best.hyperparameters == trials[0]["params"]
    assert set(best.hyperparameters) == {"c", "beta"}
    alpha = group_proportions(np.array(SKEWED))
    for trial in trials:
        lower, upper = beta_bounds(alpha, trial["params"]["c"])
        assert trial["beta_bounds"] == [lower, pytest.approx(min(upper, MAX_SHIFT / trial["params"]["c"] - 1))]
        assert lower <= trial["params"]["beta"] <= upper


def test_the_objective_is_what_a_run_with_these_settings_reaches(searched, tmp_path):
    best = searched[3]
    alone = searching(tmp_path, **best.hyperparameters)
    alone.train()
    assert alone.group_results["eval"]["worst_group_accuracy"] == pytest.approx(best.objective)
    assert best.objective > 0


def test_settings_are_as_before(searched):
    folder, subject, before, _, _ = searched
    assert vars(subject.args) == before and type(subject.args.c) is int
    assert subject.hp_search_backend is None and subject.group_results == {}
    assert subject.plan.coefficients.tolist() == [0, 1]  # of beta=0, not of the last trial
    assert not (folder / "group_metrics.json").exists() and {path.name for path in folder.iterdir()} == {"search"}


def test_the_table_and_the_picture(searched):
    folder, _, _, best, printed = searched
    assert "| trial | " in printed and "worst group accuracy, %" in printed and printed.count("complete |") == 3
    first = next(line for line in printed.splitlines() if line.startswith(f"| {best.run_id} "))
    assert f"{100 * best.objective:.1f} | complete" in first and f"{best.hyperparameters['beta']:.4g}" in first
    with Image.open(folder / "search" / "search.png") as picture:
        assert picture.width > 500
    report = the_search(folder)
    assert report["objective"] == "worst_group_accuracy" and report["direction"] == "maximize"
    assert report["best"] == report["trials"][0]


def test_training_goes_on_after_a_search(searched):
    folder, subject, _, best, _ = searched
    for name, value in best.hyperparameters.items():
        setattr(subject.args, name, value)
    subject.train()
    assert subject.group_results["eval"]["worst_group_accuracy"] == pytest.approx(best.objective)
    assert (folder / "group_metrics.json").exists()


def test_fewer_trials_than_there_are_run_nothing(searched):
    folder, _, _, best, _ = searched
    subject = searching(folder)
    watch = Evaluations()
    subject.add_callback(watch)
    model = subject.model
    assert tune(subject, 2) == best.hyperparameters and not watch.trials
    assert subject.model is model and len(the_search(folder)["trials"]) == 3


@pytest.mark.parametrize("keep_best", [False, True])
def test_the_last_evaluation_counts_or_the_best_where_it_is_kept(tmp_path, keep_best):
    saving = {"metric_for_best_model": "worst_group_accuracy"}
    if keep_best:
        saving = {"save_strategy": "steps", "save_steps": 1, "load_best_model_at_end": True}
    watch = Evaluations()
    subject = searching(
        *(tmp_path,), eval_strategy="steps", eval_steps=1, learning_rate=2.0, callbacks=[watch], max_steps=6, **saving
    )
    subject.hyperparameter_search(n_trials=3)
    values = {trial["number"]: trial["value"] for trial in the_search(tmp_path)["trials"]}
    for number, seen in enumerate(watch.trials):
        assert len(seen) == 6 and values[number] == pytest.approx(max(seen) if keep_best else seen[-1])
    assert any(max(seen) > seen[-1] for seen in watch.trials)  # so the two rules differ here
    folders = {path.name for path in (tmp_path / "search").iterdir() if path.is_dir()}
    assert folders == ({"run-0", "run-1", "run-2"} if keep_best else set())


def test_the_metric_that_models_are_selected_on_is_the_objective(tmp_path):
    subject = searching(tmp_path, metric_for_best_model="loss", greater_is_better=False)
    with pytest.raises(ValueError, match="'loss', for which the direction is 'minimize'; found 'maximize'"):
        subject.hyperparameter_search(n_trials=2)
    best = subject.hyperparameter_search(n_trials=2, direction="minimize")
    report = the_search(tmp_path)
    assert report["objective"] == "loss" and best.objective == min(trial["value"] for trial in report["trials"])
    with pytest.raises(ValueError, match="'worst_class_accuracy', for which the direction is 'maximize'"):
        searching(tmp_path, metric_for_best_model="worst_class_accuracy").hyperparameter_search(direction="minimize")


def test_an_objective_and_a_space_of_ones_own(tmp_path):
    subject = searching(tmp_path, plan="erm", attribute_column="place")
    with pytest.raises(ValueError, match="plan 'erm' has no beta. Pass an hp_space, or choose"):
        subject.hyperparameter_search(n_trials=2)
    best = subject.hyperparameter_search(
        lambda trial: {"learning_rate": trial.suggest_float("learning_rate", 0.01, 0.5)},
        compute_objective=lambda metrics: -metrics["eval_loss"],
        n_trials=2,
        hp_name=lambda trial: f"rate-{trial.params['learning_rate']:.3f}",
    )
    assert set(best.hyperparameters) == {"learning_rate"} and best.objective < 0
    assert subject.args.learning_rate == 0.1 and not (tmp_path / "search" / "search.png").exists()


def test_pseudo_attributes(tmp_path):
    subject = searching(tmp_path, pseudo_attributes=True, threshold=0.2)
    before = subject.groups.counts.tolist()
    best = subject.hyperparameter_search(n_trials=3)
    trials = the_search(tmp_path)["trials"]
    thresholds = {trial["params"]["threshold"] for trial in trials}
    assert len(thresholds) == 3 and set(best.hyperparameters) == {"threshold", "c", "beta"}
    low, high = threshold_range(np.array(SKEWED).sum(axis=1))
    assert all(low <= threshold <= high for threshold in thresholds)
    assert subject.args.threshold == 0.2 and subject.groups.counts.tolist() == before
    alone = searching(tmp_path / "alone", pseudo_attributes=True, **best.hyperparameters)
    alone.train()
    assert alone.group_results["eval"]["worst_group_accuracy"] == pytest.approx(best.objective)


# ---- trials that end early ----------------------------------------------------------------------------------------


def test_a_worse_trial_is_pruned(tmp_path):
    def space(trial):  # the sixth and the seventh trial learn nothing
        rate = 0.3 if trial.number < 5 else 1e-9
        return {"learning_rate": trial.suggest_float("learning_rate", rate, rate)}

    watch = Evaluations("eval_loss")
    selection = dict(metric_for_best_model="loss", greater_is_better=False)
    subject = searching(
        *(tmp_path,), eval_strategy="steps", eval_steps=5, max_steps=20, callbacks=[watch], **selection
    )
    best = subject.hyperparameter_search(space, n_trials=7, direction="minimize")
    states = {trial["number"]: trial["state"] for trial in the_search(tmp_path)["trials"]}
    assert states == {**dict.fromkeys(range(5), "complete"), 5: "pruned", 6: "pruned"}
    assert [len(seen) for seen in watch.trials] == [4] * 5 + [2, 2]  # at step 10, being past a third of the 20
    assert max(seen[0] for seen in watch.trials[:5]) < watch.trials[5][0]  # it was worse at step 5 already
    assert int(best.run_id) < 5 and subject.is_in_train is False


def test_trials_that_diverge_do_not_end_the_search(tmp_path):
    """Trial 0 reaches NaN, trial 1 is refused by the trainer, trial 2 is fine."""

    def space(trial):
        rate, beta = [(3e38, 0.5), (0.1, 99.0), (0.1, 0.5)][trial.number % 3]
        return {
            "learning_rate": trial.suggest_float("learning_rate", rate, rate),
            "beta": trial.suggest_float("beta", beta, beta),
        }

    subject = searching(tmp_path, metric_for_best_model="loss", greater_is_better=False)
    best = subject.hyperparameter_search(space, n_trials=3, direction="minimize")
    states = {trial["number"]: trial["state"] for trial in the_search(tmp_path)["trials"]}
    assert states == {0: "failed", 1: "failed", 2: "complete"} and best.run_id == "2"
    watch = Evaluations("eval_loss")
    subject.add_callback(watch)
    subject.hyperparameter_search(space, n_trials=3, direction="minimize")
    assert not watch.trials  # they would fail again, so they count


def test_no_trial_completes(tmp_path):
    subject = searching(tmp_path)
    with pytest.raises(RuntimeError, match="no trial of the search completed"):
        subject.hyperparameter_search(lambda trial: {"beta": trial.suggest_float("beta", 50, 60)}, n_trials=2)
    assert subject.args.beta == 1.0 and [t["state"] for t in the_search(tmp_path)["trials"]] == ["failed"] * 2


def test_an_interrupt_restores_and_is_made_up_for(tmp_path):
    class Interrupt(TrainerCallback):
        begun = 0

        def on_step_end(self, args, state, control, **kwargs):
            self.begun += state.global_step == 1
            if self.begun == 2:
                raise KeyboardInterrupt

    subject = searching(tmp_path, callbacks=[Interrupt()])
    before = dict(vars(subject.args))
    with pytest.raises(KeyboardInterrupt):
        subject.hyperparameter_search(n_trials=3)
    assert vars(subject.args) == before and subject.hp_search_backend is None

    subject = searching(tmp_path)
    subject.hyperparameter_search(n_trials=3)
    trials = {trial["number"]: trial for trial in the_search(tmp_path)["trials"]}
    states = {number: trial["state"] for number, trial in trials.items()}
    assert states == {0: "complete", 1: "interrupted", 2: "complete", 3: "complete"}
    assert trials[2]["params"] == trials[1]["params"] != trials[3]["params"] != trials[0]["params"]


def test_an_error_that_is_no_trials_own_ends_the_search(tmp_path):
    subject = searching(tmp_path, metric_for_best_model="no_such_accuracy", greater_is_better=True)
    with pytest.raises(KeyError, match="compared by eval_no_such_accuracy, and the evaluation has only"):
        subject.hyperparameter_search(n_trials=3)
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/search/study.db")
    (trial,) = trial_records(optuna.load_study(study_name=None, storage=storage))
    assert trial["state"] == "interrupted"  # it does not count once the error is mended


# ---- searches that go on ------------------------------------------------------------------------------------------

KILLED = """
import sys, time
from helpers import mlp, table
from test_tuning import CLS, searching
from transformers import TrainerCallback

class Hang(TrainerCallback):
    begun = 0
    def on_step_end(self, args, state, control, **kwargs):
        self.begun += state.global_step == 1
        if self.begun == 3:
            print("hangs", flush=True)
            time.sleep(600)

searching(sys.argv[1], callbacks=[Hang()]).hyperparameter_search(n_trials=5)
"""


def test_a_killed_search_goes_on(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": SEARCH_PATH, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert any(line.strip() == "hangs" for line in process.stdout)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/search/study.db")
    killed = optuna.load_study(study_name=None, storage=storage)
    assert [trial["state"] for trial in sorted(trial_records(killed), key=lambda t: t["number"])] == [
        *("complete", "complete", "running")
    ]
    earlier = {trial["number"]: trial for trial in trial_records(killed)}

    watch = Evaluations()
    subject = searching(tmp_path, callbacks=[watch])
    subject.hyperparameter_search(n_trials=5)
    trials = {trial["number"]: trial for trial in the_search(tmp_path)["trials"]}
    assert trials[0] == earlier[0] and trials[1] == earlier[1]  # kept as they were
    assert trials[2]["state"] == "interrupted" and trials[3]["params"] == earlier[2]["params"]  # run again, first
    assert [trials[i]["state"] for i in (3, 4, 5)] == ["complete"] * 3 and len(watch.trials) == 3 and len(trials) == 6
    assert len({trial["params"]["beta"] for trial in trials.values()}) == 5  # the others are new points


def test_a_continued_sampler_draws_other_points():
    study = optuna.create_study()

    def points():
        study.sampler = default_sampler(seed=42)
        trials = [study.ask() for _ in range(3)]
        values = [trial.suggest_float("beta", -1, 1) for trial in trials]
        for trial in trials:
            study.tell(trial, 0.0)
        return values

    first, second = points(), points()
    assert not set(first) & set(second)
    study = optuna.create_study()
    assert points() == first  # the seed decides


def test_a_study_of_another_search_is_refused(searched, tmp_path):
    folder = searched[0]
    with pytest.raises(ValueError, match=r"plan was 'independent' and is 'shared'.*delete the study"):
        searching(folder, plan="shared").hyperparameter_search(n_trials=4)
    with pytest.raises(ValueError, match=r"train_rows was 88 and is 90; train_counts was \[\[40, 8\], \[10, 30\]\]"):
        searching(folder, train=table([[40, 8], [12, 30]])).hyperparameter_search(n_trials=4)
    with pytest.raises(ValueError, match="objective was 'worst_group_accuracy' and is 'accuracy'"):
        searching(folder, metric_for_best_model="accuracy").hyperparameter_search(n_trials=4)
    with pytest.raises(ValueError, match="training_steps was 4 and is 8"):
        searching(folder, max_steps=8).hyperparameter_search(n_trials=4)
    assert len(the_search(folder)["trials"]) == 3
    subject = searching(folder, plan="shared")
    subject.hyperparameter_search(n_trials=1, study_name="shared", storage=f"sqlite:///{tmp_path}/mine.db")
    assert the_search(folder)["study"] == "shared"


def test_trials_that_run_elsewhere_are_left_alone(tmp_path):
    url = f"sqlite:///{tmp_path}/shared.db"
    study = optuna.create_study(study_name="gerne_hf", storage=url, direction="maximize")
    study.ask()
    searching(tmp_path).hyperparameter_search(n_trials=2, storage=url)
    states = [trial.state.name for trial in study.trials]
    assert states == ["RUNNING", "COMPLETE", "COMPLETE"] and not (tmp_path / "search" / "study.db").exists()


def test_a_study_in_memory_and_a_pruner_of_ones_own(tmp_path):
    subject = searching(tmp_path, eval_strategy="steps", eval_steps=1)
    pruner = optuna.pruners.ThresholdPruner(lower=2.0)  # prunes all
    with pytest.raises(RuntimeError, match="no trial of the search completed"):
        subject.hyperparameter_search(n_trials=2, storage=None, pruner=pruner, sampler=optuna.samplers.RandomSampler())
    assert [path.name for path in (tmp_path / "search").iterdir()] == ["search.json"]


TWO_PROCESSES = """
import json, sys
import optuna
from test_tuning import Evaluations, searching

def space(trial):  # good, refused by the trainer, learns nothing, good
    rate, beta = [(0.3, 0.5), (0.3, 99.0), (1e-9, 0.5), (0.3, 0.5)][trial.number]
    return {
        "learning_rate": trial.suggest_float("learning_rate", rate, rate),
        "beta": trial.suggest_float("beta", beta, beta),
    }

watch = Evaluations("eval_loss")
subject = searching(
    sys.argv[1], eval_strategy="steps", eval_steps=2, max_steps=6, callbacks=[watch],
    metric_for_best_model="loss", greater_is_better=False,
)
pruner = optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=2)
best = subject.hyperparameter_search(space, n_trials=4, direction="minimize", pruner=pruner)
seen = {"best": best._asdict(), "trials": watch.trials, "rate": subject.args.learning_rate}
with open(f"{sys.argv[1]}/rank{subject.args.process_index}.json", "w") as file:
    json.dump({**seen, "processes": subject.args.world_size}, file)
"""


@pytest.mark.slow
def test_two_processes_prune_and_fail_together(tmp_path):
    script = tmp_path / "search.py"
    script.write_text(TWO_PROCESSES)
    printed = launch_two(script, tmp_path)
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert ranks[0] == ranks[1] and ranks[0]["processes"] == 2 and ranks[0]["rate"] == 0.1
    assert [len(seen) for seen in ranks[0]["trials"]] == [3, 1, 3]  # the refused one has no evaluation
    states = {trial["number"]: trial["state"] for trial in the_search(tmp_path)["trials"]}
    assert states == {0: "complete", 1: "failed", 2: "pruned", 3: "complete"}
    assert ranks[0]["best"]["run_id"] == "0" and printed.count("| trial |") == 1


# ---- what is refused ----------------------------------------------------------------------------------------------


def test_without_optuna(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"pip install gerne_hf\[hpo\]"):
        searching(tmp_path).hyperparameter_search(n_trials=1)


def test_without_matplotlib_there_is_no_picture(searched, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gerne_hf.plots", None)
    subject = searching(tmp_path)
    subject.hyperparameter_search(n_trials=1)
    assert {path.name for path in (tmp_path / "search").iterdir()} == {"search.json", "study.db"}


def test_what_no_trial_could_pass_is_refused_first(tmp_path):
    with pytest.raises(RuntimeError, match="pass model_init"):
        trainer(tmp_path, cls=CLS, eval_dataset=table(seed=5)).hyperparameter_search(n_trials=1)
    with pytest.raises(ValueError, match="an eval_dataset on which trials are compared"):
        searching(tmp_path, eval_dataset=None).hyperparameter_search(n_trials=1)
    with pytest.raises(ValueError, match="default space is for Optuna"):
        searching(tmp_path).hyperparameter_search(n_trials=1, backend="ray")
    assert not list(tmp_path.iterdir())


# ---- the table ----------------------------------------------------------------------------------------------------


def record(number, state="complete", value=0.5):
    return {"number": number, "state": state, "value": value, "params": {"c": 0.5, "beta": 1 / 3}, "seconds": 2.0}


def test_a_long_table_is_cut():
    text = format_search_table([record(i) for i in range(30)], "worst_group_accuracy")
    assert text.count("complete |") == MAX_TABLE_TRIALS and "10 further trials are in search.json" in text
    assert "further" not in format_search_table([record(0)], "worst_group_accuracy")


def test_a_table_of_losses_and_failures():
    text = format_search_table([record(0, value=1.23456), record(1, "failed", None)], "loss")
    assert "| loss |" in text.replace("  ", " ") and "1.235" in text and "0.3333" in text
    assert [cell.strip() for cell in text.splitlines()[-1].split("|")[1:-1]] == [
        "1",
        "0.5",
        "0.3333",
        "-",
        "failed",
        "2",
    ]
