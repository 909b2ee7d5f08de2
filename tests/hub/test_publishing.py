"""What training pushes to the Hub loads from an empty cache as it was trained; pushes that fail are never silent."""

import json
import os
import re
import shlex
import sys
from pathlib import Path

import pytest
from endpoints import READ_TOKEN, WRITE_TOKEN
from published import LABELS
from server import ANY
from store import Repository

from gerne_hf.examples import EXAMPLES_FOLDER
from gerne_hf.report_page import REPORT_FILE

SCRIPT = str(Path(__file__).with_name("published.py"))
STRATEGIES = ("end", "every_save", "checkpoint", "all_checkpoints")
FAULTS = {
    "status401": dict(path="/commit/", status=401),
    "status403": dict(path=r"\.git/info/lfs/objects/batch", status=403),
    "status412": dict(path="/commit/", status=412),
    "status500": dict(path="/commit/", status=500),
    "cut": dict(path="/commit/", drop=True),
}
ROUND_TRIP = {"text-end": "text", "text-checkpoint": "text", "image": "image", "vit": "vit"}
PICTURED = ("text-end", "text-every_save", "image")

LOAD = """
import hashlib, json, pathlib, sys
from huggingface_hub import snapshot_download
from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification, pipeline
import gerne_hf.models
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


def train(client, runs, **options):
    return client.run([sys.executable, SCRIPT, json.dumps(runs)], OMP_NUM_THREADS="1", **options)


def titles(hub, name):
    return [commit.title for commit in hub.repository(f"tester/{name}").history()][:-1]


def report(files, folder=""):
    return json.loads(files[f"{folder}group_metrics.json"].content)


def hashes(files):
    return {path: blob.sha256 for path, blob in files.items()}


def push_again(client, message):
    """Run the commands that a message names, as a person would."""
    commands = re.findall(r"^\s*(hf upload .*)$", message, re.MULTILINE)
    for command in commands:
        client.run([sys.executable, "-m", "huggingface_hub.cli.hf", *shlex.split(command)[1:]])
    return len(commands)


def local(client, name, exclude=()):
    """Files of an output folder that belong to the root of the repository, none of which begins with an underscore."""
    folder = client.folder / name
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith("_")]
    return {path.name: path.read_bytes() for path in files if path.name not in exclude}


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
    needed = {"config.json", "group_metrics.json", "model.safetensors"}
    processor = (
        {"tokenizer.json", "tokenizer_config.json"} if name.startswith("text") else {"preprocessor_config.json"}
    )
    assert needed | processor <= set(files)
    assert not [path for path in files if path.startswith("pytorch_model") or path.endswith((".pkl", ".ckpt"))]
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


@pytest.fixture(scope="module")
def failed(shared_client):
    """Runs whose pushes fail, wait or go to places of their own."""
    hub, runs = shared_client.hub, []
    hub.repositories["model", "somebody/theirs"] = Repository("model", "somebody/theirs", private=False)
    for name, fault in FAULTS.items():
        hub.fault(f"tester/{name}.*{fault['path']}", fault.get("status"), drop=fault.get("drop", False), times=2)
        runs.append({"name": name, "kind": "text", "hub_strategy": "every_save"})
    hub.fault("tester/folders/commit/", 403, times=ANY)
    runs.append({"name": "folders", "kind": "text", "hub_strategy": "all_checkpoints"})
    hub.fault("tester/once/commit/", 503)
    runs.append({"name": "once", "kind": "text", "hub_strategy": "every_save"})
    hub.fault("tester/slow/commit/", delay=2.5)
    runs.append({"name": "slow", "kind": "text", "hub_strategy": "every_save"})
    hub.fault("tester/finish/commit/", 403, times=2)
    finish = {"name": "finish", "kind": "text", "hub_strategy": "end", "save_strategy": "no"}
    runs.append({**finish, "finish": "push"})
    runs.append({**finish, "finish": "future", "label": "future"})
    resumed = {"name": "status401", "kind": "text", "hub_strategy": "every_save", "resume": True}
    runs.append({**resumed, "max_steps": 3, "label": "resumed"})
    runs += [
        {"name": "read", "kind": "text", "hub_token": READ_TOKEN},
        {"name": "bad", "kind": "text", "hub_token": "hf_wrong"},
        {"name": "foreign", "kind": "text", "hub_model_id": "somebody/else"},
        {"name": "theirs", "kind": "text", "hub_model_id": "somebody/theirs"},
        {"name": "branch", "kind": "text", "hub_strategy": "every_save", "hub_revision": "trial"},
        {"name": "token", "kind": "text", "hub_strategy": "all_checkpoints", "hub_token": WRITE_TOKEN},
    ]
    hub.fault("tester/rotated/commit/", delay=0.5, times=ANY)
    rotated = {"name": "rotated", "kind": "text", "hub_strategy": "checkpoint", "save_total_limit": 1}
    runs.append({**rotated, "load_best_model_at_end": True, "max_steps": 3})
    return train(shared_client, [{**run, "pictures": False} for run in runs]).result


@pytest.mark.parametrize("name", FAULTS)
def test_a_failed_push_is_told_and_nothing_is_lost(shared_client, failed, name):
    outcome, hub = failed[name], shared_client.hub
    assert outcome["step"] == 2 and outcome["type"] == "PublishingError"
    assert len(outcome["warnings"]) == 2
    for warning, step in zip(outcome["warnings"], (1, 2), strict=True):
        assert f"Pushing the model of step {step} to the Hub FAILED" in warning
        assert str(shared_client.folder / name) in warning
    expected = FAULTS[name].get("status", "disconnect")
    assert f"tester/{name} on the Hub lacks\n- the model of step 2: " in outcome["error"]
    assert str(expected) in outcome["error"] or "reset" in outcome["error"] or "broken" in outcome["error"].lower()
    folder = shared_client.folder / name
    assert f"kept in {folder}" in outcome["error"] and WRITE_TOKEN not in outcome["error"]
    here = local(shared_client, name)
    assert {"model.safetensors", "config.json", "group_metrics.json", "tokenizer.json"} <= set(here)
    if name == "status401":
        return  # trained on by another test
    assert not hub.files(f"tester/{name}")
    assert push_again(shared_client, outcome["error"]) == 1
    assert {path: blob.content for path, blob in hub.files(f"tester/{name}").items()} == here


def test_a_second_run_pushes_what_is_missing(shared_client, failed):
    assert "error" not in failed["resumed"] and failed["resumed"]["step"] == 3
    files = shared_client.hub.files("tester/status401")
    assert report(files)["evaluations"]["eval"]["step"] == 3
    saved = shared_client.folder / "status401" / "checkpoint-3" / "model.safetensors"
    assert files["model.safetensors"].content == saved.read_bytes()


def test_each_missing_folder_is_named_with_its_command(shared_client, failed):
    outcome, hub = failed["folders"], shared_client.hub
    for part in ("the model of step 2", "checkpoint-1 of step 1", "checkpoint-2 of step 2"):
        assert f"- {part}: HfHubHTTPError" in outcome["error"]
    assert len(outcome["warnings"]) == 4 and not hub.files("tester/folders")
    hub.faults.clear()
    assert push_again(shared_client, outcome["error"]) == 3
    expected = {
        path.relative_to(shared_client.folder / "folders").as_posix(): path.read_bytes()
        for path in (shared_client.folder / "folders").rglob("*")
        if path.is_file()
    }
    assert {path: blob.content for path, blob in hub.files("tester/folders").items()} == expected


def test_a_later_push_makes_up_for_a_failed_one(shared_client, failed):
    outcome = failed["once"]
    assert "error" not in outcome and len(outcome["warnings"]) == 1
    assert titles(shared_client.hub, "once") == ["Training in progress, step 2"]


def test_the_last_checkpoint_is_pushed_though_the_one_before_is_on_its_way(shared_client, failed):
    """The stock Trainer leaves it out, and the Hub with an older model."""
    assert "error" not in failed["slow"] and not failed["slow"]["warnings"]
    assert len(titles(shared_client.hub, "slow")) == 2
    files = shared_client.hub.files("tester/slow")
    saved = shared_client.folder / "slow" / "checkpoint-2" / "model.safetensors"
    assert files["model.safetensors"].content == saved.read_bytes()


def test_push_to_hub_says_how_to_push_again(shared_client, failed):
    assert failed["finish"]["type"] == "HfHubHTTPError" and "403" in failed["finish"]["error"]
    assert failed["future"]["type"] == "PublishingError" and "403" in failed["future"]["error"]
    for name in ("finish", "future"):
        assert "hf upload tester/finish" in failed[name]["error"]
    assert push_again(shared_client, failed["finish"]["error"]) == 1
    files = shared_client.hub.files("tester/finish")
    assert {path: blob.content for path, blob in files.items()} == local(shared_client, "finish")
    assert "README.md" in files


@pytest.mark.parametrize("name, status", [("read", 403), ("bad", 401), ("foreign", 403), ("theirs", 403)])
def test_no_rights_is_told_before_training(failed, name, status):
    assert "step" not in failed[name] and str(status) in failed[name]["error"]
    assert "cannot be made or written to" in failed[name]["error"] and "HF_TOKEN" in failed[name]["error"]
    assert READ_TOKEN not in failed[name]["error"]


def test_a_revision_is_made(shared_client, failed):
    hub = shared_client.hub
    assert "error" not in failed["branch"] and not hub.files("tester/branch")
    assert "model.safetensors" in hub.files("tester/branch", revision="trial")


def test_no_token_is_published(shared_client, failed):
    assert "error" not in failed["token"]
    holding = [p for p, b in shared_client.hub.files("tester/token").items() if WRITE_TOKEN.encode() in b.content]
    assert not holding


def test_no_folder_is_deleted_on_its_way(shared_client, failed):
    assert "error" not in failed["rotated"] and not failed["rotated"]["warnings"]
    files = shared_client.hub.files("tester/rotated")
    assert {"last-checkpoint/optimizer.pt", "last-checkpoint/model.safetensors"} <= set(files)
    assert json.loads(files["last-checkpoint/trainer_state.json"].content)["global_step"] == 3
    assert len(titles(shared_client.hub, "rotated")) == 6


@pytest.mark.slow
def test_no_token(client):
    outcome = train(client, [{"name": "none", "kind": "text"}], token=None).result["none"]
    assert "step" not in outcome and "401" in outcome["error"] and "HF_TOKEN" in outcome["error"]


@pytest.mark.slow
def test_an_upload_that_breaks_again_and_again(client):
    """The client gives up after five repetitions of its own."""
    client.hub.fault(r"^/lfs-objects/", drop=True, times=ANY)
    run = {"name": "broken", "kind": "text", "hub_strategy": "checkpoint", "max_steps": 1}
    outcome = train(client, [run]).result["broken"]
    assert outcome["type"] == "PublishingError" and outcome["step"] == 1
    assert "Error while uploading" in outcome["error"] and "caused by" in outcome["error"]
    client.hub.faults.clear()
    assert push_again(client, outcome["error"]) == 2
    files = client.hub.files("tester/broken")
    saved = (client.folder / "broken" / "checkpoint-1" / "model.safetensors").read_bytes()
    assert files["model.safetensors"].content == files["last-checkpoint/model.safetensors"].content == saved


@pytest.mark.slow
def test_every_process_raises(client):
    """Else the others would wait for the main process in the next collective call."""
    client.hub.fault("/commit/", 403, times=ANY)
    run = {"name": "two", "kind": "text", "hub_strategy": "every_save", "per_device_train_batch_size": 4}
    # --multi_gpu starts both processes by torchrun, and use_cpu=True keeps them on the CPU.
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["--main_process_port", str(20000 + os.getpid() % 20000), SCRIPT, json.dumps([run])]
    done = client.run(command, OMP_NUM_THREADS="1")
    outcomes = [json.loads(line)["two"] for line in done.stdout.splitlines() if line.startswith('{"two"')]
    assert [outcome["type"] for outcome in outcomes] == ["PublishingError"] * 2
    assert all("hf upload tester/two" in outcome["error"] for outcome in outcomes)
