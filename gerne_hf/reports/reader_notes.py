"""What a card tells a reader who knows neither the method nor its author: words, what not to do, links, whom to ask.

Imports `evaluation/`, `groups/`, `method/` and `utils/`, and the record of this room. Next:
[`build_card`](gerne_hf.reports.model_card.build_card).
"""

from typing import Any

from ..evaluation.metrics import MAX_TABLE_GROUPS
from ..evaluation.names import set_name
from ..groups.names import group_title
from ..method.plans import PLANS_WITH_BETA
from ..utils.markdown import code, plain
from .record import RunRecord
from .scores_table import score_words

HUB = "https://huggingface.co"
PAPER = "https://arxiv.org/abs/2503.13236"
"""The Hub gives a model whose card has this address the tag of the paper."""

LOW_ACCURACY = 0.8
"""Groups of which the model gets a smaller share right are named among what not to use it for."""


def words(record: RunRecord, evaluations: dict[str, dict[str, Any]]) -> list[str]:
    """Return the words of the card, each with its meaning in one sentence.

    Args:
        record ([`RunRecord`]): the run.
        evaluations (`dict[str, dict]`): the evaluations on the card.
    """
    told = []
    if evaluations and record.run.has_attributes:
        told += [
            "*Group*: the rows of one class that share one value of the attribute.",
            "*Worst-group accuracy*: the accuracy of the group on which the model is right least often.",
        ]
    elif evaluations:
        told.append("*Worst-class accuracy*: the accuracy of the class on which the model is right least often.")
    if evaluations:
        told.append(
            "*95 % interval*: where the true accuracy of a group lies, as far as this many rows can tell (Wilson)."
        )
    told += score_words(next(iter(evaluations.values()), {"groups": []}))
    if record.run.trained and record.method is not None and record.method["plan"] in PLANS_WITH_BETA:
        told += [
            "*c*: how far the less biased batch is from the data: 0 has their proportions, 1 has every attribute "
            "value of a class equally often.",
            "*beta*: how far training goes beyond the less biased batch, away from the biased one: -1 is "
            "class-balanced training, 0 the less biased batch alone, and more gives minority groups more weight.",
        ]
    return told


def out_of_scope(record: RunRecord, evaluations: dict[str, dict[str, Any]]) -> list[str]:
    """Return what the model must not be used for, as far as its figures tell.

    Args:
        record ([`RunRecord`]): the run.
        evaluations (`dict[str, dict]`): the evaluations on the card; the first is looked at.
    """
    told = [
        "Inputs of another kind than those it was trained on, and other classes: its answer is always one of its own."
    ]
    for prefix, result in list(evaluations.items())[:1]:
        judged = [group for group in result["groups"] if group["count"]]
        low = sorted((g for g in judged if g["accuracy"] < LOW_ACCURACY), key=lambda g: g["accuracy"])
        named = [
            f"{plain(group_title(g['label'], g['attribute']) if record.run.has_attributes else g['label'])} "
            f"({100 * (1 - g['accuracy']):.0f} % wrong)"
            for g in low[:MAX_TABLE_GROUPS]
        ]
        more = f"; and {len(low) - len(named)} more" if len(low) > len(named) else ""
        if low:
            told.append(
                "Anything in which a wrong answer harms the people or things of these groups, as judged on the "
                f"{set_name(prefix)}: {'; '.join(named)}{more}."
            )
    if not evaluations:
        told.append("Anything in which a wrong answer does harm: nobody has judged it.")
    told.append("Decisions about people without a person who can overrule them.")
    return told


def links(record: RunRecord, base: str | list[str] | None, data_sets: list[str]) -> str:
    """Return the addresses of the base model, the data sets, the paper and other models of this method.

    Args:
        record ([`RunRecord`]): the run.
        base (`str` or `list[str]`, *optional*): Hub ids of the base models.
        data_sets (`list[str]`): Hub ids of the data sets.
    """
    bases = [base] if isinstance(base, str) else base or []
    found = [f"base model {_link(name, name)}" for name in bases]
    found += [f"data set {_link(name, f'datasets/{name}')}" for name in data_sets]
    found.append(f"method [Gradient Extrapolation for Debiased Representation Learning]({PAPER})")
    found.append(f"library `gerne_hf`, [other models made with it]({HUB}/models?other=gerne)")
    return f"Links: {'; '.join(found)}."


def _link(name: str, place: str) -> str:
    """Return a link to a place on the Hub, or the name alone if it is no Hub id."""
    is_id = all(sign.isalnum() or sign in "-_./" for sign in name)
    return f"[{plain(name)}]({HUB}/{place})" if is_id else code(name)


def contact(record: RunRecord) -> str:
    """Return whom to ask, and where mistakes of the model are told.

    Args:
        record ([`RunRecord`]): the run.
    """
    if record.run.hub_id is None:
        return "Questions, and groups that it fails on: to whoever gave you this model."
    return (
        f"Questions, and groups that it fails on: in the [discussions]({HUB}/{record.run.hub_id}/discussions) of this "
        "repository, which its owner reads."
    )
