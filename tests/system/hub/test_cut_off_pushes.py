"""A run that is killed while it pushes, and resumed to its end: the Hub has what the whole run would have pushed."""

import json

import pytest
from pushes import train

KILLED = """
import json, os, signal, sys
from concurrent.futures import wait
import published
from transformers import TrainerCallback

class Kill(TrainerCallback):
    def on_train_end(self, args, state, control, **kwargs):
        wait(trainer.push_in_progress.jobs)  # the Hub refuses them: no half request, and nothing was told yet
        os.kill(os.getpid(), signal.SIGKILL)

published.plots.plot_training = lambda *args: None
for settings in json.loads(sys.argv[1]):
    if not os.fork():
        trainer = published.make("text", **settings)
        trainer.add_callback(Kill())
        trainer.train()
    os.wait()
"""

STRATEGIES = {"every_save": [""], "checkpoint": ["", "last-checkpoint/"], "all_checkpoints": ["", "checkpoint-2/"]}


@pytest.fixture(scope="module")
def resumed(shared_client):
    """Runs whose pushes came to nothing before they were killed, resumed to the end."""
    hub = shared_client.hub
    runs = [{"name": name, "hub_strategy": name, "max_steps": 2} for name in STRATEGIES]
    for run in runs:
        hub.fault(f"tester/{run['name']}/commit/", 403, times=4)
    shared_client(KILLED, json.dumps(runs), OMP_NUM_THREADS="1", check=False)
    assert not any(hub.files(f"tester/{name}") for name in STRATEGIES)
    assert all((shared_client.folder / name / "checkpoint-2" / "checkpoint.json").exists() for name in STRATEGIES)
    hub.faults.clear()
    more = {"kind": "text", "resume": True, "pictures": False}
    return train(shared_client, [{**run, **more} for run in runs]).result


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_was_cut_off_is_pushed_at_the_end(shared_client, resumed, strategy):
    assert "error" not in resumed[strategy] and resumed[strategy]["step"] == 2
    files = shared_client.hub.files(f"tester/{strategy}")
    saved = (shared_client.folder / strategy / "checkpoint-2" / "model.safetensors").read_bytes()
    for place in STRATEGIES[strategy]:
        assert files[f"{place}model.safetensors"].content == saved
    kept = json.loads((shared_client.folder / strategy / "_pushed.json").read_text())
    assert kept == {f"tester/{strategy}@main": {place.rstrip("/"): 2 for place in STRATEGIES[strategy]}}
    assert not any(path.startswith("_") for path in files)


def test_what_is_on_the_hub_is_not_pushed_again(shared_client, resumed):
    before = len(shared_client.hub.repository("tester/checkpoint").history())
    run = {"name": "checkpoint", "kind": "text", "hub_strategy": "checkpoint", "resume": True, "pictures": False}
    assert "error" not in train(shared_client, [run]).result["checkpoint"]
    assert len(shared_client.hub.repository("tester/checkpoint").history()) == before
