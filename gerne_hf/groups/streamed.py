"""Rows of a set that can only be iterated, with the names of their groups, for evaluation.

Imports modules of this room. Which groups a stream has is known when it has been read, so a row carries the name of
its attribute value itself, as numbers that a batch can hold.
[`StreamAccumulator`](gerne_hf.evaluation.streamed.StreamAccumulator) makes groups of them. Training needs rows by
group instead: [`stream`](gerne_hf.streaming.stream).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset

from .batches import GROUP_KEY
from .index import LABEL_COLUMNS
from .names import combined_name

NO_ATTRIBUTE = "all"
"""The attribute value of rows without an attribute column, as in [`GroupIndex`](gerne_hf.groups.index.GroupIndex)."""


class StreamedRows(IterableDataset):
    """A set that can only be iterated, and the columns in which its groups are found.

    Args:
        dataset: any iterable of rows that are dictionaries, such as a `datasets.IterableDataset`.
        label_column (`str`, *optional*): the column of the class; the first of [`LABEL_COLUMNS`] that a row has if not
            given.
        attribute_columns (`Sequence[str]`, *optional*): the columns whose values together are the attribute.
        overlapping_columns (`Sequence[str]`, *optional*): boolean columns, an attribute each.
        description (`str`, *optional*, defaults to `"evaluation"`): what the set is called in messages; rows of the
            set "test", which are to be predicted, may lack labels.
    """

    def __init__(
        self,
        dataset: Any,
        label_column: str | None = None,
        attribute_columns: Sequence[str] = (),
        overlapping_columns: Sequence[str] = (),
        description: str = "evaluation",
    ):
        self.dataset = dataset
        self.label_column = label_column
        self.attribute_columns = tuple(attribute_columns)
        self.overlapping_columns = tuple(overlapping_columns)
        self.description = description
        features = getattr(dataset, "features", None) or {}
        self.class_names = {name: kind.names for name, kind in features.items() if hasattr(kind, "int2str")}
        """By column, the names that its integers stand for, where the set has told them."""

    def __iter__(self) -> Iterator[Any]:
        return iter(self.dataset)

    def label_names(self) -> list[str] | None:
        """Return the names of the classes, where the set has told them."""
        names = (self.label_column,) if self.label_column else LABEL_COLUMNS
        return next((self.class_names[name] for name in names if name in self.class_names), None)

    def label_of(self, row: Any) -> Any:
        """Return the label of a row as it stands there; None for a row of the set "test" that has none.

        Raises:
            TypeError: for a row that is no dictionary.
            ValueError: for a row without a label.
        """
        if not isinstance(row, Mapping):
            raise TypeError(
                f"the {self.description} set, a stream, has rows of type {type(row).__name__}, and group metrics need "
                "rows with columns: dictionaries with the label and the attribute"
            )
        for name in (self.label_column,) if self.label_column else LABEL_COLUMNS:
            if name in row:
                return _plain(row[name])
        if self.description == "test":
            return None
        raise ValueError(
            f"the {self.description} set, a stream, has a row without a label: {self.label_column or LABEL_COLUMNS} "
            f"is not among its columns {', '.join(map(repr, row))}"
        )

    def attribute_of(self, row: Mapping[str, Any]) -> str:
        """Return the name of a row's attribute value; of overlapping attributes a "1" or "0" for each.

        Raises:
            TypeError, ValueError: for a missing column, and for values that are no categories, or no booleans.
        """
        columns = self.overlapping_columns or self.attribute_columns
        missing = [name for name in columns if name not in row]
        if missing:
            raise ValueError(
                f"the {self.description} set, a stream, has a row without the attribute column "
                f"{', '.join(map(repr, missing))}; its columns are {', '.join(map(repr, row))}"
            )
        values = [_plain(row[name]) for name in columns]
        for name, value in zip(columns, values, strict=True):
            if self.overlapping_columns and value not in (True, False):
                raise ValueError(f"columns of overlapping attributes must hold booleans; {name!r} holds {value!r}")
            if not isinstance(value, (bool, int, str)):
                raise TypeError(
                    f"attribute column {name!r} of the {self.description} set holds {value!r}; integers, booleans or "
                    "strings are needed"
                )
        if self.overlapping_columns:
            return "".join("1" if value else "0" for value in values)
        named = [
            self.class_names[name][value] if name in self.class_names and isinstance(value, int) else str(value)
            for name, value in zip(columns, values, strict=True)
        ]
        return combined_name(named) if len(named) > 1 else next(iter(named), NO_ATTRIBUTE)


NAME_WIDTH = 32
"""Numbers a name on several processes, so that a name has 256 bytes at most."""


class StreamCollator:
    """Collates rows of a stream with the user's collator, and adds the names of their attributes to the batch.

    They are `batch[GROUP_KEY]`, as numbers.

    Args:
        collator (`Callable`): the collator that the loader would use otherwise.
        rows ([`StreamedRows`]): the stream.
        num_classes (`int`, *optional*): number of classes that the model knows.
        hidden (`Sequence[str]`, *optional*): columns that are taken out of the batch.
        width (`int`, *optional*): numbers a name, where the batches of several processes must be alike.
    """

    def __init__(
        self,
        collator: Callable[[list[Any]], dict[str, Any]],
        rows: StreamedRows,
        num_classes: int | None = None,
        hidden: Sequence[str] = (),
        width: int | None = None,
    ):
        self.collator, self.rows, self.num_classes = collator, rows, num_classes
        self.hidden, self.width = tuple(hidden), width

    def __call__(self, features: list[Any]) -> dict[str, Any]:
        rows = self.rows
        labels = [rows.label_of(row) for row in features]
        names = None
        if labels[0] is not None:
            self._check_ids(labels)
            names = encoded_names([rows.attribute_of(row) for row in features], self.width)
        batch = self.collator(features)
        for name in self.hidden:
            batch.pop(name, None)
        if names is None:
            return batch
        self._check_order(batch.get("labels"), labels)
        batch[GROUP_KEY] = names
        return batch

    def _check_ids(self, labels: list[Any]) -> None:
        """Refuse labels that are no ids of the model's classes."""
        what = f"the {self.rows.description} set, a stream, has"
        wrong = next((label for label in labels if isinstance(label, bool) or not isinstance(label, int)), None)
        if wrong is not None:
            raise TypeError(f"{what} the label {wrong!r}; class ids are needed: map the stream to integers first")
        largest, smallest = max(labels), min(labels)
        if smallest < 0 or (self.num_classes is not None and largest >= self.num_classes):
            known = f"0..{self.num_classes - 1}" if self.num_classes is not None else "0 or more"
            raise ValueError(
                f"{what} the class id {smallest if smallest < 0 else largest}, and ids must be {known}. Filter out "
                "rows that the model cannot predict"
            )

    def _check_order(self, found: Any, expected: list[int]) -> None:
        """Refuse a collator that returned rows in another order, or other labels."""
        labels = torch.as_tensor(found) if found is not None else None
        if labels is None or labels.shape != (len(expected),) or labels.tolist() != expected:
            name = getattr(self.collator, "__name__", type(self.collator).__name__)
            raise ValueError(
                f"the collator {name} did not return the labels of the rows as they came, as 'labels'; group metrics "
                "need them row by row, so a collator must keep the rows and their order"
            )


def stream_of(dataset: Any) -> StreamedRows | None:
    """Return the rows of a stream, also from within the shards that Accelerate makes of it; None for other sets.

    Args:
        dataset: the data set of a loader.
    """
    while not isinstance(dataset, StreamedRows):
        if not isinstance(dataset, IterableDataset) or not hasattr(dataset, "dataset"):
            return None
        dataset = dataset.dataset
    return dataset


def encoded_names(names: Sequence[str], width: int | None = None) -> torch.Tensor:
    """Return names as numbers, which batches can hold and processes exchange.

    Args:
        names (`Sequence[str]`): one a row.
        width (`int`, *optional*): L; as many as the longest name needs if not given.

    Returns:
        `torch.Tensor` of shape `(B, L)`, int64: eight bytes of the name in UTF-8 each, zeros after its end.

    Raises:
        ValueError: for a name longer than `8 L` bytes.

    Example:

    ```python
    >>> encoded_names(["sea", "", "a longer name"]).shape
    torch.Size([3, 2])

    ```
    """
    texts = [name.encode() for name in names]
    needed = max(1, *(-(-len(text) // 8) for text in texts))
    width = needed if width is None else width
    if needed > width:
        raise ValueError(
            f"on several processes the name of an attribute value in a stream has {8 * width} bytes at most; found "
            f"one of {max(map(len, texts))}. Shorten such values"
        )
    return torch.from_numpy(np.array([np.frombuffer(text.ljust(8 * width, b"\0"), dtype="<i8") for text in texts]))


def decoded_names(codes: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return names of which [`encoded_names`] returned the numbers, each once.

    Args:
        codes (int array of shape `(N, L)`): as returned there, perhaps filled up with -100, as `Trainer` does.

    Returns:
        `tuple[np.ndarray, list[str]]`: for each row the place of its name, int64 of shape `(N,)`, and the names.

    Example:

    ```python
    >>> places, names = decoded_names(encoded_names(["sea", "land", "sea"]).numpy())
    >>> [names[place] for place in places]
    ['sea', 'land', 'sea']

    ```
    """
    filled = np.where(codes == -100, 0, codes).astype("<i8")  # no UTF-8 has the bytes of -100
    found, places = np.unique(filled, axis=0, return_inverse=True)
    return places.ravel(), [row.tobytes().rstrip(b"\0").decode() for row in found]


def _plain(value: Any) -> Any:
    """Return a number of NumPy or torch as Python's own."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
