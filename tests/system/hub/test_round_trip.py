"""Trained, pushed, and loaded by everybody's means in a new process with an empty cache: the same logits."""

import hashlib
import json
import sys

import numpy as np
import pytest
from places import SUPPORT
from published import LABELS
from pushes import local

SCRIPT = str(SUPPORT / "published.py")
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
KINDS = ("text", "timm", "vit", "resnet")

LOAD = """
import hashlib, json, pathlib, sys
import numpy, torch
from huggingface_hub import ModelCard, snapshot_download
from PIL import Image
from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification, AutoTokenizer, pipeline
from card_code import run_code_of
from published import SIDE, logits, pictures
from gerne_hf.data.images import as_pixels, normalize

TEXT = "the duck on the sea"
picture = Image.fromarray(numpy.random.default_rng(7).integers(0, 256, (19, 13, 3), dtype=numpy.uint8))
pixels = normalize(torch.from_numpy(as_pixels(picture, SIDE)[None]), [0.5] * 3, [0.5] * 3)

def code_of_the_card(repo):
    card = ModelCard.load(repo)
    card.validate()
    return run_code_of(card.text)

def answer(scores):
    return [float(score) for score in scores.softmax(-1)[0]]

def piped(classify, value):
    scores = {entry["label"]: entry["score"] for entry in classify(value, top_k=None)}
    return [scores[name] for name in ("land", "water")]

def look(repo, kind):
    loaded = code_of_the_card(repo)
    auto = AutoModelForSequenceClassification if kind == "text" else AutoModelForImageClassification
    model = auto.from_pretrained(repo)
    found = {"auto": logits(model, kind), "pipeline": logits(loaded["classify"].model, kind)}
    found["answer"], found["told"] = loaded["answer"], loaded["told"]
    found["labels"] = [model.config.id2label[i] for i in range(model.config.num_labels)]
    with torch.no_grad():
        if kind == "text":
            inputs = AutoTokenizer.from_pretrained(repo)(TEXT, return_tensors="pt")
            found["answers"] = [piped(loaded["classify"], TEXT), answer(model(**inputs).logits)]
        else:
            found["answers"] = [piped(loaded["classify"], picture), answer(model(pixels).logits)]
        if kind == "timm":
            found["card"] = logits(loaded["model"], kind)
            found["timm"] = loaded["network"](pictures(1)[:]["pixel_values"]).tolist()
            found["answers"].append(answer(loaded["network"](loaded["transform"](picture)[None])))
            found["answers"].append(answer(loaded["model"].eval()(**loaded["processor"](picture)).logits))
            found["timm_labels"] = list(loaded["network"].pretrained_cfg["label_names"])
    folder = pathlib.Path(snapshot_download(repo))
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".gitattributes"]
    found["sha256"] = {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    return found

print("\\n" + json.dumps({kind: look("tester/" + kind, kind) for kind in json.loads(sys.argv[1])}))
"""


@pytest.fixture(scope="module")
def published(shared_client):
    runs = [{"name": kind, "kind": kind, "hub_strategy": "end", "finish": "push"} for kind in KINDS]
    runs = [{**run, "pictures": False, "load_best_model_at_end": run["kind"] == "timm"} for run in runs]
    return shared_client.run([sys.executable, SCRIPT, json.dumps(runs)], OMP_NUM_THREADS="1").result


@pytest.fixture(scope="module")
def loaded(shared_client, published):
    return shared_client(LOAD, json.dumps(list(published)), OMP_NUM_THREADS="1").result


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_of_loading_gives_the_logits_of_training(published, loaded, kind):
    outcome, back = published[kind], loaded[kind]
    assert "error" not in outcome and not outcome["warnings"]
    assert len({tuple(row) for row in outcome["logits"]}) > 1
    for way in ("auto", "pipeline", "timm", "card") if kind == "timm" else ("auto", "pipeline"):
        # Up to the last bits: how a convolution adds up depends on where in memory its weights lie.
        np.testing.assert_allclose(back[way], outcome["logits"], rtol=0, atol=1e-6, err_msg=way)
    assert back["labels"] == LABELS and back.get("timm_labels", LABELS) == LABELS


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_prepares_its_input_alike(loaded, kind):
    """On a text, and on an image of another size and shape, which the loader of the recipes prepares for comparison.
    Pipelines resize by torchvision, whose pixels are at times one of 255 levels from Pillow's; timm uses Pillow."""
    first, *others = loaded[kind]["answers"]
    assert len(others) == (3 if kind == "timm" else 1)
    for other in others:
        assert other == pytest.approx(first, abs=1e-6 if kind in ("text", "timm") else 5e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_card_tells_the_answer_that_its_reader_gets(loaded, kind):
    label, probability = loaded[kind]["told"]
    assert loaded[kind]["answer"]["label"] == label
    assert loaded[kind]["answer"]["score"] == pytest.approx(probability, abs=0.0101)


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_is_the_same_here_on_the_hub_and_loaded(shared_client, loaded, kind):
    here = {name: hashlib.sha256(content).hexdigest() for name, content in local(shared_client, kind).items()}
    on_hub = {path: blob.sha256 for path, blob in shared_client.hub.files(f"tester/{kind}").items()}
    assert here == on_hub == loaded[kind]["sha256"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_in_the_repository(shared_client, published, kind):
    files = shared_client.hub.files(f"tester/{kind}")
    processor = "tokenizer_config.json" if kind == "text" else "preprocessor_config.json"
    assert {"README.md", "config.json", "group_metrics.json", "model.safetensors", processor} <= set(files)
    assert not [path for path in files if path.endswith(PICKLES)]
    report = json.loads(files["group_metrics.json"].content)
    assert report["train_groups"] == {
        "label_names": LABELS,
        "attribute_names": ["0", "1"],
        "attribute_columns": ["place"],
        "counts": [[12, 4], [4, 12]],
    }
    method = report["method"]
    assert method["plan"] == "independent" and {"c", "beta", "beta_bounds", "rows_per_device"} <= set(method)
    assert [segment["rows"] for segment in method["segments"]] == [method["rows_per_device"] // 2] * 2
    groups = report["evaluations"]["eval"]["groups"]
    assert [group["train_count"] for group in groups] == [12, 4, 4, 12]
