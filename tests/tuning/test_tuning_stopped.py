"""Trials that end early, and searches that go on: after a kill, beside others, on two processes."""

import json
import os
import signal
import subprocess
import sys

import optuna
import pytest
from helpers import launch_two
from places import python_path
from searches import Evaluations, searching, the_search
from transformers import TrainerCallback

from gerne_hf.tuning.studies import default_sampler, trial_records

pytestmark = pytest.mark.usefixtures("quick_and_quiet")


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
    settings = dict(metric_for_best_model="no_such_accuracy", greater_is_better=True)
    with pytest.raises(ValueError, match="'no_such_accuracy' is in no evaluation"):
        searching(tmp_path, **settings).hyperparameter_search(n_trials=3)
    assert not (tmp_path / "search" / "study.db").exists()
    subject = searching(tmp_path, **settings, compute_metrics=lambda given: {})  # which may give it, but does not
    with pytest.raises(KeyError, match="compared by eval_no_such_accuracy, and the evaluation has only"):
        subject.hyperparameter_search(n_trials=3)
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/search/study.db")
    (trial,) = trial_records(optuna.load_study(study_name=None, storage=storage))
    assert trial["state"] == "interrupted"  # it does not count once the error is mended


# ---- searches that go on ------------------------------------------------------------------------------------------

KILLED = """
import sys, time
from helpers import mlp, table
from searches import searching
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
        env={**os.environ, "PYTHONPATH": python_path(), "OMP_NUM_THREADS": "1"},
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
from searches import Evaluations, searching

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
