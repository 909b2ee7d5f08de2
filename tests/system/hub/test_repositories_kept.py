"""What is in a repository already: another method's model, an earlier checkpoint, another branch; on loopback."""

import base64
import json

import pytest
from pushes import local, report, titles, train
from store import Repository

from gerne_hf.reports.naming import method_of_record

CODE = """
import json
from huggingface_hub import snapshot_download
from card_code import run_code_of
from published import logits
folder = snapshot_download("tester/branched", revision="trial")
found = run_code_of(open(folder + "/README.md", encoding="utf-8").read())
print("\\n" + json.dumps(logits(found["classify"].model, "text")))
"""


@pytest.fixture(scope="module")
def kept(shared_client):
    hub = shared_client.hub
    strange = hub.repositories["model", "tester/strange"] = Repository("model", "tester/strange", private=False)
    weights = {"path": "model.safetensors", "content": base64.b64encode(b"weights").decode()}
    strange.commit("main", [{"value": {"summary": "mine"}}, {"key": "file", "value": weights}], {})
    text, end = {"kind": "text", "pictures": False}, {"hub_strategy": "end", "finish": "push"}
    runs = [
        {**text, "name": "first", "hub_strategy": "checkpoint"},
        {**text, "name": "first", **end, "label": "first again"},
        {**text, "name": "erm", **end, "plan": "erm"},
        {**text, "name": "gerne", **end, "hub_model_id": "tester/erm"},
        {**text, "name": "strange", **end},
        {**text, "name": "branched", "hub_revision": "trial", "hub_strategy": "every_save"},
        {**text, "name": "asked", **end, "hub_training_args": True},
        {**text, "name": "best", "hub_strategy": "every_save", "max_steps": 3, "load_best_model_at_end": True},
    ]
    runs[-1] |= {"metric_for_best_model": "loss", "greater_is_better": True, "learning_rate": 0.1}  # the first step
    outcomes = train(shared_client, runs).result
    outcomes["before"] = {path: blob.sha256 for path, blob in hub.files("tester/erm").items()}
    return outcomes


@pytest.fixture(scope="module")
def overwritten(shared_client, kept):
    text = {"kind": "text", "pictures": False, "hub_strategy": "end", "finish": "push", "hub_overwrite": True}
    runs = [{**text, "name": "gerne", "hub_model_id": "tester/erm"}, {**text, "name": "strange"}]
    return train(shared_client, [{**run, "label": run["name"]} for run in runs]).result


def test_an_earlier_last_checkpoint_is_removed(shared_client, kept):
    assert "error" not in kept["first"] and "error" not in kept["first again"]
    states = [c.files for c in shared_client.hub.repository("tester/first").history()]
    assert "last-checkpoint/optimizer.pt" in states[1] and not [path for path in states[0] if "/" in path]
    assert set(shared_client.hub.files("tester/first")) == set(local(shared_client, "first"))


@pytest.mark.parametrize("name, found", [("gerne", "plan 'erm', class-balanced"), ("strange", "nobody knows")])
def test_the_model_of_another_method_is_refused_with_both_names(shared_client, kept, name, found):
    outcome = kept[name]
    assert outcome["type"] == "ValueError" and "step" not in outcome
    assert found in outcome["error"] and "this run trains by plan 'independent'" in outcome["error"]
    assert "--hub_overwrite" in outcome["error"]


def test_nothing_was_changed(shared_client, kept):
    assert len(titles(shared_client.hub, "erm")) == len(titles(shared_client.hub, "strange")) == 1


def test_it_is_replaced_when_that_is_asked_for(shared_client, kept, overwritten):
    assert not [outcome["error"] for outcome in overwritten.values() if "error" in outcome]
    for name in ("erm", "strange"):
        files = shared_client.hub.files(f"tester/{name}")
        assert method_of_record(report(files)) == "plan 'independent'" and "README.md" in files
    assert shared_client.hub.files("tester/erm")["model.safetensors"].sha256 != kept["before"]["model.safetensors"]


def test_the_code_on_a_branch_names_the_branch(shared_client, kept):
    card = shared_client.hub.files("tester/branched", revision="trial")["README.md"].content.decode()
    assert 'model="tester/branched", revision="trial"' in card
    assert shared_client(CODE, OMP_NUM_THREADS="1").result == kept["branched"]["logits"]
    assert not shared_client.hub.files("tester/branched")


def test_training_args_are_published_when_that_is_asked_for(shared_client, kept):
    assert "error" not in kept["asked"] and "training_args.bin" in shared_client.hub.files("tester/asked")


def test_the_selected_model_is_the_one_on_the_hub(shared_client, kept):
    """The stock Trainer leaves the last one there."""
    assert "error" not in kept["best"]
    files, folder = shared_client.hub.files("tester/best"), shared_client.folder / "best"
    best = json.loads((folder / "checkpoint-3" / "trainer_state.json").read_text())["best_global_step"]
    assert best < 3 and titles(shared_client.hub, "best")[0] == f"Selected model of step {best}"
    assert files["model.safetensors"].content == (folder / f"checkpoint-{best}" / "model.safetensors").read_bytes()
    assert f"step {best}" in files["README.md"].content.decode()
