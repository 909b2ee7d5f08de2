"""What text recipes share: the tokenizer of the backbone, and the function that makes their trainers.

Imports `models`, `comparison`, `trainer.py` and `arguments.py`. `run.py` uses the trainers; `images.py` is for images.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..comparison.comparing import MakeTrainer
from ..config import GerneConfig
from ..models.texts import pretrained_text_models, pretrained_tokenizer, small_text_model, word_tokenizer
from ..trainer import GerneTrainer
from .arguments import TextArguments


def text_tokenizer(arguments: TextArguments, train: Any, text_columns: Sequence[str]) -> PreTrainedTokenizerBase:
    """Return the tokenizer of the backbone that the arguments name; in a demo one made from the training texts.

    Args:
        arguments ([`TextArguments`]): the recipe's arguments.
        train (`datasets.Dataset`): the training rows.
        text_columns (`Sequence[str]`): the columns of texts.

    Returns:
        [`~transformers.PreTrainedTokenizerBase`]

    Raises:
        OSError: if there is no such backbone, or no network; a note says what to do.
    """
    if arguments.demo:
        return word_tokenizer([text for column in text_columns for text in train[column][:]])
    return pretrained_tokenizer(arguments.model_name_or_path)


def text_trainer(
    arguments: TextArguments,
    tokenizer: PreTrainedTokenizerBase,
    data: dict[str, Any],
    overlapping_train_counts: np.ndarray | None = None,
) -> MakeTrainer:
    """Return the function that makes the trainers of a text recipe, for [`run_recipe`].

    Args:
        arguments ([`TextArguments`]): the recipe's arguments, which name the backbone.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): the tokenizer, which pads the batches and is saved with
            the model.
        data (`dict`): `train` and `validation`, tokenized, with a ClassLabel as label column.
        overlapping_train_counts (`np.ndarray` of shape `(K, A)`, *optional*): training rows of each class with each
            attribute, for [`GerneConfig.overlapping_columns`], of which a row may have several.

    Returns:
        `Callable[[GerneConfig, type[GerneTrainer]], GerneTrainer]`
    """

    @functools.cache  # so that the files of the backbone are read once for all runs
    def models(names: tuple[str, ...]) -> Callable[[], PreTrainedModel]:
        if arguments.demo:
            return lambda: small_text_model(tokenizer, names)
        return pretrained_text_models(arguments.model_name_or_path, tokenizer, names, arguments.classifier_dropout)

    def make_trainer(run: GerneConfig, trainer_class: type[GerneTrainer]) -> GerneTrainer:
        init = models(tuple(data["train"].features[run.label_column or "label"].names))

        trainer = trainer_class(
            model_init=init,
            args=run,
            train_dataset=data["train"],
            eval_dataset=data["validation"],
            processing_class=tokenizer,
        )
        if overlapping_train_counts is not None:
            trainer.overlapping_train_counts = overlapping_train_counts
        return trainer

    return make_trainer
