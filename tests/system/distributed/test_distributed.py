"""Training and evaluation on two processes, by a real `accelerate launch` on the CPU."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import SKEWED, launch_two, table
from places import SUPPORT
from two_processes import HELD_OUT, build, evaluate_overlapping, overlapping_rows, plain

from gerne_hf import GroupIndex, GroupSampler, group_metrics


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What both processes saw, and what the launch printed."""
    folder = tmp_path_factory.mktemp("two_processes")
    printed = launch_two(SUPPORT / "two_processes.py", folder)
    ranks = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert [rank["processes"] for rank in ranks] == [2, 2]
    return SimpleNamespace(folder=folder, ranks=ranks, printed=printed)


def test_both_processes_get_whole_batches_of_the_plan(run, tmp_path):
    first, second = run.ranks
    assert first["segments"] == [6, 7] and len(first["rows"]) == len(second["rows"]) == first["steps"] == 8
    groups = GroupIndex.from_dataset(table(), attribute_column="place")
    plan = build(tmp_path).plan
    stream = GroupSampler(groups, plan, seed=42, batch_multiple=2)
    for epoch in (0, 1):
        stream.set_epoch(epoch)
        batches = np.concatenate(list(stream.blocks()))
        assert len(batches) == 8  # 88 rows are 7 batches of 13, and one more gives each process 4 steps
        for rank in (0, 1):
            assert run.ranks[rank]["rows"][4 * epoch : 4 * epoch + 4] == batches[rank::2].tolist()


def test_each_process_has_both_classes_in_each_segment(run):
    """The allotment of rows to classes, counted without the sampler: 3 of 6 rows, 3 or 4 of 7."""
    label, place = np.array(table()["label"][:]), np.array(table()["place"][:])
    for rank in run.ranks:
        rows = np.array(rank["rows"])
        assert np.array_equal(np.array(rank["groups"]), 2 * label[rows] + place[rows])
        assert (label[rows[:, :6]].sum(axis=1) == 3).all()
        assert set(label[rows[:, 6:]].sum(axis=1)) <= {3, 4}


def test_processes_stay_in_step(run):
    left, right = (torch.load(run.folder / f"weights{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert run.ranks[0]["logs"] == run.ranks[1]["logs"]
    for entry in run.ranks[0]["logs"]:
        biased, less_biased = entry["loss_biased"], entry["loss_less_biased"]
        assert entry["loss_extrapolated"] == pytest.approx(less_biased + 0.8 * (less_biased - biased), abs=1e-5)
        assert entry["loss"] == pytest.approx(entry["loss_extrapolated"], abs=1e-5)


def test_group_metrics_equal_those_of_one_process(run, tmp_path):
    subject = build(tmp_path)
    before = plain(subject.evaluate())
    subject.model.load_state_dict(torch.load(run.folder / "weights0.pt", weights_only=True))
    after = plain(subject.evaluate())
    for rank in run.ranks:
        for mine, theirs in ((before, rank["before"]), (after, rank["after"])):
            names = [name for name in mine if "preparation" not in name and name != "epoch" and name != "eval_loss"]
            assert {"eval_worst_group_accuracy", "eval_adjusted_accuracy", "eval_mine"} <= set(names)
            assert {"eval_worst_auroc", "eval_attribute_ece/1", "eval_equalized_odds_gap"} <= set(names)
            for name in names:
                allowed = 1e-6 if "ece" in name else 1e-9  # probabilities of batches of other rows
                assert theirs[name] == pytest.approx(mine[name], abs=allowed), name
        assert rank["after"]["eval_rows"] == np.sum(HELD_OUT) == 37
        assert rank["labels"] == table(HELD_OUT, seed=5)["label"][:]


def test_a_stream_is_judged_on_each_row_once_and_keeps_its_order(run):
    for rank in run.ranks:
        metrics = rank["streamed"]["metrics"]
        assert rank["streamed"]["labels"] == table(HELD_OUT, seed=5)["label"][:]
        for name in ("accuracy", "worst_group_accuracy", "worst_auroc", "worst_ece", "mine", "rows"):
            assert metrics[f"streamed_{name}"] == pytest.approx(rank["after"][f"eval_{name}"]), name
        for group, count in {"class0|0": 9, "class0|eleven": 14, "class1|0": 11, "class1|eleven": 3}.items():
            assert metrics[f"streamed_group_count/{group}"] == count


def test_the_worst_rows_are_those_of_one_process_and_saved_once(run, tmp_path):
    subject = build(tmp_path)
    subject.model.load_state_dict(torch.load(run.folder / "weights0.pt", weights_only=True))
    subject.evaluate()
    for rank in run.ranks:
        assert [group for group, _ in rank["worst"]] == list(subject.worst_rows["eval"]) == [0, 1, 2, 3]
        for group, examples in rank["worst"]:
            for mine, theirs in zip(subject.worst_rows["eval"][group], examples, strict=True):
                assert theirs == {**mine, "probability": pytest.approx(mine["probability"], abs=1e-6)}
    path = run.folder / "whole" / "_examples" / "examples.json"
    assert [rank["saved"] for rank in run.ranks] == [str(path), None]
    groups = json.loads(path.read_text(encoding="utf-8"))["groups"]
    assert [group["examples"] for group in groups] == [examples for _, examples in run.ranks[0]["worst"]]


def test_overlapping_groups_are_judged_on_each_row_once(run, tmp_path):
    """37 rows in batches of 2 x 4: the last one is uneven, and the loader fills it up with rows seen before."""
    data, members = overlapping_rows()
    counts = {"train_group_counts": [[5, 6, 7], [8, 9, 10]], "attribute_names": "abc"}
    result, metrics, scores, _ = evaluate_overlapping(tmp_path)
    expected = group_metrics(scores, data["label"][:], members, label_names=["class0", "class1"], **counts)
    assert {**expected, "step": 0} == result and len(set(members.sum(axis=1))) > 2
    for rank in run.ranks:
        seen = rank["overlapping"]
        assert seen["result"] == result
        assert np.allclose(seen["scores"], scores, atol=1e-6)
        for name in [name for name in metrics if "worst" in name or "group_" in name]:
            assert seen["metrics"][name] == pytest.approx(metrics[name], abs=1e-9), name


def test_a_resumed_run_equals_the_uninterrupted_one(run):
    for rank in run.ranks:
        assert rank["rows"][:4] != rank["rows"][4:]  # another order in the second epoch
        for step in (3, 6):
            assert rank[f"rows after {step}"] == rank["rows"][step:]
            assert rank[f"equal after {step}"]


def test_only_the_main_process_prints(run):
    """Three runs, so three tables; the picture and the JSON file are written by the main process alone."""
    assert run.printed.count("Groups of the evaluation set (eval, step 8)") == 3
    assert run.printed.count("| (class0, 1)") == 3
    report = json.loads((run.folder / "whole" / "group_metrics.json").read_text())
    assert report["train_groups"]["counts"] == SKEWED
    assert not list((run.folder / "whole").glob("*.partial"))
