"""What a comparison does one after the other: DFR after ERM, files after every run, the search before all."""

import json

import numpy as np
import pytest
import torch
from helpers import MLP, config, mlp, table
from huggingface_hub import ModelCard
from transformers import TrainerCallback
from workshop import Watched, Workshop

from gerne_hf.comparison.comparing import compare
from gerne_hf.comparison.methods import METHODS
from gerne_hf.tuning.space import C_CHOICES

pytestmark = pytest.mark.usefixtures("without_pictures")


# ---- DFR and the run that it starts from --------------------------------------------------------------------------


@pytest.mark.parametrize("methods", [["erm", "dfr"], ["dfr", "erm"], ["erm", "dfr", "independent"]])
def test_dfr_takes_over_the_erm_run(tmp_path, methods):
    """Whatever the order: a main method comes last, and it may be ERM."""
    shop = Workshop(tmp_path)
    results = shop.compare(methods, seeds=(0, 1))
    assert shop.begun.count("begin erm") == 2  # one a seed
    assert list(results) == [METHODS[name].title for name in methods]  # the main method is the table's last
    for erm, dfr in zip(results["ERM"], results["DFR"], strict=True):
        assert erm["seed"] == dfr["seed"] and dfr["train_seconds"] >= erm["train_seconds"]


def test_dfr_trains_erm_where_nothing_else_does(tmp_path):
    shop = Workshop(tmp_path)
    results = shop.compare(["dfr", "independent"], settings={"erm": {"learning_rate": 0.05}})
    assert sorted(shop.begun) == ["begin erm", "begin independent"]
    (erm,) = (run for run in shop.configs if run.plan == "erm")
    assert erm.learning_rate == 0.05 and not erm.class_balanced
    assert list(results) == ["DFR", "GERNE"]
    folders = {path.parent.name for path in tmp_path.rglob("group_metrics.json")}
    assert folders == {tmp_path.name, "dfr-seed0", "erm-seed0"}


def test_two_methods_that_start_from_one_run_both_find_it_untouched(tmp_path):
    both = Workshop(tmp_path / "both")
    results = both.compare(["dfr", "dfr_l2", "erm"], seeds=(0, 1))
    assert both.begun.count("begin erm") == 2
    alone = Workshop(tmp_path / "alone").compare(["dfr_l2", "erm"], seeds=(0, 1))
    for title in ("ERM", "DFR (L2 penalty)"):
        for one, other in zip(results[title], alone[title], strict=True):
            assert one["groups"] == other["groups"] and one["validation"] == other["validation"]
    assert results["DFR"][0]["groups"] != results["DFR (L2 penalty)"][0]["groups"]


def test_dfr_as_the_main_method_saves_the_model_with_the_new_layer(tmp_path):
    shop = Workshop(tmp_path)
    results = shop.compare(["erm", "dfr"])
    model, test = MLP.from_pretrained(tmp_path), shop.test.data
    with torch.no_grad():
        predicted = model(torch.tensor(test["inputs"][:])).logits.argmax(-1).numpy()
    assert (predicted == np.array(test["label"][:])).mean() == pytest.approx(results["DFR"][0]["accuracy"])
    assert results["DFR"][0]["validation"] != results["ERM"][0]["validation"]
    erm = json.loads((tmp_path / "erm-seed0" / "group_metrics.json").read_text())["evaluations"]
    assert erm["test"]["accuracy"] == results["ERM"][0]["accuracy"]
    assert erm["eval"]["accuracy"] == results["ERM"][0]["validation"]["accuracy"]


def test_the_card_of_an_erm_run_tells_its_own_figures_though_dfr_took_it_over(tmp_path):
    shop = Workshop(tmp_path)
    results = shop.compare(["dfr", "erm"])
    erm, dfr = results["ERM"][0], results["DFR"][0]
    assert erm["worst_group_accuracy"] != dfr["worst_group_accuracy"]
    told = {
        entry.metric_type: entry.metric_value
        for entry in ModelCard.load(tmp_path / "README.md").data.eval_results
        if entry.dataset_split == "test"
    }
    for name in ("worst_group_accuracy", "group_balanced_accuracy", "accuracy"):
        assert told[name] == pytest.approx(erm[name], abs=1e-4)
    worst = min(erm["groups"], key=lambda group: group["accuracy"])
    assert f"{100 * worst['accuracy']:.1f} % right" in (tmp_path / "README.md").read_text().replace("\n", " ")


def test_dfr_never_reads_the_test_set(tmp_path):
    shop = Workshop(tmp_path)
    shop.validation = Watched(shop.validation, shop.events, "validation")
    shop.compare(["dfr"])
    reads = [event for event in shop.events if event in ("test", "validation")]
    # The group table at the end of training, the features, the evaluation of the new layer; then the test set, once.
    assert reads == ["validation"] * 3 * 33 + ["test"] * 50


# ---- an interrupted comparison ------------------------------------------------------------------------------------


def test_the_file_is_written_after_every_run(tmp_path):
    """Three runs of four, then an interruption."""
    shop = Workshop(tmp_path, interrupt_at=3)
    with pytest.raises(KeyboardInterrupt):
        shop.compare(["erm", "independent"], seeds=(0, 1))
    saved = json.loads((tmp_path / "comparison.json").read_text())
    assert {title: [run["seed"] for run in runs] for title, runs in saved.items()} == {"ERM": [0, 1], "GERNE": [0]}
    for title, subject in (("ERM", shop.trainers[1]), ("GERNE", shop.trainers[2])):
        assert saved[title][-1]["accuracy"] == subject.group_results["test"]["accuracy"]
    assert not list(tmp_path.glob("*.partial"))


# ---- tuning -------------------------------------------------------------------------------------------------------


def test_the_search_settles_the_main_method_and_never_reads_the_test_set(tmp_path):
    shop = Workshop(tmp_path, eval_strategy="steps", eval_steps=1)
    shop.run_recipe(compare="erm", tune=3, method_settings={"independent": {"learning_rate": 0.2}})
    search = json.loads((tmp_path / "search" / "search.json").read_text())
    best = search["best"]["params"]
    assert len(search["trials"]) == 3 and set(best) == {"c", "beta"} and best["c"] in C_CHOICES
    erm, main = shop.configs[-2:]
    assert (main.c, main.beta, main.learning_rate) == (best["c"], best["beta"], 0.2)
    assert (erm.plan, main.plan) == ("erm", "independent")
    assert (shop.config.c, shop.config.beta) == (0.5, 1.0)
    final = shop.events.index("begin erm")
    assert "test" not in shop.events[:final] and shop.begun[:-2] == ["begin independent"] * (len(shop.begun) - 2)
    assert shop.events.count("test") == 2 * 50


def test_unknown_methods_are_refused_before_the_search(tmp_path):
    """Not hours later."""
    shop = Workshop(tmp_path)
    with pytest.raises(ValueError, match="unknown method 'gdro'"):
        shop.run_recipe(compare="gdro", tune=2)
    assert not shop.trainers and not shop.events


def test_without_tuning_nothing_is_searched(tmp_path):
    shop = Workshop(tmp_path)
    shop.run_recipe(compare="none", seeds="3,4", method_settings='{"independent": {"c": 0.25}}')
    assert [(run.seed, run.c) for run in shop.configs] == [(3, 0.25), (4, 0.25)]
    assert not (tmp_path / "search").exists()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"independent": {"beta": 5.0}}, "beta=5 lies outside its bounds"),
        ({"pseudo": {"threshold": 0.001}}, "makes 0 of the"),
    ],
)
def test_settings_that_the_data_refuses_are_found_before_anything_is_trained(tmp_path, settings, message):
    trained = []

    class Watch(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            trained.append(args.plan)

    def make_trainer(run, trainer_class):
        return trainer_class(
            model_init=lambda: mlp(), args=run, train_dataset=table(), eval_dataset=table(seed=2), callbacks=[Watch()]
        )

    with pytest.raises(ValueError, match=message):
        compare(
            ["erm", "pseudo", "independent"],
            config(tmp_path, threshold=0.2),
            make_trainer,
            table(seed=3),
            (0,),
            settings,
        )
    assert trained == []
