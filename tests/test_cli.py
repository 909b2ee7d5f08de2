"""Arguments of the recipes: which settings file is read, what wins, and what is refused."""

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gerne_hf import GerneConfig
from gerne_hf.cli import RecipeArguments, parse_arguments

RECIPES = Path(__file__).parent.parent / "recipes"


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


@pytest.mark.parametrize("path", sorted((RECIPES / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_settings_that_the_recipes_come_with(path, tmp_path):
    name = next(recipe for recipe in RECIPES.glob("*.py") if path.stem.startswith(recipe.stem))
    spec = importlib.util.spec_from_file_location(f"recipe_{name.stem}", name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    arguments, config = parse_arguments(
        module.Arguments, str(name), ["--config", str(path), "--output_dir", str(tmp_path)]
    )
    assert config.attribute_columns in (("negation",), ("colour",))
    assert config.plan == "independent" and arguments.methods(config.plan) == ["erm", "independent"]
    assert config.output_dir == str(tmp_path) and isinstance(config.learning_rate, float)
