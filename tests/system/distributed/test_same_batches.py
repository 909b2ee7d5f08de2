"""The same rows, gradients and evaluations on 1, 2 and 4 processes."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import assert_same, config, mlp, table, trainer
from places import SUPPORT, python_path
from same_batches import ACCUMULATED, MODES, PLAIN, SIZES, STEPS, build, evaluations, steps_of

from gerne_hf import BatchPlan, GerneTrainer, GroupIndex, GroupSampler
from gerne_hf.method.plans import PLANS

PROCESSES = [2, pytest.param(4, marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=PROCESSES)
def ranks(request, tmp_path_factory):
    """What each process saw, and its gradients."""
    count, folder = request.param, tmp_path_factory.mktemp("same")
    environment = {**os.environ, "PYTHONPATH": python_path(), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(SUPPORT / "same_batches.py"), str(folder), str(count)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-4000:]
    seen = [json.loads((folder / f"{count}-{rank}.json").read_text()) for rank in range(count)]
    gradients = [torch.load(folder / f"{count}-{rank}.pt", weights_only=True) for rank in range(count)]
    return list(zip(seen, gradients, strict=True))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("plan", [*PLANS, PLAIN])
def test_rows_and_gradients_are_those_of_one_process(ranks, plan, mode, tmp_path, without_pictures):
    """One process takes by accumulation what the others take side by side."""
    alone = steps_of(build(tmp_path, plan, mode))
    together = [list(rows) for rows in zip(*(seen[f"{plan} {mode}"] for seen, _ in ranks), strict=True)]
    assert sum(together, []) == alone["rows"] and len(alone["rows"]) == STEPS * ACCUMULATED
    for _, gradients in ranks:
        assert len(gradients[f"{plan} {mode}"]) == len(alone["gradients"]) == STEPS
        for mine, theirs in zip(alone["gradients"], gradients[f"{plan} {mode}"], strict=True):
            assert_same(mine, theirs, 1e-6)


def test_evaluations_are_those_of_one_process(ranks, tmp_path):
    """Sets with fewer rows than processes, fewer than a batch of each, and an uneven rest."""
    alone = evaluations(tmp_path)
    for seen, _ in ranks:
        assert seen["evaluations"].keys() == alone.keys()
        for name, (labels, logits, metrics) in alone.items():
            theirs = seen["evaluations"][name]
            assert theirs[0] == labels and theirs[2] == pytest.approx(metrics, abs=1e-12)
            assert np.shape(theirs[1]) == np.shape(logits)
            assert not len(logits) or np.abs(np.array(theirs[1]) - np.array(logits)).max() < 1e-12
    counts = {name: sum(v for k, v in seen[2].items() if "group_count/" in k) for name, seen in alone.items()}
    assert counts == {f"{size} {batched}": size for batched in (False, True) for size in SIZES}


@pytest.mark.parametrize("plan", PLANS)
def test_each_share_of_the_stream_has_the_frequencies_of_the_plan(plan):
    """Every process's batches, over 2,000 each: within 4 standard errors in each segment and group."""
    groups = GroupIndex.from_dataset(table(), attribute_column="place")
    built = BatchPlan.build(plan, 8, groups.alpha, c=0.5, beta=0.8)
    for processes in (1, 2, 4):
        sampler = GroupSampler(groups, built, num_rows=8 * 2_000 * processes, seed=3, batch_multiple=processes)
        codes = groups.codes[np.concatenate(list(sampler.blocks()))]
        for rank in range(processes):
            for segment, rows in zip(built.segments, built.slices(), strict=True):
                drawn = codes[rank::processes, rows]
                share = np.bincount(drawn.ravel(), minlength=4) / drawn.size
                expected = segment.distribution.ravel()
                error = np.sqrt(expected * (1 - expected) / drawn.size)
                assert (np.abs(share - expected) <= 4 * error).all(), (processes, rank, segment.name)


@pytest.mark.parametrize("processes", (2, 3, 4))
def test_the_stream_begins_alike_for_any_number_of_processes(processes):
    """11 batches: what fills up the last steps comes after them."""
    groups = GroupIndex.from_dataset(table(), attribute_column="place")
    plan = BatchPlan.build("independent", 8, groups.alpha)
    alone = np.concatenate(list(GroupSampler(groups, plan, seed=3).blocks()))
    shared = np.concatenate(list(GroupSampler(groups, plan, seed=3, batch_multiple=processes).blocks()))
    assert len(alone) == 11 and len(shared) == 12
    assert np.array_equal(shared[:11], alone)


def test_added_batches_are_said_once(tmp_path, monkeypatch, caplog):
    subject = trainer(tmp_path)
    monkeypatch.setattr(type(subject.args), "world_size", 3)
    with caplog.at_level("WARNING", logger="gerne_hf"):
        for _ in range(2):
            assert len(subject._get_train_sampler()) == 12 * 8
    said = [record.getMessage() for record in caplog.records if "do not divide" in record.getMessage()]
    assert said == ["3 processes do not divide the 11 batches of an epoch evenly. It has 12 now: 4 for each process."]


def test_several_gpus_in_one_process_are_refused_for_training(tmp_path):
    """As the Trainer finds them: `_n_gpu` is set with the device."""
    args = config(tmp_path)
    assert args.n_gpu == 0
    args._n_gpu = 2
    with pytest.raises(ValueError, match="sees 2 GPUs.*accelerate launch --multi_gpu --num_processes 2 SCRIPT"):
        GerneTrainer(model=mlp(), args=args, train_dataset=table())
    evaluator = GerneTrainer(model=mlp(), args=args, eval_dataset=table())
    assert isinstance(evaluator._wrap_model(evaluator.model, training=False), torch.nn.DataParallel)
    assert 0 <= evaluator.evaluate()["eval_worst_group_accuracy"] <= 1
