"""The names of a data set's columns."""

from typing import Any

import datasets
from torch.utils.data import IterableDataset


def column_names(dataset: Any) -> list[str]:
    """The names of a map-style data set's columns: its `column_names`, `columns` or keys.

    Raises:
        TypeError: if the data set has no columns, or is iterable only.
    """
    if isinstance(dataset, (IterableDataset, datasets.IterableDataset)):
        raise TypeError(
            f"{type(dataset).__name__} can only be iterated, and group sampling needs rows by index. Load the data "
            "set without streaming=True; or, to train on a stream, write it by group once with "
            "gerne_hf.streaming.partition_by_group and train on the GroupPartitions that it returns, or train on "
            "gerne_hf.streaming.ReservoirStream, which writes nothing"
        )
    for attribute in ("column_names", "columns"):
        names = getattr(dataset, attribute, None)
        if names is not None:
            return [str(name) for name in names]
    if isinstance(dataset, dict):
        return [str(name) for name in dataset]
    raise TypeError(
        f"{type(dataset).__name__} has no columns to read labels and attributes from. Use a datasets.Dataset, or give "
        "the data set an attribute `column_names` and let dataset[name] return that column's values"
    )
