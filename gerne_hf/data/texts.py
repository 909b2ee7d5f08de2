"""Rows of texts, single or in pairs: loading any data set of them, and turning them into tokens.

Imports the modules of this room and no other room. Tokenizers and models are in `models/texts.py`.
"""

from collections.abc import Sequence
from typing import Any

import datasets
from accelerate import PartialState
from transformers import PreTrainedTokenizerBase

from .missing import rows_without_value
from .splits import prepare_splits

_CUT = "gerne_text_was_cut"
"""A column, for a while, of whether the text was cut."""
_UNLIMITED = 100_000
"""A tokenizer whose limit is larger than this has none: `transformers` then gives a huge number."""


def load_texts(
    source: str | datasets.DatasetDict,
    text_column: str = "text",
    text_pair_column: str | None = None,
    label_column: str = "label",
    attribute_columns: Sequence[str] = (),
    config: str | None = None,
    skip_unusable_rows: bool = False,
    **chosen: str | None,
) -> datasets.DatasetDict:
    """Load any data set of texts, or of pairs of texts, with labels and attributes as ClassLabel columns.

    Args:
        source (`str` or `datasets.DatasetDict`): a Hub id, folder or file as [`load_any`] takes it, or splits in
            memory.
        text_column (`str`, *optional*, defaults to `"text"`): column of the texts.
        text_pair_column (`str`, *optional*): column of the second text of each pair, if there are pairs.
        label_column (`str`, *optional*, defaults to `"label"`): column of the class: categories of any type.
        attribute_columns (`Sequence[str]`, *optional*): columns of the attributes: categories of any type.
        config (`str`, *optional*): the data set's configuration on the Hub.
        skip_unusable_rows (`bool`, *optional*, defaults to `False`): whether rows that lack a value are left out.
        chosen (`str`, *optional*): names of the splits `train`, `validation` and `test` in the data set, where they
            are not the usual ones.

    Returns:
        `datasets.DatasetDict`: `train`, `validation` and `test`.

    Raises:
        TypeError, ValueError: as [`prepare_splits`]; and ValueError if a text column holds no texts or lacks some.
    """
    columns = [column for column in (text_column, text_pair_column) if column]

    def check(split: datasets.Dataset, name: str) -> None:
        for column in columns:
            check_texts(split, column, name)

    return prepare_splits(
        source, columns, label_column, attribute_columns, config, check, skip_unusable_rows, **chosen
    )


def check_texts(split: datasets.Dataset, column: str, name: str) -> None:
    """Raise an error unless a column holds a text in every row.

    Args:
        split (`datasets.Dataset`): the rows.
        column (`str`): name of the column.
        name (`str`): name of the data set and split, for the message.

    Raises:
        ValueError: if the column holds something else, or a text is missing (naming its row).
    """
    feature = split.features[column]
    if getattr(feature, "dtype", None) not in ("string", "large_string"):
        raise ValueError(
            f"{name} holds {feature} in the column {column!r}, and texts are needed. Its columns are "
            f"{', '.join(split.column_names)}"
        )
    missing = rows_without_value(split, column)
    if missing.size:
        raise ValueError(f"{name} has no text in the column {column!r} of row {missing[0]}; fill it, or drop the row")


def tokenize(
    splits: datasets.DatasetDict,
    tokenizer: PreTrainedTokenizerBase,
    text_columns: Sequence[str],
    max_length: int | None = None,
) -> datasets.DatasetDict:
    """Replace the text columns of splits by token ids. Texts that are too long are cut, and their number is printed.

    Args:
        splits (`datasets.DatasetDict`): splits with the text columns; their other columns stay.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): the tokenizer of the model.
        text_columns (`Sequence[str]`): one column, or the two of a pair.
        max_length (`int`, *optional*): most tokens of a row; the limit that the tokenizer states if not given.

    Returns:
        `datasets.DatasetDict`: the same splits and rows, tokenized.

    Raises:
        ValueError: if `max_length` leaves no room for a text.
    """
    pair = len(text_columns) > 1
    least = tokenizer.num_special_tokens_to_add(pair) + 1
    if max_length is not None and max_length < least:
        raise ValueError(f"max_length, the tokens of a row, must be at least {least}; found {max_length}")
    limit = tokenizer.model_max_length if tokenizer.model_max_length < _UNLIMITED else None
    length = min((value for value in (max_length, limit) if value), default=None)

    def encode(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        texts = [rows[column] for column in text_columns]
        if length is None:
            encoded = tokenizer(*texts)
            return {**encoded, _CUT: [False] * len(encoded["input_ids"])}
        encoded = tokenizer(*texts, truncation=True, max_length=length)
        full = [i for i, ids in enumerate(encoded["input_ids"]) if len(ids) >= length]
        cut = [False] * len(encoded["input_ids"])
        if full:  # a text that has exactly the most tokens was not cut
            whole = tokenizer(*([column[i] for i in full] for column in texts), verbose=False)["input_ids"]
            for i, ids in zip(full, whole, strict=True):
                cut[i] = len(ids) > length
        return {**encoded, _CUT: cut}

    with PartialState().main_process_first():
        encoded = splits.map(encode, batched=True, remove_columns=list(text_columns), desc="Tokenizing")
    counts = {key: sum(split[_CUT][:]) for key, split in encoded.items()}
    if any(counts.values()):
        told = ", ".join(f"{count:,} of {len(encoded[key]):,} ({key})" for key, count in counts.items())
        PartialState().print(f"Texts with more than {length} tokens are cut: {told}.")
    return encoded.remove_columns(_CUT)
