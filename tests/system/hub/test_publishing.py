"""What training pushes to the Hub loads from an empty cache as it was trained, and nothing else travels."""

import json

import pytest
from published import LABELS
from pushes import hashes, local, report, titles, train

from gerne_hf.reports.examples import EXAMPLES_FOLDER
from gerne_hf.reports.page import REPORT_FILE

STRATEGIES = ("end", "every_save", "checkpoint", "all_checkpoints")
ROUND_TRIP = {"text-end": "text", "text-checkpoint": "text", "image": "image", "vit": "vit"}
PICTURED = ("text-end", "text-every_save", "image")

LOAD = """
import hashlib, json, pathlib, sys
from huggingface_hub import snapshot_download
from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification, pipeline
import gerne_hf.models.mlp
from published import logits
found = {}
for name, kind in json.loads(sys.argv[1]).items():
    repo = "tester/" + name
    auto = AutoModelForSequenceClassification if kind == "text" else AutoModelForImageClassification
    task = "text-classification" if kind == "text" else "image-classification"
    model = auto.from_pretrained(repo)
    classify = pipeline(task, model=repo)
    if kind == "text":
        answer = classify("the duck on the sea", top_k=None)
    else:
        from PIL import Image
        answer = classify(Image.new("RGB", (8, 8), (200, 0, 0)))
    folder = pathlib.Path(snapshot_download(repo))
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != ".gitattributes"]
    found[name] = {
        "logits": logits(model, kind), "piped": logits(classify.model, kind),
        "answer": sorted(entry["label"] for entry in answer),
        "sha256": {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files},
    }
print("\\n" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def published(shared_client):
    runs = [
        {"name": f"text-{strategy}", "kind": "text", "hub_strategy": strategy, "finish": "push" * (strategy == "end")}
        for strategy in STRATEGIES
    ]
    runs += [{"name": kind, "kind": kind, "hub_strategy": "end", "finish": "push"} for kind in ("image", "vit")]
    for run in runs:  # a page and the rows that it shows, as `gerne-report` and the recipes leave them
        folder = shared_client.folder / run["name"] / EXAMPLES_FOLDER
        folder.mkdir(parents=True)
        for path in (folder / "test.json", folder.parent / REPORT_FILE):
            path.write_text("somebody's data")
    return train(shared_client, [{**run, "pictures": run["name"] in PICTURED} for run in runs]).result


@pytest.fixture(scope="module")
def loaded(shared_client, published):
    return shared_client(LOAD, json.dumps(ROUND_TRIP), OMP_NUM_THREADS="1").result


@pytest.mark.parametrize("name", ROUND_TRIP)
def test_round_trip(shared_client, published, loaded, name):
    outcome, back = published[name], loaded[name]
    assert "error" not in outcome and outcome["step"] == 2 and not outcome["warnings"]
    assert back["logits"] == back["piped"] == outcome["logits"]
    assert back["sha256"] == hashes(shared_client.hub.files(f"tester/{name}"))
    assert back["answer"] == LABELS
    here = local(shared_client, name)
    files = shared_client.hub.files(f"tester/{name}")
    assert all(files[path].content == content for path, content in here.items() if name != "text-checkpoint")


@pytest.mark.parametrize("name", [*ROUND_TRIP, "text-every_save", "text-all_checkpoints"])
def test_what_travels(shared_client, published, name):
    files = shared_client.hub.files(f"tester/{name}")
    needed = {"README.md", "config.json", "group_metrics.json", "model.safetensors"}
    processor = (
        {"tokenizer.json", "tokenizer_config.json"} if name.startswith("text") else {"preprocessor_config.json"}
    )
    assert needed | processor <= set(files)
    assert not [path for path in files if path.startswith("pytorch_model") or path.endswith((".pkl", ".ckpt"))]
    assert files["README.md"].content == local(shared_client, name)["README.md"]
    assert not [path for path in files if "/" not in path and path.endswith((".bin", ".pt", ".pth", "_state.json"))]
    assert json.loads(files["config.json"].content)["id2label"] == {str(i): text for i, text in enumerate(LABELS)}
    metrics = report(files)
    assert metrics["train_groups"]["counts"] == [[12, 4], [4, 12]] and metrics["method"]["plan"] == "independent"
    assert metrics["evaluations"]["eval"]["step"] == 2
    assert name not in PICTURED or files["training.png"].content.startswith(b"\x89PNG")


@pytest.mark.parametrize("name", [*ROUND_TRIP, "text-every_save", "text-all_checkpoints"])
def test_rows_of_the_data_stay_at_home(shared_client, published, name):
    """Neither the worst examples of the groups nor the page that shows them is pushed."""
    assert (shared_client.folder / name / REPORT_FILE).exists()
    files = shared_client.hub.files(f"tester/{name}")
    assert not [path for path, blob in files.items() if "/_" in f"/{path}" or b"somebody's data" in blob.content]


def test_strategies(shared_client, published):
    hub = shared_client.hub
    assert titles(hub, "text-end") == ["End of training"]
    steps = ["Training in progress, step 2", "Training in progress, step 1"]
    assert titles(hub, "text-every_save") in (steps, steps[:1] * 2, steps[:1])
    folders = {name: {path.split("/")[0] for path in hub.files(f"tester/{name}") if "/" in path} for name in published}
    assert folders["text-end"] == folders["text-every_save"] == set()
    assert folders["text-checkpoint"] == {"last-checkpoint"}
    assert folders["text-all_checkpoints"] == {"checkpoint-1", "checkpoint-2"}
    files = hub.files("tester/text-all_checkpoints")
    for step in (1, 2):
        assert report(files, f"checkpoint-{step}/")["evaluations"]["eval"]["step"] == step
        assert {f"checkpoint-{step}/optimizer.pt", f"checkpoint-{step}/trainer_state.json"} <= set(files)
    assert files["model.safetensors"].sha256 == files["checkpoint-2/model.safetensors"].sha256
    assert files["model.safetensors"].sha256 != files["checkpoint-1/model.safetensors"].sha256
