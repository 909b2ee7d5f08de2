"""The registry of methods: what each trains with, the settings of single ones, and comparisons of all of them."""

import json

import numpy as np
import pytest
from helpers import config
from workshop import TRAIN, Workshop

from gerne_hf import GerneTrainer
from gerne_hf.baselines import (
    AFRTrainer,
    BiasedModelJTTTrainer,
    GroupDROTrainer,
    JTTTrainer,
    MixtureTrainer,
    SquareRootTrainer,
)
from gerne_hf.comparison.methods import METHODS, main_method, method_config
from gerne_hf.method.plans import PLANS
from gerne_hf.reports.tables import format_comparison

pytestmark = pytest.mark.usefixtures("without_pictures")
OWN_TRAINERS = {
    "group_dro": GroupDROTrainer,
    "jtt": JTTTrainer,
    "jtt_biased_model": BiasedModelJTTTrainer,
    "mixture": MixtureTrainer,
    "afr": AFRTrainer,
    "square_root": SquareRootTrainer,
}


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
        patch.setattr("gerne_hf.reports.plots.plot_training", lambda *args: None)
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
    own = [name for name in everything.names if METHODS[name].start is None]
    assert [type(subject) for subject in everything.trainers] == [OWN_TRAINERS.get(n, GerneTrainer) for n in own]
    assert [subject.state.global_step for subject in everything.trainers] == [2] * len(own)
    assert everything.events.count("test") == 50 * len(METHODS)


def test_every_method_leaves_its_figures_in_a_folder(everything):
    saved = json.loads((everything.folder / "comparison.json").read_text())
    assert {title: runs for title, runs in saved.items() if isinstance(runs, list)} == everything.results
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
        "group_weighted_loss": natural,
        "sampling_weighting": (within + 0.5) / 4,
        "group_dro": np.full((2, 2), 0.25),
        "collapsed": np.full((2, 2), 0.25),  # c (beta + 1) = 1
    }
    own = [name for name in everything.names if METHODS[name].start is None]
    trained = dict(zip(own, everything.trainers, strict=True))
    for name, shares in expected.items():
        found = drawn(trained[name])
        # 4 standard errors; classes are allotted, so only attributes are random.
        assert (np.abs(found - shares) <= 4 * np.sqrt(shares * (1 - shares) / 20_000)).all(), name
    assert np.abs(natural - within / 2).max() > 0.1


def test_jtts_variant_and_gerne_share_the_first_model(everything):
    assert len(list(everything.folder.rglob("scores.parquet"))) == 2  # and JTT has a plain one of its own
    trained = {type(subject): subject for subject in everything.trainers if subject.pseudo is not None}
    assert trained[BiasedModelJTTTrainer].pseudo.directory == trained[GerneTrainer].pseudo.directory
    assert trained[JTTTrainer].pseudo.directory != trained[GerneTrainer].pseudo.directory


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
    for plan in PLANS:
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
        (["erm", "jtt"], {"jtt": {"jtt_upweight": -0.1}}, "jtt_upweight must be finite and not negative"),
        (["erm", "pseudo"], {"pseudo": {"pseudo_rule": "threshold"}}, "needs a threshold"),
    ],
)
def test_bad_methods_and_settings_are_refused_before_any_training(tmp_path, methods, settings, message):
    shop = Workshop(tmp_path)
    with pytest.raises(ValueError, match=message):
        shop.compare(methods, settings=settings)
    assert not shop.trainers and not shop.events
