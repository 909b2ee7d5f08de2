"""The parts of publishing that need no Hub: the log of pushes, its messages and commands, and the names of labels."""

import os
import shlex
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from captured_logs import logged
from helpers import SKEWED, mlp, sentences, table

from gerne_hf.groups.index import GroupIndex
from gerne_hf.hub.contents import left_out
from gerne_hf.hub.pushes import Push, PushLog
from gerne_hf.models.heads import name_labels


def ended(error=None):
    job = Future()
    job.set_exception(error) if error is not None else job.set_result("commit")
    return job


@pytest.fixture
def warnings():
    with logged("gerne_hf.hub.pushes") as found:
        yield found


def test_a_failure_warns_once_and_stays_until_made_up_for(warnings):
    log = PushLog()
    log.watch(Push("out", "", 1), ended(OSError("line one\n\nline two\nline three")))
    log.watch(Push("out/checkpoint-1", "last-checkpoint", 1), ended(ValueError("no")))
    assert [(push.path_in_repo, push.step) for push in log.missing()] == [("", 1), ("last-checkpoint", 1)]
    assert len(warnings) == 2 and "the model of step 1" in warnings[0] and "OSError: line one line two" in warnings[0]
    log.watch(Push("out", "", 2), ended())
    assert [push.path_in_repo for push in log.missing()] == ["last-checkpoint"]
    log.made_up_for("last-checkpoint")
    assert log.missing() == [] and len(warnings) == 2


def test_a_failure_in_the_background_warns_by_itself(warnings):
    log = PushLog()

    def fail():
        raise ConnectionError("reset")

    with ThreadPoolExecutor(1) as pool:
        log.watch(Push("out", "", 3), pool.submit(fail))
        log.wait()
    assert len(warnings) == 1 and "step 3" in warnings[0] and "ConnectionError: reset" in warnings[0]


def test_a_push_that_never_ran_is_missing(warnings):
    log, job = PushLog(), Future()
    log.watch(Push("out", "", 1), job)
    assert log.missing() == []
    job.cancel()
    assert len(log.missing()) == len(warnings) == 1


def test_the_command_survives_the_shell():
    root, folder = Push("my runs/it's", "", 1), Push("/runs/checkpoint-4", "last-checkpoint", 4)
    assert shlex.split(root.command("me/model", "a b")) == [
        *("hf", "upload", "me/model", os.path.abspath("my runs/it's"), "."),
        *("--exclude", "_*", "--exclude", "*/*", "--revision", "a b"),
    ]
    assert folder.command("me/model", None) == "hf upload me/model /runs/checkpoint-4 last-checkpoint"


def test_the_command_leaves_out_what_a_push_leaves_out(tmp_path):
    for name in ("model.safetensors", "training_args.bin", "run.json"):
        (tmp_path / name).touch()
    words = shlex.split(Push(str(tmp_path), "", 1).command("me/model", None))
    assert [words[i + 1] for i, word in enumerate(words) if word == "--exclude"] == left_out(str(tmp_path))
    assert "training_args.bin" in words and "run.json" in words
    assert "training_args.bin" not in Push(str(tmp_path), "", 1).command("me/model", None, with_training_args=True)


def test_labels_get_the_names_of_the_data():
    groups = GroupIndex.from_dataset(table(SKEWED), None, "place")
    model = mlp()
    name_labels(model, groups.label_names)
    assert model.config.id2label == {0: "class0", 1: "class1"} and model.config.label2id == {"class0": 0, "class1": 1}


@pytest.mark.parametrize(
    "data, given",
    [(table(), {0: "cat", 1: "dog"}), (sentences(), {0: "LABEL_0", 1: "LABEL_1"})],
    ids=["model has names", "data has none"],
)
def test_names_that_are_there_stay(data, given):
    model = mlp(id2label=given)
    name_labels(model, GroupIndex.from_dataset(data, None, "place").label_names)
    assert model.config.id2label == given
    name_labels(model, None)
    name_labels(model.first, GroupIndex.from_dataset(data, None, "place").label_names)
    assert model.config.id2label == given
