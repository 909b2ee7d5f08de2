"""Checkpoints of timm models: what stands in them, and that training goes on from them."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from captured_logs import logged
from helpers import assert_same, decode_images, images, mlp, timm_resnet, trainer
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    BitImageProcessorPil,
    ViTImageProcessorPil,
)

from gerne_hf.data.images import as_pixels, normalize
from gerne_hf.models import timm_checkpoints
from gerne_hf.models.timm_checkpoints import (
    complete_checkpoint,
    complete_config,
    image_settings,
    is_timm,
    timm_processor,
)
from gerne_hf.reports.loading import loading_code

pytestmark = pytest.mark.usefixtures("without_pictures")
SIDE, MEAN, STD = 16, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
NAMES = {"id2label": {0: "land", 1: "water"}, "label2id": {"land": 0, "water": 1}}


def squeezing(**changes):
    size = {"height": SIDE, "width": SIDE}
    return ViTImageProcessorPil(**{"size": size, "image_mean": MEAN, "image_std": STD, "resample": 3, **changes})


def saved(folder, model, processor=None):
    """Save as the trainer does, and load by plain timm."""
    complete_config(model, processor)
    model.save_pretrained(folder)
    if processor is not None:
        processor.save_pretrained(folder)
    complete_checkpoint(str(folder), processor)
    network = timm.create_model(f"local-dir:{folder}").eval()
    timm.models.load_checkpoint(network, str(folder / "model.safetensors"))
    return network


def weights(folder):
    return load_file(folder / "model.safetensors")


def logits(model, pixels):
    with torch.no_grad():
        found = model.eval()(pixels)
    return getattr(found, "logits", found)


def subject(folder, **settings):
    train, evaluation = (images(side=SIDE, seed=seed).with_transform(decode_images) for seed in (0, 1))
    defaults = dict(remove_unused_columns=False, save_strategy="steps", save_steps=2, max_steps=4, eval_steps=2)
    processor = timm_processor(SIDE, MEAN, STD)
    settings = {**defaults, "eval_dataset": evaluation, "eval_strategy": "steps", **settings}
    return trainer(folder, timm_resnet(), train, processing_class=processor, **settings)


def test_training_goes_on_from_a_checkpoint_and_ends_with_the_best(tmp_path):
    whole = subject(tmp_path / "whole", load_best_model_at_end=True, metric_for_best_model="loss")
    whole.train()
    best, last = whole.state.best_model_checkpoint, whole.model.state_dict()
    assert_same({f"timm_model.{name}": value for name, value in weights(Path(best)).items()}, last)
    again = subject(tmp_path / "again")
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    first, second = (weights(tmp_path / name / "checkpoint-4") for name in ("whole", "again"))
    assert first.keys() == second.keys() == timm.create_model("test_resnet", num_classes=2).state_dict().keys()
    assert_same(first, second)
    assert not torch.equal(first["fc.weight"], weights(tmp_path / "whole" / "checkpoint-2")["fc.weight"])
    named = json.loads((tmp_path / "again" / "checkpoint-4" / "preprocessor_config.json").read_text())
    assert named["image_processor_type"] == "TimmWrapperImageProcessor"
    code = loading_code(whole.run_record(), whole.args.output_dir, "image-classification")
    found = {"timm": timm}
    whole.save_model()
    with contextlib.chdir(tmp_path):
        exec(code[code.index("network = ") :], found)
    assert_same(found["network"].state_dict(), weights(tmp_path / "whole"))
    assert list(found["settings"]["mean"]) == list(MEAN) and not found["network"].training


@pytest.mark.parametrize("architecture, side", [("test_resnet", SIDE), ("test_vit", 160), ("test_vit", 32)])
@pytest.mark.parametrize("processor", ["timm", "transformers"])
def test_all_load_the_same_network_and_prepare_images_like_the_loader(tmp_path, architecture, side, processor):
    own = {"model_args": {"img_size": side}} if side == 32 else {}
    model = timm_resnet(**NAMES) if architecture == "test_resnet" else timm_vit(**own)
    size = {"height": side, "width": side}
    made = timm_processor(side, MEAN, STD) if processor == "timm" else squeezing(size=size)
    plain = saved(tmp_path, model, made)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 23, 3), dtype=np.uint8))
    wanted = normalize(torch.from_numpy(as_pixels(picture, side)[None]), MEAN, STD)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(plain), is_training=False)
    again = AutoImageProcessor.from_pretrained(tmp_path)
    for prepared in (transform(picture)[None], again(picture)["pixel_values"]):
        torch.testing.assert_close(prepared, wanted, atol=1e-5, rtol=0)
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert loaded.config.id2label == NAMES["id2label"]
    assert logits(model, wanted).abs().max() > 1e-3
    assert_same_network(plain, model.timm_model, wanted)
    assert_same_network(loaded, model, wanted)


def assert_same_network(left, right, pixels):
    """Equal weights, and logits up to the last bits: convolutions add up by where in memory their weights lie."""
    assert_same(left.state_dict(), right.state_dict())
    torch.testing.assert_close(logits(left, pixels), logits(right, pixels), atol=1e-6, rtol=0)


def timm_vit(**config):
    from transformers import TimmWrapperConfig, TimmWrapperForImageClassification

    torch.manual_seed(0)
    return TimmWrapperForImageClassification(TimmWrapperConfig(architecture="test_vit", **NAMES, **config))


def test_a_checkpoint_of_a_checkpoint(tmp_path):
    """Fine-tuned from another data set's, whose settings would mislead those who load it."""
    base = {
        **{"hf_hub_filename": "other.bin", "label_offset": 1, "test_input_size": [3, 288, 288], "tag": "in1k"},
        **{"mean": [0.1] * 3, "std": [0.2] * 3, "input_size": [3, 48, 48], "interpolation": "bilinear"},
        **{"crop_pct": 0.9, "crop_mode": "center", "classifier": "fc", "num_classes": 1000},
    }
    model = timm_resnet(pretrained_cfg=base, label_names=["a", "b", "c"], label_descriptions={"a": "an a"}, **NAMES)
    plain = saved(tmp_path / "first", model)
    pixels = torch.rand(2, 3, 48, 48)
    assert_same_network(plain, model.timm_model, pixels)
    config = json.loads((tmp_path / "first" / "config.json").read_text())
    kept = ("mean", "std", "input_size", "interpolation", "crop_pct", "crop_mode", "classifier")
    expected = {**{name: base[name] for name in kept}, "fixed_input_size": False, "first_conv": "conv1.0"}
    assert config["pretrained_cfg"] == expected
    assert config["label_names"] == ["land", "water"] and "label_descriptions" not in config
    second = AutoModelForImageClassification.from_pretrained(tmp_path / "first")
    assert_same_network(saved(tmp_path / "second", second), model.timm_model, pixels)
    assert weights(tmp_path / "first").keys() == weights(tmp_path / "second").keys()


def test_an_interrupted_save_leaves_weights_that_load(tmp_path, monkeypatch):
    model = timm_resnet(**NAMES)
    complete_config(model)
    model.save_pretrained(tmp_path)

    def broken(*args, **kwargs):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(timm_checkpoints, "save_file", broken)
        with pytest.raises(OSError, match="No space"):
            complete_checkpoint(str(tmp_path))
    pixels = torch.rand(1, 3, SIDE, SIDE)
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert_same_network(loaded, model, pixels)
    complete_checkpoint(str(tmp_path))
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"} and not [name for name in file.keys() if "timm_model" in name]


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({}, {"mean": list(MEAN), "std": list(STD), "interpolation": "bicubic", "input_size": [3, SIDE, SIDE]}),
        ({"resample": 2}, {"interpolation": "bilinear", "crop_mode": "squash", "crop_pct": 1.0}),
        ({"do_normalize": False}, {"mean": [0.0] * 3, "std": [1.0] * 3}),
    ],
)
def test_settings_of_a_processor(changes, expected):
    found = image_settings(squeezing(**changes))
    assert expected.items() <= found.items()


@pytest.mark.parametrize(
    "processor",
    [
        squeezing(do_rescale=False),
        squeezing(rescale_factor=1 / 127.5),
        squeezing(do_resize=False),
        squeezing(size={"height": 8, "width": 9}),
        BitImageProcessorPil(),
    ],
    ids=["not rescaled", "other scale", "not resized", "no square", "crop"],
)
def test_a_processor_that_timm_cannot_express_is_told(processor):
    model = timm_resnet()
    with logged("gerne_hf.models.timm_checkpoints") as found:
        complete_config(model, processor)
    assert image_settings(processor) is None
    assert len(found) == 1 and type(processor).__name__ in found[0] and "test_resnet" in found[0]
    assert model.config.pretrained_cfg["crop_mode"] == "center"


def test_other_models_are_left_alone(tmp_path):
    assert is_timm(timm_resnet()) and not is_timm(mlp()) and not is_timm(torch.nn.Linear(1, 1))
    assert image_settings(None) is None
    complete_checkpoint(str(tmp_path))
    assert not list(tmp_path.iterdir())
