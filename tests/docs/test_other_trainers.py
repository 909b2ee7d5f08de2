"""docs/how_to/other_trainers.md: each program runs, and does better for the worst group than the stock trainer.

`-rP` prints the figures of the page.
"""

import functools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import assert_same, weights
from places import ROOT

PAGE = (ROOT / "docs" / "how_to" / "other_trainers.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.+?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL))
LOOP, CROSS_ENCODER, REWARD, LLAMA = SECTIONS

SMALLER = {  # of each section, what makes its training a matter of a second
    LOOP: {"train_rows=3000, test_rows=1500": "200, 90, 90", "range(4)": "range(2)"},
    CROSS_ENCODER: {"=3000": "=200", "=600": "=90", "=1500": "=90", "epochs=4": "epochs=2"},
    REWARD: {"answers(1500,": "answers(200,", "answers(1000,": "answers(90,", "epochs=4": "epochs=2"},
    LLAMA: {"=3000": "=200", "=600": "=90", "=1500": "=90", "epochs=4": "epochs=2"},
}


STOCK = {  # of each section, what makes it the program that knows of no plan
    LOOP: {
        '["train"], batch_sampler=batches,': '["train"], batch_size=64, shuffle=True,',
        "plan_loss(plan, row_losses, batch).backward()": "row_losses(batch).mean().backward()",
    },
    CROSS_ENCODER: {
        "trainer = PlanCrossEncoderTrainer(": "trainer = CrossEncoderTrainer(",
        "loss=PlanCrossEntropyLoss(model, plan)": "loss=CrossEntropyLoss(model)",
    },
    REWARD: {"trainer = PlanRewardTrainer(": "trainer = RewardTrainer("},
    LLAMA: {'plan="independent",': 'plan="erm",', "c=0.5,": "class_balanced=False,"},
}


def code_of(section: str, changes: dict[str, str]) -> str:
    """The blocks of Python of a section, one after another, with some of their text changed."""
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", SECTIONS[section], flags=re.MULTILINE | re.DOTALL))
    for before, after in changes.items():
        assert code.count(before) == 1, before
        code = code.replace(before, after)
    return code


def run(code: str, folder: Path) -> dict:
    """Run the code as a script in an empty folder, on a CPU; its names."""
    names = {"__name__": "page"}
    with pytest.MonkeyPatch.context() as patch:
        folder.mkdir(exist_ok=True)
        patch.chdir(folder)
        patch.setenv("ACCELERATE_USE_CPU", "true")
        exec(compile(code, "other_trainers.md", "exec"), names)  # the text is ours, and a reader's script
    return names


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Runs the program of a section on less data, once."""
    return functools.cache(lambda section: run(code_of(section, SMALLER[section]), tmp_path_factory.mktemp("small")))


@pytest.mark.parametrize("section", SECTIONS)
def test_the_program_of_a_section_runs(section, small):
    names = small(section)
    assert 0.0 <= names["worst"] <= 1.0
    if section != LOOP:
        assert names["trainer"].state.global_step == 2 * -(-200 // 64)


def test_the_reward_trainer_draws_the_groups_of_the_plan(small):
    """In the data 95 % of the answers that were chosen are the longer ones, in a batch half of them."""
    trainer = small(REWARD)["trainer"]
    longer = np.array(trainer.train_dataset["longer"][:])
    drawn = list(trainer.get_train_dataloader().batch_sampler)
    assert [len(rows) for rows in drawn] == [64] * 4
    assert (longer == "chosen").mean() > 0.9 and 0.35 < (longer[drawn] == "chosen").mean() < 0.65


def test_the_cross_encoder_is_trained_with_the_loss_of_the_plan(small):
    """A batch of its own trainer, by hand: -beta x mean of the biased half + (1 + beta) x mean of the other."""
    trainer, model = small(CROSS_ENCODER)["trainer"], small(CROSS_ENCODER)["model"]
    batch = next(iter(trainer.get_train_dataloader()))
    model.train()
    with torch.no_grad():
        found = trainer.compute_loss(model, dict(batch))
        encoded = model.preprocess(list(zip(batch["premise"], batch["hypothesis"], strict=True)))
        losses = F.cross_entropy(model(encoded)["scores"], batch["label"], reduction="none")
    assert found.item() == pytest.approx((2 * losses[32:].mean() - losses[:32].mean()).item(), abs=1e-5)
    # An evaluation takes every row once, without a plan.
    model.eval()
    with torch.no_grad():
        parts = [
            (trainer.compute_loss(model, dict(batch)), len(batch["label"])) for batch in trainer.get_eval_dataloader()
        ]
    assert sum(rows for _, rows in parts) == 90
    mean = sum(loss.item() * rows for loss, rows in parts) / 90
    assert trainer.evaluate()["eval_loss"] == pytest.approx(mean, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("section", [CROSS_ENCODER, REWARD])
def test_a_run_that_is_resumed_in_mid_epoch_ends_as_if_it_had_not_stopped(section, tmp_path):
    code = code_of(section, {**SMALLER[section], 'save_strategy="no",': 'save_strategy="steps", save_steps=1,'})
    whole = run(code, tmp_path)  # 8 steps, 4 an epoch
    resume = "trainer.train(resume_from_checkpoint=args.output_dir + '/checkpoint-6')\n"
    resumed = run(code.replace("trainer.train()\n", resume), tmp_path)
    assert_same(weights(whole["model"]), weights(resumed["model"]))


@pytest.mark.slow
@pytest.mark.parametrize("section", SECTIONS)
def test_the_worst_group_fares_better_than_with_the_stock_trainer(section, tmp_path):
    stock = run(code_of(section, STOCK[section]), tmp_path / "stock")["worst"]
    with_plan = run(code_of(section, {}), tmp_path / "plan")["worst"]
    print(f"{section}: {stock:.1%} -> {with_plan:.1%}")
    assert with_plan > 0.7 and with_plan > stock + 0.2
