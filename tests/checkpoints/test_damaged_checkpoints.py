"""Checkpoints with damage that no size shows: passed over where an older one is whole, else one clear sentence."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import assert_same, mlp, table, trainer, weights
from resumed_runs import SETTINGS, again

from gerne_hf.checkpoints.seals import CHECKPOINT_FILE, checkpoint_to_resume, newest_whole, read_seal, seal

pytestmark = pytest.mark.usefixtures("without_pictures")


def flip(path, place=0.7):
    """Turn over one bit of a file."""
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 0x40
    path.write_bytes(content)


def in_seal(path, **entries):
    """Change entries of a seal, or take them away; it looks as an earlier version wrote it."""
    file = path / CHECKPOINT_FILE
    record = {**json.loads(file.read_text()), **entries}
    for name in ("checksums", "checksum"):
        del record[name]
    file.write_text(json.dumps({name: value for name, value in record.items() if value is not None}))


def of_the_previous_format(path):
    in_seal(path)


def same_size(name, content):
    """Overwrite a file with other content of the same size."""

    def damage(path):
        size = (path / name).stat().st_size
        (path / name).write_bytes(content.ljust(size)[:size])

    return damage


def then(*damages):
    def damage(path):
        for one in damages:
            one(path)

    return damage


DAMAGES = {
    "a bit of the weights": (lambda path: flip(path / "model.safetensors"), "its file model.safetensors is damaged"),
    "a bit of the optimizer": (lambda path: flip(path / "optimizer.pt"), "its file optimizer.pt is damaged"),
    "a state without steps": (same_size("trainer_state.json", b"{}"), "its file trainer_state.json is damaged"),
    "a bit of the seal": (lambda path: flip(path / CHECKPOINT_FILE, 0.12), "its checkpoint.json"),
    "a seal without a run": (lambda path: in_seal(path, run=None), "its checkpoint.json cannot be read .*'run'"),
    "a seal whose run is none": (lambda path: in_seal(path, run=[1]), "its checkpoint.json cannot be read .*'run'"),
    "sizes that are none": (
        lambda path: in_seal(path, files={"model.safetensors": None}),
        "its checkpoint.json cannot be read",
    ),
    "earlier, state": (
        then(of_the_previous_format, same_size("trainer_state.json", b"[]")),
        "its file trainer_state.json cannot be read",
    ),
    "earlier, a state without steps": (
        then(of_the_previous_format, same_size("trainer_state.json", b'{"epoch": 1.0}')),
        "its file trainer_state.json cannot be read .*global_step",
    ),
    "earlier, weights": (
        then(of_the_previous_format, same_size("model.safetensors", b"x")),
        "its file model.safetensors cannot be read",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_passed_over_where_an_older_one_is_whole(folder, saved, caplog, name):
    damage, reason = DAMAGES[name]
    damage(folder / "checkpoint-6")
    caplog.set_level("WARNING")
    subject = again(folder)
    subject.train(resume_from_checkpoint=True)
    assert_same(weights(subject.model), saved[1])
    (warning,) = [text for text in caplog.messages if "is not whole" in text]
    assert subject.state.global_step == 6
    assert str(folder / "checkpoint-4") in warning and str(folder / "checkpoint-6") in warning
    assert re.search(reason, warning), warning


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_one_clear_sentence_where_there_is_no_older_one(folder, name):
    damage, reason = DAMAGES[name]
    damage(folder / "checkpoint-6")
    for step in (2, 4):
        shutil.rmtree(folder / f"checkpoint-{step}")
    for wanted in (True, str(folder / "checkpoint-6")):
        with pytest.raises(ValueError, match=reason) as caught:
            again(folder).train(resume_from_checkpoint=wanted)
        assert "checkpoint-6 is not whole" in str(caught.value) and "tart anew" in str(caught.value)


def test_a_checkpoint_of_the_previous_format_is_still_resumed_from(folder, saved):
    for step in (2, 4, 6):
        of_the_previous_format(folder / f"checkpoint-{step}")
    shutil.rmtree(folder / "checkpoint-6")
    subject = again(folder)
    subject.train(resume_from_checkpoint=True)
    assert_same(weights(subject.model), saved[1])


def test_content_is_read_only_where_it_is_asked_for(folder):
    """A glance at sizes costs nothing; what is trained on is read."""
    flip(folder / "checkpoint-6" / "model.safetensors")
    assert newest_whole(str(folder))[0] == str(folder / "checkpoint-6")
    assert newest_whole(str(folder), contents=True)[0] == checkpoint_to_resume(str(folder))
    assert checkpoint_to_resume(str(folder)) == str(folder / "checkpoint-4")


def test_every_bit_of_every_file_counts(tmp_path):
    random = np.random.default_rng(0)
    for name in ("a.bin", "b/c.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(random.bytes(3_000_000))  # more than is read at a time
    seal(str(tmp_path), {"step": 1, "run": {}})
    read_seal(str(tmp_path), contents=True)
    for name, place in (("a.bin", 0.0), ("a.bin", 0.999999), ("b/c.bin", 0.5)):
        flip(tmp_path / name, place)
        with pytest.raises(ValueError, match=f"its file {name} is damaged: its checksum is"):
            read_seal(str(tmp_path), contents=True)
        flip(tmp_path / name, place)
    read_seal(str(tmp_path), contents=True)


def test_a_best_model_that_is_damaged_is_not_taken(tmp_path):
    """The weights at hand are those of the last step, whose figures would stand under the name of the best."""
    settings = dict(eval_strategy="steps", eval_steps=2, load_best_model_at_end=True, eval_dataset=table(seed=3))
    subject = trainer(tmp_path, mlp(), **SETTINGS, **settings)
    load = subject._load_best_model

    def damage_and_load():
        flip(Path(subject.state.best_model_checkpoint) / "model.safetensors")
        load()

    subject._load_best_model = damage_and_load
    with pytest.raises(ValueError, match="the best model cannot be loaded.*model.safetensors is damaged.*checkpoint-"):
        subject.train()
