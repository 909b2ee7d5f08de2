"""The card of a trainer, from its record and its folder."""

from typing import Any

from huggingface_hub import ModelCard

from gerne_hf import GerneTrainer
from gerne_hf.reports.model_card import build_card


def card_of(subject: GerneTrainer, **given: Any) -> ModelCard:
    """The card that `create_model_card` would save."""
    return build_card(subject.run_record(), subject.args.output_dir, **given)
