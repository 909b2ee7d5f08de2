"""Rows of texts, single or in pairs: loading any data set of them, and tokenizing with a count of what was cut."""

from collections.abc import Sequence

import datasets
from accelerate import PartialState
from transformers import PreTrainedTokenizerBase

from .splits import prepare_splits

_CUT = "gerne_text_was_cut"
_UNLIMITED = 100_000
"""Tokenizers without a limit give a huge number for it."""


def load_texts(
    source: str | datasets.DatasetDict,
    text_column: str = "text",
    text_pair_column: str | None = None,
    label_column: str = "label",
    attribute_columns: Sequence[str] = (),
    config: str | None = None,
    **chosen: str | None,
) -> datasets.DatasetDict:
    """Any data set with a text column, or a pair, with labels and attributes as ClassLabel columns.

    Args:
        source (`str` or `datasets.DatasetDict`): as [`load_any`], or splits in memory.
        text_column (`str`, defaults to `"text"`), text_pair_column (`str`, *optional*): the texts.
        label_column (`str`, defaults to `"label"`), attribute_columns (`Sequence[str]`): categories of any type.
        config (`str`, *optional*): the configuration on the Hub.
        chosen: `train`, `validation`, `test`: names of the splits, where they are not the usual ones.

    Returns:
        `datasets.DatasetDict`: train, validation, test.

    Raises:
        TypeError, ValueError: as [`prepare_splits`], and for columns that hold no texts or lack some.
    """
    columns = [column for column in (text_column, text_pair_column) if column]

    def check(split: datasets.Dataset, name: str) -> None:
        for column in columns:
            check_texts(split, column, name)

    return prepare_splits(source, columns, label_column, attribute_columns, config, check, **chosen)


def check_texts(split: datasets.Dataset, column: str, name: str) -> None:
    """Raise a `ValueError` if a column holds no texts or lacks one; names the row."""
    feature = split.features[column]
    if getattr(feature, "dtype", None) not in ("string", "large_string"):
        raise ValueError(
            f"{name} holds {feature} in the column {column!r}, and texts are needed. Its columns are "
            f"{', '.join(split.column_names)}"
        )
    for start, table in _tables(split, column):
        if table.null_count:
            row = start + table.is_null().to_pylist().index(True)
            raise ValueError(f"{name} has no text in the column {column!r} of row {row}; fill it, or drop the row")


def _tables(split: datasets.Dataset, column: str):
    start = 0
    for table in split.select_columns([column]).with_format("arrow").iter(1 << 16):
        yield start, table.column(0)
        start += len(table)


def tokenize(
    splits: datasets.DatasetDict,
    tokenizer: PreTrainedTokenizerBase,
    text_columns: Sequence[str],
    max_length: int | None = None,
) -> datasets.DatasetDict:
    """Texts as token ids; other columns stay. Texts that are too long are cut; how many is said once.

    Args:
        splits (`datasets.DatasetDict`): with the text columns.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): the model's.
        text_columns (`Sequence[str]`): one column, or the two of a pair.
        max_length (`int`, *optional*): tokens of a row; what the tokenizer says that the model takes if not given.

    Raises:
        ValueError: for a `max_length` that leaves no room for a text.
    """
    pair = len(text_columns) > 1
    least = tokenizer.num_special_tokens_to_add(pair) + 1
    if max_length is not None and max_length < least:
        raise ValueError(f"max_length, the tokens of a row, must be at least {least}; found {max_length}")
    limit = tokenizer.model_max_length if tokenizer.model_max_length < _UNLIMITED else None
    length = min((value for value in (max_length, limit) if value), default=None)

    def encode(rows: dict[str, list]) -> dict[str, list]:
        texts = [rows[column] for column in text_columns]
        if length is None:
            encoded = tokenizer(*texts)
            return {**encoded, _CUT: [False] * len(encoded["input_ids"])}
        encoded = tokenizer(*texts, truncation=True, max_length=length)
        full = [i for i, ids in enumerate(encoded["input_ids"]) if len(ids) >= length]
        cut = [False] * len(encoded["input_ids"])
        if full:  # those that just fit are not cut
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
