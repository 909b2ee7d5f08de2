"""What recipes leave on the Hub: the list in the documentation, of the main method alone, and a card at home."""

import json
import re
import subprocess
import sys
import time

import pytest
from huggingface_hub import ModelCard
from places import ROOT, SUPPORT

from gerne_hf.hub.contents import holds_weights
from gerne_hf.reports.naming import method_of_record

SCRIPT = str(SUPPORT / "published_recipes.py")
IMAGES = ("bffhq", "celeba", "colored_mnist", "corrupted_cifar10", "image_classification", "waterbirds")
TEXTS = ("civilcomments", "multinli", "text_classification")
STRATEGIES = ("end", "every_save", "checkpoint", "all_checkpoints")
QUICK = ["--demo", "--max_steps", "4", "--eval_strategy", "steps", "--eval_steps", "2", "--logging_steps", "1"]
QUICK += ["--save_strategy", "steps", "--save_steps", "2", "--use_cpu", "true", "--report_to", "none"]
QUICK += ["--load_best_model_at_end", "false", "--push_to_hub", "true"]
LISTED = re.findall(
    r"^\| (`[^|]+`) \| ([^|]+) \|$", (ROOT / "docs" / "how_to" / "hub.md").read_text(encoding="utf-8"), re.MULTILINE
)


def listed(wanted, recipe, *more):
    """The files that the README's list promises of a run; folders aside."""
    kinds = {"every run", "every run that logged a loss, with matplotlib", *more}
    kinds |= {"runs on images"} if recipe in IMAGES else {"runs on texts"}
    kinds |= {"`recipes/bffhq.py`"} if recipe == "bffhq" else set()
    return {name for files, of in LISTED if of in kinds for name in re.findall(r"`([^`]+)`", files)}


def publish(client, runs, check=True):
    """Each run is a name, a recipe and more arguments; its output folder and repository have the name."""
    specifications = [
        {
            "label": name,
            "recipe": recipe,
            "given": [*QUICK, "--output_dir", str(client.folder / name), "--hub_model_id", f"tester/{name}", *given],
        }
        for name, recipe, *given in runs
    ]
    path = client.folder / f"recipes_of_{runs[0][0]}.json"
    path.write_text(json.dumps(specifications))
    done = client.run([sys.executable, SCRIPT, str(path)], OMP_NUM_THREADS="1", timeout=900)
    outcomes = done.result
    if check:
        assert {name: outcome["error"] for name, outcome in outcomes.items()} == dict.fromkeys(outcomes)
    return outcomes


def look(client, name, recipe, *more, method="plan 'independent'"):
    """Check everything that holds of every repository that a recipe has pushed to; the files in it."""
    hub, folder = client.hub, client.folder / name
    files = hub.files(f"tester/{name}")
    at_root = {path for path in files if "/" not in path}
    assert at_root == listed(at_root, recipe, "recipes", *more)
    assert all(files[path].content == (folder / path).read_bytes() for path in at_root)
    card = ModelCard(files["README.md"].content.decode())
    assert f'model="tester/{name}"' in card.text and "## " in card.text
    record = json.loads(files["group_metrics.json"].content)
    assert "test" in record["evaluations"] and record["run"]["hub_id"] == f"tester/{name}"
    for commit in hub.repository(f"tester/{name}").history():  # no commit holds another method's model at the root
        if holds_weights(list(commit.files)):
            assert method_of_record(json.loads(commit.files["group_metrics.json"].content)) == method
            assert "README.md" in commit.files and "config.json" in commit.files
            assert not [path for path in commit.files if "/" not in path and path.endswith((".bin", ".pt", ".pth"))]
        assert not [path for path in commit.files if re.match(r"(erm|class_balanced|pseudo)[-_]|demo_images", path)]
    home = str(client.folder).encode()
    leaks = [path for path, blob in files.items() if home in blob.content and path.rsplit("/", 1)[-1] not in PLACES]
    assert not leaks
    return files


PLACES = ("training_args.bin", "trainer_state.json")
"""Of a checkpoint, that a run resumes from: these know where it lay."""


@pytest.fixture(scope="module")
def strategies(shared_client):
    runs = [(strategy, "colored_mnist", "--hub_strategy", strategy) for strategy in STRATEGIES]
    runs.append(("unknown", "colored_mnist", "--pseudo_attributes", "true", "--hub_strategy", "every_save"))
    return publish(shared_client, runs)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_strategy(shared_client, strategies, strategy):
    files = look(shared_client, strategy, "colored_mnist")
    folders = {path.split("/")[0] for path in files if "/" in path}
    expected = {"checkpoint": {"last-checkpoint"}, "all_checkpoints": {"checkpoint-2", "checkpoint-4"}}
    assert folders == expected.get(strategy, set())
    titles = [commit.title for commit in shared_client.hub.repository(f"tester/{strategy}").history()]
    assert titles[0] == "End of training" and titles[-1] == "initial commit"
    assert (len(titles) == 2) == (strategy == "end")
    results = json.loads(files["comparison.json"].content)
    assert [title for title, runs in results.items() if isinstance(runs, list)] == ["ERM", "GERNE"]
    card = files["README.md"].content.decode()
    assert "Colored MNIST, demo" in card and "license: apache-2.0" in card and "comparison.png" in card


def test_unknown_attributes_push_the_outcome_alone(shared_client, strategies):
    """Whether inferred groups help is known at the end, so nothing is pushed before."""
    hub = shared_client.hub
    folder = shared_client.folder / "unknown"
    record = json.loads((folder / "group_metrics.json").read_text())
    inferred = bool(record.get("pseudo_attributes"))
    titles = [commit.title for commit in hub.repository("tester/unknown").history()]
    assert titles == ["End of training", "initial commit"]
    files = hub.files("tester/unknown")
    assert {path: blob.content for path, blob in files.items()} == {
        path: (folder / path).read_bytes() for path in files
    }
    assert ("inferred_groups.json" in files) == inferred or not inferred
    assert not [path for path in files if "/" in path or path.endswith((".parquet", ".npz", ".bin"))]


# ---- killed ---------------------------------------------------------------------------------------------------------

PHASES = {
    "in ERM": ("=== ERM, seed 42", "end", 0),
    "in the main run": ("=== GERNE, seed 42", "every_save", 2),
    "in the last push": ("Test set,", "end", 0),
}
"""What is printed when a recipe is killed, its strategy, and the commits that are to be there by then."""


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_killed_in_any_phase(client, phase):
    """What is on the Hub is nothing, or the main method's model with its card."""
    printed, strategy, commits = PHASES[phase]
    hub, name = client.hub, "killed"
    if phase == "in the last push":
        hub.fault("/commit/", delay=60)
    given = [*QUICK, "--max_steps", "200000" if phase != "in the last push" else "2", "--hub_strategy", strategy]
    given += ["--eval_strategy", "no", "--output_dir", str(client.folder / name), "--hub_model_id", f"tester/{name}"]
    if phase == "in the main run":
        given += ["--method_settings", '{"erm": {"max_steps": 2}}']
    path = client.folder / "killed.json"
    path.write_text(json.dumps([{"recipe": "colored_mnist", "given": given}]))
    with open(client.folder / "out.txt", "wb") as out:
        environment = {**client.environment(), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen([sys.executable, SCRIPT, str(path)], env=environment, stdout=out, stderr=out)
    try:
        wait_until(lambda: printed in (client.folder / "out.txt").read_text(errors="replace"), process)
        wait_until(lambda: len(history(hub, name)) >= commits, process)
        if phase == "in the last push":
            wait_until(lambda: hub.seen("/commit/"), process)
    finally:
        process.kill()  # SIGKILL
        process.wait()
    made = history(hub, name)
    assert len(made) >= commits and (commits or not made)
    for commit in made:
        assert method_of_record(json.loads(commit.files["group_metrics.json"].content)) == "plan 'independent'"
        assert {"README.md", "model.safetensors"} <= set(commit.files)
        assert not [path for path in commit.files if "/" in path]


def history(hub, name):
    """The commits of a repository but for the first, which is empty."""
    repository = hub.repositories.get(("model", f"tester/{name}"))
    return [] if repository is None else repository.history()[:-1]


def wait_until(holds, process, seconds=120):
    end = time.monotonic() + seconds
    while not holds():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < end, "it did not come so far"
        time.sleep(0.02)


# ---- all recipes ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_recipe(client):
    """Each demo once, the strategies by turns."""
    names = [*IMAGES, *TEXTS]
    runs = [(name, name, "--hub_strategy", STRATEGIES[i % len(STRATEGIES)]) for i, name in enumerate(names)]
    publish(client, runs)
    for name in names:
        files = look(client, name, name)
        processor = "preprocessor_config.json" if name in IMAGES else "tokenizer.json"
        assert {processor, "comparison.png", "training.png"} <= set(files)
        assert ("minority_accuracy.json" in files) == (name == "bffhq")
    validate = (
        "from huggingface_hub import ModelCard; import sys; [ModelCard.load(r).validate() for r in sys.argv[1:]]"
    )
    client(validate, *(f"tester/{name}" for name in names))
