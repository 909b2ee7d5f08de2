"""The paper's experiments besides its tables: beta swept, t swept, the gradient's variance, folds of validation."""

import json
import sys

import numpy as np
import pytest
import torch
from places import ROOT
from workshop import Workshop

from gerne_hf.groups import GroupIndex
from gerne_hf.recipes import RecipeArguments, compare_noise, sweep_beta, sweep_threshold, validation_folds
from gerne_hf.recipes.experiments import GradientNoise, fold_of_rows, minority_groups

QUICK = {"max_steps": 4, "eval_strategy": "steps", "eval_steps": 2}


def run(shop, experiment, **arguments):
    return experiment(RecipeArguments(**arguments), shop.config, shop.make_trainer, shop.test)


def test_beta_is_swept_with_curves_of_minority_and_majority(tmp_path, without_pictures):
    shop = Workshop(tmp_path, **QUICK)
    rows = run(shop, sweep_beta([-1.0, 0.5], [0, 1]))
    assert [(row["beta"], row["seed"]) for row in rows] == [(-1.0, 0), (-1.0, 1), (0.5, 0), (0.5, 1)]
    assert [made.beta for made in shop.configs] == [-1.0, -1.0, 0.5, 0.5]
    for row in rows:
        assert [point["set"] for point in row["curves"]] == ["training", "validation"] * 2
        assert set(row["test"]) >= {"worst_group_accuracy", "group_balanced_accuracy"}
    last, trainer = rows[-1]["curves"][-1], shop.trainers[-1]
    output = trainer.predict(shop.validation)
    right = output.predictions.argmax(axis=1) == output.label_ids
    minority = minority_groups(trainer.groups)[shop.validation["label"], shop.validation["place"]]
    assert last["minority accuracy"] == pytest.approx(right[minority].mean())
    assert last["majority accuracy"] == pytest.approx(right[~minority].mean())


def test_the_best_beta_of_each_share_of_hard_rows_is_chosen_on_validation(tmp_path, without_pictures):
    shop = Workshop(tmp_path, **QUICK)
    rows = run(shop, sweep_threshold([0.1, 0.2], [0.0, 0.5], [0]))
    assert len(rows) == 4 and {row["threshold"] for row in rows} == {0.1, 0.2}
    for threshold in (0.1, 0.2):
        tried = [row for row in rows if row["threshold"] == threshold]
        best = max(row["validation"]["worst_group_accuracy"] for row in tried)
        (chosen,) = [row for row in tried if row["chosen"]]
        assert chosen["validation"]["worst_group_accuracy"] == best and chosen["found"]["recall"] is not None
    assert {made.biased_folds for made in shop.configs} == {1}


def test_the_variance_of_the_gradient_is_that_of_the_batches(tmp_path):
    model = torch.nn.Linear(2, 1, bias=False)
    noise = GradientNoise({"weight": torch.ones(1, 2)})
    noise.on_train_begin(None, None, None, model=model)
    assert model.weight.tolist() == [[1.0, 1.0]]
    gradients = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 0.0]])
    for gradient in gradients:
        model.weight.grad = gradient[None]
        noise.on_pre_optimizer_step(None, None, None, model=model)
    assert noise.variance == pytest.approx(float(gradients.var(dim=0).sum()))
    assert noise.mean.tolist() == pytest.approx(gradients.mean(dim=0).tolist())


def test_extrapolation_has_the_mean_gradient_of_its_target_and_more_noise(tmp_path, without_pictures, monkeypatch):
    kept = {}
    count = GradientNoise.on_pre_optimizer_step

    def watch(self, args, *rest, **others):
        kept[args.plan] = self
        return count(self, args, *rest, **others)

    monkeypatch.setattr(GradientNoise, "on_pre_optimizer_step", watch)
    shop = Workshop(tmp_path, **QUICK, c=0.5, beta=0.5)
    rows = run(shop, compare_noise(["independent", "collapsed"], [0], batches=80))
    variance = {row["method"]: row["variance"] for row in rows}
    assert variance["independent"] > 1.5 * variance["collapsed"]
    means = {plan: noise.mean for plan, noise in kept.items()}
    error = (variance["independent"] / 80) ** 0.5 + (variance["collapsed"] / 80) ** 0.5
    assert float((means["independent"] - means["collapsed"]).norm()) < 2 * error
    start = kept["collapsed"].weights
    assert all(torch.equal(kept["independent"].weights[name], value) for name, value in start.items())


def test_folds_of_the_validation_set_have_every_group(tmp_path, without_pictures):
    shop = Workshop(tmp_path, **QUICK)
    rows = run(shop, validation_folds([0], folds=3))
    assert [row["fold"] for row in rows] == [0, 1, 2]
    whole = np.array([[9, 8], [7, 9]])
    for trainer in shop.trainers:
        trained = trainer.groups.counts
        held = trainer.sets.index(trainer.eval_dataset, "validation set").counts
        assert (trained + held == whole).all() and (held >= 2).all()
    assert len({tuple(trainer.train_dataset["label"]) for trainer in shop.trainers}) > 1


def test_bad_numbers_of_folds_and_batches_are_refused():
    with pytest.raises(ValueError, match="folds must be at least 2"):
        validation_folds([0], folds=1)
    with pytest.raises(ValueError, match="one gradient has no variance"):
        compare_noise(["independent"], [0], batches=1)
    groups = GroupIndex.from_arrays([0, 0, 0, 1], [0, 0, 0, 1])
    with pytest.raises(ValueError, match=r"has 1 rows, fewer than the 2 folds"):
        fold_of_rows(groups, 2)


EXPERIMENTS = {
    "figure 2": sweep_beta([0.0, 0.5], [0]),
    "figure 3": sweep_threshold([0.1], [0.0, 0.5], [0]),
    "appendix B": compare_noise(["independent", "collapsed"], [0], batches=3),
    "appendix G": validation_folds([0], folds=2),
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_interrupted_experiment_goes_on_with_the_runs_that_are_missing(name, tmp_path, without_pictures, capsys):
    experiment = EXPERIMENTS[name]
    whole = Workshop(tmp_path / "whole", **QUICK)
    expected = run(whole, experiment)
    folder = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        run(Workshop(folder, interrupt_at=len(whole.configs) - 1, **QUICK), experiment)
    rest = Workshop(folder, **QUICK, resume_from_checkpoint="true")
    assert run(rest, experiment) == expected
    assert 0 < len(rest.configs) < len(whole.configs) and "ended before" in capsys.readouterr().out
    changed = Workshop(folder, **QUICK, resume_from_checkpoint="true", learning_rate=0.2)
    run(changed, experiment)
    assert len(changed.configs) == len(whole.configs)


def test_an_experiment_cannot_go_on_from_one_checkpoint(tmp_path):
    shop = Workshop(tmp_path, **QUICK, resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    with pytest.raises(ValueError, match="cannot go on from one checkpoint"):
        run(shop, EXPERIMENTS["figure 2"])


@pytest.fixture
def paper(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    import paper

    yield paper
    for name in ("paper", "colored_mnist", "celeba"):
        sys.modules.pop(name, None)


SHORT = ["--max_steps", "4", "--eval_steps", "2", "--disable_tqdm", "true", "--report_to", "none"]


def test_one_command_gives_a_table_a_file_and_a_picture(paper, tmp_path, capsys, without_pictures):
    paper.main(["figure_2", "--demo", "--values=-1,1", "--output_dir", str(tmp_path), *SHORT])
    printed = capsys.readouterr().out
    assert "no figures of the paper's data" in printed and "| beta | seed |" in printed
    saved = json.loads((tmp_path / "figure_2.json").read_text(encoding="utf-8"))
    assert saved["demo"] and [row["beta"] for row in saved["results"]] == [-1.0, 1.0]
    assert (tmp_path / "figure_2.png").stat().st_size > 10_000


def test_table_1_stands_beside_the_papers_figures(paper, tmp_path, capsys, without_pictures, monkeypatch):
    def recipe(name, arguments, run=None):
        assert run is None and "erm,group_dro,resampling,jtt,pseudo" in arguments
        return {"GERNE": [{"group_balanced_accuracy": 0.5}, {"group_balanced_accuracy": 0.7}]}

    monkeypatch.setattr(paper, "run_one", recipe)
    paper.main(["table_1", "--recipes", "colored_mnist", "--output_dir", str(tmp_path)])
    lines = [line for line in capsys.readouterr().out.splitlines() if "GERNE" in line]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["colored_mnist", "0.5 %", "GERNE", "60.00±14.14", "77.79"]
    assert [line[-1] for line in cells] == ["77.79", "84.47", "88.30", "92.16"]
