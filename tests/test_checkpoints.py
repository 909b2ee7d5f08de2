"""Whole checkpoints, those that a kill cut off, and those of another run."""

import json
import random
import resource
import shutil

import numpy as np
import pytest
import torch
from helpers import MLP, SKEWED, assert_same, config, mlp, sentences, table, trainer, watch_batches, weights
from transformers import MixtralConfig, MixtralForSequenceClassification, Trainer, ViTConfig, ViTForImageClassification

from gerne_hf import GroupIndex
from gerne_hf.checkpoints import CHECKPOINT_FILE, check_same_run, group_fingerprint, newest_whole, read_seal, seal
from gerne_hf.randomness import batch_seed, seeded

pytestmark = pytest.mark.usefixtures("without_pictures")
SETTINGS = dict(max_steps=6, save_strategy="steps", save_steps=2, optim="adamw_torch", learning_rate=0.01)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run with checkpoints at the steps 2, 4 and 6, to be copied; and its final weights."""
    folder = tmp_path_factory.mktemp("saved")
    subject = trainer(folder, mlp(dropout=0.3), **SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gerne_hf.plots.plot_training", lambda log_history, path: None)
        subject.train()
    return folder, weights(subject.model)


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved[0], tmp_path / "run")


def again(folder, **settings):
    """The same run in a new process, as it were: another model, another random state."""
    torch.manual_seed(77)
    return trainer(folder, mlp(seed=9, dropout=0.3), **{**SETTINGS, **settings})


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
    with pytest.raises(ValueError, match="holds the model only .save_only_model=True"):
        again(tmp_path).train(resume_from_checkpoint=True)


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


def test_changes_that_are_named_are_allowed(folder):
    subject = again(folder, beta=0.5, seed=3, resume_with_changes=["beta"], max_steps=8)
    with pytest.raises(ValueError, match="seed was"):
        subject.train(resume_from_checkpoint=True)
    subject = again(folder, beta=0.5, resume_with_changes=["beta"], max_steps=8)
    subject.train(resume_from_checkpoint=True)
    assert subject.state.global_step == 8
    with pytest.raises(ValueError, match="resume_with_changes may name 'trainer', 'data', 'plan'.*found 'betta'"):
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


# ---- what the libraries do not restore ----------------------------------------------------------------------------


@pytest.mark.parametrize("length", [dict(max_steps=6), dict(max_steps=-1, num_train_epochs=0.5)])
def test_a_run_killed_after_its_last_checkpoint_takes_no_step_more(tmp_path, length):
    """The stock Trainer trains until the end of the epoch is reached or one more step is done."""
    settings = {**SETTINGS, **length}
    whole = trainer(tmp_path, mlp(dropout=0.3), **settings)
    whole.train()
    resumed = again(tmp_path, **length)
    batches = watch_batches(resumed)
    resumed.train(resume_from_checkpoint=True)
    assert not batches and resumed.state.global_step == whole.state.global_step == 6
    assert_same(weights(resumed.model), weights(whole.model))


def test_a_checkpoint_at_the_end_of_an_epoch_has_its_evaluation(tmp_path):
    """Saved by steps, evaluated by epochs: 11 steps are one, and the evaluation draws from the global generator."""
    settings = dict(max_steps=14, save_steps=11, eval_strategy="epoch", eval_dataset=table(SKEWED, seed=4))
    whole = trainer(tmp_path, mlp(dropout=0.3), **{**SETTINGS, **settings})
    whole.train()
    state = json.loads((tmp_path / "checkpoint-11" / "trainer_state.json").read_text())
    assert [entry["step"] for entry in state["log_history"] if "eval_loss" in entry] == [11]
    resumed = again(tmp_path, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-11"))
    assert_same(weights(resumed.model), weights(whole.model))


def vit():
    return ViTForImageClassification(
        ViTConfig(
            image_size=4,
            patch_size=2,
            num_channels=1,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=8,
            initializer_range=0.3,
        )
    )


def mixtral():
    return MixtralForSequenceClassification(
        MixtralConfig(
            vocab_size=40,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            num_local_experts=2,
            pad_token_id=0,
            initializer_range=0.3,
        )
    )


def squares(seed):
    data = table(seed=seed, width=16)
    return data.map(
        lambda row: {"pixel_values": np.reshape(row["inputs"], (1, 4, 4))}, remove_columns=["inputs", "row"]
    )


@pytest.mark.parametrize(
    "make, data, greater", [(vit, squares, True), (mixtral, lambda seed: sentences(seed=seed), False)]
)
def test_weights_are_read_back_whose_saved_names_are_others(tmp_path, make, data, greater):
    """save_pretrained renames weights of ViT and splits those of Mixtral; the Trainer looks for neither."""
    torch.manual_seed(0)
    model = make()
    best = dict(load_best_model_at_end=True, metric_for_best_model="loss", eval_strategy="steps", eval_steps=2)
    settings = {**SETTINGS, **best, "eval_dataset": data(5), "learning_rate": 0.5, "greater_is_better": greater}
    kept = {}
    subject = trainer(tmp_path, model, data(0), **settings)
    save = subject.save_model

    def save_model(output_dir=None, _internal_call=False):
        kept[subject.state.global_step] = weights(subject.model)
        save(output_dir, _internal_call)

    subject.save_model = save_model
    subject.train()
    step = subject.state.best_global_step
    assert step != 6  # the last model is not the one that is chosen
    assert_same(weights(subject.model), kept[step])
    resumed = trainer(tmp_path, make(), data(0), **{**settings, "load_best_model_at_end": False})
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert_same(weights(resumed.model), kept[6])


# ---- random transforms --------------------------------------------------------------------------------------------


def noise(rows):
    """From all three global generators."""
    inputs = np.array(rows["inputs"]) + np.random.rand() * torch.randn(1).item() + random.random()
    return {**rows, "inputs": inputs.astype(np.float32).tolist()}


def test_random_transforms_are_resumed_too(tmp_path):
    """The stock loader has fetched, and transformed, the next batch before a checkpoint is written. Workers or none,
    the rows come out the same."""
    seen = []
    for workers in (0, 2):
        out, settings = tmp_path / str(workers), dict(train=table().with_transform(noise))
        settings |= dict(dataloader_num_workers=workers, remove_unused_columns=False)
        whole = trainer(out, mlp(dropout=0.3), **settings, **SETTINGS)
        seen.append(watch_batches(whole))
        whole.train()
        resumed = again(out, **settings)
        batches = watch_batches(resumed)
        resumed.train(resume_from_checkpoint=str(out / "checkpoint-2"))
        for batch, other in zip(batches, seen[-1][2:], strict=True):
            assert_same(batch, other)
        assert_same(weights(resumed.model), weights(whole.model))
    for batch, other in zip(*seen, strict=True):
        assert_same(batch, other)
    assert not torch.equal(seen[0][0]["inputs"] - seen[0][1]["inputs"], torch.zeros(8, 6))


def draws():
    return random.random(), float(np.random.rand()), torch.rand(1).item()


def test_seeding_leaves_no_trace():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = [draws(), draws()]
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    found = [draws()]
    with seeded(batch_seed(3, [5, 6])):
        inside = draws()
    found.append(draws())
    assert found == expected
    with seeded(batch_seed(3, [5, 6])):
        assert draws() == inside
    assert len({batch_seed(3, [5, 6]), batch_seed(3, [6, 5]), batch_seed(4, [5, 6])}) == 3


def test_a_sealed_folder_with_subfolders(tmp_path):
    (tmp_path / "c" / "shards").mkdir(parents=True)
    (tmp_path / "c" / "shards" / "0.bin").write_bytes(b"1234")
    seal(str(tmp_path / "c"), {"step": 1})
    assert read_seal(str(tmp_path / "c"))["files"] == {"shards/0.bin": 4}
    (tmp_path / "c" / "shards" / "0.bin").write_bytes(b"123")
    with pytest.raises(ValueError, match="shards/0.bin has 3 of 4 bytes"):
        read_seal(str(tmp_path / "c"))


def test_the_saved_model_is_still_one_to_load(folder, saved):
    assert_same(weights(MLP.from_pretrained(folder / "checkpoint-6")), saved[1])
