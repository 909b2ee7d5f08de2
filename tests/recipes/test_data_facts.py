"""What recipes tell the model cards of their data."""

import pytest
from places import ROOT

from gerne_hf.data.facts import FACTS
from gerne_hf.recipes.arguments import RecipeArguments
from gerne_hf.recipes.run import card_facts

RECIPES = ROOT / "recipes"


@pytest.mark.parametrize(
    "path", sorted(set(RECIPES.glob("*.py")) - {RECIPES / "paper.py"}), ids=lambda path: path.stem
)
def test_every_recipe_tells_its_facts(path):
    assert f'card_facts("{path.stem}", arguments)' in path.read_text(encoding="utf-8")
    if "classification" not in path.stem:
        facts, table = FACTS[path.stem], (RECIPES / "README.md").read_text(encoding="utf-8")
        row = next(line for line in table.splitlines() if line.startswith(f"| `{path.stem}` "))
        assert facts.hub_name is None or f"`{facts.hub_name}`" in row


def test_the_data_set_on_the_hub():
    card = card_facts("waterbirds", RecipeArguments())
    assert (card["dataset"], card["dataset_tags"], card["license"]) == ("Waterbirds", "grodino/waterbirds", "other")
    assert card["dataset_license"] == "research use only" and "background" in card["attribute_source"]
    assert card_facts("multinli", RecipeArguments())["language"] == "en"
    assert card_facts("bffhq", RecipeArguments(dataset_name="data/bffhq"))["license"] == "cc-by-nc-sa-4.0"


def test_a_copy_is_named_and_a_folder_is_not(tmp_path):
    named = {"me/birds": "me/birds", str(tmp_path): None, "./birds": None, "~/birds": None, "a/b/c": None}
    for name, expected in named.items():
        card = card_facts("waterbirds", RecipeArguments(dataset_name=name))
        assert card["dataset"] == "Waterbirds" and card["dataset_tags"] == expected


def test_data_of_ones_own(tmp_path):
    assert card_facts("text_classification", RecipeArguments(dataset_name="me/words")) == {
        "dataset": "words",
        "dataset_tags": "me/words",
    }
    own = card_facts("image_classification", RecipeArguments(dataset_name=f"{tmp_path}/pets/"))
    assert own == {"dataset": "pets", "dataset_tags": None}


@pytest.mark.parametrize("recipe", ["celeba", "text_classification"])
def test_a_demo_is_no_copy_of_the_data_set(recipe):
    card = card_facts(recipe, RecipeArguments(demo=True))
    assert card["dataset"].endswith(", demo") and "dataset_tags" not in card and card["license"] == "apache-2.0"
