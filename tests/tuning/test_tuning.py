"""Search of c and beta by Optuna over tiny models: what it compares, returns, leaves and refuses."""

import sys

import numpy as np
import pytest
from helpers import SKEWED, table, trainer
from PIL import Image
from searches import CLS, Evaluations, searching, the_search

from gerne_hf.groups.proportions import group_proportions
from gerne_hf.method.distributions import beta_bounds
from gerne_hf.recipes.run import tune
from gerne_hf.reports.tables import MAX_TABLE_TRIALS, format_search_table
from gerne_hf.tuning.space import MAX_SHIFT

pytestmark = pytest.mark.usefixtures("quick_and_quiet")


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


def test_trials_are_compared_by_an_error_of_which_less_is_better(tmp_path):
    subject = searching(tmp_path, metric_for_best_model="worst_ece")
    chosen = tune(subject, 2)
    trials = the_search(tmp_path)["trials"]
    assert trials[0]["value"] == min(trial["value"] for trial in trials) and trials[0]["params"] == chosen
    assert the_search(tmp_path)["objective"] == "worst_ece" and trials[0]["value"] != trials[1]["value"]


def test_the_own_settings_come_first(searched, tmp_path):
    folder, _, _, best, printed = searched
    trials = the_search(folder)["trials"]
    (first,) = [trial for trial in trials if trial["number"] == 0]
    assert first["params"] == {"c": 1.0, "beta": 0.0} and first["start"] == "your settings"
    assert [trial for trial in trials if "start" in trial] == [first] and best.objective >= first["value"]
    assert "your settings |" in printed and the_search(folder)["verdict"] is None
    odd = searching(tmp_path, c=0.6, beta=9.0, beta_out_of_bounds="ignore")  # outside all that is drawn
    assert odd.hyperparameter_search(n_trials=1).hyperparameters == {"c": 0.6, "beta": 9.0}


def test_the_objective_is_what_a_run_with_these_settings_reaches(searched, tmp_path):
    best = searched[3]
    alone = searching(tmp_path, **best.hyperparameters)
    alone.train()
    alone.evaluate_if_stale()
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
    subject.evaluate_if_stale()
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


# ---- what is refused ----------------------------------------------------------------------------------------------


def test_a_study_that_is_named_and_belongs_to_another_search_is_refused(tmp_path):
    storage = f"sqlite:///{tmp_path}/mine.db"
    searching(tmp_path).hyperparameter_search(n_trials=1, study_name="shared", storage=storage)
    assert the_search(tmp_path)["study"] == "shared"
    with pytest.raises(ValueError, match=r"plan was 'independent' and is 'shared'.*delete the study"):
        searching(tmp_path, plan="shared").hyperparameter_search(n_trials=2, study_name="shared", storage=storage)
    searching(tmp_path).hyperparameter_search(n_trials=1, study_name="mine")
    with pytest.raises(ValueError, match="study 'mine' in .*study.db belongs to another.*seed was 42 and is 3"):
        searching(tmp_path, seed=3).hyperparameter_search(n_trials=1, study_name="mine")
    assert len(the_search(tmp_path)["trials"]) == 1


def test_without_optuna(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"pip install gerne_hf\[hpo\]"):
        searching(tmp_path).hyperparameter_search(n_trials=1)


def test_without_matplotlib_there_is_no_picture(searched, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gerne_hf.reports.plots", None)
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
