"""Equal tuning: as many trials for each method, its default first, shared where settings coincide, kept if killed."""

import json
from dataclasses import replace

import pytest
import torch
from places import ROOT
from workshop import Workshop

from gerne_hf.comparison.equal_tuning import further_space, space_of
from gerne_hf.comparison.methods import METHODS, method_config
from gerne_hf.comparison.shared_trials import KeptTrials, what_decides
from gerne_hf.recipes.arguments import RecipeArguments, parse_arguments
from gerne_hf.tuning.draws import GERNE_SPACE, Choice

pytestmark = pytest.mark.usefixtures("without_pictures")


def saved(folder):
    return json.loads((folder / "comparison.json").read_text(encoding="utf-8"))


def trials(folder):
    return json.loads((folder / "search" / "search.json").read_text(encoding="utf-8"))


def no_pictures(patch):
    """Nor garbage collected at the start of each training: both take longer than these trainings."""
    patch.setattr("gc.collect", lambda *_: 0)
    for name in ("plot_training", "plot_search", "plot_comparison"):
        patch.setattr(f"gerne_hf.reports.plots.{name}", lambda *_, **__: None)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """ERM, Group DRO and GERNE with three trials each; what was trained, and the folder."""
    folder = tmp_path_factory.mktemp("tuned")
    shop = Workshop(folder, max_steps=2)
    with pytest.MonkeyPatch.context() as patch:
        no_pictures(patch)
        shop.run_recipe(compare="erm,group_dro", tune=3)
    return shop, folder


def searches(folder):
    return {"GERNE": trials(folder), "Group DRO": trials(folder / "group_dro-seed42")}


def test_every_method_has_the_same_trials_and_its_default_first(tuned):
    shop, folder = tuned
    tuning = saved(folder)["ranking"]["tuning"]
    assert {title: one["trials"] for title, one in tuning.items()} == {"ERM": 0, "Group DRO": 3, "GERNE": 3}
    defaults = {"GERNE": {"c": 0.5, "beta": 1.0}}
    defaults["Group DRO"] = {name: getattr(shop.config, name) for name in METHODS["group_dro"].space}
    for title, search in searches(folder).items():
        by_number = {trial["number"]: trial for trial in search["trials"]}
        assert sorted(by_number) == [0, 1, 2]
        assert all(set(trial["params"]) == set(defaults[title]) for trial in by_number.values())
        assert by_number[0]["params"] == defaults[title] and by_number[0]["start"] == "your settings"
        assert search["objective"] == "worst_group_accuracy" and search["direction"] == "maximize"
    assert {run.seed for run in shop.configs} == {42}


def test_the_best_of_validation_is_what_is_compared(tuned):
    shop, folder = tuned
    final = {type(one).__name__ + one.args.plan: one for one in shop.trainers[-3:]}
    runs = {"GERNE": final["GerneTrainerindependent"], "Group DRO": final["GroupDROTrainerresampling"]}
    for title, search in searches(folder).items():
        values = {trial["number"]: trial["value"] for trial in search["trials"]}
        best = min(values, key=lambda number: (-values[number], number))
        assert search["best"]["number"] == best
        run = runs[title]
        assert {name: getattr(run.args, name) for name in search["best"]["params"]} == search["best"]["params"]
        assert run.group_results["eval"]["worst_group_accuracy"] == search["best"]["value"]  # the very same training


def test_the_search_does_not_read_the_test_set_and_leaves_no_models(tuned):
    shop, folder = tuned
    begins = [i for i, event in enumerate(shop.events) if str(event).startswith("begin")]
    assert len(begins) == 3 + 3 + 3 and "test" not in shop.events[: begins[6]]
    assert [path.name for path in (folder / "tuning").iterdir() if path.is_dir()] == []


def test_table_and_file_say_how_many_trials(tuned):
    _, folder = tuned
    said = saved(folder)["ranking"]["said"][-1]
    assert said.startswith("Chosen on the validation set among 3 trials each: Group DRO group_dro_step_size = ")
    assert "; GERNE c = " in said and "ERM" not in said
    assert "3 trials" in " ".join((folder / "README.md").read_text(encoding="utf-8").split())


def test_trials_are_shared_where_settings_coincide(tmp_path, monkeypatch, capsys):
    """With c (beta + 1) = 1 `collapsed` draws all groups of a class equally often: that is resampling."""
    no_pictures(monkeypatch)
    shop = Workshop(tmp_path, max_steps=1)
    shop.config = replace(shop.config, plan="collapsed")
    shop.run_recipe(compare="resampling", tune=1, tune_learning_rate=True)
    tuning = saved(tmp_path)["ranking"]["tuning"]
    assert {t: (one["trials"], one["trained"]) for t, one in tuning.items()} == {
        "resampling": (1, 1),
        "GERNE (collapsed)": (1, 0),
    }
    assert len(shop.begun) == 1 + 2  # one trial for both, then the two runs
    assert tuning["resampling"]["value"] == tuning["GERNE (collapsed)"]["value"]
    first, second = (shop.trainers[-1], shop.trainers[-2])
    assert first.group_results["eval"]["accuracy"] == second.group_results["eval"]["accuracy"]
    assert "1 trials, 1 of them known before" in capsys.readouterr().out


def test_a_search_that_was_interrupted_goes_on(tmp_path, monkeypatch):
    no_pictures(monkeypatch)
    arguments = {"compare": "none", "tune": 3, "tune_weight_decay": True}
    cut = Workshop(tmp_path, max_steps=1, interrupt_at=3)  # the probe and two trials
    with pytest.raises(KeyboardInterrupt):
        cut.run_recipe(**arguments)
    assert len(cut.begun) == 2
    whole, again = Workshop(tmp_path / "whole", max_steps=1), Workshop(tmp_path, max_steps=1)
    whole.run_recipe(**arguments)
    again.run_recipe(**arguments)
    assert (len(whole.begun), len(again.begun)) == (3 + 1, 1 + 1)
    found, expected = (
        [(t["params"], t["value"]) for t in trials(f)["trials"]] for f in (tmp_path, tmp_path / "whole")
    )
    assert found == expected and set(found[0][0]) == {"c", "beta", "weight_decay"}


def test_a_method_that_takes_over_a_model_tunes_what_comes_after(tmp_path, monkeypatch):
    """ERM is trained once for all trials; each finds the model as it was, and has its own settings."""
    no_pictures(monkeypatch)
    seen = []

    def finish(trainer):
        head = trainer.model.second.weight
        seen.append((trainer.args.jtt_upweight, float(head.detach().sum())))
        if trainer.args.jtt_upweight == 3.0:
            raise ValueError("not this one")
        with torch.no_grad():
            head.mul_(trainer.args.jtt_upweight - 20.0)  # the default leaves nothing of it

    monkeypatch.setattr("gerne_hf.baselines.dfr.refit_last_layer", finish)
    values = Choice((21.0, 3.0))
    monkeypatch.setitem(METHODS, "dfr", replace(METHODS["dfr"], space={"jtt_upweight": values}))
    shop = Workshop(tmp_path, max_steps=1)
    shop.config = replace(shop.config, plan="erm")
    shop.run_recipe(compare="dfr", tune=6)
    tuning = saved(tmp_path)["ranking"]["tuning"]
    search = trials(tmp_path / "dfr-seed42")
    assert tuning["DFR"]["trials"] == 6 and len({weight for _, weight in seen}) == 1
    assert seen[0][0] == 20.0 and {value for value, _ in seen} == {20.0, 21.0, 3.0}
    states = {trial["params"]["jtt_upweight"]: trial["state"] for trial in search["trials"]}
    assert states[3.0] == "failed" and states[21.0] == "complete"
    assert tuning["DFR"]["chosen"]["jtt_upweight"] == seen[-1][0] != 20.0  # in the run that is compared, too
    assert shop.begun == ["begin erm"] * 2  # once for the search, once for the runs
    assert shop.trainers[0].args.jtt_upweight == 20.0


def test_a_method_without_a_space_is_refused_before_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(METHODS, "jtt", replace(METHODS["jtt"], space=None))
    shop = Workshop(tmp_path)
    with pytest.raises(
        ValueError, match=r"'jtt' states none; the methods that do are erm, .*leave it out of --compare"
    ):
        shop.run_recipe(compare="erm,jtt", tune=2)
    assert not shop.trainers and not shop.events
    with pytest.raises(SystemExit):
        recipe = str(ROOT / "recipes" / "multinli.py")
        parse_arguments(RecipeArguments, recipe, ["--demo", "--compare", "jtt", "--tune", "2"])
    assert "'jtt' states none" in capsys.readouterr().err


def test_without_a_validation_set_nothing_is_tuned(tmp_path):
    shop = Workshop(tmp_path)
    shop.validation = None
    with pytest.raises(ValueError, match="--tune compares trials on the validation set, and there is none"):
        shop.run_recipe(compare="erm", tune=2)
    assert not shop.begun


def test_trials_are_not_compared_by_a_metric_that_no_evaluation_has(tmp_path):
    shop = Workshop(tmp_path, metric_for_best_model="worst_aurco")
    with pytest.raises(ValueError, match="'worst_aurco' is in no evaluation. Did you mean 'worst_auroc'"):
        shop.run_recipe(compare="erm", tune=2)
    assert not shop.begun


def test_what_is_drawn():
    both = further_space(learning_rate=True, weight_decay=True)
    assert list(both) == ["learning_rate", "weight_decay"] and further_space(False, False) == {}
    assert space_of("erm", {}) == {} and list(space_of("erm", both)) == [*both]
    assert list(space_of("independent", both)) == [*GERNE_SPACE, *both]
    assert space_of("dfr", both) == {}  # ERM's trials tune what it takes over


def test_runs_that_train_alike_are_alike(tmp_path):
    config = Workshop(tmp_path).config

    def decides(name, **settings):
        return what_decides(method_config(config, name, {name: settings}), name)

    assert decides("resampling") == decides("collapsed", c=0.5, beta=1.0) == decides("collapsed", c=1.0, beta=0.0)
    assert decides("resampling") != decides("collapsed", c=1.0, beta=0.1)
    assert decides("collapsed", c=0.5, beta=2.0) == decides("collapsed", c=0.75, beta=1.0)
    assert decides("erm", c=0.25) == decides("erm", beta=0.3) != decides("class_balanced")
    assert decides("independent", c=1.0, beta=0.0) != decides("resampling")  # half of its rows weigh nothing
    assert decides("erm") != decides("dfr") and decides("resampling") != decides("group_dro")
    assert decides("erm") != decides("erm", learning_rate=0.01)


def test_trials_of_other_data_are_others(tmp_path):
    kept = KeptTrials(str(tmp_path), {"rows": ["a"]})
    kept.put(kept.key({"plan": "erm"}), {"value": 0.5, "seconds": 1.0})
    same, other = KeptTrials(str(tmp_path), {"rows": ["a"]}), KeptTrials(str(tmp_path), {"rows": ["b"]})
    assert same.get(same.key({"plan": "erm"})) == {"value": 0.5, "seconds": 1.0}
    assert same.get(same.key({"plan": "shared"})) is None and other.get(other.key({"plan": "erm"})) is None
