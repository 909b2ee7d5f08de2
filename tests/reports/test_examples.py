"""The rows of each group that a model is most wrong about: which ones they are, and what is saved of them."""

import inspect
import json
import sys

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, Value
from helpers import Rows, bert, config, decode_images, images, mlp, resnet, table, trainer
from huggingface_hub.utils import filter_repo_objects
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pictures
from torch.utils.data import SequentialSampler
from transformers import Trainer, ViTImageProcessor

from gerne_hf import GerneTrainer
from gerne_hf.comparison.comparing import compare
from gerne_hf.evaluation.accumulator import GroupAccumulator, worst_rows
from gerne_hf.hub.contents import NOT_PUSHED
from gerne_hf.models.texts import word_tokenizer
from gerne_hf.reports.examples import decode_texts, image_of_pixels, save_thumbnail
from gerne_hf.reports.page import REPORT_FILE

HELD_OUT = [[9, 14], [11, 3]]

# ---- which rows -----------------------------------------------------------------------------------------------------


def test_the_highest_losses_are_picked_and_ties_keep_the_order_of_rows():
    losses = np.array([0.1, 5.0, 3.0, 5.0, 9.0, 5.0, np.nan, 0.0], dtype=np.float32)
    assert worst_rows(losses, np.array([0, 1, 2, 3, 5, 7]), 2).tolist() == [1, 3]
    assert worst_rows(losses, np.array([5, 3, 1]), 2).tolist() == [1, 3]
    assert worst_rows(losses, np.array([0, 4, 6]), 2).tolist() == [6, 4]  # a loss that is no number is the worst
    assert worst_rows(losses, np.array([7, 0]), 4).tolist() == [0, 7]
    assert worst_rows(losses, np.array([], dtype=np.int64), 4).tolist() == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, float("inf")]), max_size=30), st.integers(1, 6), st.data())
def test_it_is_what_sorting_gives(losses, k, data):
    rows = data.draw(st.lists(st.sampled_from(range(len(losses))), unique=True)) if losses else []
    picked = worst_rows(np.array(losses), np.array(rows, dtype=np.int64), k)
    assert picked.tolist() == sorted(rows, key=lambda row: (-losses[row], row))[:k]


def expected(scores, data, groups, k):
    """By group: number, prediction and probability of its k worst rows, from all logits."""
    labels, names = np.array(data["label"][:]), data.features["label"].names
    true = torch.tensor(scores).softmax(-1).numpy()[np.arange(len(labels)), labels]
    found = {}
    for group, members in groups.items():
        rows = sorted(np.flatnonzero(members), key=lambda row: (true[row], row))[:k]
        found[group] = [(int(row), names[scores[row].argmax()], pytest.approx(true[row], abs=1e-6)) for row in rows]
    return found


def plain(worst):
    return {group: [tuple(example.values()) for example in examples] for group, examples in worst.items()}


@pytest.mark.parametrize("batch, more", [(16, {}), (5, {"batch_eval_metrics": True})])
def test_an_evaluation_keeps_the_worst_rows_of_each_group(tmp_path, batch, more):
    data = table(HELD_OUT, seed=5)
    hooks = dict(preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1))  # whatever users make of them
    subject = trainer(tmp_path, mlp(3), per_device_eval_batch_size=batch, worst_examples=3, **hooks, **more)
    subject.evaluate(data, metric_key_prefix="test")
    scores = trainer(tmp_path, mlp(3)).predict(data).predictions
    labels, places = np.array(data["label"][:]), np.array(data["place"][:])
    groups = {2 * y + a: (labels == y) & (places == a) for y in (0, 1) for a in (0, 1)}
    assert plain(subject.worst_rows["test"]) == expected(scores, data, groups, 3)
    assert [len(examples) for examples in subject.worst_rows["test"].values()] == [3, 3, 3, 3]


def test_a_row_is_among_the_worst_of_each_group_that_it_belongs_to(tmp_path):
    members = np.random.default_rng(8).random((37, 3)) < 0.4
    members[:, 2] = False  # a group without rows
    data = table(HELD_OUT, seed=5)
    for k, name in enumerate("abc"):
        data = data.add_column(name, members[:, k].tolist())
    subject = trainer(tmp_path, mlp(3), overlapping_columns=["a", "b", "c"])
    scores = subject.predict(data).predictions
    labels = np.array(data["label"][:])
    groups = {3 * y + a: (labels == y) & members[:, a] for y in (0, 1) for a in range(3)}
    assert plain(subject.worst_rows["test"]) == expected(scores, data, groups, 4)
    assert subject.worst_rows["test"][2] == [] and len(subject.worst_rows["test"][0]) == 4


def test_only_groups_that_tables_show_are_kept(tmp_path):
    counts = [[2] * 15] * 2
    subject = trainer(tmp_path, mlp(), table(counts), per_device_train_batch_size=60)
    subject.evaluate(table(counts, seed=4))
    kept = subject.worst_rows["eval"]
    accuracies = [group["accuracy"] for group in subject.group_results["eval"]["groups"]]
    left = [accuracy for i, accuracy in enumerate(accuracies) if i not in kept]
    assert len(kept) == 24 and max(accuracies[i] for i in kept) <= min(left)


class Backwards(GerneTrainer):
    def _get_eval_sampler(self, eval_dataset):
        return SequentialSampler(eval_dataset) if self.in_order else list(reversed(range(len(eval_dataset))))


def test_rows_in_another_order_are_not_mistaken_for_others(tmp_path):
    subject = trainer(tmp_path, cls=Backwards)
    for subject.in_order in (True, False):
        subject.evaluate(table(HELD_OUT, seed=5))
        assert bool(subject.worst_rows["eval"]) == subject.in_order


@pytest.mark.parametrize("k", [0, 1])
def test_without_examples_no_losses_are_computed(tmp_path, monkeypatch, k):
    given, add = [], GroupAccumulator.add

    def noted(self, *parts, **more):
        given.append(len(parts) + len(more))
        add(self, *parts, **more)

    monkeypatch.setattr(GroupAccumulator, "add", noted)
    subject = trainer(tmp_path, worst_examples=k)
    subject.evaluate(table(HELD_OUT), metric_key_prefix="test")
    assert given and set(given) == {4 if k else 3}  # labels, groups, predictions, and losses


def test_without_examples_nothing_is_saved(tmp_path):
    subject = trainer(tmp_path, worst_examples=0)
    subject.evaluate(table(HELD_OUT), metric_key_prefix="test")
    assert subject.worst_rows["test"] == {}
    assert subject.save_worst_examples(table(HELD_OUT)) is None and not (tmp_path / "_examples").exists()


@pytest.mark.parametrize("value", [-1, 2.0, True, "4"])
def test_numbers_of_examples_that_make_no_sense(tmp_path, value):
    with pytest.raises(ValueError, match=r"worst_examples.*whole number.*; found"):
        config(tmp_path, worst_examples=value)


# ---- what is saved --------------------------------------------------------------------------------------------------


def saved(folder):
    return json.loads((folder / "_examples" / "examples.json").read_text(encoding="utf-8"))


class Watched(Rows):
    """A test set that notes which rows are fetched."""

    def __init__(self, dataset):
        super().__init__(dataset)
        self.fetched = []

    def __getitem__(self, key):
        if not isinstance(key, str):
            self.fetched.append(int(key))
        return super().__getitem__(key)


def test_a_comparison_saves_those_of_its_main_run_and_reads_no_others_again(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gerne_hf.reports.plots", None)  # pictures take time
    train = table()
    texts = [f"row {i}" for i in range(37)]
    test = Watched(table(HELD_OUT, seed=5, text=texts, image_id=list(range(37))))
    made = {}

    def make_trainer(run, trainer_class):
        made[run.plan] = trainer_class(model_init=lambda: mlp(run.seed), args=run, train_dataset=train)
        return made[run.plan]

    compare(["erm", "independent"], config(tmp_path, worst_examples=2), make_trainer, test)
    found, worst = saved(tmp_path), made["independent"].worst_rows["test"]
    assert not list(tmp_path.glob("erm-*/_examples")) and not list(tmp_path.rglob("*.partial"))
    assert (found["evaluation"], found["step"], found["groups_left_out"]) == ("test", 2, 0)
    assert [(group["label"], group["attribute"]) for group in found["groups"]] == [
        (f"class{y}", str(a)) for y in (0, 1) for a in (0, 1)
    ]
    for i, group in enumerate(found["groups"]):
        assert group["count"] == HELD_OUT[i // 2][i % 2]
        assert group["examples"] == [{**example, "texts": [f"row {example['row']}"]} for example in worst[i]]
    again = {example["row"] for examples in worst.values() for example in examples}
    assert test.fetched[: 2 * 37] == 2 * list(range(37)) and sorted(test.fetched[2 * 37 :]) == sorted(again)


def test_an_image_is_saved_as_it_is_and_not_as_it_is_transformed(tmp_path):
    """Neither cropped nor normalized; and pictures of an earlier run go, other files stay."""
    pixels = np.random.default_rng(0).integers(0, 255, (37, 10, 12, 3), dtype=np.uint8)
    raw = table(HELD_OUT, seed=5)
    encoded = [Image().encode_example(Pictures.fromarray(picture)) for picture in pixels]
    data = raw.remove_columns(["inputs", "row"]).add_column("note", ["no text of a picture"] * 37)
    data = data.add_column("picture", encoded, feature=Image())

    def transform(rows):
        assert "picture" in rows
        return {"inputs": raw["inputs"][: len(rows["label"])], **{k: rows[k] for k in ("label", "place")}}

    subject = trainer(tmp_path, remove_unused_columns=False, train=data.with_transform(transform))
    folder = tmp_path / "_examples"
    folder.mkdir()
    for name in ("test-999.png", "test-3.jpg", "mine.txt"):
        (folder / name).write_text("old")
    subject.evaluate(data.with_transform(transform), metric_key_prefix="test")
    assert subject.save_worst_examples(data.with_transform(transform)) == str(folder / "examples.json")
    rows = {example["row"]: example for group in saved(tmp_path)["groups"] for example in group["examples"]}
    assert {path.name for path in folder.iterdir()} == {
        "examples.json",
        "mine.txt",
        *(f"test-{row}.png" for row in rows),
    }
    for row, example in rows.items():
        assert example["image"] == f"test-{row}.png" and "texts" not in example
        with Pictures.open(folder / example["image"]) as picture:
            assert (np.asarray(picture) == pixels[row]).all()


def test_an_image_without_its_column_is_that_of_the_pixels(tmp_path):
    """The transform of these rows takes 128 for 0 and halves the range; the processor says so."""
    data = images(HELD_OUT, seed=5).with_transform(decode_images)
    processor = ViTImageProcessor(
        size={"height": 16, "width": 16}, image_mean=[128 / 255] * 3, image_std=[128 / 255] * 3
    )
    subject = GerneTrainer(
        model=resnet(),
        args=config(tmp_path, remove_unused_columns=False, worst_examples=1),
        train_dataset=images().with_transform(decode_images),
        processing_class=processor,
    )
    subject.evaluate(data, metric_key_prefix="test")
    subject.save_worst_examples(data)
    for group in saved(tmp_path)["groups"]:
        (example,) = group["examples"]
        raw = np.frombuffer(images(HELD_OUT, seed=5)[example["row"]]["image"], np.uint8).reshape(16, 16, 1)
        with Pictures.open(tmp_path / "_examples" / example["image"]) as picture:
            assert (np.asarray(picture) == raw).all()


def test_texts_are_those_that_the_model_saw(tmp_path):
    tokenizer = word_tokenizer(["the cat sat", "a dog ran"], 12)
    pairs = [("the cat sat", "a dog ran"), ("a cat ran", "the dog")] * 8
    tokens = tokenizer([a for a, _ in pairs], [b for _, b in pairs], padding=True)
    ids = Dataset.from_dict({**tokens, "label": [0, 1] * 8, "place": [0, 0, 1, 1] * 4, "note": ["no"] * 16})
    subject = GerneTrainer(model=bert(), args=config(tmp_path), train_dataset=ids, processing_class=tokenizer)
    subject.evaluate(ids, metric_key_prefix="test")
    subject.save_worst_examples(ids)
    for group in saved(tmp_path)["groups"]:
        assert len(group["examples"]) == 4
        assert all(tuple(example["texts"]) == pairs[example["row"] % 2] for example in group["examples"])


def test_an_evaluation_that_never_was(tmp_path):
    with pytest.raises(ValueError, match=r"no evaluation 'test', only \['eval'\]; call trainer.evaluate"):
        subject = trainer(tmp_path)
        subject.evaluate(table(HELD_OUT))
        subject.save_worst_examples(table(HELD_OUT))


def test_the_trainer_pushes_neither_examples_nor_page():
    paths = ["_examples/examples.json", "_examples/test-1.png", REPORT_FILE, "config.json", "training.png"]
    assert list(filter_repo_objects(paths, ignore_patterns=list(NOT_PUSHED))) == ["config.json", "training.png"]
    for method in (Trainer.push_to_hub, Trainer._push_from_checkpoint):
        assert 'ignore_patterns=["_*",' in inspect.getsource(method)


# ---- texts and images -----------------------------------------------------------------------------------------------


def test_texts_without_special_and_masked_tokens():
    tokenizer = word_tokenizer(["one two three four"], 12)
    single, pair = tokenizer("one two", padding="max_length", max_length=8), tokenizer("one two", "three four")
    assert decode_texts(tokenizer, single["input_ids"], single["attention_mask"]) == ["one two"]
    assert decode_texts(tokenizer, torch.tensor(pair["input_ids"])) == ["one two", "three four"]
    masked = [*pair["attention_mask"][:-2], 0, 0]
    assert decode_texts(tokenizer, pair["input_ids"], masked) == ["one two", "three"]
    assert decode_texts(tokenizer, tokenizer("")["input_ids"]) == []
    long = decode_texts(tokenizer, 900 * tokenizer("three", add_special_tokens=False)["input_ids"])
    assert len(long[0]) == 2001 and long[0].endswith("…")


def test_pixels_are_brought_back():
    raw = np.random.default_rng(0).integers(0, 256, (3, 5, 4), dtype=np.uint8)
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.1]
    normalized = (raw / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    picture = image_of_pixels(torch.tensor(normalized, dtype=torch.float32), mean, std)
    assert (np.asarray(picture) == raw.transpose(1, 2, 0)).all()
    assert (np.asarray(image_of_pixels(raw / 255)) == raw.transpose(1, 2, 0)).all()
    stretched = np.asarray(image_of_pixels(np.array([[[-2.0, 0.0, 2.0]]])))
    assert stretched.tolist() == [[[0] * 3, [128] * 3, [255] * 3]]
    assert np.asarray(image_of_pixels(np.full((1, 2, 2), 7.0))).max() == 0  # nothing to stretch
    assert image_of_pixels(np.zeros((5, 4, 4))) is None and image_of_pixels(np.zeros(4)) is None


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK", "1", "I;16"])
def test_thumbnails_of_any_mode(tmp_path, mode):
    assert save_thumbnail(Pictures.new(mode, (20, 10)), str(tmp_path / "small")) == "small.png"
    assert save_thumbnail(Pictures.new(mode, (400, 800)), str(tmp_path / "large")) == "large.jpg"
    with Pictures.open(tmp_path / "small.png") as small, Pictures.open(tmp_path / "large.jpg") as large:
        assert (small.size, small.format) == ((20, 10), "PNG") and (large.size, large.format) == ((96, 192), "JPEG")


def test_a_thumbnail_does_not_say_where_the_picture_was_taken(tmp_path):
    exif = Pictures.Exif()
    exif[0x010F] = "SECRET CAMERA"
    Pictures.new("RGB", (300, 300)).save(tmp_path / "raw.jpg", exif=exif, comment=b"SECRET PLACE")
    assert (tmp_path / "raw.jpg").read_bytes().count(b"SECRET") == 2
    with Pictures.open(tmp_path / "raw.jpg") as picture:
        save_thumbnail(picture, str(tmp_path / "large"))
        save_thumbnail(picture.resize((20, 20)), str(tmp_path / "small"))
    assert b"SECRET" not in (tmp_path / "large.jpg").read_bytes() + (tmp_path / "small.png").read_bytes()


def test_columns_that_hold_neither_image_nor_text(tmp_path):
    features = Features({"inputs": [Value("float32")], "label": Value("int64"), "place": Value("string")})
    rows = {"inputs": [[0.5] * 6] * 8, "label": [0, 1] * 4, "place": ["sea", "sea", "land", "land"] * 2}
    data = Dataset.from_dict(rows, features=features)
    subject = trainer(tmp_path, train=data)
    subject.evaluate(data, metric_key_prefix="test")
    subject.save_worst_examples(data)
    keys = {key for group in saved(tmp_path)["groups"] for example in group["examples"] for key in example}
    assert keys == {"row", "prediction", "probability"}  # the attribute is no text
