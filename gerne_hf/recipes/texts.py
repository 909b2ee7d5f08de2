"""What text recipes share: a tokenizer, and what makes trainers."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..comparison.comparing import MakeTrainer
from ..config import GerneConfig
from ..models.texts import pretrained_text_model, pretrained_tokenizer, small_text_model, word_tokenizer
from ..trainer import GerneTrainer
from .arguments import TextArguments


def text_tokenizer(arguments: TextArguments, train: Any, text_columns: Sequence[str]) -> PreTrainedTokenizerBase:
    """The tokenizer of the backbone that the arguments name; in a demo one made from the training texts."""
    if arguments.demo:
        return word_tokenizer([text for column in text_columns for text in train[column][:]])
    return pretrained_tokenizer(arguments.model_name_or_path)


def text_trainer(arguments: TextArguments, tokenizer: PreTrainedTokenizerBase, data: dict[str, Any]) -> MakeTrainer:
    """What makes the trainers of a text recipe, for [`run_recipe`].

    Args:
        arguments ([`TextArguments`]): the backbone.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): pads the batches, and is saved with the model.
        data (`dict`): `train` and `validation`, tokenized, the label a ClassLabel.
    """

    def make_trainer(run: GerneConfig, trainer_class: type[GerneTrainer]) -> GerneTrainer:
        names = data["train"].features[run.label_column or "label"].names

        def init() -> PreTrainedModel:
            if arguments.demo:
                return small_text_model(tokenizer, names)
            return pretrained_text_model(arguments.model_name_or_path, tokenizer, names)

        return trainer_class(
            model_init=init,
            args=run,
            train_dataset=data["train"],
            eval_dataset=data["validation"],
            processing_class=tokenizer,
        )

    return make_trainer
