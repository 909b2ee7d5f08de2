"""Text classifiers that recipes start from: pretrained ones with their tokenizers, and small ones for demonstrations.

Imports `hub/` and, of this room, [`heads`](gerne_hf.models.heads) and [`pretrained`](gerne_hf.models.pretrained). They
are trained in `recipes/texts.py`.
"""

from collections.abc import Callable, Sequence
from typing import cast

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

from ..hub.repositories import found_by
from .heads import label_maps
from .pretrained import PretrainedOnce

SMALL_LENGTH = 64
"""Number of tokens of a text that the small model of a demonstration takes."""


def word_tokenizer(texts: list[str], max_length: int = SMALL_LENGTH) -> PreTrainedTokenizerBase:
    """Make a tokenizer of whole words from texts. It lays out single texts and pairs of texts as that of BERT does.

    Args:
        texts (`list[str]`): the texts whose words it knows; all other words are `[UNK]` to it.
        max_length (`int`, defaults to `SMALL_LENGTH`): number of tokens that its models take.

    Returns:
        [`~transformers.PreTrainedTokenizerBase`]

    Example:

    ```python
    >>> tokenizer = word_tokenizer(["a bird", "a fish"])
    >>> tokenizer.decode(tokenizer("a bird", "a frog")["input_ids"])
    '[CLS] a bird [SEP] a [UNK] [SEP]'

    ```
    """
    # Imported here: only this function needs the library, which comes with Transformers and is not required by name.
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
    """Make a small transformer with random weights, for demonstrations and tests.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): says how many tokens there are.
        names (`Sequence[str]`): the classes in the order of their ids.
        max_length (`int`, defaults to `SMALL_LENGTH`): number of tokens of a text that the model takes.

    Returns:
        [`~transformers.BertForSequenceClassification`]: without dropout.
    """
    config = BertConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=max_length,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **label_maps(names),
    )
    return BertForSequenceClassification(config)


def pretrained_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a backbone.

    Args:
        name (`str`): folder or Hub id of the backbone.

    Returns:
        [`~transformers.PreTrainedTokenizerBase`]

    Raises:
        OSError: if there is no such model, or it cannot be read; a note says what to do.
    """
    with found_by("model_name_or_path", name):
        return AutoTokenizer.from_pretrained(name)


def pretrained_text_model(name: str, tokenizer: PreTrainedTokenizerBase, names: Sequence[str]) -> PreTrainedModel:
    """Load a pretrained backbone and give it a fresh head.

    Args:
        name (`str`): folder or Hub id of the backbone.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): the backbone's, which knows the token of padding.
        names (`Sequence[str]`): the classes in the order of their ids.

    Returns:
        [`~transformers.PreTrainedModel`]: in float32.

    Raises:
        OSError: if there is no such model, or it cannot be read; a note says what to do.
    """
    return pretrained_text_models(name, tokenizer, names)()


def pretrained_text_models(
    name: str, tokenizer: PreTrainedTokenizerBase, names: Sequence[str], classifier_dropout: float | None = None
) -> Callable[[], PreTrainedModel]:
    """Return a function that makes models as [`pretrained_text_model`] does, and reads the backbone's files once.

    Args:
        name, tokenizer, names: as for [`pretrained_text_model`].
        classifier_dropout (`float`, *optional*): probability of dropout before the head, in [0, 1); the backbone's own
            if not given.

    Returns:
        `Callable[[], PreTrainedModel]`: makes a model with a fresh head.

    Raises:
        ValueError: for a probability out of range; when a model is made, for one without dropout before its head.
    """
    if classifier_dropout is not None and not 0 <= classifier_dropout < 1:
        raise ValueError(f"classifier_dropout must be in [0, 1); found {classifier_dropout}")

    def settle(model: PreTrainedModel) -> None:
        if model.config.pad_token_id is None:  # models with a decoder find the last token of a row by it
            model.config.pad_token_id = tokenizer.pad_token_id
        if classifier_dropout is not None:
            _set_classifier_dropout(model, classifier_dropout)

    return PretrainedOnce(
        AutoModelForSequenceClassification,
        name,
        settle,
        num_labels=len(names),
        ignore_mismatched_sizes=True,
        dtype=torch.float32,
        **label_maps(names),
    )


_DROPOUTS = {"classifier_dropout": ("dropout", "classifier.dropout"), "seq_classif_dropout": ("dropout",)}
"""By the field of the config that has its probability, the module of dropout before the head."""


def _set_classifier_dropout(model: PreTrainedModel, probability: float) -> None:
    """Set the probability of dropout before the head, in the model and in its config."""
    modules = dict(model.named_modules())
    for key, names in _DROPOUTS.items():
        found = [modules[name] for name in names if isinstance(modules.get(name), torch.nn.Dropout)]
        if hasattr(model.config, key) and found:
            setattr(model.config, key, probability)
            for module in found:
                cast(torch.nn.Dropout, module).p = probability
            return
    raise ValueError(
        f"classifier_dropout={probability} has no place in {type(model).__name__}, which has no dropout of its own "
        "before the head. Leave it out"
    )
