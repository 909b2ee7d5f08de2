"""What a recipe does with its data and models, and what its model card says of the data."""

import os
from typing import Any

from ..comparison.comparing import MakeTrainer, _configs, compare
from ..comparison.methods import METHODS, main_method, method_config
from ..config import GerneConfig
from ..data.facts import FACTS
from ..reports.reproduction import chosen_settings
from ..tuning.search import tune
from .arguments import RecipeArguments


def run_recipe(
    arguments: "RecipeArguments",
    config: GerneConfig,
    make_trainer: MakeTrainer,
    test_dataset: Any,
    card: dict[str, Any] | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """What a recipe does with its data and models: `--tune N` where asked for, then [`compare`].

    Args:
        arguments ([`RecipeArguments`]): `compare`, `seeds`, `tune` and `method_settings`.
        config ([`GerneConfig`]): the recipe's settings; they describe the main method.
        make_trainer (`Callable`): makes a trainer of the given class, with a fresh model, from a config.
        test_dataset: read once a run, after training, and never by the search.
        card (`dict`, *optional*): as in [`compare`].

    Returns:
        `dict[str, list[dict]]`: as [`compare`].
    """
    main = main_method(config)
    settings = arguments.settings_by_method()
    seeds = arguments.seed_list(config.seed)
    _configs(arguments.methods(main), config, seeds, settings)  # bad values are found before the search
    if arguments.tune:
        trainer = make_trainer(method_config(config, main, settings, seed=seeds[0]), METHODS[main].trainer)
        settings[main] = {**settings.get(main, {}), **tune(trainer, arguments.tune)}
    own = ("config", "compare", "seeds", "tune", "method_settings")
    made_with = {name: value for name, value in vars(arguments).items() if name not in own}
    others = {name: value for name, value in chosen_settings(arguments).items() if name not in own}
    card = {**(card or {}), "other_settings": others}
    return compare(arguments.methods(main), config, make_trainer, test_dataset, seeds, settings, card, made_with)


def card_facts(recipe: str, arguments: RecipeArguments) -> dict[str, Any]:
    """What [`run_recipe`] hands to the model card.

    Args:
        recipe (`str`): one of [`FACTS`], or another for data of the user's own.
        arguments ([`RecipeArguments`]): whether it is the demo, and the data set.

    Returns:
        `dict`: arguments of [`GerneTrainer.create_model_card`].
    """
    facts, name = FACTS.get(recipe), arguments.dataset_name
    if arguments.demo:
        title = facts.title if facts else recipe.replace("_", " ")
        card = {"dataset": f"{title}, demo", "license": "apache-2.0", "language": facts and facts.language}
        return card | {"dataset_license": "Apache-2.0, as the recipe that made it"}
    if facts is None:
        title = os.path.basename(os.path.normpath(name)) if name else None
        return {"dataset": title, "dataset_tags": _hub_id(name)}
    return {
        "dataset": facts.title,
        "dataset_tags": _hub_id(name) if name else facts.hub_name,
        "license": facts.license,
        "language": facts.language,
        "dataset_license": facts.license_text,
        "attribute_source": facts.attributes,
    }


def _hub_id(name: str | None) -> str | None:
    """A data set's name, if it can be no path: the place of a folder is nobody's business."""
    return name if name and name.count("/") == 1 and not os.path.exists(name) and name[0] not in "./~" else None
