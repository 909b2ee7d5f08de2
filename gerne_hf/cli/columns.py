"""Which columns of a data set the model is given, where a command does not say.

Imports nothing of this package.
"""

from collections.abc import Sequence

import datasets


def input_columns(
    rows: datasets.Dataset, texts: Sequence[str], image: str | None, others: Sequence[str], name: str
) -> tuple[list[str], str | None]:
    """Return the columns of texts, or the column of images, that are named, or that alone there can be.

    Args:
        rows (`datasets.Dataset`): the rows.
        texts (`Sequence[str]`): columns of texts that were named: one, or two for pairs.
        image (`str`, *optional*): column of images that was named.
        others (`Sequence[str]`): columns that are something else: label and attributes.
        name (`str`): name of the data set, for messages.

    Returns:
        `tuple[list[str], str | None]`: columns of texts, or none and the column of images.

    Raises:
        ValueError: for columns that are not there, both kinds, more than two texts, and where nothing is named and not
            just one column can be meant.
    """
    found = rows.column_names
    missing = [column for column in (*texts, *([image] if image else []), *others) if column not in found]
    if missing:
        raise ValueError(f"{name} has no column {', '.join(map(repr, missing))}: it has {', '.join(found)}")
    if texts and image:
        raise ValueError("name columns of texts or a column of images, not both")
    if len(texts) > 2:
        raise ValueError(f"one text a row or a pair of texts is read; found the columns {', '.join(texts)}")
    if texts or image:
        return list(texts), image
    images = [column for column in found if isinstance(rows.features[column], datasets.Image)]
    words = [
        column
        for column in found
        if getattr(rows.features[column], "dtype", None) in ("string", "large_string") and column not in others
    ]
    if len(images) == 1:
        return [], images[0]
    if not images and len(words) == 1:
        return words, None
    raise ValueError(
        f"which column of {name} the model reads is not told: it has {', '.join(found)}. Name it with --text_column "
        "or --image_column"
    )
