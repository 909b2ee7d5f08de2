"""A backbone that is frozen but for its head: its features are computed once, and the whole model comes out."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from image_folders import image_folder
from PIL import Image
from places import ROOT, python_path
from transformers import (
    AutoModelForImageClassification,
    TimmWrapperConfig,
    TimmWrapperForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    pipeline,
)

import gerne_hf.data.features as features
from gerne_hf import GerneConfig
from gerne_hf.data import FeatureRows, demo_waterbirds, load_images
from gerne_hf.models import ImageBackbone, small_image_model
from gerne_hf.models.heads import head_inputs
from gerne_hf.recipes import ImageArguments, image_backbone, with_features

pytestmark = pytest.mark.usefixtures("own_cache", "without_pictures")
FROZEN = ("--frozen_layers", "all_but_head", "--freeze_batch_norm", "true", "--augment", "false")


@pytest.fixture(scope="module")
def recipe():
    path = ROOT / "recipes" / "image_classification.py"
    spec = importlib.util.spec_from_file_location("features_recipe", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def tiny_vit(folder):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    ViTForImageClassification(ViTConfig(image_size=16, patch_size=8, **sizes)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)


def tiny_timm(folder):
    torch.manual_seed(0)
    settings = {"input_size": [3, 16, 16], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    config = TimmWrapperConfig(architecture="test_efficientnet", pretrained_cfg=settings, num_labels=4)
    TimmWrapperForImageClassification(config).save_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frozen")
    tiny_timm(folder / "timm")
    tiny_vit(folder / "vit")
    image_folder(folder / "animals", {"train": 36, "validation": 12, "test": 12})
    return folder


@pytest.fixture
def places(folder):
    """A folder of images and one of a backbone, without BatchNorm."""
    return str(folder / "animals"), str(folder / "vit")


BOTH = pytest.mark.parametrize("kind", ["timm", pytest.param("vit", marks=pytest.mark.slow)])


def run(recipe, places, output, *more):
    arguments = [
        *("--dataset_name", places[0], "--label_column", "kind", "--attribute_column", "place", "--use_cpu"),
        *("--model_name_or_path", places[1], "--output_dir", str(output), "--momentum", "0.9", "--optim", "sgd"),
        *("--max_steps", "4", "--per_device_train_batch_size", "12", "--compare", "none", "--learning_rate", "0.05"),
        *("--save_strategy", "no", "--eval_strategy", "no", "--load_best_model_at_end", "false"),
        *("--dataloader_num_workers", "0", "--disable_tqdm", "true", *FROZEN),
    ]
    return recipe.main(*recipe.parse_arguments(recipe.Arguments, recipe.__file__, [*arguments, *more]))


def weights(folder):
    return AutoModelForImageClassification.from_pretrained(folder).eval()


@BOTH
def test_the_whole_model_is_that_of_the_slow_way(recipe, folder, kind, tmp_path, capsys):
    places = str(folder / "animals"), str(folder / kind)
    once = run(recipe, places, tmp_path / "once", "--worst_examples", "1")
    assert "Computed the features of 36 train rows once" in capsys.readouterr().out
    slow = run(recipe, places, tmp_path / "slow", "--cache_features", "false", "--worst_examples", "1")
    assert "features" not in capsys.readouterr().out
    for title, (result,) in once.items():
        assert result["groups"] == slow[title][0]["groups"] and result["step"] == 4
    models = [weights(tmp_path / name) for name in ("once", "slow")]
    state, expected = (model.state_dict() for model in models)
    before = weights(places[1]).state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(state[name], value, rtol=1e-4, atol=1e-5, msg=name)
        if "classifier" not in name:
            assert torch.equal(state[name], before[name]), name
    pixels = torch.randn(5, 3, 16, 16)
    with torch.no_grad():
        logits, wanted = (model(pixel_values=pixels).logits for model in models)
    torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-5)
    picture = Image.fromarray((np.random.default_rng(0).random((16, 16, 3)) * 255).astype(np.uint8))
    said, known = (
        pipeline("image-classification", model=str(tmp_path / name))(picture, top_k=3) for name in ("once", "slow")
    )
    assert [entry["label"] for entry in said] == [entry["label"] for entry in known]
    for name in ("once", "slow"):  # examples are the images, not their features
        found = json.loads((tmp_path / name / "_examples" / "examples.json").read_text())
        shown = [example["image"] for group in found["groups"] for example in group["examples"]]
        assert shown and all((tmp_path / name / "_examples" / file).is_file() for file in shown)
    cards = [(tmp_path / name / "README.md").read_text() for name in ("once", "slow")]
    code = [card[card.index("```python") :].split("```")[1] for card in cards]
    assert code[0].replace("once", "slow") == code[1]


def passes(monkeypatch):
    """Count passes over images."""
    done, write = [], features._write
    monkeypatch.setattr(features, "_write", lambda path, *more: (done.append(path), write(path, *more)))
    return done


def test_one_pass_for_all_methods_and_commands(recipe, places, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("gerne_hf.reports.plots.plot_comparison", lambda *_: None)
    done = passes(monkeypatch)
    results = run(recipe, places, tmp_path, "--compare", "erm", "--max_steps", "1")
    assert [len(runs) for runs in results.values()] == [1, 1] and len(done) == 3  # train, validation, test
    capsys.readouterr()
    again = run(recipe, places, tmp_path, "--compare", "none", "--seed", "3", "--max_steps", "1")
    assert len(done) == 3 and capsys.readouterr().out.count("were computed before") == 3
    assert list(again) == ["GERNE"]


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on(recipe, places, tmp_path):
    saved = ("--save_strategy", "steps", "--save_steps", "2")
    whole = run(recipe, places, tmp_path / "whole", *saved)
    run(recipe, places, tmp_path / "half", *saved)
    for name in ("model.safetensors", "comparison.json"):
        (tmp_path / "half" / name).unlink()
    shutil.rmtree(tmp_path / "half" / "checkpoint-4")
    went_on = run(recipe, places, tmp_path / "half", *saved, "--resume_from_checkpoint", "true")
    state, expected = (weights(tmp_path / name).state_dict() for name in ("half", "whole"))
    assert all(torch.equal(state[name], value) for name, value in expected.items())
    assert went_on["GERNE"][0]["groups"] == whole["GERNE"][0]["groups"]


ALL = "erm,class_balanced,square_root,resampling,reweighting,group_dro,dfr,jtt,shared,collapsed,independent"


@pytest.mark.slow
def test_all_methods_and_unknown_attributes(recipe, places, tmp_path, monkeypatch):
    done = passes(monkeypatch)
    given = ("--pseudo_attributes", "true", "--biased_folds", "2", "--worst_examples", "1", "--eval_strategy", "epoch")
    results = run(recipe, places, tmp_path, "--compare", ALL, "--seeds", "0,1", *given)
    assert [len(runs) for runs in results.values()] == [2] * 12 and len(done) == 3
    for name in ("README.md", "group_metrics.json", "inferred_groups.json"):  # people need no numbers of features
        found = [file.read_text() for file in tmp_path.rglob(name)]
        assert found and not any("_feature_row" in text for text in found)


@pytest.mark.slow
def test_processes_compute_their_parts(places, tmp_path):
    arguments = [
        *("--dataset_name", places[0], "--label_column", "kind", "--attribute_column", "place", "--use_cpu"),
        *("--model_name_or_path", places[1], "--per_device_train_batch_size", "6", "--max_steps", "2", *FROZEN),
        *("--compare", "none", "--save_strategy", "no", "--eval_strategy", "no", "--load_best_model_at_end", "false"),
        *("--dataloader_num_workers", "0", "--report_to", "none"),
    ]
    environment = {**os.environ, "PYTHONPATH": python_path(), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    tables = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        command += [str(ROOT / "recipes" / "image_classification.py"), *arguments, "--output_dir", str(out)]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
        assert ended.returncode == 0, ended.stderr[-4000:]
        assert ended.stdout.count("Computed the features of 36 train rows once") == 1
        kept = sorted((out / "_features").iterdir())
        kept = [place for place in kept if place.is_dir()]
        assert [len(list(place.iterdir())) for place in kept] == [processes] * 3
        tables.append({place.name: features._read(str(place)).rows[:] for place in kept})
    one, two = tables
    assert set(one) == set(two)  # the number of processes does not matter to a later command
    for name, table in one.items():
        assert table["label"] == two[name]["label"]
        np.testing.assert_allclose(table["pixel_values"], two[name]["pixel_values"], rtol=1e-4, atol=1e-5)


# ---- when features are not computed once ----------------------------------------------------------------------------


def asked(tmp_path, make_model=small_image_model, data=None, **settings):
    """What becomes of the rows, with a backbone of fixed weights."""

    def fixed(names):
        torch.manual_seed(0)
        return make_model(names)

    backbone = ImageBackbone(fixed, 32)
    data = data or demo_waterbirds(24, 8, 8)
    given = {"frozen_layers": ["all_but_head"], "freeze_batch_norm": True, **settings}
    config = GerneConfig(output_dir=str(tmp_path), use_cpu=True, disable_tqdm=True)
    return data, with_features(ImageArguments(**given), config, backbone, data)


def test_features_stand_for_the_rows(tmp_path):
    data, found = asked(tmp_path)
    assert set(found) == set(data)
    for name, rows in found.items():
        images = data[name]
        assert isinstance(rows, FeatureRows) and len(rows) == len(images)
        assert [rows[i]["label"] for i in range(len(rows))] == images.labels.tolist()
        assert (rows["place"] == images["place"]).all() and tuple(rows.column_names) == images.column_names
        assert rows[3]["pixel_values"].shape == (32,) and rows[3]["pixel_values"].dtype == torch.float32
    assert asked(tmp_path)[1]["train"].table.cache_files == found["train"].table.cache_files
    other = asked(tmp_path, data=demo_waterbirds(24, 8, 8, seed=1))[1]
    assert other["train"].table.cache_files != found["train"].table.cache_files
    assert not torch.equal(other["train"][0]["pixel_values"], found["train"][0]["pixel_values"])


def test_rows_that_are_features_need_no_workers(tmp_path):
    for given, workers in ((False, 0), (True, 1)):
        arguments = ImageArguments(frozen_layers=["all_but_head"], freeze_batch_norm=True)
        arguments.workers_given = given
        config = GerneConfig(output_dir=str(tmp_path), use_cpu=True, disable_tqdm=True, dataloader_num_workers=1)
        make = torch.random.fork_rng()(lambda names: (torch.manual_seed(0), small_image_model(names))[1])
        with_features(arguments, config, ImageBackbone(make, 32), demo_waterbirds(8, 4, 4))
        assert config.dataloader_num_workers == workers


def augmented():
    data = demo_waterbirds(24, 8, 8)
    data["train"].augment = True
    return data


def with_dropout(names):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    maps = {"id2label": dict(enumerate(names)), "hidden_dropout_prob": 0.5}
    return ViTForImageClassification(ViTConfig(image_size=32, patch_size=8, **sizes, **maps))


def test_selected_and_shuffled_rows_keep_their_features(recipe, places, tmp_path):
    data = load_images(places[0], "image", "kind", ["place"], 16, augment=False)
    data["train"] = data["train"].shuffle(seed=0).select([7, 3, 3, 30])
    arguments = ImageArguments(frozen_layers=["all_but_head"], freeze_batch_norm=True, model_name_or_path=places[1])
    config = GerneConfig(output_dir=str(tmp_path), use_cpu=True, disable_tqdm=True, label_column="kind")
    backbone = image_backbone(ImageArguments(model_name_or_path=places[1], image_size=16))
    train = with_features(arguments, config, backbone, {"train": data["train"]})["train"]
    model = backbone.make_model(["cat", "dog", "emu"]).eval()
    with torch.no_grad():
        expected = head_inputs(model, data["train"][:]["pixel_values"])[0]
    for order in ([0, 1, 2, 3], [3, 0]):
        found = [train.select(order)[i] for i in range(len(order))]
        torch.testing.assert_close(torch.stack([row["pixel_values"] for row in found]), expected[order])
        assert [row["label"] for row in found] == [data["train"][i]["label"] for i in order]


@pytest.mark.parametrize(
    "settings, reason",
    [
        (
            {"freeze_batch_norm": False},
            r"as \d+ BatchNorm layers \(resnet\..* --freeze_batch_norm true",
        ),
        ({"data": augmented}, "as training images are changed at random; --augment false"),
        ({"make_model": with_dropout}, "as layers before the head act otherwise in training, as dropout does"),
    ],
)
def test_it_is_said_once_why_features_change(tmp_path, capsys, settings, reason):
    settings = {name: value() if name == "data" else value for name, value in settings.items()}
    data, found = asked(tmp_path, **settings)
    assert found is data
    (line,) = capsys.readouterr().out.splitlines()
    assert re.search(reason, line), line


def test_a_backbone_that_differs_from_run_to_run_has_no_features(tmp_path, capsys):
    arguments = ImageArguments(frozen_layers=["all_but_head"], freeze_batch_norm=True)
    data, config = demo_waterbirds(24, 8, 8), GerneConfig(output_dir=str(tmp_path), use_cpu=True)
    assert with_features(arguments, config, ImageBackbone(small_image_model, 32), data) is data
    assert "as the backbone's weights are drawn at random for each run" in capsys.readouterr().out


@pytest.mark.parametrize("settings", [{"frozen_layers": ["resnet.embedder"]}, {"cache_features": False}])
def test_nothing_is_said_where_nothing_was_to_be_expected(tmp_path, capsys, settings):
    data, found = asked(tmp_path, **settings)
    assert found is data and capsys.readouterr().out == ""
