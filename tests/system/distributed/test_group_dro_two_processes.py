"""Group DRO on two processes, by a real `accelerate launch` on the CPU, beside one process on the union of the rows.

Run as a script, this file is what each process does: train, resume, and write what it saw.
"""

import json
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import Gradients, assert_same, config, launch_two, mlp, step_gradient, table, watch_batches, weights
from transformers import TrainerCallback

from gerne_hf.baselines import BaselineConfig, GroupDROTrainer
from gerne_hf.groups.batches import GROUP_KEY
from gerne_hf.utils.distributed import leave_processes_at_exit

ROWS, RATE = 7, 0.2
SETTINGS = dict(num_train_epochs=2, max_steps=-1, learning_rate=RATE, weight_decay=0.0, max_grad_norm=0.0)
SETTINGS |= dict(per_device_train_batch_size=ROWS, save_strategy="steps", save_steps=5, logging_steps=1)
PLANS = ("resampling", "erm")


class NoteWeights(TrainerCallback):
    """Keeps q after each optimizer step."""

    def __init__(self):
        self.steps = []

    def on_step_end(self, args, state, control, **kwargs):
        self.steps.append(self.subject.group_weights.tolist())


def build(output_dir, plan, seed=0, callbacks=(), **settings):
    plain = config(output_dir, plan=plan, **{**SETTINGS, **settings})
    given = {field.name: getattr(plain, field.name) for field in fields(plain) if field.init}
    args = BaselineConfig(**given, group_dro_step_size=0.2)
    return GroupDROTrainer(model=mlp(seed), args=args, train_dataset=table(), callbacks=list(callbacks))


def main(folder: str) -> None:
    """Leave `PLAN-RANK.json` and `PLAN-RANK.pt` in `folder`."""
    for plan in PLANS:
        out = Path(folder) / plan
        note, gradients = NoteWeights(), Gradients()
        note.subject = subject = build(out, plan, callbacks=[note, gradients])
        batches = watch_batches(subject)
        subject.train()
        seen = {"processes": subject.args.world_size, "q": note.steps, "rows": [b["row"].tolist() for b in batches]}
        seen["groups"] = [batch[GROUP_KEY].tolist() for batch in batches]
        seen["losses"] = [entry["loss"] for entry in subject.state.log_history if "loss" in entry]
        rank = subject.args.process_index

        torch.manual_seed(rank + 50)
        again = NoteWeights()
        again.subject = resumed = build(out, plan, seed=9, callbacks=[again])
        resumed.train(resume_from_checkpoint=str(out / "checkpoint-5"))
        seen["q after resume"] = again.steps
        left, right = weights(resumed.model), weights(subject.model)
        seen["equal after resume"] = all(torch.equal(left[name], right[name]) for name in right)
        named = [{name.removeprefix("module."): value for name, value in step.items()} for step in gradients.steps]
        torch.save({"weights": right, "gradients": named}, Path(folder) / f"{plan}-{rank}.pt")
        (Path(folder) / f"{plan}-{rank}.json").write_text(json.dumps(seen))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Both plans, trained on two processes."""
    folder = tmp_path_factory.mktemp("group_dro")
    launch_two(__file__, folder)
    return folder


@pytest.fixture(params=PLANS)
def run(request, folder):
    plan = request.param
    ranks = [json.loads((folder / f"{plan}-{rank}.json").read_text()) for rank in (0, 1)]
    tensors = [torch.load(folder / f"{plan}-{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert [rank["processes"] for rank in ranks] == [2, 2]
    return SimpleNamespace(plan=plan, folder=folder / plan, ranks=ranks, tensors=tensors)


def test_q_is_the_same_on_both_processes(run):
    first, second = run.ranks
    assert first["q"] == second["q"] and len(first["q"]) == len(first["rows"]) == 14
    assert first["rows"] != second["rows"]  # else nothing would have to be summed
    counts = [[sorted(groups) for groups in rank["groups"]] for rank in run.ranks]
    assert counts[0] != counts[1]  # a mean of the processes' means would be another q
    assert max(first["q"][-1]) - min(first["q"][-1]) > 0.05


def test_q_gradients_and_weights_are_those_of_one_process(run, tmp_path):
    """The same trainer with twice the rows a batch takes the rows that both processes saw, step by step."""
    subject = build(tmp_path, run.plan, per_device_train_batch_size=2 * ROWS)
    data = table().with_format("torch")
    first, second = run.ranks
    for step, rows in enumerate(zip(first["rows"], second["rows"], strict=True)):
        union = torch.tensor([*rows[0], *rows[1]])
        groups = torch.tensor([*first["groups"][step], *second["groups"][step]])
        taken = data[union.tolist()]
        assert torch.equal(groups, 2 * taken["label"] + taken["place"])
        batch = {"inputs": taken["inputs"].float(), "labels": taken["label"], "row": union, GROUP_KEY: groups}
        gradient = step_gradient(subject, batch)
        assert subject.group_weights.tolist() == pytest.approx(first["q"][step], abs=1e-6)
        for tensors in run.tensors:
            assert_same(tensors["gradients"][step], gradient, 1e-5)
        with torch.no_grad():
            for name, parameter in subject.model.named_parameters():
                parameter -= RATE * gradient[name]
    for tensors in run.tensors:
        assert_same(tensors["weights"], weights(subject.model), 1e-5)


def test_both_processes_log_the_loss_of_the_union(run, tmp_path):
    first, second = run.ranks
    assert first["losses"] == second["losses"] and len(first["losses"]) == 14
    batch = table().with_format("torch")[first["rows"][0] + second["rows"][0]]
    groups = 2 * batch["label"] + batch["place"]
    logits = mlp()(batch["inputs"].float()).logits
    losses = torch.nn.functional.cross_entropy(logits, batch["label"], reduction="none")
    q = first["q"][0]
    total = sum(q[g] * losses[groups == g].mean().item() for g in groups.unique().tolist())
    assert first["losses"][0] == pytest.approx(total, abs=1e-4)


def test_q_is_saved_once_and_resumed_on_both(run):
    """Step 5 of 7 lies inside the first epoch."""
    state = json.loads((run.folder / "checkpoint-5" / "trainer_state.json").read_text())
    assert state["stateful_callbacks"]["GroupWeights"]["attributes"]["weights"] == run.ranks[0]["q"][4]
    for rank in run.ranks:
        assert rank["q after resume"] == rank["q"][5:]
        assert rank["equal after resume"]


if __name__ == "__main__":
    leave_processes_at_exit()
    main(sys.argv[1])
