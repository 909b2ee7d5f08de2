"""More recipes as a person runs them: a few steps of each demo, and each whole demo."""

import json

import pytest
from test_recipes import SHORT, check_files, final_table, full_demo, launch

NAMES = ["celeba", "image_classification", "text_classification", "civilcomments", "corrupted_cifar10", "bffhq"]
GROUPS = {
    "celeba": 4,
    "image_classification": 4,
    "text_classification": 6,
    "civilcomments": 16,
    "corrupted_cifar10": 100,
    "bffhq": 4,
}


FAST = ("celeba",)  # the others take as long and share their parts


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_a_short_demo(tmp_path, name):
    printed = launch(tmp_path, name, *SHORT, "--output_dir", tmp_path / "out")
    results = check_files(tmp_path / "out", "erm-seed42")
    assert list(results) == ["ERM", "GERNE"]
    table = final_table(printed.split("| method |")[0])
    assert table["worst group"] == [f"{100 * runs[0]['worst_group_accuracy']:.1f}" for runs in results.values()]
    groups = results["GERNE"][0]["groups"]
    assert len(groups) == GROUPS[name] and all(group["count"] and group["train_count"] for group in groups)
    assert not (tmp_path / "outputs").exists()  # nothing beside output_dir


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("bffhq", "corrupted_cifar10")])
def test_the_demo_lifts_the_worst_group(tmp_path, name):
    erm, gerne = full_demo(tmp_path, name)
    assert gerne["worst_group_accuracy"] >= erm["worst_group_accuracy"] + 0.15


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_corrupted_cifar10_demo_lifts_the_worst_group(tmp_path):
    erm, gerne = full_demo(tmp_path, "corrupted_cifar10")
    assert gerne["worst_group_accuracy"] > erm["worst_group_accuracy"]
    assert gerne["group_balanced_accuracy"] > erm["group_balanced_accuracy"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_bffhq_demo_lifts_the_minority(tmp_path):
    full_demo(tmp_path, "bffhq")
    figures = json.loads((tmp_path / "out" / "minority_accuracy.json").read_text(encoding="utf-8"))
    assert figures["GERNE"][0] >= figures["ERM"][0] + 0.15
