"""What a recipe does once it has its data and models: an optional search, then a comparison of methods.

Imports `data`, `reports`, `comparison` and `arguments.py`. `images.py` and `texts.py` make the trainers it needs.
"""

import os
from collections.abc import Callable
from typing import Any

from ..comparison.comparing import MakeTrainer, compare, run_configs
from ..comparison.equal_tuning import check_spaces, search_of_trainer, tune_methods
from ..comparison.judging import with_class_balanced
from ..comparison.methods import main_method
from ..comparison.publishing import publication
from ..config import GerneConfig
from ..data.facts import FACTS
from ..hub.ids import hub_id
from ..reports.reproduction import chosen_settings
from ..trainer import GerneTrainer
from ..utils.harmless import harmless_text
from .arguments import RecipeArguments


def run_recipe(
    arguments: RecipeArguments,
    config: GerneConfig,
    make_trainer: MakeTrainer,
    test_dataset: Any,
    card: dict[str, Any] | None = None,
    report: Callable[[dict[str, list[dict[str, Any]]]], None] | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Search for settings of all methods if `--tune` asks for it, then train and compare them with [`compare`].

    Args:
        arguments ([`RecipeArguments`]): the recipe's arguments, of which `compare`, `seeds`, `tune`,
            `tune_learning_rate`, `tune_weight_decay` and `method_settings` decide what is trained.
        config ([`GerneConfig`]): the recipe's settings, which describe the main method.
        make_trainer (`Callable`): function that makes a trainer with a fresh model, given a config and a class.
        test_dataset: the test set. It is read once for each run, after training, and never by the search.
        card (`dict`, *optional*): what the model card says about the data, from [`card_facts`].
        report (`Callable`, *optional*): is given the results on the main process, before anything is pushed.

    Returns:
        `dict[str, list[dict]]`: by the method's title, the test result of each seed, as [`compare`] returns it.

    Raises:
        ValueError: if methods or fields do not exist, or have values that the config or the data refuse.
        PublishingError: as [`compare`].
    """
    main = main_method(config)
    settings = arguments.settings_by_method()
    seeds = arguments.seed_list(config.seed)
    methods = with_class_balanced(arguments.methods(main))
    runs = run_configs(methods, config, seeds, settings)  # finds bad values before the search
    made_with = arguments.made_with()
    tuning: dict[str, dict[str, Any]] = {}
    if arguments.tune:
        check_spaces(methods)
        publication(config, [main], runs, seeds[0])  # what the Hub refuses, too, is found before the search
        settings, tuning = tune_methods(
            *(methods, config, make_trainer, seeds[0], settings, arguments.tune),
            folders={name: runs[name, seeds[0]].folder for name in methods},
            made_with=made_with,
            learning_rate=arguments.tune_learning_rate,
            weight_decay=arguments.tune_weight_decay,
        )
    others = {name: value for name, value in chosen_settings(arguments).items() if name in made_with}
    card = {**(card or {}), "other_settings": others}
    return compare(
        *(arguments.methods(main), config, make_trainer, test_dataset, seeds, settings, card, made_with, report),
        tuning=tuning,
    )


def tune(trainer: GerneTrainer, n_trials: int) -> dict[str, Any]:
    """Search the default space of settings until the study has `n_trials` trials.

    Args:
        trainer ([`GerneTrainer`]): a trainer that was made with a `model_init` and an `eval_dataset`.
        n_trials (`int`): number of trials in total, including those of an earlier search in this `output_dir`.

    Returns:
        `dict`: the best trial's settings, by their names in [`GerneConfig`]; the same on every process. Where groups
        are inferred, these are together with what makes other runs infer the same: the number of biased models, and no
        `threshold` unless its rule is the best.
    """
    return search_of_trainer(trainer, n_trials)["chosen"]


def card_facts(recipe: str, arguments: RecipeArguments) -> dict[str, Any]:
    """Return what the model card says about the data of a recipe.

    Args:
        recipe (`str`): a key of [`FACTS`], or another name if the data are the user's own.
        arguments ([`RecipeArguments`]): the recipe's arguments, of which `demo` and `dataset_name` are used.

    Returns:
        `dict`: arguments of [`GerneTrainer.create_model_card`].

    Example:

    ```python
    >>> from gerne_hf.recipes import RecipeArguments
    >>> card_facts("waterbirds", RecipeArguments(dataset_name="grodino/waterbirds"))["dataset"]
    'Waterbirds'

    ```
    """
    facts, name = FACTS.get(recipe), arguments.dataset_name
    if arguments.demo:
        return {
            "dataset": f"{facts.title if facts else recipe.replace('_', ' ')}, demo",
            "license": "apache-2.0",
            "language": facts.language if facts else None,
            "dataset_license": "Apache-2.0, as the recipe that made it",
        }
    if facts is None:
        title = os.path.basename(harmless_text(name).rstrip("/")) if name else None
        return {"dataset": title, "dataset_tags": hub_id(name, with_owner=True)}
    return {
        "dataset": facts.title,
        "dataset_tags": hub_id(name, with_owner=True) if name else facts.hub_name,
        "license": facts.license,
        "license_name": facts.license_name,
        "license_link": facts.license_link,
        "language": facts.language,
        "dataset_license": facts.license_text,
        "attribute_source": facts.attributes,
    }
