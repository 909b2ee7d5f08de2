"""What text recipes share: pretrained tokenizers and classifiers, small ones made on the spot, and their training."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TokenizersBackend,
)

from .backbones import label_maps
from .cli import RecipeArguments
from .comparison import MakeTrainer
from .config import GerneConfig
from .repositories import found_by
from .trainer import GerneTrainer

SMALL_LENGTH = 64
"""Tokens that the small model of a demo takes."""


@dataclass
class TextArguments(RecipeArguments):
    """What text recipes take besides [`RecipeArguments`].

    Args:
        model_name_or_path (`str`): the backbone.
        max_length (`int`, *optional*): tokens of a row; what the tokenizer says that the model takes if not given.
    """

    model_name_or_path: str = field(default="bert-base-uncased", metadata={"help": "Backbone: Hub id or folder."})
    max_length: int | None = field(default=None, metadata={"help": "Tokens of a row; longer texts are cut."})


def word_tokenizer(texts: list[str], max_length: int = SMALL_LENGTH) -> PreTrainedTokenizerBase:
    """A tokenizer of whole words, made on the spot from the texts, that lays out texts and pairs as BERT does."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=special))
    ids = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return TokenizersBackend(tokenizer_object=tokenizer, model_max_length=max_length, **names)


def small_text_model(
    tokenizer: PreTrainedTokenizerBase, names: Sequence[str], max_length: int = SMALL_LENGTH
) -> BertForSequenceClassification:
    """A small transformer, from scratch."""
    size = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(
        vocab_size=len(tokenizer), max_position_embeddings=max_length, **size, **dropout, **label_maps(names)
    )
    return BertForSequenceClassification(config)


def text_tokenizer(arguments: TextArguments, train: Any, text_columns: Sequence[str]) -> PreTrainedTokenizerBase:
    """The tokenizer of the backbone that the arguments name; in a demo one made from the training texts."""
    if arguments.demo:
        return word_tokenizer([text for column in text_columns for text in train[column][:]])
    return pretrained_tokenizer(arguments.model_name_or_path)


def pretrained_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a backbone, by folder or Hub id."""
    with found_by("model_name_or_path", name):
        return AutoTokenizer.from_pretrained(name)


def pretrained_text_model(name: str, tokenizer: PreTrainedTokenizerBase, names: Sequence[str]) -> PreTrainedModel:
    """A pretrained backbone, by folder or Hub id, with a fresh head for the classes `names`."""
    settings = {"num_labels": len(names), "ignore_mismatched_sizes": True, "dtype": torch.float32, **label_maps(names)}
    with found_by("model_name_or_path", name):
        model = AutoModelForSequenceClassification.from_pretrained(name, **settings)
    if model.config.pad_token_id is None:  # decoders find a row's last token by it
        model.config.pad_token_id = tokenizer.pad_token_id
    return model


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
