"""A Hub that is busy, away or a mirror: runs begin and end all the same, and what they push arrives, on loopback."""

import pytest
from pushes import hashes, local, push_again, train
from server import ANY
from store import Repository

AUTH, COMMIT, CREATE = "/auth-check", "/commit/", "/api/repos/create"
STARTS = {
    "mirror": {"path": "(create|auth-check/write)$", "status": 404, "times": ANY},
    "busy": {"path": CREATE, "status": 429, "headers": {"Retry-After": "9"}},
    "fault": {"path": AUTH, "status": 500},
    "down": {"path": CREATE, "status": 503},
    "cut": {"path": CREATE, "drop": True},
}
"""What the Hub does to the first request of a run."""

ENDS = {
    "mirror": {"status": 409},
    "busy": {"status": 429, "headers": {"Retry-After": "2"}},
    "fault": {"status": 412},
    "down": {"status": 503},
    "cut": {"drop": True},
}
"""What it does to the pushes of both steps, and once more at the end."""


@pytest.fixture(scope="module")
def patient(shared_client):
    hub, every_save = shared_client.hub, {"kind": "text", "hub_strategy": "every_save", "pictures": False}
    runs = [
        {**every_save, "name": name, "faults": [start, {"path": COMMIT, "times": 3, **ENDS[name]}]}
        for name, start in STARTS.items()
    ]
    end = {"hub_strategy": "end", "save_strategy": "no", "finish": "push"}
    runs.append({**every_save, **end, "name": "last", "faults": [{"path": COMMIT, "status": 500, "times": 1}]})
    runs.append({**every_save, "name": "bare", "hub_model_id": "bare", "faults": [{"path": CREATE, "status": 500}]})
    gone = {**every_save, "name": "gone", "hub_patience": 0.5}
    runs.append({**gone, "faults": [{"path": "/api/", "drop": True, "times": ANY}]})
    hub.repositories["model", "tester/mirror"] = Repository("model", "tester/mirror", private=False)
    done = train(shared_client, runs).result
    hub.faults.clear()
    return done


@pytest.mark.parametrize("name", STARTS)
def test_a_run_begins_though_the_hub_does_not_answer(patient, name):
    outcome, status = patient[name], STARTS[name].get("status", "")
    assert "error" not in outcome and outcome["step"] == 2
    told = outcome["warnings"][0]
    assert ("HF_ENDPOINT must name the Hub itself" if name == "mirror" else "cannot be made ready now") in told
    assert str(status) in told or name == "mirror"
    assert "write access" not in " ".join(outcome["warnings"])
    assert name != "busy" or "wait 9 s" in told


@pytest.mark.parametrize("name", ENDS)
def test_the_last_push_waits_and_all_arrives(shared_client, patient, name):
    told = [warning for warning in patient[name]["warnings"] if "FAILED" in warning or "waits" in warning]
    assert [("FAILED" in warning, "waits" in warning) for warning in told] == [(1, 0), (1, 0), (0, 1)]
    seconds = 2 if name == "busy" else 1
    assert f"Pushing the model to tester/{name} on the Hub waits" in told[2]
    assert f"The next try is in {seconds} s" in told[2] and str(ENDS[name].get("status", "")) in told[2]
    here, files = local(shared_client, name), shared_client.hub.files(f"tester/{name}")
    assert {path: blob.content for path, blob in files.items()} == here


def test_push_to_hub_waits_too(shared_client, patient):
    outcome = patient["last"]
    [warning] = outcome["warnings"]
    assert "error" not in outcome and "Pushing the model to tester/last on the Hub waits" in warning
    assert "model.safetensors" in shared_client.hub.files("tester/last")


def test_the_owner_is_known_once_the_hub_has_answered(shared_client, patient):
    assert "error" not in patient["bare"]
    card = shared_client.hub.files("tester/bare")["README.md"].content.decode()
    assert 'model="tester/bare"' in card


def test_no_network_from_beginning_to_end(shared_client, patient):
    """Told at the start, at each step and at the end; the command makes the repository, too."""
    outcome, hub = patient["gone"], shared_client.hub
    assert outcome["type"] == "PublishingError" and outcome["step"] == 2
    assert "cannot be made ready now" in outcome["warnings"][0]
    assert sum("FAILED" in warning for warning in outcome["warnings"]) == 2
    assert "check the network" in outcome["error"] and "write access" not in outcome["error"]
    assert ("model", "tester/gone") not in hub.repositories
    assert push_again(shared_client, outcome["error"]) == 1
    files = hub.files("tester/gone")
    assert {path: blob.content for path, blob in files.items()} == local(shared_client, "gone")
    assert "README.md" in hashes(files)
