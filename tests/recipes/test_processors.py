"""Recipes of images save a processor that does to a picture what their loaders do, so that pipelines answer alike."""

import runpy

import numpy as np
import pytest
import torch
from PIL import Image
from places import ROOT
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline

from gerne_hf.data import demo_colored_mnist, demo_waterbirds
from gerne_hf.recipes import parse_arguments

DATA = {"colored_mnist": demo_colored_mnist, "waterbirds": demo_waterbirds}


def run(name, folder, *given):
    recipe = str(ROOT / "recipes" / f"{name}.py")
    more = ["--max_steps", "2", "--eval_strategy", "no", "--save_strategy", "no", "--load_best_model_at_end", "false"]
    quiet = ["--output_dir", str(folder), "--use_cpu", "true", "--report_to", "none", "--compare", "none"]
    module = runpy.run_path(recipe)
    known = module.get("Arguments")
    return module["main"](*parse_arguments(known, recipe, ["--demo", *more, *quiet, *given]))


def as_picture(name, row):
    """The image whose pixel values are in the row."""
    pixels = row["pixel_values"] if name == "colored_mnist" else row["pixel_values"] * 0.5 + 0.5
    return Image.fromarray((pixels * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy())


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("name", DATA)
def test_a_pipeline_answers_as_the_model_was_trained(tmp_path, name):
    run(name, tmp_path)
    row = DATA[name]()["test"][3]
    picture = as_picture(name, row)
    prepared = AutoImageProcessor.from_pretrained(tmp_path)(picture, return_tensors="pt")["pixel_values"][0]
    np.testing.assert_allclose(prepared, row["pixel_values"], atol=1 / 255 + 1e-6)
    model = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        expected = model(row["pixel_values"][None]).logits.softmax(-1)[0]
    answer = pipeline("image-classification", model=str(tmp_path))(picture, top_k=10)
    assert {entry["label"] for entry in answer} == set(model.config.id2label.values())
    for entry in answer:
        assert entry["score"] == pytest.approx(float(expected[model.config.label2id[entry["label"]]]), abs=5e-3)


def test_a_head_without_its_backbone_is_not_pushed(tmp_path):
    """Before any data is read, and before the Hub is asked."""
    with pytest.raises(ValueError, match="freeze_backbone=True .* without the backbone"):
        run("waterbirds", tmp_path, "--freeze_backbone", "true", "--push_to_hub", "true")
