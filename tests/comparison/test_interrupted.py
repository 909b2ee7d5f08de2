"""A comparison that is run again with --resume_from_checkpoint goes on where it was interrupted."""

import json
import shutil

import pytest
import torch
from helpers import assert_same, config, mlp, table
from safetensors.torch import load_file
from transformers import TrainerCallback

from gerne_hf.baselines import BaselineConfig
from gerne_hf.comparison.comparing import compare
from gerne_hf.recipes.arguments import RecipeArguments
from gerne_hf.recipes.run import run_recipe

pytestmark = pytest.mark.usefixtures("without_pictures")
METHODS, SEEDS = ["erm", "independent"], (0, 1)


class Steps(TrainerCallback):
    """Notes each step, and interrupts at one."""

    def __init__(self, stop_at=None):
        self.seen, self.stop_at = [], stop_at

    def on_step_end(self, args, state, control, **kwargs):
        self.seen.append((args.plan, args.seed, state.global_step))
        if self.seen[-1] == self.stop_at:
            raise KeyboardInterrupt


def run(folder, resume=None, stop_at=None, seeds=SEEDS, methods=METHODS, test=None, **settings):
    """The comparison; its results and the steps that it took."""
    common = dict(output_dir=str(folder), use_cpu=True, attribute_column="place", max_steps=4, save_steps=2)
    common |= dict(save_strategy="steps", per_device_train_batch_size=8, learning_rate=0.1, report_to="none")
    args = BaselineConfig(**{**common, **settings}, resume_from_checkpoint=resume, disable_tqdm=True, worst_examples=0)
    steps = Steps(stop_at)

    def make_trainer(run, trainer_class):
        return trainer_class(
            model_init=lambda: mlp(run.seed, dropout=0.3),
            args=run,
            train_dataset=table(),
            eval_dataset=table(seed=3),
            callbacks=[steps],
        )

    test = table(seed=9) if test is None else test
    try:
        return compare(list(methods), args, make_trainer, test, seeds), steps.seen
    except KeyboardInterrupt:
        return None, steps.seen


def figures(results):
    return {
        title: [{key: value for key, value in entry.items() if key != "train_seconds"} for entry in runs]
        for title, runs in results.items()
        if isinstance(runs, list)
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gerne_hf.reports.plots.plot_training", lambda *args: None)
        results, steps = run(folder)
    assert len(steps) == 16
    return folder, results


@pytest.mark.parametrize(
    "stop_at, left",
    [
        pytest.param(("erm", 1, 3), 10, marks=pytest.mark.slow),
        (("independent", 1, 3), 2),
        pytest.param(("independent", 0, 1), 8, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_comparison_goes_on(whole, tmp_path, stop_at, left):
    run(tmp_path, stop_at=stop_at)
    results, steps = run(tmp_path, resume="true")
    assert len(steps) == left
    assert figures(results) == figures(whole[1]) and list(results) == list(whole[1])
    assert figures(json.loads((tmp_path / "comparison.json").read_text())) == figures(whole[1])
    assert_same(load_file(tmp_path / "model.safetensors"), load_file(whole[0] / "model.safetensors"))
    cards = [(folder / "README.md").read_text() for folder in (tmp_path, whole[0])]
    tables = [[line for line in card.splitlines() if "class0, 1" in line] for card in cards]
    assert tables[0] == tables[1] and len(tables[0]) >= 2  # test and validation set, whoever trained the model


def test_one_that_ended_trains_nothing(whole, tmp_path):
    folder = shutil.copytree(whole[0], tmp_path / "run")
    results, steps = run(folder, resume="True")
    assert steps == [] and results == whole[1]
    assert run(folder, resume="true", logging_steps=1)[1] == []
    assert len(run(folder, resume="false", seeds=(0,), methods=["independent"])[1]) == 4


@pytest.mark.slow
def test_other_settings_or_data_are_trained_anew(whole, tmp_path, capsys):
    folder = shutil.copytree(whole[0], tmp_path / "run")
    assert len(run(folder, resume="true", learning_rate=0.2)[1]) == 16
    assert "learning_rate was 0.1 and is 0.2): it is trained anew" in capsys.readouterr().out
    assert len(run(folder, resume="true", learning_rate=0.2, test=table(seed=10))[1]) == 16
    assert len(run(folder, resume="true", learning_rate=0.2, test=table(seed=10), seeds=(0, 1, 2))[1]) == 8


@pytest.mark.slow
def test_a_named_checkpoint_is_used(whole, tmp_path):
    folder = shutil.copytree(whole[0], tmp_path / "run")
    (folder / "comparison.json").unlink()
    _, steps = run(folder, resume=str(folder / "erm-seed1" / "checkpoint-2"))
    assert steps == [("erm", 1, 3), ("erm", 1, 4)]  # the others had ended, and their last checkpoints hold the end
    with pytest.raises(ValueError, match="is no checkpoint of this comparison, whose runs lie in"):
        run(folder, resume=str(tmp_path / "elsewhere" / "checkpoint-2"))


@pytest.mark.slow
def test_a_method_that_takes_over_a_model_goes_on(tmp_path):
    arguments = dict(methods=["erm", "dfr", "independent"], seeds=(0,))
    expected, _ = run(tmp_path / "whole", **arguments)
    run(tmp_path / "cut", stop_at=("independent", 0, 1), **arguments)  # DFR comes last, after both
    results, steps = run(tmp_path / "cut", resume="true", **arguments)
    assert figures(results) == figures(expected) and {step[0] for step in steps} == {"independent"}


def test_the_recipes_arguments_are_part_of_the_settings(tmp_path):
    made = []

    def make_trainer(run, trainer_class):
        made.append(run.seed)
        return trainer_class(model_init=lambda: mlp(run.seed), args=run, train_dataset=table())

    for name, trained in (("a", 1), ("a", 0), ("b", 1)):
        args = config(tmp_path, max_steps=1, resume_from_checkpoint="true")
        steps = len(made)
        run_recipe(RecipeArguments(dataset_name=name, compare="none"), args, make_trainer, table(seed=9))
        weights = load_file(tmp_path / "model.safetensors")
        assert all(torch.isfinite(value).all() for value in weights.values())
        entry = json.loads((tmp_path / "run.json").read_text())
        assert (
            entry["dataset_name"] == name and len(made) == steps + trained
        )  # the card of a run that has ended needs no trainer
