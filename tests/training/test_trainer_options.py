"""What people use with the stock Trainer works with GerneTrainer: precision, memory, compilation, PEFT, data sets."""

import numpy as np
import pytest
import torch
from helpers import (
    SKEWED,
    assert_same,
    bert,
    decode_images,
    first_batch,
    group_columns,
    images,
    mlp,
    resnet,
    sentences,
    step_gradient,
    table,
    trainer,
    watch_batches,
    weights,
)
from peft import LoraConfig, TaskType, get_peft_model
from transformers import HfArgumentParser

from gerne_hf import GerneConfig
from gerne_hf.groups.batches import GROUP_KEY

pytestmark = pytest.mark.usefixtures("without_pictures")
DOUBLE = torch.float64


def last_loss(subject):
    return [entry["loss"] for entry in subject.state.log_history if "loss" in entry][-1]


# ---- precision, memory, compilation -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["fused", "separate"])
def test_bf16(tmp_path, mode):
    losses = {}
    for bf16 in (False, True):
        model = mlp()
        types = set()
        model.second.register_forward_hook(lambda module, inputs, output, types=types: types.add(output.dtype))
        subject = trainer(tmp_path, model, forward_mode=mode, bf16=bf16, max_steps=5)
        subject.train()
        assert types == {torch.bfloat16 if bf16 else torch.float32}
        losses[bf16] = last_loss(subject)
    assert losses[True] == pytest.approx(losses[False], abs=0.05)


@pytest.mark.parametrize("mode", ["fused", "separate"])
def test_gradient_checkpointing(tmp_path, mode):
    finals = {}
    for checkpointing in (False, True):
        model = bert()
        subject = trainer(tmp_path, model, sentences(), forward_mode=mode, gradient_checkpointing=checkpointing)
        subject.train()
        assert model.is_gradient_checkpointing == checkpointing
        finals[checkpointing] = weights(model)
    assert_same(finals[True], finals[False], 1e-6)


@pytest.mark.parametrize("mode", ["fused", "separate"])
def test_auto_find_batch_size_moves_the_plan_along(tmp_path, mode):
    model = mlp()
    failed = []

    def fail_once(module, arguments, keywords):
        if not failed:
            failed.append(len(keywords["inputs"]))
            raise RuntimeError("CUDA out of memory. Tried to allocate 20 MiB")

    model.register_forward_pre_hook(fail_once, with_kwargs=True)
    subject = trainer(tmp_path, model, forward_mode=mode, auto_find_batch_size=True, max_steps=3, eval_dataset=table())
    batches = watch_batches(subject)
    subject.train()
    assert failed == [8 if mode == "fused" else 4]
    assert [len(batch["labels"]) for batch in batches] == [8, 7, 7, 7]  # int(0.9 * 8)
    assert [segment.rows for segment in subject.plan.segments] == [3, 4]
    assert subject.state.global_step == 3
    model._forward_pre_hooks.clear()
    assert "eval_worst_group_accuracy" in subject.evaluate()


def test_auto_find_batch_size_keeps_each_batch_laid_out_by_the_plan(tmp_path):
    """All rows of the first class in p_b's place would go unnoticed by the sizes alone."""
    model = mlp(dtype=DOUBLE)
    subject = trainer(tmp_path, model, auto_find_batch_size=True, per_device_train_batch_size=12, max_steps=4)
    step, calls = subject.training_step, []

    def fail_once(*arguments):
        calls.append(len(arguments[1]["labels"]))
        if len(calls) == 1:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20 MiB")
        labels = arguments[1]["labels"]
        # 10 rows: 5 and 5; systematic allotment gives each class 2 or 3 of 5
        assert [labels[rows].sum().item() in (2, 3) for rows in subject.plan.slices()] == [True, True]
        return step(*arguments)

    subject.training_step = fail_once
    subject.train()
    assert calls == [12, 10, 10, 10, 10]


@pytest.mark.parametrize("mode", ["fused", "separate"])
def test_torch_compile(tmp_path, monkeypatch, mode):
    compiled_like_eager(tmp_path, monkeypatch, mode, "eager")


@pytest.mark.slow
def test_torch_compile_by_inductor(tmp_path, monkeypatch):
    compiled_like_eager(tmp_path, monkeypatch, "fused", "inductor")


def compiled_like_eager(tmp_path, monkeypatch, mode, backend):
    for name in ("ACCELERATE_DYNAMO_BACKEND", "ACCELERATE_DYNAMO_MODE"):
        monkeypatch.setenv(name, "")  # restored after the test, whatever TrainingArguments sets
        monkeypatch.delenv(name)
    torch.compiler.reset()
    finals = {}
    for settings in ({}, {"torch_compile_backend": backend}):
        model = mlp()
        data = table()
        subject = trainer(tmp_path, model, data, forward_mode=mode, max_steps=3, eval_dataset=data, **settings)
        subject.train()
        assert (subject.model_wrapped is not subject.model) == bool(settings)
        finals[bool(settings)] = weights(model)
    assert_same(finals[True], finals[False], 1e-6)
    torch.compiler.reset()


def test_lora(tmp_path):
    base = bert(num_labels=2)
    setting = LoraConfig(task_type=TaskType.SEQ_CLS, r=2, target_modules=["query", "value"], lora_dropout=0.0)
    model = get_peft_model(base, setting)
    before = weights(model)
    data = sentences()
    evaluated = dict(eval_dataset=data, eval_strategy="epoch")
    subject = trainer(tmp_path, model, data, max_steps=3, learning_rate=1.0, **evaluated)
    subject.train()
    after = weights(model)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert changed == trainable and any("lora_" in name for name in changed)
    assert subject.group_results["eval"]["groups"]
    batch = first_batch(subject)
    separate = trainer(tmp_path, model, data, forward_mode="separate")
    assert_same(step_gradient(subject, batch), step_gradient(separate, batch), 1e-6)


# ---- data sets ----------------------------------------------------------------------------------------------------


def test_unused_columns_do_not_reach_the_model(tmp_path):
    data = table(text=[f"row {i}" for i in range(88)], weight=[0.5] * 88)
    subject = trainer(tmp_path, train=data, eval_dataset=data)
    batches = watch_batches(subject)
    subject.train()
    assert all(set(batch) == {"inputs", "labels", "row", GROUP_KEY} for batch in batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_group_ids_belong_to_their_rows(tmp_path, workers):
    data = table()
    subject = trainer(tmp_path, train=data, dataloader_num_workers=workers, max_steps=11, eval_dataset=data)
    batches = watch_batches(subject)
    subject.train()
    rows = torch.cat([batch["row"] for batch in batches]).numpy()
    label, place = np.array(data["label"])[rows], np.array(data["place"])[rows]
    assert len(rows) == 88
    assert np.array_equal(torch.cat([batch["labels"] for batch in batches]).numpy(), label)
    assert np.array_equal(torch.cat([batch[GROUP_KEY] for batch in batches]).numpy(), 2 * label + place)


def test_workers_do_not_change_the_training(tmp_path):
    finals = []
    for workers in (0, 2):
        model = mlp()
        trainer(tmp_path, model, dataloader_num_workers=workers, max_steps=15).train()
        finals.append(weights(model))
    assert_same(*finals)


@pytest.mark.parametrize("workers", [0, 2])
def test_images_by_with_transform(tmp_path, workers):
    data = images().with_transform(decode_images)
    settings = dict(remove_unused_columns=False, dataloader_num_workers=workers, eval_dataset=data)
    subject = trainer(tmp_path, resnet(), data, max_steps=20, logging_steps=10, learning_rate=0.02, **settings)
    subject.train()
    assert subject.evaluate()["eval_group_balanced_accuracy"] > 0.6


def test_with_transform_decodes_no_row_to_find_the_groups(tmp_path):
    decoded = []

    def transform(rows):
        decoded.append(len(rows["image"]))
        return decode_images(rows)

    data = images().with_transform(transform)
    subject = trainer(tmp_path, resnet(), data, remove_unused_columns=False, eval_dataset=data)
    assert subject.groups.counts.tolist() == SKEWED and not decoded
    subject.train()
    assert decoded


class Columns(torch.utils.data.Dataset):
    """A plain torch data set: an integer gives a row, a name gives a column."""

    column_names = ("inputs", "labels", "place")

    def __init__(self, counts=SKEWED, seed=0):
        self.labels, self.place = group_columns(counts, seed)
        self.inputs = np.random.default_rng(seed).normal(size=(len(self.labels), 6)).astype(np.float32)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, key):
        if isinstance(key, str):
            return getattr(self, key)
        return {"inputs": self.inputs[key], "labels": int(self.labels[key]), "place": int(self.place[key])}


@pytest.mark.parametrize("workers", [0, 2])
def test_plain_torch_data_set(tmp_path, workers):
    data = Columns()
    subject = trainer(tmp_path, train=data, eval_dataset=data, dataloader_num_workers=workers)
    batches = watch_batches(subject)
    subject.train()
    assert subject.groups.counts.tolist() == SKEWED
    assert set(batches[0]) == {"inputs", "labels", GROUP_KEY}
    assert subject.evaluate()["eval_group_count/0|0"] == 40


def test_two_attribute_columns_make_a_product(tmp_path):
    rng = np.random.default_rng(0)
    data = table(light=rng.permutation(["day", "night"] * 44).tolist())
    subject = trainer(tmp_path, train=data, attribute_column=["place", "light"], empty_groups="ignore")
    subject.train()
    assert subject.groups.attribute_names == ("0 & day", "0 & night", "1 & day", "1 & night")
    assert subject.groups.counts.sum() == 88 and subject.groups.counts.shape == (2, 4)


# ---- the command line ---------------------------------------------------------------------------------------------


def parse(*arguments):
    return HfArgumentParser(GerneConfig).parse_args_into_dataclasses(
        ["--output_dir", "unused", "--use_cpu", *arguments], look_for_args_file=False
    )[0]


def test_every_field_has_its_default_on_the_command_line():
    args = parse()
    assert (args.plan, args.c, args.beta, args.forward_mode) == ("independent", 0.5, 1.0, "auto")
    assert (args.empty_groups, args.beta_out_of_bounds, args.class_balanced) == ("error", "error", True)
    assert args.attribute_columns == () and args.label_column is None
    assert type(args.c) is float and type(args.beta) is float  # hyperparameter_search casts by these


def test_every_field_can_be_set_on_the_command_line():
    args = parse(
        *(
            "--attribute_column",
            "place",
            "--label_column",
            "bird",
            "--plan",
            "shared",
            "--c",
            "0.25",
            "--beta",
            "-0.5",
        ),
        *("--beta_out_of_bounds", "warn", "--empty_groups", "ignore", "--class_balanced", "False"),
        *("--forward_mode", "separate", "--per_device_train_batch_size", "10"),
    )
    assert args.attribute_columns == ("place",) and args.label_column == "bird"
    assert (args.plan, args.c, args.beta, args.forward_mode) == ("shared", 0.25, -0.5, "separate")
    assert (args.empty_groups, args.beta_out_of_bounds, args.class_balanced) == ("ignore", "warn", False)
    assert args.per_device_train_batch_size == 10


def test_several_attribute_columns_on_the_command_line():
    assert parse("--attribute_column", "place", "light").attribute_columns == ("place", "light")


def test_attribute_column_from_a_mapping():
    parser = HfArgumentParser(GerneConfig)
    plain = {"output_dir": "unused", "use_cpu": True}
    assert parser.parse_dict({**plain, "attribute_column": "place"})[0].attribute_columns == ("place",)
    assert parser.parse_dict({**plain, "attribute_column": ["a", "b"]})[0].attribute_columns == ("a", "b")


def test_an_unknown_choice_is_refused_on_the_command_line(capsys):
    with pytest.raises(SystemExit):
        parse("--plan", "gerne")
    assert "independent" in capsys.readouterr().err
