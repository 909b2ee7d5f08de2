"""Every recipe trains with unknown attributes beside its main method, without a setting for them."""

import importlib
import json
import sys

import pytest
from places import ROOT

from gerne_hf.recipes import ImageArguments, parse_arguments

pytestmark = pytest.mark.slow

RECIPES = ("multinli", "civilcomments", "waterbirds", "celeba", "colored_mnist", "corrupted_cifar10", "bffhq")


@pytest.mark.parametrize("name", RECIPES)
def test_unknown_attributes_need_no_threshold(name, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    arguments_class = getattr(module, "Arguments", None) or getattr(module, "TextArguments", ImageArguments)
    short = ["--max_steps", "4", "--eval_strategy", "steps", "--eval_steps", "2", "--save_strategy", "no"]
    short += ["--load_best_model_at_end", "false", "--disable_tqdm", "true", "--report_to", "none"]
    given = parse_arguments(
        arguments_class, str(module.__file__), ["--demo", "--compare", "pseudo", "--output_dir", str(tmp_path), *short]
    )
    results = module.main(*given)
    assert {"class-balanced", "GERNE, unknown attributes", "GERNE"} <= set(results)
    saved = json.loads((tmp_path / "pseudo-seed42" / "group_metrics.json").read_text(encoding="utf-8"))
    assert saved["pseudo_attributes"]["rule"] is not None and saved["pseudo_attributes"]["threshold"] is None
    sys.modules.pop(name, None)
