"""Backbones are read once: models that are made of them later are as if they had been read anew."""

import shutil

import pytest
import torch
from helpers import table
from transformers import (
    AutoModelForImageClassification,
    BertConfig,
    BertForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)
from transformers.trainer_utils import SaveStrategy

from gerne_hf import GerneConfig
from gerne_hf.models import pretrained_image_models, pretrained_text_models
from gerne_hf.recipes import ImageArguments, image_backbone, image_trainer, run_recipe

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def vit(folder):
    ViTForImageClassification(ViTConfig(image_size=16, patch_size=8, num_labels=4, **SIZES)).save_pretrained(folder)
    return lambda: pretrained_image_models(str(folder), 16)


def timm(folder):
    from transformers import TimmWrapperConfig, TimmWrapperForImageClassification

    settings = {"input_size": [3, 32, 32], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    config = TimmWrapperConfig(architecture="test_efficientnet", pretrained_cfg=settings, num_labels=4)
    TimmWrapperForImageClassification(config).save_pretrained(folder)
    return lambda: pretrained_image_models(str(folder), 16)


def bert(folder):
    BertForSequenceClassification(BertConfig(vocab_size=9, num_labels=4, **SIZES)).save_pretrained(folder)

    def make():
        models = pretrained_text_models(str(folder), None, ["a", "b"])
        return lambda names: models()

    return make


def seeded(make_model, seed):
    torch.manual_seed(seed)
    return make_model(["a", "b"]), torch.rand(1).item()


@pytest.mark.parametrize("kind", [vit, timm, bert])
def test_a_second_model_needs_no_file_and_is_the_same(tmp_path, kind):
    make = kind(tmp_path / "backbone")
    anew = [seeded(make(), seed) for seed in (1, 2)]
    models = make()
    first, _ = seeded(models, 1)
    with torch.no_grad():
        for weight in first.parameters():  # the first one is trained
            weight.add_(1.0)
    first.config.id2label = {0: "other", 1: "names"}
    shutil.rmtree(tmp_path / "backbone")
    for seed, (expected, drawn) in zip((1, 2), anew, strict=True):
        model, drawn_next = seeded(models, seed)
        for (name, weight), (other, value) in zip(
            model.state_dict().items(), expected.state_dict().items(), strict=True
        ):
            assert name == other and torch.equal(weight, value) and weight.dtype == value.dtype, name
        assert drawn_next == drawn  # what is drawn afterwards is the same, too
        assert model.config.to_dict() == {**expected.config.to_dict(), "_name_or_path": model.config._name_or_path}
        assert model.training == expected.training
    heads = [dict(model.named_parameters()) for model, _ in anew]
    assert not all(torch.equal(weight, heads[1][name]) for name, weight in heads[0].items())  # fresh heads


@pytest.mark.parametrize("kind", [vit, timm, bert])
def test_a_model_that_is_trained_leaves_those_made_later_as_they_are(tmp_path, kind):
    make_model = kind(tmp_path / "backbone")()
    for _ in range(3):  # the first is read from the files, the others are made again
        model, _ = seeded(make_model, 1)
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        with torch.no_grad():
            for value in (*model.parameters(), *model.buffers()):
                value.add_(1)
        again, _ = seeded(make_model, 1)
        assert all(torch.equal(value, weights[name]) for name, value in again.state_dict().items())


@pytest.mark.parametrize("kind", [vit, timm, bert])
def test_every_model_knows_what_it_was_made_of(tmp_path, kind):
    """Cards name the base model."""
    make_model = kind(tmp_path / "backbone")()
    for _ in range(3):
        model = make_model(["a", "b"])
        assert model.config._name_or_path == model.name_or_path == str(tmp_path / "backbone")


def test_other_classes_are_another_head(tmp_path):
    models = vit(tmp_path / "backbone")()
    assert [models(names).classifier.out_features for names in (["a", "b"], ["a", "b", "c"])] == [2, 3]


def test_nothing_is_said_twice(tmp_path, capfd):
    models = vit(tmp_path / "backbone")()
    models(["a", "b"])
    capfd.readouterr()
    models(["a", "b"])
    assert capfd.readouterr() == ("", "")


def test_a_comparison_reads_a_backbone_once(tmp_path, monkeypatch, without_pictures):
    """Two runs, of which each makes its model twice: for the trainer, and when it trains."""
    vit(tmp_path / "backbone")
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "backbone")
    read, load = [], AutoModelForImageClassification.from_pretrained

    def counted(name, **more):
        read.append(name)
        return load(name, **more)

    monkeypatch.setattr(AutoModelForImageClassification, "from_pretrained", counted)
    monkeypatch.setattr("gerne_hf.reports.plots.plot_comparison", lambda *_: None)
    arguments = ImageArguments(model_name_or_path=str(tmp_path / "backbone"), compare="erm")
    rows = table([[6, 6], [6, 6]])
    pixels = torch.rand(len(rows), 3, 16, 16).tolist()
    data = rows.select_columns(["label", "place"]).add_column("pixel_values", pixels).with_format("torch")
    config = GerneConfig(output_dir=str(tmp_path / "out"), attribute_column="place", max_steps=1, use_cpu=True)
    config.per_device_train_batch_size, config.report_to, config.save_strategy = 8, [], SaveStrategy.NO
    make = image_trainer(arguments, image_backbone(arguments), {"train": data, "validation": data})
    results = run_recipe(arguments, config, make, data)
    assert [len(runs) for runs in results.values()] == [1, 1] and len(read) == 1
