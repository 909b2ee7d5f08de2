"""The settings files that claim the paper's settings have those of its appendix F."""

import importlib
import sys

import pytest
import torch
import yaml
from places import ROOT

from gerne_hf.models import small_text_model, word_tokenizer
from gerne_hf.models.texts import pretrained_text_models
from gerne_hf.recipes import ImageArguments, parse_arguments

CONFIGS = ROOT / "recipes" / "configs"
SGD = {"momentum": 0.9, "weight_decay": 0.01, "max_grad_norm": 0}
PRETRAINED = {**SGD, "learning_rate": 1e-4, "augment": False}
TWO = {**PRETRAINED, "rows": 64, "c": 0.5, "image_size": 224, "model_name_or_path": "timm/resnet50.tv_in1k"}
PAPER = {
    "colored_mnist_paper": {**SGD, "learning_rate": 0.1, "rows": 2 * 100 * 100, "unknown rows": 2 * 100 * 20},
    "corrupted_cifar10": {**PRETRAINED, "rows": 2 * 100 * 100, "unknown rows": 2 * 100 * 20},
    "bffhq": {**PRETRAINED, "rows": 64},
    "waterbirds": {**TWO, "crop": "border"},
    "celeba": {**TWO, "crop": "center"},
    "civilcomments": {
        "learning_rate": 1e-5,
        "weight_decay": 1e-4,
        "c": 1.0,
        "max_length": 220,
        "rows": 2 * 5 * 16,
        "unknown rows": 2 * 16 * 4,
    },
}
"""By file: what appendix F says, with the rows of both batches together in a step."""


@pytest.mark.parametrize("name", PAPER)
def test_a_file_that_says_as_in_the_paper_is_as_in_the_paper(name):
    text = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")
    settings = yaml.safe_load(text)

    def rows(own):
        both = {**settings, **own}
        return both["per_device_train_batch_size"] * both.get("gradient_accumulation_steps", 1)

    wanted = dict(PAPER[name])
    assert rows({}) == wanted.pop("rows")
    if "unknown rows" in wanted:
        assert rows(settings["method_settings"]["pseudo"]) == wanted.pop("unknown rows")
    assert {key: settings.get(key) for key in wanted} == wanted
    comment = text.split("output_dir")[0].replace("\n# ", " ")
    assert "appendix F" in comment and "open by the paper and chosen here" in comment


def test_unknown_attributes_of_colored_mnist_have_a_tenth_of_the_rate():
    settings = yaml.safe_load((CONFIGS / "colored_mnist_paper.yaml").read_text(encoding="utf-8"))
    assert settings["method_settings"]["pseudo"]["learning_rate"] == pytest.approx(settings["learning_rate"] / 10)


@pytest.mark.parametrize("name", [path.stem for path in sorted(CONFIGS.glob("*.yaml"))])
def test_every_settings_file_has_known_settings_with_values_that_are_allowed(name, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    recipe = max(
        (path for path in (ROOT / "recipes").glob("*.py") if name.startswith(path.stem)), key=lambda p: len(p.stem)
    )
    module = importlib.import_module(recipe.stem)
    arguments_class = getattr(module, "Arguments", None) or getattr(module, "TextArguments", ImageArguments)
    arguments, config = parse_arguments(
        arguments_class, str(recipe), ["--config", str(CONFIGS / f"{name}.yaml"), "--output_dir", str(tmp_path)]
    )
    assert config.folder == str(tmp_path) and arguments.settings_by_method() is not None
    sys.modules.pop(recipe.stem, None)


def test_dropout_before_the_head_is_set_in_model_and_config(tmp_path):
    tokenizer = word_tokenizer(["a bird"])
    small_text_model(tokenizer, ["no", "yes"]).save_pretrained(tmp_path)
    make = pretrained_text_models(str(tmp_path), tokenizer, ["no", "yes"], 0.3)
    for model in (make(), make()):  # read from the files, and made again
        assert model.dropout.p == model.config.classifier_dropout == 0.3
    with pytest.raises(ValueError, match=r"classifier_dropout must be in \[0, 1\); found 1.5"):
        pretrained_text_models(str(tmp_path), tokenizer, ["no", "yes"], 1.5)


def test_dropout_that_a_model_does_not_have_is_refused():
    from gerne_hf.models.texts import _set_classifier_dropout

    model = small_text_model(word_tokenizer(["a bird"]), ["no", "yes"])
    model.dropout = torch.nn.Identity()
    with pytest.raises(ValueError, match="has no dropout of its own before the head. Leave it out"):
        _set_classifier_dropout(model, 0.1)
