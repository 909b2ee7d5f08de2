"""Pseudo-attributes on two processes, by a real `accelerate launch` on the CPU of this very file."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import EVEN, MLP, config, launch_two, mlp, table, trainer, watch_batches, weights

from gerne_hf import PseudoAttributes
from gerne_hf.utils.distributed import leave_processes_at_exit

COUNTS = [[41, 9], [10, 31]]
"""91 rows: with 8 rows a step of both processes 11 steps, and 3 rows left for two."""

SETTINGS = dict(per_device_eval_batch_size=4, max_steps=4, optim="adamw_torch", learning_rate=0.2)
UNKNOWN = dict(pseudo_attributes=True, attribute_column=None, threshold=0.1)


def biased_model(folder):
    """A model saved in a folder, to be scored by."""
    model = mlp(seed=5)
    model.save_pretrained(folder)
    return model.eval()


def scored(output_dir, checkpoint):
    """The fit of a trainer that takes a saved model as f~."""
    subject = trainer(output_dir, train=table(COUNTS), biased_model=str(checkpoint), **UNKNOWN, **SETTINGS)
    subject.get_train_dataloader()
    return subject.pseudo


TRAIN, VALIDATION = table([[198, 10], [10, 198]]), table([[50, 50], [50, 51]], seed=7)
"""208 rows of each fold, 13 steps of 16; an uneven rest of the validation rows."""


def inferred(output_dir, processes=1):
    """A trainer that has inferred its groups in two folds; one process takes by accumulation what two take at once."""
    settings = dict(optim="adamw_torch", learning_rate=0.03, num_train_epochs=3, max_steps=-1, max_grad_norm=0.0)
    settings |= dict(gradient_accumulation_steps=2 // processes, pseudo_attributes=True, attribute_column=None)
    subject = trainer(output_dir, mlp(dtype=torch.float64), TRAIN, eval_dataset=VALIDATION, **settings)
    subject.get_train_dataloader()
    return subject


def main(folder: str) -> None:
    """Leave `rank0.json`, `rank1.json` and the weights in `folder`."""
    out = Path(folder)
    given = scored(out / "given", out / "checkpoint")
    arguments = dict(args=config(out, **SETTINGS), train_dataset=table(COUNTS), eval_dataset=table(EVEN, seed=4))
    fitted = PseudoAttributes.fit(model=mlp(dropout=0.3), **arguments)

    forwards = []
    handle = torch.nn.modules.module.register_module_forward_hook(lambda *call: forwards.append(1))
    again = PseudoAttributes.fit(model=mlp(dropout=0.3), **arguments)
    handle.remove()

    subject = trainer(out / "run", mlp(dropout=0.3), table(COUNTS), **UNKNOWN, **SETTINGS)
    batches = watch_batches(subject)
    subject.train()
    torch.save(weights(subject.model), out / f"weights{subject.args.process_index}.pt")
    folds = inferred(out / "folds", processes=2)
    found = folds.pseudo
    seen = {
        "folds": {
            "codes": folds.groups.codes.tolist(),
            "evaluation": folds.inferred.evaluation.codes.tolist(),
            "reasons": [split.reason for split in folds.inferred.classes],
            "target": folds.inferred.target.tolist(),
            "probabilities": found.rows.probabilities.tolist(),
            "numbers": found.rows.folds.tolist(),
            "record": {key: value for key, value in found.record.items() if key.endswith("accuracy")},
        },
        "processes": subject.args.world_size,
        "given": given.scores.tolist(),
        "fitted": fitted.scores.tolist(),
        "again": again.scores.tolist(),
        "forwards": len(forwards),
        "predictions": fitted.predictions.tolist(),
        "folder": fitted.directory,
        "hard": (1 - subject.pseudo.attributes(0.1)).nonzero()[0].tolist(),
        "groups": subject.groups.codes.tolist(),
        "rows": [batch["row"].tolist() for batch in batches],
    }
    (out / f"rank{subject.args.process_index}.json").write_text(json.dumps(seen))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What both processes saw, and what the launch printed."""
    folder = tmp_path_factory.mktemp("pseudo")
    biased_model(folder / "checkpoint")
    launch_two(__file__, folder)
    ranks = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert [rank["processes"] for rank in ranks] == [2, 2]
    return SimpleNamespace(folder=folder, ranks=ranks)


def by_hand(model):
    """Softmax probability of each row's class under a model, and the predicted classes."""
    data = table(COUNTS)
    with torch.no_grad():
        chances = model.eval()(torch.tensor(data["inputs"][:])).logits.double().softmax(-1)
    return chances[torch.arange(len(data)), torch.tensor(data["label"][:])].numpy(), chances.argmax(-1).tolist()


@pytest.mark.slow
def test_scores_of_a_saved_model_equal_those_of_one_process(run, tmp_path):
    alone = scored(tmp_path, run.folder / "checkpoint").scores
    assert len(alone) == 91 and np.ptp(alone) > 0.1
    assert np.abs(alone - by_hand(mlp(seed=5))[0]).max() < 1e-6
    for rank in run.ranks:
        assert np.abs(np.array(rank["given"]) - alone).max() < 1e-6


@pytest.mark.slow
def test_scores_of_a_fit_are_those_of_its_saved_model(run):
    scores, predictions = by_hand(MLP.from_pretrained(Path(run.ranks[0]["folder"]) / "model"))
    for rank in run.ranks:
        assert np.abs(np.array(rank["fitted"]) - scores).max() < 1e-6 and rank["predictions"] == predictions
    saved = PseudoAttributes.load(run.ranks[0]["folder"], table(COUNTS))
    assert saved.scores.tolist() == run.ranks[0]["fitted"] == run.ranks[1]["fitted"]
    assert saved.record["settings"]["world_size"] == 2


@pytest.mark.slow
def test_a_second_fit_is_found_by_both_processes(run):
    for rank in run.ranks:
        assert rank["forwards"] == 0 and rank["again"] == rank["fitted"]


@pytest.mark.slow
def test_both_processes_train_on_the_same_pseudo_groups(run):
    first, second = run.ranks
    assert first["groups"] == second["groups"] and first["hard"] == second["hard"]
    labels = np.array(table(COUNTS)["label"][:])
    assert np.bincount(labels[first["hard"]]).tolist() == [5, 4]
    assert first["rows"] != second["rows"] and len(first["rows"]) == len(second["rows"]) == 4
    left, right = (torch.load(run.folder / f"weights{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.slow
def test_groups_inferred_in_folds_are_those_of_one_process(run, tmp_path):
    alone = inferred(tmp_path)
    rows = alone.pseudo.rows
    assert not alone.inferred.whole and 5 <= alone.inferred.hard.sum() < 60
    for rank in run.ranks:
        seen = rank["folds"]
        assert seen["numbers"] == rows.folds.tolist()
        assert np.abs(np.array(seen["probabilities"]) - rows.probabilities).max() < 1e-6
        assert seen["codes"] == alone.groups.codes.tolist()
        assert seen["evaluation"] == alone.inferred.evaluation.codes.tolist()
        assert seen["reasons"] == [split.reason for split in alone.inferred.classes]
        assert np.allclose(seen["target"], alone.inferred.target)
        for name, value in seen["record"].items():
            assert value == pytest.approx(alone.pseudo.record[name]), name


if __name__ == "__main__":
    leave_processes_at_exit()
    main(sys.argv[1])
