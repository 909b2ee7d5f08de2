"""What the recipes' model cards say about their data sets: name, licence, language, and who annotated the attributes.

Imports no other module of the package. `card_facts` in `recipes/run.py` hands these to the card.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataFacts:
    """Describe a data set to a reader who does not know it.

    Args:
        title (`str`): its name.
        hub_name (`str`, *optional*): its id on the Hub; None where no copy is known.
        license (`str`): its licence, as the Hub spells licences.
        license_text (`str`): its licence in words.
        attributes (`str`): who or what decides which attribute value a row has.
        language (`str`, *optional*): language of the texts, as an ISO code.
        license_name, license_link (`str`, *optional*): name and address of a licence that the Hub calls "other".
    """

    title: str
    hub_name: str | None
    license: str
    license_text: str
    attributes: str
    language: str | None = None
    license_name: str | None = None
    license_link: str | None = None


FACTS = {
    "multinli": DataFacts(
        "MultiNLI",
        "nyu-mll/multi_nli",
        "other",
        "MultiNLI's own, mostly that of the Open American National Corpus",
        "computed from the text: whether the hypothesis contains nobody, no, never or nothing",
        "en",
        "multinli",
        "https://huggingface.co/datasets/nyu-mll/multi_nli#licensing-information",
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
        license_name="research-use-only",
        license_link="https://huggingface.co/datasets/grodino/waterbirds",
    ),
    "celeba": DataFacts(
        "CelebA",
        "flwrlabs/celeba",
        "other",
        "the CelebA agreement: non-commercial research",
        "annotated for the data set's authors",
        license_name="celeba-agreement",
        license_link="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
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
"""The data sets of the recipes, by the name of the recipe."""
