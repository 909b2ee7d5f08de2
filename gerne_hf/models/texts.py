"""What text recipes share: pretrained tokenizers and classifiers, small ones made on the spot, and their training."""

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TokenizersBackend,
)

from ..hub.repositories import found_by
from .heads import label_maps

SMALL_LENGTH = 64
"""Tokens that the small model of a demo takes."""


def word_tokenizer(texts: list[str], max_length: int = SMALL_LENGTH) -> PreTrainedTokenizerBase:
    """A tokenizer of whole words, made on the spot from the texts, that lays out texts and pairs as BERT does."""

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
