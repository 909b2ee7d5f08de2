"""Bad settings and heads are refused with a message that says what to do, before the first training step."""

import math

import pytest
from helpers import bert, config, mlp, sentences, table, trainer
from refusals import accepted, refused
from transformers import TrainingArguments

from gerne_hf import GerneTrainer
from gerne_hf.method.plans import PLANS

pytestmark = pytest.mark.usefixtures("without_pictures")


def test_the_control_trains(tmp_path):
    accepted(output_dir=tmp_path)


def test_config_of_another_class(tmp_path):
    plain = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    with pytest.raises(TypeError, match=r"GerneConfig\(\.\.\.\).*found TrainingArguments"):
        GerneTrainer(model=mlp(), args=plain, train_dataset=table())
    with pytest.raises(TypeError, match="GerneConfig"):
        GerneTrainer(model=mlp(), train_dataset=table())


# ---- beta and c ---------------------------------------------------------------------------------------------------

UPPER = (40 / 48) / (0.5 * (40 / 48 - 0.5)) - 1  # Eq. 9 for SKEWED and c = 0.5: 4


@pytest.mark.parametrize("beta", [UPPER + 0.01, -1.01])
@pytest.mark.parametrize("plan", ["independent", "shared", "collapsed", "reweighting"])
def test_beta_out_of_bounds(tmp_path, plan, beta):
    assert math.isclose(UPPER, 4)
    refused(ValueError, f"beta={beta:g}", "[-1, 4]", "Eq. 9", output_dir=tmp_path, plan=plan, beta=beta)


@pytest.mark.parametrize("beta", [UPPER, -1.0])
def test_beta_at_its_bounds(tmp_path, beta):
    accepted(output_dir=tmp_path, beta=beta)


def test_beta_out_of_bounds_as_configured(tmp_path, caplog):
    accepted(output_dir=tmp_path, beta=6.0, beta_out_of_bounds="ignore")
    assert "outside its bounds" not in caplog.text
    accepted(output_dir=tmp_path, beta=6.0, beta_out_of_bounds="warn")
    assert caplog.text.count("beta=6 lies outside its bounds [-1, 4]") == 1


def test_plans_without_beta_do_not_mind_it(tmp_path):
    for plan in ("erm", "resampling"):
        accepted(output_dir=tmp_path, plan=plan, beta=6.0)


@pytest.mark.parametrize("c", [0.0, -0.5, 1.01, math.nan])
def test_c_out_of_range(tmp_path, c):
    refused(ValueError, "c, the degree of bias reduction", "(0, 1]", str(c), output_dir=tmp_path, c=c)


@pytest.mark.parametrize("beta", [math.nan, math.inf, -math.inf])
def test_beta_not_finite(tmp_path, beta):
    refused(ValueError, "beta, the extrapolation factor", "finite", str(beta), output_dir=tmp_path, beta=beta)


# ---- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan, rows", [("independent", 1), ("shared", 2)])
def test_batch_too_small(tmp_path, plan, rows):
    parts = f"plan {plan!r} needs a batch of at least {rows + 1} rows", f"found {rows}", "per_device_train_batch_size"
    refused(ValueError, *parts, output_dir=tmp_path, plan=plan, per_device_train_batch_size=rows)
    accepted(output_dir=tmp_path, plan=plan, per_device_train_batch_size=rows + 1)


@pytest.mark.parametrize("share", [0, 1, -0.1, math.nan])
def test_biased_share_out_of_range(tmp_path, share):
    refused(ValueError, "biased_share", "must lie in (0, 1)", str(share), output_dir=tmp_path, biased_share=share)


@pytest.mark.parametrize("plan", ["shared", "collapsed", "reweighting"])
def test_biased_share_of_a_plan_without_two_batches(tmp_path, plan):
    settings = dict(output_dir=tmp_path, plan=plan, biased_share=0.3)
    refused(ValueError, "biased_share=0.3 is for the plan 'independent'", repr(plan), "0.5", **settings)
    accepted(output_dir=tmp_path, plan=plan)


def test_split_batches(tmp_path):
    settings = dict(output_dir=tmp_path, accelerator_config={"split_batches": True})
    refused(ValueError, "split_batches=True", "Leave it False", **settings)


def test_train_sampling_strategy(tmp_path):
    for strategy in ("sequential", "group_by_length"):
        settings = dict(output_dir=tmp_path, train_sampling_strategy=strategy)
        refused(ValueError, f"train_sampling_strategy={strategy!r}", "the plan decides", "'random'", **settings)


@pytest.mark.parametrize(
    "name, allowed",
    [
        ("plan", PLANS),
        ("forward_mode", ("auto", "fused", "separate")),
        ("empty_groups", ("error", "ignore")),
        ("beta_out_of_bounds", ("error", "warn", "ignore")),
    ],
)
def test_unknown_names(tmp_path, name, allowed):
    with pytest.raises(ValueError) as caught:
        config(tmp_path, **{name: "gerne"})
    assert f"{name} must be one of" in str(caught.value) and "'gerne'" in str(caught.value)
    assert all(repr(value) in str(caught.value) for value in allowed)


@pytest.mark.parametrize("name", ["seed", "data_seed"])
@pytest.mark.parametrize("value", [-1, 2**32, 1.5, True])
def test_seeds_that_no_generator_takes(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"^{name} must be a whole number from 0 to 4294967295; found {value!r}"):
        config(tmp_path, **{name: value})
    assert getattr(config(tmp_path, **{name: 2**32 - 1}), name) == 2**32 - 1


# ---- heads --------------------------------------------------------------------------------------------------------


def test_heads(tmp_path):
    settings = dict(output_dir=tmp_path, train=sentences())
    multi = bert(problem_type="multi_label_classification")
    refused(ValueError, "'multi_label_classification'", "single_label_classification", model=multi, **settings)
    refused(ValueError, "'regression'", model=bert(problem_type="regression"), **settings)
    refused(ValueError, "regression head (num_labels=1)", model=bert(num_labels=1), **settings)
    refused(ValueError, "num_labels=3", "2 classes", "num_labels=2", model=bert(num_labels=3), **settings)


def test_a_frozen_model(tmp_path):
    frozen = mlp().requires_grad_(False)
    refused(
        ValueError, "MLP has no parameter to train", "all 4", "requires_grad_(True)", output_dir=tmp_path, model=frozen
    )
    subject = GerneTrainer(model=frozen, args=config(tmp_path), eval_dataset=table())
    assert "eval_worst_group_accuracy" in subject.evaluate()
    frozen.second.requires_grad_(True)
    accepted(output_dir=tmp_path, model=frozen)


def test_overlapping_columns_that_hold_no_booleans_are_refused_at_construction(tmp_path):
    with pytest.raises(ValueError, match="columns of overlapping attributes must hold booleans; found 0, 1, 2"):
        trainer(tmp_path, overlapping_columns=["row"], eval_dataset=table())
