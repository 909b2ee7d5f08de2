"""Pushes that fail, wait or go elsewhere: told, and nothing lost, on a Hub on loopback."""

import json
import os
import sys

import pytest
from endpoints import READ_TOKEN, WRITE_TOKEN
from pushes import SCRIPT, local, push_again, report, titles, train
from server import ANY
from store import Repository

FAULTS = {
    "status401": dict(path="/commit/", status=401),
    "status403": dict(path=r"\.git/info/lfs/objects/batch", status=403),
    "route404": dict(path="/commit/", status=404),
    "status409": dict(path="/commit/", status=409),
    "status412": dict(path="/commit/", status=412),
    "status429": dict(path="/commit/", status=429, headers={"Retry-After": "3600"}),
    "status500": dict(path="/commit/", status=500),
    "status503": dict(path="/commit/", status=503),
    "cut": dict(path="/commit/", drop=True),
}
ADVICE = {
    "status401": "does not know the token",
    "status403": "may not write there. It needs a token with write access",
    "route404": "HF_ENDPOINT must name the Hub itself",
    "status409": "at the same time",
    "status412": "at the same time",
    "status429": "too many requests from here: wait 3600 s, as the Hub asks",
    "status500": "a fault of its own",
    "status503": "a fault of its own",
    "cut": "check the network and proxies",
}
"""What people are told to do; write access is the reason of 403 alone."""


@pytest.fixture(scope="module")
def failed(shared_client):
    """Runs whose pushes fail, wait or go to places of their own."""
    hub, runs = shared_client.hub, []
    hub.repositories["model", "somebody/theirs"] = Repository("model", "somebody/theirs", private=False)
    every_save, always = {"kind": "text", "hub_strategy": "every_save"}, {"times": ANY}
    for name, fault in FAULTS.items():
        faults = [{**fault, **always, "path": f"tester/{name}.*{fault['path']}"}]
        runs.append({**every_save, "name": name, "hub_patience": 0, "faults": faults})
    folders = {"name": "folders", "kind": "text", "hub_strategy": "all_checkpoints"}
    runs.append({**folders, "faults": [{"path": "tester/folders/commit/", "status": 403, **always}]})
    runs.append({**every_save, "name": "once", "faults": [{"path": "/commit/", "status": 503}]})
    runs.append({**every_save, "name": "slow", "faults": [{"path": "/commit/", "delay": 2.5}]})
    finish = {"name": "finish", "kind": "text", "hub_strategy": "end", "save_strategy": "no"}
    runs.append({**finish, "finish": "push", "faults": [{"path": "/commit/", "status": 403, **always}]})
    runs.append({**finish, "finish": "future", "label": "future"})
    runs.append({**every_save, "name": "status401", "resume": True, "max_steps": 3, "label": "resumed", "faults": []})
    runs += [
        {"name": "read", "kind": "text", "hub_token": READ_TOKEN},
        {"name": "bad", "kind": "text", "hub_token": "hf_wrong"},
        {"name": "foreign", "kind": "text", "hub_model_id": "somebody/else"},
        {"name": "theirs", "kind": "text", "hub_model_id": "somebody/theirs"},
        {**every_save, "name": "branch", "hub_revision": "trial"},
        {"name": "token", "kind": "text", "hub_strategy": "all_checkpoints", "hub_token": WRITE_TOKEN},
    ]
    rotated = {"name": "rotated", "kind": "text", "hub_strategy": "checkpoint", "save_total_limit": 1}
    rotated |= {"load_best_model_at_end": True, "max_steps": 3}
    runs.append({**rotated, "faults": [{"path": "tester/rotated/commit/", "delay": 0.5, **always}]})
    done = train(shared_client, [{**run, "pictures": False} for run in runs]).result
    hub.faults.clear()
    return done


@pytest.mark.parametrize("name", FAULTS)
def test_a_failed_push_is_told_and_nothing_is_lost(shared_client, failed, name):
    outcome, hub = failed[name], shared_client.hub
    assert outcome["step"] == 2 and outcome["type"] == "PublishingError"
    assert len(outcome["warnings"]) == 2
    for warning, step in zip(outcome["warnings"], (1, 2), strict=True):
        assert f"Pushing the model of step {step} to the Hub FAILED" in warning
        assert str(shared_client.folder / name) in warning
    for said in (*outcome["warnings"], outcome["error"]):
        assert ADVICE[name] in said and ("write access" in said) == (name == "status403")
    expected = FAULTS[name].get("status", "disconnect")
    assert f"tester/{name} on the Hub lacks\n- the model of step 2: " in outcome["error"]
    assert str(expected) in outcome["error"] or "reset" in outcome["error"] or "broken" in outcome["error"].lower()
    folder = shared_client.folder / name
    assert f"kept in {folder}" in outcome["error"] and WRITE_TOKEN not in outcome["error"]
    here = local(shared_client, name)
    assert {"README.md", "model.safetensors", "config.json", "group_metrics.json", "tokenizer.json"} <= set(here)
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
    assert push_again(shared_client, outcome["error"]) == 3
    expected = {
        path.relative_to(shared_client.folder / "folders").as_posix(): path.read_bytes()
        for path in (shared_client.folder / "folders").rglob("*")
        if path.is_file() and path.parent.name + path.name != "folderstraining_args.bin"
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
    done = [title for title in titles(shared_client.hub, "rotated") if "Selected model" not in title]
    assert len(done) == 6


@pytest.mark.slow
def test_no_token(client):
    outcome = train(client, [{"name": "none", "kind": "text"}], token=None).result["none"]
    assert "step" not in outcome and "401" in outcome["error"] and "HF_TOKEN" in outcome["error"]


@pytest.mark.slow
def test_an_upload_that_breaks_again_and_again(client):
    """The client gives up after five repetitions of its own."""
    client.hub.fault(r"^/lfs-objects/", drop=True, times=ANY)
    run = {"name": "broken", "kind": "text", "hub_strategy": "checkpoint", "max_steps": 1}
    outcome = train(client, [{**run, "hub_patience": 0}]).result["broken"]
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
