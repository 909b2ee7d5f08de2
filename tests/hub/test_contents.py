"""Which files of an output folder are published, and which at the root of a repository are an earlier push's."""

from fnmatch import fnmatchcase
from types import SimpleNamespace

import pytest
from huggingface_hub.utils import filter_repo_objects

from gerne_hf.hub.contents import STALE, holds_weights, left_out
from gerne_hf.hub.uploads import Uploads

PUBLISHED = [
    *("README.md", "comparison.json", "comparison.png", "config.json", "group_metrics.json", "model.safetensors"),
    *("preprocessor_config.json", "tokenizer.json", "training.png", "vocab.txt"),
]
LEFT_AT_HOME = [
    *("_examples/test-1.png", "_report.html", "checkpoint-4/optimizer.pt", "demo_images/1.png", "run.json"),
    *("erm-seed42/checkpoint-19/optimizer.pt", "erm-seed42/model.safetensors", "erm-seed42/_examples/a.png"),
    *("pseudo_attributes/0123/scores.parquet", "runs/Nov28/events.out.tfevents.1", "search/search.json"),
    *("trainer_state.json", "training_args.bin", "validation_rows.npz", "optimizer.pt", "group_metrics.json.partial"),
]


def fill(folder, names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def pushed(folder, **given):
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return list(filter_repo_objects(names, ignore_patterns=left_out(str(folder), **given)))


def test_model_card_pictures_and_json_and_nothing_else(tmp_path):
    fill(tmp_path, PUBLISHED + LEFT_AT_HOME)
    assert pushed(tmp_path) == sorted(PUBLISHED)
    assert pushed(tmp_path, with_training_args=True) == sorted([*PUBLISHED, "training_args.bin"])


def test_folders_that_belong_to_a_model_are_published(tmp_path):
    parts = ["additional_chat_templates/tool.jinja", "second/adapter_config.json", "second/adapter_model.safetensors"]
    run = ["erm-seed42/adapter_config.json", "erm-seed42/adapter_model.safetensors", "erm-seed42/run.json"]
    fill(tmp_path, [*PUBLISHED, *LEFT_AT_HOME, *parts, *run])
    assert pushed(tmp_path) == sorted([*PUBLISHED, *parts])


def test_a_folder_that_is_not_there():
    assert left_out("/no/such/folder") == ["_*", "*/*"]


@pytest.mark.parametrize(
    "name, stale",
    [
        *[("comparison.json", True), ("group_metrics.json", True), ("training_args.bin", True)],
        *[("model-00001-of-00002.safetensors", True), ("pytorch_model.bin", True), ("adapter_config.json", True)],
        *[("README.md", False), ("config.json", False), ("notes.txt", False), ("checkpoint-4/optimizer.pt", False)],
        *[("mine/model.safetensors", False), ("model_notes.txt", False)],
    ],
)
def test_what_an_earlier_push_has_left(name, stale):
    assert any(fnmatchcase(name, pattern) for pattern in STALE) == stale


def test_whether_a_repository_holds_a_model():
    assert holds_weights(["README.md", "model.safetensors"]) and holds_weights(["pytorch_model.bin"])
    assert not holds_weights([".gitattributes", "README.md", "training_args.bin", "last-checkpoint/model.safetensors"])


def test_a_file_that_is_written_during_a_push_in_the_background_is_left_out(tmp_path):
    """Reports are written beside their place, then moved: such a file is gone when the upload comes to read it."""
    uploads = Uploads("owner/name")
    uploads.ready, uploads.api = True, SimpleNamespace(upload_folder=lambda **given: given)
    given = uploads.upload_folder(folder_path=str(tmp_path))
    assert any(fnmatchcase("group_metrics.json.partial", pattern) for pattern in given["ignore_patterns"])
