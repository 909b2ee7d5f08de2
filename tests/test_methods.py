"""The registry of methods: what each trains with, the settings of single ones, and comparisons of all of them."""

import json
from dataclasses import fields

import numpy as np
import pytest
import torch
from helpers import MLP, config, mlp, table
from huggingface_hub import ModelCard
from torch.utils.data import Dataset
from transformers import TrainerCallback

from gerne_hf import GerneTrainer
from gerne_hf.baselines import BaselineConfig, GroupDROTrainer, JTTTrainer, SquareRootTrainer
from gerne_hf.cli import RecipeArguments
from gerne_hf.comparison import compare, format_comparison, run_recipe
from gerne_hf.methods import METHODS, main_method, method_config
from gerne_hf.search_space import C_CHOICES

pytestmark = pytest.mark.usefixtures("without_pictures")
TRAIN, VALIDATION, TEST = [[60, 12], [8, 20]], [[9, 8], [7, 9]], [[11, 12], [13, 14]]
OWN_TRAINERS = {"group_dro": GroupDROTrainer, "jtt": JTTTrainer, "square_root": SquareRootTrainer}


class Watched(Dataset):
    """Writes each row that is fetched among the events."""

    column_names = ("label", "place", "inputs")

    def __init__(self, data, events, name):
        self.data, self.events, self.name = data, events, name

    def __len__(self):
        return len(self.data)

    def __getitem__(self, key):
        if isinstance(key, str):
            return self.data[key]
        self.events.append(self.name)
        return self.data[int(key)]


class NoteTraining(TrainerCallback):
    def __init__(self, events):
        self.events = events

    def on_train_begin(self, args, state, control, **kwargs):
        self.events.append(f"begin {args.plan}")

    def on_step_end(self, args, state, control, **kwargs):
        self.events.append("step")


class Workshop:
    """Data, `make_trainer` and what came of it: configs, trainers, events."""

    def __init__(self, folder, interrupt_at=None, **settings):
        plain = config(folder, **{"learning_rate": 0.3, "save_strategy": "no", "worst_examples": 0, **settings})
        given = {field.name: getattr(plain, field.name) for field in fields(plain) if field.init}
        self.config, self.folder = BaselineConfig(**given), folder
        self.events, self.configs, self.trainers, self.interrupt_at = [], [], [], interrupt_at
        self.train, self.validation = table(TRAIN), table(VALIDATION, seed=8)
        self.test = Watched(table(TEST, seed=9), self.events, "test")

    def make_trainer(self, run, trainer_class):
        if len(self.trainers) == self.interrupt_at:
            raise KeyboardInterrupt
        self.configs.append(run)
        subject = trainer_class(
            model_init=lambda: mlp(run.seed),
            args=run,
            train_dataset=self.train,
            eval_dataset=self.validation,
            callbacks=[NoteTraining(self.events)],
        )
        self.trainers.append(subject)
        return subject

    def compare(self, methods, seeds=(0,), settings=None):
        return compare(methods, self.config, self.make_trainer, self.test, seeds, settings)

    def run_recipe(self, **arguments):
        return run_recipe(RecipeArguments(**arguments), self.config, self.make_trainer, self.test)

    @property
    def begun(self):
        return [event for event in self.events if event.startswith("begin")]


def drawn(subject, least=20_000):
    """Groups of the rows that the stream of a run draws: `(2, 2)` shares."""
    labels, places = (np.array(subject.train_dataset[name][:]) for name in ("label", "place"))
    counts, sampler = np.zeros(4), subject._sampler
    while counts.sum() < least:
        sampler.set_epoch(sampler.epoch + 1)
        rows = np.array(list(sampler))
        counts += np.bincount(2 * labels[rows] + places[rows], minlength=4)
    return counts.reshape(2, 2) / counts.sum()


# ---- all methods --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """One comparison of every method there is, two steps each."""
    shop = Workshop(tmp_path_factory.mktemp("all"), threshold=0.2, biased_learning_rate=0.1)
    shop.names = [name for name in METHODS if name != "independent"] + ["independent"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gerne_hf.plots.plot_training", lambda log_history, path: None)
        shop.results = shop.compare(shop.names)
    return shop


def test_every_method_is_trained_and_has_its_title(everything):
    titles = [METHODS[name].title for name in everything.names]
    assert list(everything.results) == titles and len(set(titles)) == len(METHODS)
    header = format_comparison(everything.results).splitlines()[0]
    assert [cell.strip() for cell in header.strip("|").split("|")] == ["accuracy, %", *titles]
    for runs in everything.results.values():
        assert [group["count"] for group in runs[0]["groups"]] == [11, 12, 13, 14]
        assert set(runs[0]["validation"]) >= {"worst_group_accuracy", "accuracy"}
    # DFR takes over a model that is trained already.
    own = [name for name in everything.names if name != "dfr"]
    assert [type(subject) for subject in everything.trainers] == [OWN_TRAINERS.get(n, GerneTrainer) for n in own]
    assert [subject.state.global_step for subject in everything.trainers] == [2] * len(own)
    assert everything.events.count("test") == 50 * len(METHODS)


def test_every_method_leaves_its_figures_in_a_folder(everything):
    saved = json.loads((everything.folder / "comparison.json").read_text())
    assert saved == everything.results
    for name in everything.names:
        folder = everything.folder if name == "independent" else everything.folder / f"{name}-seed0"
        report = json.loads((folder / "group_metrics.json").read_text())
        for key, value in report["evaluations"]["test"].items():
            assert everything.results[METHODS[name].title][0][key] == value, (name, key)


def test_each_method_draws_as_it_should(everything):
    """Shares of the groups in the streams that were trained on."""
    counts = np.array(TRAIN)
    natural = counts / counts.sum()
    within = counts / counts.sum(axis=1, keepdims=True)
    roots = np.sqrt(counts.sum(axis=1))
    expected = {
        "erm": natural,
        "class_balanced": within / 2,
        "square_root": within * (roots / roots.sum())[:, None],
        "resampling": np.full((2, 2), 0.25),
        "reweighting": within / 2,
        "group_dro": np.full((2, 2), 0.25),
        "collapsed": np.full((2, 2), 0.25),  # c (beta + 1) = 1
    }
    trained = dict(zip([name for name in everything.names if name != "dfr"], everything.trainers, strict=True))
    for name, shares in expected.items():
        found = drawn(trained[name])
        # 4 standard errors; classes are allotted, so only attributes are random.
        assert (np.abs(found - shares) <= 4 * np.sqrt(shares * (1 - shares) / 20_000)).all(), name
    assert np.abs(natural - within / 2).max() > 0.1


def test_jtt_and_gerne_share_the_first_model(everything):
    assert len(list(everything.folder.rglob("scores.parquet"))) == 1


# ---- configs of methods -------------------------------------------------------------------------------------------


def test_erm_has_natural_and_class_balanced_has_equal_classes(tmp_path):
    for given in (True, False):
        args = config(tmp_path, class_balanced=given)
        assert method_config(args, "erm").class_balanced is False
        assert method_config(args, "class_balanced").class_balanced is True
        assert method_config(args, "independent").class_balanced is given
        assert method_config(args, "resampling").class_balanced is given


def test_a_split_of_the_rows_goes_to_methods_with_two_batches(tmp_path):
    args = config(tmp_path, biased_share=0.25)
    shares = {name: method_config(args, name).biased_share for name in ("independent", "shared", "collapsed", "erm")}
    assert shares == {"independent": 0.25, "shared": 0.5, "collapsed": 0.5, "erm": 0.25}


def test_the_main_method(tmp_path):
    for plan in ("independent", "shared", "collapsed", "erm", "resampling", "reweighting"):
        args = config(tmp_path, plan=plan)
        assert main_method(args) == plan and method_config(args, plan).plan == plan
    args = config(tmp_path, pseudo_attributes=True, threshold=0.1)
    assert main_method(args) == "pseudo"
    run = method_config(args, "pseudo")
    assert run.pseudo_attributes and run.threshold == 0.1 and run.plan == "independent"
    assert not method_config(args, "erm").pseudo_attributes


@pytest.mark.parametrize("plan", ["shared", "collapsed"])
def test_gerne_with_unknown_attributes_keeps_the_plan_that_was_chosen(tmp_path, plan):
    args = config(tmp_path, plan=plan, pseudo_attributes=True, threshold=0.1)
    assert method_config(args, main_method(args)).plan == plan


def test_settings_of_a_method_are_its_own(tmp_path):
    shop = Workshop(tmp_path)
    settings = {"erm": {"learning_rate": 0.05, "max_steps": 3}, "resampling": {"num_train_epochs": 0.3}}
    shop.compare(["erm", "resampling", "independent"], settings=settings)
    erm, resampling, gerne = shop.configs
    assert (erm.learning_rate, erm.max_steps) == (0.05, 3)
    assert (resampling.learning_rate, resampling.num_train_epochs, resampling.max_steps) == (0.3, 0.3, -1)
    assert (gerne.learning_rate, gerne.max_steps) == (0.3, 2)
    assert [subject.state.global_step for subject in shop.trainers] == [3, 4, 2]  # 13 batches an epoch
    assert settings == {"erm": {"learning_rate": 0.05, "max_steps": 3}, "resampling": {"num_train_epochs": 0.3}}
    assert shop.config.learning_rate == 0.3


@pytest.mark.parametrize(
    "methods, settings, message",
    [
        (["erm", "gdro"], {}, "unknown method 'gdro'; the methods are erm, class_balanced"),
        (["erm"], {"gdro": {"c": 0.5}}, "unknown method 'gdro'"),
        (["erm"], {"erm": {"learning_rte": 0.5}}, "settings of method 'erm' have 'learning_rte', which is no field"),
        (["erm"], {"jtt": {"upweight": 5}}, "settings of method 'jtt' have 'upweight'"),
        (["erm", "independent"], {"independent": {"c": 3.0}}, "c"),
        (["erm", "jtt"], {"jtt": {"jtt_upweight": 0.1}}, "jtt_upweight must be at least 1"),
        (["erm", "pseudo"], {}, "needs a threshold"),
    ],
)
def test_bad_methods_and_settings_are_refused_before_any_training(tmp_path, methods, settings, message):
    shop = Workshop(tmp_path)
    with pytest.raises(ValueError, match=message):
        shop.compare(methods, settings=settings)
    assert not shop.trainers and not shop.events


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
    searched, erm, main = shop.configs
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
        ({"pseudo": {"threshold": 0.3, "c": 1.0, "beta": 4.0}}, "beta=4 lies outside its bounds"),
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
