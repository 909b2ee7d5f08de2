"""The recipes as a person runs them: `accelerate launch recipes/NAME.py`, in processes of their own, offline."""

import json
import os
import re
import subprocess
import sys
import time

import pytest
from huggingface_hub import ModelCard
from PIL import Image
from places import ROOT, python_path
from server import Hub

from gerne_hf.data.colored_mnist import COLOURS as DIGIT_COLOURS
from gerne_hf.data.multinli import ATTRIBUTES, LABELS
from gerne_hf.data.waterbirds import LABELS as BIRDS
from gerne_hf.data.waterbirds import PLACES

GROUPS = {
    "multinli": [f"({label}, {attribute})" for label in LABELS for attribute in ATTRIBUTES],
    "waterbirds": [f"({bird}, {place})" for bird in BIRDS for place in PLACES],
    "colored_mnist": [f"({digit}, {colour})" for digit in range(10) for colour in sorted(DIGIT_COLOURS)],
}


def launch(tmp_path, name, *arguments, timeout=280):
    """Run a recipe; its standard output. A failure shows what it printed."""
    environment = {
        **os.environ,
        "PYTHONPATH": python_path(),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--cpu"]
    command += [str(ROOT / "recipes" / f"{name}.py"), *map(str, arguments)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=timeout
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def final_table(printed):
    """The last table of the print-out as {first cell: [other cells]}."""
    lines = printed[printed.index("Test set,") :].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {row[0]: row[1:] for row in rows}


def check_files(output, erm, main="independent"):
    """Everything that a comparison of ERM and a plan leaves behind; its results."""
    assert (output / "model.safetensors").is_file() and (output / "config.json").is_file()
    for folder, plan in ((output, main), (output / erm, "erm")):
        report = json.loads((folder / "group_metrics.json").read_text(encoding="utf-8"))
        assert report["method"]["plan"] == plan and {"eval", "test"} <= set(report["evaluations"])
    for picture in (output / "comparison.png", output / "training.png", output / erm / "training.png"):
        with Image.open(picture) as image:
            assert image.format == "PNG"
    saved = json.loads((output / "comparison.json").read_text(encoding="utf-8"))
    assert saved["ranking"]["said"]
    return {title: runs for title, runs in saved.items() if isinstance(runs, list)}


SHORT = ("--demo", "--max_steps", 4, "--compare", "erm", "--eval_strategy", "no", "--save_strategy", "no")
SHORT += ("--load_best_model_at_end", "false")


@pytest.mark.parametrize("name, most", [("multinli", 24), ("colored_mnist", 24), ("waterbirds", 24)])
def test_a_short_demo(tmp_path, name, most):
    printed = launch(tmp_path, name, *SHORT, "--output_dir", tmp_path / "out")
    results = check_files(tmp_path / "out", "erm-seed42")
    assert list(results) == ["ERM", "GERNE"]
    assert printed.count("=== ERM, seed 42") == 1 and printed.count("=== GERNE, seed 42") == 1
    assert "Methods, ranked by " in printed and printed.count(": run ") == 2 and "{'loss'" not in printed

    table = final_table(printed)
    assert table["accuracy, %"] == ["ERM", "GERNE"]
    for row, key in (
        ("average", "accuracy"),
        ("group-balanced", "group_balanced_accuracy"),
        ("worst group", "worst_group_accuracy"),
    ):
        assert table[row] == [f"{100 * runs[0][key]:.1f}" for runs in results.values()]
    groups = results["GERNE"][0]["groups"]
    assert [f"({group['label']}, {group['attribute']})" for group in groups] == GROUPS[name]
    assert all(group["count"] and group["train_count"] for group in groups)
    shown = sorted(range(len(groups)), key=lambda i: groups[i]["accuracy"])[:most]
    for i in sorted(shown):
        row = f"{GROUPS[name][i]}, {groups[i]['train_count']:,} train rows"
        assert table[row] == [f"{100 * runs[0]['groups'][i]['accuracy']:.1f}" for runs in results.values()]
    assert (f"{len(groups) - most} groups in which GERNE does better" in printed) == (len(groups) > most)
    assert not (tmp_path / "outputs").exists()  # nothing beside output_dir


def test_a_settings_file_and_an_override(tmp_path):
    settings = tmp_path / "mine.yaml"
    settings.write_text(
        f"output_dir: {tmp_path / 'out'}\nattribute_column: [colour]\nbeta: 0.5\nc: 0.25\nplan: shared\n"
        "per_device_train_batch_size: 64\nmax_steps: 3\nlearning_rate: 1e-2\nsave_strategy: 'no'\nseeds: 1,2\n"
        "compare: erm\nhidden_layers: 1\n"
    )
    printed = launch(tmp_path, "colored_mnist", "--demo", "--config", settings, "--beta", "0.75", "--max_steps", "2")
    results = check_files(tmp_path / "out", "erm-seed1", "shared")
    assert list(results) == ["ERM", "GERNE (shared rows)"]
    assert [[run["seed"] for run in runs] for runs in results.values()] == [[1, 2], [1, 2]]
    assert all(run["step"] == 2 for runs in results.values() for run in runs)
    method = json.loads((tmp_path / "out" / "group_metrics.json").read_text())["method"]
    assert (method["beta"], method["c"], method["rows_per_device"]) == (0.75, 0.25, 64)
    assert "mean ± deviation over the seeds 1, 2" in printed
    assert json.loads((tmp_path / "out" / "config.json").read_text())["hidden_sizes"] == [100]
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for name, value in (("hidden_layers", "1"), ("demo", "True"), ("c", "0.25")):  # of the recipe and of the config
        assert re.search(rf"\| `{name}` +\| +{value} \|", card), name


@pytest.mark.slow
def test_a_search_then_all_methods_without_known_attributes(tmp_path):
    """Tuning, then the final runs: known attributes, unknown ones, and a baseline on the same scores."""
    output = tmp_path / "out"
    printed = launch(
        tmp_path,
        *("colored_mnist", "--demo", "--max_steps", 4, "--eval_strategy", "steps", "--eval_steps", 2, "--tune", 2),
        *("--compare", "erm,jtt,dfr,independent", "--pseudo_attributes", "true", "--threshold", 0.1),
        *("--output_dir", output),
    )
    table = final_table(printed)
    assert table["accuracy, %"] == ["ERM", "JTT", "DFR", "GERNE", "class-balanced", "GERNE, unknown attributes"]
    assert printed.index("Trials, compared on the evaluation set") < printed.index("=== ERM, seed 42")
    search = json.loads((output / "search" / "search.json").read_text(encoding="utf-8"))
    assert len(search["trials"]) == 2 and {"c", "beta", "threshold"} <= set(search["best"]["params"])
    compared = json.loads((output / "comparison.json").read_text(encoding="utf-8"))
    run = output if compared["GERNE, unknown attributes"][0]["gate"]["better"] else output / "pseudo-seed42"
    report = json.loads((run / "group_metrics.json").read_text(encoding="utf-8"))
    for name in ("c", "beta"):
        assert report["method"][name] == pytest.approx(search["best"]["params"][name])
    assert report["pseudo_attributes"]["threshold"] == pytest.approx(search["best"]["params"]["threshold"])
    assert {"precision", "recall"} <= set(report["pseudo_attributes"]["recovery"][0])
    assert report["train_groups"]["attribute_names"] == ["hard", "easy"]
    for picture in (output / "search" / "search.png", run / "pseudo_attributes.png", output / "comparison.png"):
        with Image.open(picture) as image:
            assert image.format == "PNG"


# ---- the demos at their own settings ------------------------------------------------------------------------------


def full_demo(tmp_path, name):
    """Results of ERM and of GERNE; all files are there, and the Hub takes the card. Prints the seconds."""
    start, begin = os.times(), time.perf_counter()
    printed = launch(tmp_path, name, "--demo", "--output_dir", tmp_path / "out", timeout=580)
    used = sum(end - begun for end, begun in zip(os.times()[2:4], start[2:4], strict=True))  # of child processes
    print(f"{name}: {time.perf_counter() - begin:.0f} s, {used:.0f} s of a processor")
    assert final_table(printed)["accuracy, %"] == ["ERM", "GERNE"]
    results = check_files(tmp_path / "out", "erm-seed42")
    check_card(tmp_path, results["GERNE"][0])
    erm, gerne = results["ERM"][0], results["GERNE"][0]
    assert gerne["worst_group_accuracy"] > erm["worst_group_accuracy"]
    return erm, gerne


def check_card(tmp_path, result):
    """The Hub validates the card, whose figures are those of the run."""
    with Hub() as hub:
        code = "import sys; from huggingface_hub import ModelCard; ModelCard.load(sys.argv[1]).validate()"
        path = tmp_path / "out" / "README.md"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        subprocess.run(
            [sys.executable, "-c", code, str(path)], env={**kept, **hub.environment()}, check=True, timeout=120
        )
        hub.check()
        assert [request for request in hub.requests if "validate-yaml" in str(request)]
    card = ModelCard.load(path)
    figures = {(found.dataset_split, found.metric_type): found.metric_value for found in card.data.eval_results}
    for metric in ("worst_group_accuracy", "group_balanced_accuracy", "accuracy"):
        assert figures["test", metric] == pytest.approx(result[metric], abs=1e-4)
    assert card.data.license == "apache-2.0" and ", demo" in card.text
    for title in ("test set", "validation set"):
        assert f"Accuracy of each group, {title}" in card.text
    left_out = "Training accuracies left out: evaluating the" in card.text  # where it would have taken long
    assert left_out != ("Accuracy of each group, training set" in card.text)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_multinli_demo_lifts_the_worst_group(tmp_path):
    erm, gerne = full_demo(tmp_path, "multinli")
    assert gerne["worst_group_accuracy"] >= erm["worst_group_accuracy"] + 0.15


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_waterbirds_demo_lifts_the_worst_group(tmp_path):
    erm, gerne = full_demo(tmp_path, "waterbirds")
    assert gerne["worst_group_accuracy"] >= erm["worst_group_accuracy"] + 0.15


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_colored_mnist_demo_lifts_the_balanced_accuracy(tmp_path):
    erm, gerne = full_demo(tmp_path, "colored_mnist")
    assert gerne["group_balanced_accuracy"] > erm["group_balanced_accuracy"]
