"""Arguments of the recipes: which settings file is read, what wins, and what is refused."""

import importlib.util
import json
from dataclasses import dataclass, field

import pytest
from places import ROOT

from gerne_hf import GerneConfig
from gerne_hf.baselines import BaselineConfig
from gerne_hf.comparison.methods import METHODS
from gerne_hf.recipes.arguments import RecipeArguments, parse_arguments

RECIPES = ROOT / "recipes"


@dataclass
class Arguments(RecipeArguments):
    """A recipe with one argument of its own."""

    depth: int = field(default=3, metadata={"help": "Layers."})


@pytest.fixture
def recipe(tmp_path):
    """A recipe's path, with its settings, those of its demo, and a file of the user's beside them."""
    (tmp_path / "configs").mkdir()
    output = f"output_dir: {tmp_path / 'out'}\nattribute_column: [place]\n"
    (tmp_path / "configs" / "tiny.yaml").write_text(output + "beta: 0.25\nlearning_rate: 1e-4\ndepth: 5\n")
    (tmp_path / "configs" / "tiny_demo.yaml").write_text(output + "beta: 0.75\nmax_steps: 9\nplan: shared\n")
    (tmp_path / "mine.yaml").write_text(output + "beta: 0.125\ncompare: resampling\nseeds: 4,5\ndepth: 6\n")
    return tmp_path / "tiny.py"


def parse(recipe, *argv):
    return parse_arguments(Arguments, str(recipe), [str(part) for part in argv])


def test_the_recipes_own_settings(recipe):
    arguments, config = parse(recipe)
    assert isinstance(arguments, Arguments) and isinstance(config, GerneConfig)
    assert (config.beta, arguments.depth, config.attribute_columns) == (0.25, 5, ("place",))
    assert config.output_dir == str(recipe.parent / "out")
    assert (config.plan, config.c) == ("independent", 0.5)  # defaults where the file is silent
    assert (arguments.demo, arguments.compare, arguments.seeds) == (False, "erm", None)


def test_yaml_numbers_that_yaml_takes_for_text(recipe):
    _, config = parse(recipe)
    assert config.learning_rate == 1e-4 and isinstance(config.learning_rate, float)


def test_another_settings_file(recipe):
    arguments, config = parse(recipe, "--config", recipe.parent / "mine.yaml")
    assert (config.beta, arguments.depth, arguments.compare) == (0.125, 6, "resampling")
    assert config.learning_rate == GerneConfig.__dataclass_fields__["learning_rate"].default  # not the recipe's file
    assert arguments.methods(config.plan) == ["resampling", "independent"]
    assert arguments.seed_list(config.seed) == [4, 5]


@pytest.mark.parametrize("extra", [[], ["--config", "mine.yaml"], ["--demo"]])
def test_the_command_line_wins(recipe, extra, monkeypatch):
    monkeypatch.chdir(recipe.parent)
    arguments, config = parse(recipe, *extra, "--beta", "0.5", "--depth", "2", "--learning_rate", "3e-2")
    assert (config.beta, arguments.depth, config.learning_rate) == (0.5, 2, 0.03)
    arguments, config = parse(recipe, "--beta", "0.5", "--attribute_column", "place", "colour", *extra)
    assert config.beta == 0.5 and config.attribute_columns == ("place", "colour")


@pytest.mark.parametrize("demo", [["--demo"], ["--demo", "true"], ["--demo=True"]])
def test_the_demo_has_settings_of_its_own(recipe, demo):
    arguments, config = parse(recipe, *demo)
    assert arguments.demo is True
    assert (config.beta, config.max_steps, config.plan, arguments.depth) == (0.75, 9, "shared", 3)


def test_no_demo(recipe):
    arguments, config = parse(recipe, "--demo", "false")
    assert arguments.demo is False and config.beta == 0.25


def test_a_settings_file_with_demo(recipe):
    arguments, config = parse(recipe, "--demo", "--config", recipe.parent / "mine.yaml")
    assert arguments.demo is True and config.beta == 0.125


@pytest.mark.parametrize("key, near", [("betta", "beta"), ("learning_rte", "learning_rate"), ("compar", "compare")])
def test_an_unknown_setting_is_refused_with_the_nearest(recipe, capsys, key, near):
    path = recipe.parent / "wrong.yaml"
    path.write_text(f"{key}: 1\n")
    with pytest.raises(SystemExit) as error:
        parse(recipe, "--config", path)
    assert error.value.code == 2
    message = capsys.readouterr().err
    assert str(path) in message and f"{key!r}, which is no argument; did you mean {near!r}?" in message


def test_an_unknown_setting_without_any_near_name(recipe, capsys):
    path = recipe.parent / "wrong.yaml"
    path.write_text("xyzzy: 1\n")
    with pytest.raises(SystemExit):
        parse(recipe, "--config", path)
    message = capsys.readouterr().err
    assert "'xyzzy', which is no argument" in message and "did you mean" not in message


def test_an_unknown_argument_is_refused_with_the_nearest(recipe, capsys):
    with pytest.raises(SystemExit) as error:
        parse(recipe, "--betta", "0.5")
    assert error.value.code == 2
    message = capsys.readouterr().err
    assert "betta" in message and "beta" in message.replace("betta", "")


def test_an_abbreviated_config_is_refused_and_not_overlooked(recipe):
    with pytest.raises(SystemExit):
        parse(recipe, "--conf", recipe.parent / "mine.yaml")


def test_a_value_of_another_type_is_refused(recipe, capsys):
    with pytest.raises(SystemExit):
        parse(recipe, "--beta", "much")
    assert "--beta" in capsys.readouterr().err


def test_a_missing_settings_file(recipe, capsys):
    with pytest.raises(SystemExit) as error:
        parse(recipe, "--config", recipe.parent / "nowhere.yaml")
    assert error.value.code == 2
    assert f"no such settings file: {recipe.parent / 'nowhere.yaml'}" in capsys.readouterr().err


def test_an_empty_settings_file_leaves_the_defaults(recipe):
    path = recipe.parent / "empty.yaml"
    path.write_text("# nothing\n")
    arguments, config = parse(recipe, "--config", path, "--output_dir", recipe.parent / "out")
    assert arguments.depth == 3 and config.beta == 1.0


@pytest.mark.parametrize(
    "compare, main, expected",
    [
        ("erm", "independent", ["erm", "independent"]),
        ("erm,resampling", "independent", ["erm", "resampling", "independent"]),
        ("resampling, erm,", "shared", ["resampling", "erm", "shared"]),
        ("none", "independent", ["independent"]),
        ("", "independent", ["independent"]),
        ("erm", "erm", ["erm"]),
        ("independent,erm,erm", "independent", ["erm", "independent"]),
    ],
)
def test_methods_end_with_the_main_one(compare, main, expected):
    assert RecipeArguments(compare=compare).methods(main) == expected


@pytest.mark.parametrize("seeds, expected", [(None, [42]), ("0", [0]), ("0,1, 2", [0, 1, 2]), (3, [3])])
def test_seeds(seeds, expected):
    assert RecipeArguments(seeds=seeds).seed_list(42) == expected


def test_every_method_can_be_compared():
    arguments = RecipeArguments(compare=",".join(METHODS))
    assert arguments.methods("pseudo") == [*(name for name in METHODS if name != "pseudo"), "pseudo"]


def test_settings_of_the_baselines_are_arguments(recipe):
    _, config = parse(recipe, "--group_dro_step_size", "0.5", "--jtt_upweight", "3")
    assert isinstance(config, BaselineConfig)
    assert (config.group_dro_step_size, config.jtt_upweight) == (0.5, 3.0)


def test_tune(recipe):
    assert parse(recipe)[0].tune == 0
    assert parse(recipe, "--tune", "7")[0].tune == 7
    (recipe.parent / "mine.yaml").write_text("output_dir: out\ntune: 5\n")
    assert parse(recipe, "--config", recipe.parent / "mine.yaml")[0].tune == 5
    assert parse(recipe, "--config", recipe.parent / "mine.yaml", "--tune", "2")[0].tune == 2


def test_a_number_of_trials_that_is_none(recipe, capsys):
    with pytest.raises(SystemExit):
        parse(recipe, "--tune", "many")
    assert "--tune" in capsys.readouterr().err


# ---- settings of single methods -----------------------------------------------------------------------------------

OWN = {"resampling": {"learning_rate": 0.1}, "jtt": {"biased_epochs": 2}}


def test_no_settings_of_single_methods(recipe):
    assert parse(recipe)[0].settings_by_method() == {}


def test_settings_of_single_methods_in_the_settings_file(recipe):
    lines = "output_dir: out\nmethod_settings:\n  resampling:\n    learning_rate: 0.1\n  jtt:\n    biased_epochs: 2\n"
    (recipe.parent / "mine.yaml").write_text(lines)
    arguments, _ = parse(recipe, "--config", recipe.parent / "mine.yaml")
    assert arguments.settings_by_method() == OWN


@pytest.mark.parametrize("joined", [False, True])
def test_settings_of_single_methods_on_the_command_line(recipe, joined):
    text = json.dumps(OWN)
    arguments, _ = parse(recipe, *([f"--method_settings={text}"] if joined else ["--method_settings", text]))
    assert arguments.settings_by_method() == OWN


def test_the_command_line_wins_over_the_files_settings_of_single_methods(recipe):
    (recipe.parent / "mine.yaml").write_text("output_dir: out\nmethod_settings:\n  erm:\n    learning_rate: 0.1\n")
    extra = ["--config", recipe.parent / "mine.yaml", "--method_settings", json.dumps(OWN)]
    assert parse(recipe, *extra)[0].settings_by_method() == OWN


def test_settings_of_single_methods_are_copied():
    arguments = RecipeArguments(method_settings={"erm": {"learning_rate": 0.1}})
    arguments.settings_by_method()["erm"]["learning_rate"] = 5.0
    arguments.settings_by_method()["jtt"] = {}
    assert arguments.settings_by_method() == {"erm": {"learning_rate": 0.1}}


@pytest.mark.parametrize(
    "value, message",
    [
        ("{erm: 1", "method_settings is no JSON"),
        ("3", "must be settings by method"),
        ('["erm"]', "must be settings by method"),
        ('{"erm": 0.1}', "must be settings by method"),
        ({"erm": None}, "must be settings by method"),
    ],
)
def test_settings_that_are_not_by_method_are_refused(value, message):
    with pytest.raises(ValueError, match=message):
        RecipeArguments(method_settings=value).settings_by_method()


@pytest.mark.parametrize("path", sorted((RECIPES / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_settings_that_the_recipes_come_with(path, tmp_path):
    name = next(recipe for recipe in RECIPES.glob("*.py") if path.stem.startswith(recipe.stem))
    spec = importlib.util.spec_from_file_location(f"recipe_{name.stem}", name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    own = [v for v in vars(module).values() if isinstance(v, type) and issubclass(v, RecipeArguments)]
    arguments_class = max(own, key=lambda kind: len(kind.__mro__))
    arguments, config = parse_arguments(
        arguments_class, str(name), ["--config", str(path), "--output_dir", str(tmp_path)]
    )
    for_any_data = path.stem in ("image_classification", "text_classification")
    assert bool(config.attribute_columns) != for_any_data
    assert config.plan == "independent" and arguments.methods(config.plan) == ["erm", "independent"]
    assert config.output_dir == str(tmp_path) and isinstance(config.learning_rate, float)
