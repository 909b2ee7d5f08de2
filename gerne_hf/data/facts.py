"""What the model cards of the recipes say of their data: name, licence, language, where the attributes come from."""

import os
from dataclasses import dataclass
from typing import Any

from ..cli import RecipeArguments


@dataclass(frozen=True)
class DataFacts:
    """A data set, for a reader who does not know it.

    Args:
        title (`str`): its name.
        hub_name (`str`, *optional*): its Hub id; None where no copy is known.
        license (`str`): as the Hub spells licences.
        license_text (`str`): the same in words.
        attributes (`str`): who or what says which attribute a row has.
        language (`str`, *optional*): that of texts.
    """

    title: str
    hub_name: str | None
    license: str
    license_text: str
    attributes: str
    language: str | None = None


FACTS = {
    "multinli": DataFacts(
        "MultiNLI",
        "nyu-mll/multi_nli",
        "other",
        "MultiNLI's own, mostly that of the Open American National Corpus",
        "computed from the text: whether the hypothesis contains nobody, no, never or nothing",
        "en",
    ),
    "civilcomments": DataFacts(
        "CivilComments (WILDS)",
        "shlomihod/civil-comments-wilds",
        "cc0-1.0",
        "CC0",
        "an identity counts as mentioned if at least half of the crowd workers who were asked said so",
        "en",
    ),
    "waterbirds": DataFacts(
        "Waterbirds",
        "grodino/waterbirds",
        "other",
        "research use only",
        "the background onto which the data set's authors pasted the bird",
    ),
    "celeba": DataFacts(
        "CelebA",
        "flwrlabs/celeba",
        "other",
        "the CelebA agreement: non-commercial research",
        "annotated for the data set's authors",
    ),
    "colored_mnist": DataFacts(
        "Colored MNIST",
        "ylecun/mnist",
        "mit",
        "MIT, as marked on the Hub",
        "drawn by the recipe, which colours the digits with a fixed seed",
    ),
    "corrupted_cifar10": DataFacts(
        "Corrupted CIFAR-10",
        "uoft-cs/cifar10",
        "unknown",
        "not stated",
        "drawn by the recipe, which corrupts the images with a fixed seed",
    ),
    "bffhq": DataFacts(
        "bFFHQ",
        None,
        "cc-by-nc-sa-4.0",
        "that of FFHQ, CC BY-NC-SA 4.0",
        "in the file names, as the benchmark's authors give them",
    ),
}
"""The data sets of the recipes, by the recipe's name."""


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
