"""The recipe for any data set of images in one command."""

import importlib.util
import sys

import numpy as np
import pytest
import torch
from image_folders import KINDS, PLACES, image_folder
from PIL import Image
from places import ROOT
from transformers import AutoModelForImageClassification, ViTConfig, ViTForImageClassification, ViTImageProcessor
from transformers import pipeline as make_pipeline

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def recipe():
    path = ROOT / "recipes" / "image_classification.py"
    spec = importlib.util.spec_from_file_location("image_recipe", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def tiny_vit(folder):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    ViTForImageClassification(ViTConfig(image_size=16, patch_size=8, **sizes)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 16, "width": 16}, image_mean=[0.1, 0.2, 0.3]).save_pretrained(folder)
    return str(folder)


def tiny_timm(folder):
    from transformers import TimmWrapperConfig, TimmWrapperForImageClassification

    torch.manual_seed(0)
    settings = {"input_size": [3, 16, 16], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    config = TimmWrapperConfig(architecture="test_efficientnet", pretrained_cfg=settings, num_labels=4)
    TimmWrapperForImageClassification(config).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("backbone", [tiny_vit, tiny_timm])
def test_an_image_folder_in_one_command(recipe, backbone, tmp_path, without_pictures):
    folder = image_folder(tmp_path / "animals")
    arguments = [
        *("--dataset_name", folder, "--label_column", "kind", "--attribute_column", "place"),
        *("--model_name_or_path", backbone(tmp_path / "model"), "--output_dir", str(tmp_path / "out"), "--use_cpu"),
        *("--max_steps", "2", "--per_device_train_batch_size", "12", "--compare", "none", "--save_strategy", "no"),
        *("--eval_strategy", "no", "--load_best_model_at_end", "false", "--dataloader_num_workers", "0"),
    ]
    results = recipe.main(*recipe.parse_arguments(recipe.Arguments, recipe.__file__, arguments))
    groups = results["GERNE"][0]["groups"]
    assert [(group["label"], group["attribute"]) for group in groups] == [(k, p) for k in KINDS for p in PLACES]
    assert all(group["count"] in (1, 2, 3) and group["train_count"] in (6, 7, 8) for group in groups)
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "out")
    assert model.config.id2label == dict(enumerate(KINDS))
    pixels = (np.random.default_rng(0).random((16, 16, 3)) * 255).astype(np.uint8)
    said = make_pipeline("image-classification", model=str(tmp_path / "out"))(Image.fromarray(pixels), top_k=3)
    mean, std = ([0.1, 0.2, 0.3], [0.5] * 3 if backbone is tiny_vit else [0.4, 0.5, 0.6])
    inputs = torch.tensor((pixels / 255 - mean) / std, dtype=torch.float32).permute(2, 0, 1)[None]
    shares = model.eval()(pixel_values=inputs).logits.softmax(dim=-1)[0]
    for answer in said:
        assert answer["score"] == pytest.approx(shares[KINDS.index(answer["label"])].item(), abs=1e-4)


def test_unknown_attributes_in_one_command(recipe, tmp_path, without_pictures):
    arguments = [
        *("--dataset_name", image_folder(tmp_path / "animals"), "--label_column", "kind", "--use_cpu"),
        *("--pseudo_attributes", "true", "--threshold", "0.3", "--model_name_or_path", tiny_vit(tmp_path / "model")),
        *("--output_dir", str(tmp_path / "out"), "--max_steps", "2", "--per_device_train_batch_size", "12"),
        *("--compare", "none", "--save_strategy", "no", "--load_best_model_at_end", "false", "--eval_strategy", "no"),
        *("--dataloader_num_workers", "0"),
    ]
    results = recipe.main(*recipe.parse_arguments(recipe.Arguments, recipe.__file__, arguments))
    assert list(results) == ["class-balanced", "GERNE, unknown attributes"]
    assert [group["label"] for group in results["GERNE, unknown attributes"][0]["groups"]] == KINDS


def test_the_columns_are_asked_for(recipe, tmp_path):
    arguments = [
        "--dataset_name",
        "x",
        "--output_dir",
        str(tmp_path),
        "--use_cpu",
        "--load_best_model_at_end",
        "false",
    ]
    with pytest.raises(SystemExit, match="--attribute_column .* or --pseudo_attributes true"):
        recipe.main(*recipe.parse_arguments(recipe.Arguments, recipe.__file__, arguments))
    with pytest.raises(SystemExit, match="--dataset_name"):
        recipe.main(*recipe.parse_arguments(recipe.Arguments, recipe.__file__, arguments[2:]))
