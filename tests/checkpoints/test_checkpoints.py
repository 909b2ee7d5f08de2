"""Which checkpoints a run is resumed from: whole ones of the same run, not those that a kill cut off."""

import resource

import numpy as np
import pytest
from helpers import MLP, assert_same, config, mlp, table, trainer, watch_batches, weights
from resumed_runs import SETTINGS, again
from transformers import Trainer

from gerne_hf import GroupIndex
from gerne_hf.checkpoints.identity import check_same_run
from gerne_hf.checkpoints.seals import CHECKPOINT_FILE, newest_whole, read_seal, seal
from gerne_hf.groups.fingerprints import group_fingerprint

pytestmark = pytest.mark.usefixtures("without_pictures")


# ---- folders ------------------------------------------------------------------------------------------------------


def test_a_seal_names_the_run_and_all_files(folder):
    record = read_seal(folder / "checkpoint-4")
    present = {path.name for path in (folder / "checkpoint-4").iterdir()} - {CHECKPOINT_FILE}
    assert record["step"] == 4 and set(record["files"]) == present >= {"model.safetensors", "optimizer.pt"}
    assert record["files"]["model.safetensors"] == (folder / "checkpoint-4" / "model.safetensors").stat().st_size
    run = record["run"]
    assert (run["plan"], run["c"], run["beta"], run["world_size"], run["batch_size"]) == (
        "independent",
        0.5,
        1.0,
        1,
        8,
    )
    assert run["data"] == group_fingerprint(GroupIndex.from_dataset(table(), attribute_column="place"))
    assert record["beta_bounds"] == list(again(folder).beta_bounds)


def cut_before_the_end(path):
    (path / CHECKPOINT_FILE).unlink()


def cut_in_the_weights(path):
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def without_the_optimizer(path):
    (path / "optimizer.pt").unlink()


def half_a_seal(path):
    file = path / CHECKPOINT_FILE
    file.write_text(file.read_text()[:40])


DAMAGES = {
    cut_before_the_end: "it has no checkpoint.json, which is written last",
    cut_in_the_weights: "its file model.safetensors has",
    without_the_optimizer: "its file optimizer.pt is missing",
    half_a_seal: "its checkpoint.json cannot be read",
}


@pytest.mark.parametrize("damage, reason", DAMAGES.items())
def test_one_that_was_cut_off_is_known(folder, damage, reason):
    damage(folder / "checkpoint-6")
    path, damaged = newest_whole(str(folder))
    assert path == str(folder / "checkpoint-4") and reason in damaged[str(folder / "checkpoint-6")]


def test_one_that_was_cut_off_is_passed_over(folder, saved, caplog):
    cut_in_the_weights(folder / "checkpoint-6")
    (folder / "checkpoint-10").mkdir()  # a kill right at the start of a save
    reason = DAMAGES[cut_in_the_weights]
    subject = again(folder)
    caplog.set_level("WARNING")
    subject.train(resume_from_checkpoint=True)
    assert_same(weights(subject.model), saved[1])
    warnings = [record.getMessage() for record in caplog.records if "is not whole" in record.getMessage()]
    assert len(warnings) == 2
    assert all(str(folder / "checkpoint-4") in text for text in warnings)  # both are named
    assert any(str(folder / "checkpoint-6") in text and reason in text for text in warnings)
    assert newest_whole(str(folder))[0] == str(folder / "checkpoint-6")  # written anew


def test_one_that_was_cut_off_is_refused_by_name(folder):
    cut_in_the_weights(folder / "checkpoint-6")
    with pytest.raises(ValueError, match=r"checkpoint-6 is not whole.*Resume from .*checkpoint-4, the newest whole"):
        again(folder).train(resume_from_checkpoint=str(folder / "checkpoint-6"))
    with pytest.raises(ValueError, match="checkpoint-7: no such folder"):
        again(folder).train(resume_from_checkpoint=str(folder / "checkpoint-7"))


def test_without_a_whole_one_there_is_nothing_to_resume(tmp_path):
    with pytest.raises(ValueError, match="there is no checkpoint to resume from in output_dir.*Start anew"):
        again(tmp_path / "none").train(resume_from_checkpoint=True)
    (tmp_path / "checkpoint-2").mkdir()
    with pytest.raises(ValueError, match="checkpoint-2 is not whole: it has no checkpoint.json"):
        again(tmp_path).train(resume_from_checkpoint=True)


def test_a_model_alone_is_no_checkpoint_to_resume_from(tmp_path):
    trainer(tmp_path, **SETTINGS, save_only_model=True).train()
    subject = again(tmp_path)
    for under_deepspeed in (False, True):  # it has files of its own
        subject.is_deepspeed_enabled = under_deepspeed
        with pytest.raises(ValueError, match="holds the model only .save_only_model=True"):
            subject.train(resume_from_checkpoint=True)


def test_the_seal_is_broken_before_a_checkpoint_is_written_over(folder, monkeypatch):
    """A kill in the middle of it would else leave old and new files under a seal."""
    seen = []

    def save(self, output_dir=None, _internal_call=False):
        seen.append((folder / "checkpoint-6" / CHECKPOINT_FILE).exists())
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "save_model", save)
    with pytest.raises(KeyboardInterrupt):
        again(folder).train(resume_from_checkpoint=str(folder / "checkpoint-4"))
    assert seen == [False] and newest_whole(str(folder))[0] == str(folder / "checkpoint-4")


def test_the_older_is_kept_until_the_newer_is_whole(tmp_path, monkeypatch):
    """With save_total_limit=1: what lies in the folder when the older one is deleted, and no sooner."""
    import transformers.trainer

    rotate, seen = transformers.trainer.rotate_checkpoints, []

    def rotate_checkpoints(**arguments):
        before = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
        read_seal(max(tmp_path.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1])))
        rotate(**arguments)
        seen.append((before, sorted(path.name for path in tmp_path.glob("checkpoint-*"))))

    monkeypatch.setattr(transformers.trainer, "rotate_checkpoints", rotate_checkpoints)
    trainer(tmp_path, **SETTINGS, save_total_limit=1).train()
    names = [f"checkpoint-{step}" for step in (2, 4, 6)]
    assert seen == [(names[:1], names[:1]), (names[:2], names[1:2]), (names[1:], names[2:])]


def test_a_full_disk_leaves_the_older_checkpoint_whole(tmp_path):
    """The system refuses to write files of more than 64 kB from step 4 on; the weights have 140."""
    subject = trainer(tmp_path, mlp(hidden=4000), **SETTINGS, save_total_limit=1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    step = subject.training_step

    def training_step(model, inputs, num_items_in_batch=None):
        if subject.state.global_step == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
        return step(model, inputs, num_items_in_batch)

    subject.training_step = training_step
    try:
        with pytest.raises(Exception) as caught:
            subject.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (note,) = caught.value.__notes__
    assert "checkpoint-4 could not be written" in note and "checkpoint-2 is whole" in note and "MB are free" in note
    path, damaged = newest_whole(str(tmp_path))
    assert path == str(tmp_path / "checkpoint-2") and list(damaged) == [str(tmp_path / "checkpoint-4")]


def test_a_sealed_folder_with_subfolders(tmp_path):
    (tmp_path / "c" / "shards").mkdir(parents=True)
    (tmp_path / "c" / "shards" / "0.bin").write_bytes(b"1234")
    seal(str(tmp_path / "c"), {"step": 1, "run": {}})
    assert read_seal(str(tmp_path / "c"), contents=True)["files"] == {"shards/0.bin": 4}
    (tmp_path / "c" / "shards" / "0.bin").write_bytes(b"123")
    with pytest.raises(ValueError, match="shards/0.bin has 3 of 4 bytes"):
        read_seal(str(tmp_path / "c"))


def test_the_saved_model_is_still_one_to_load(folder, saved):
    assert_same(weights(MLP.from_pretrained(folder / "checkpoint-6")), saved[1])


# ---- the run ------------------------------------------------------------------------------------------------------

OTHERS = {
    "plan": (dict(plan="shared"), "plan was 'independent' and is 'shared'"),
    "c": (dict(c=0.75), "c was 0.5 and is 0.75"),
    "beta": (dict(beta=0.5), "beta was 1.0 and is 0.5"),
    "seed": (dict(seed=1), r"seed was \[42, 42\] and is \[1, 1\]"),
    "data_seed": (dict(data_seed=1), r"seed was \[42, 42\] and is \[42, 1\]"),
    "batch": (dict(per_device_train_batch_size=10), "batch_size was 8 and is 10"),
    "accumulation": (dict(gradient_accumulation_steps=2), "gradient_accumulation_steps was 1 and is 2"),
    "schedule": (dict(beta_schedule="linear"), "beta_schedule was 'constant' and is 'linear'"),
    "share": (dict(biased_share=0.25), "biased_share was 0.5 and is 0.25"),
    "classes": (dict(class_balanced=False), "class_balanced was True and is False"),
    "order": (dict(train=table().select(range(87, -1, -1))), "data was '[0-9a-f]{32}' and is"),
    "rows": (dict(train=table([[40, 8], [10, 31]])), "data was"),
    "attributes": (dict(attribute_column="row"), "data was"),
}


@pytest.mark.parametrize("change", OTHERS)
def test_a_checkpoint_of_another_run_is_refused(folder, change):
    settings, message = OTHERS[change]
    if change == "attributes":
        other = np.random.default_rng(3).integers(2, size=88).tolist()
        settings = dict(attribute_column="other", train=table(other=other))
    with pytest.raises(ValueError, match=rf"belongs to another run: {message}.*resume_with_changes=\["):
        again(folder, **settings).train(resume_from_checkpoint=True)


def test_the_world_size_is_part_of_the_run(folder):
    saved = read_seal(folder / "checkpoint-6")["run"]
    with pytest.raises(ValueError, match="world_size was 1 and is 2"):
        check_same_run(saved, {**saved, "world_size": 2}, ["seed"], "checkpoint-6")
    check_same_run(saved, {**saved, "world_size": 2}, ["world_size"], "checkpoint-6")


def test_facts_beside_the_fields_of_a_run_are_not_compared():
    saved = {"plan": "shared", "beta": 1.0}
    check_same_run(saved, {**saved, "beta_bounds": [-1.0, 2.0]}, [], "checkpoint-6")
    with pytest.raises(ValueError, match="another run: beta was 1.0 and is 2.0; seed was None and is 3. Resume"):
        check_same_run(saved, {"beta_bounds": [-1.0, 2.0], "seed": 3, **saved, "beta": 2.0}, [], "checkpoint-6")


def test_changes_that_are_named_are_allowed(folder):
    subject = again(folder, beta=0.5, seed=3, resume_with_changes=["beta"], max_steps=8)
    with pytest.raises(ValueError, match="seed was"):
        subject.train(resume_from_checkpoint=True)
    subject = again(folder, beta=0.5, resume_with_changes=["beta"], max_steps=8)
    subject.train(resume_from_checkpoint=True)
    assert subject.state.global_step == 8
    with pytest.raises(ValueError, match="resume_with_changes may name 'trainer', 'data', 'rows'.*found 'betta'"):
        config(folder, resume_with_changes=["betta"])


def test_a_longer_run_with_other_logging_goes_on(folder):
    subject = again(folder, max_steps=9, logging_steps=2, save_steps=5)
    batches = watch_batches(subject)
    subject.train(resume_from_checkpoint=True)
    assert subject.state.global_step == 9 and len(batches) == 3


def test_names_of_groups_are_part_of_the_data():
    index = GroupIndex.from_arrays([0, 1, 0, 1], ["a", "b", "b", "a"])
    same = GroupIndex.from_arrays(np.array([0, 1, 0, 1]), ["a", "b", "b", "a"])
    renamed = GroupIndex.from_arrays([0, 1, 0, 1], ["a", "c", "c", "a"])
    assert group_fingerprint(index) == group_fingerprint(same) != group_fingerprint(renamed)
