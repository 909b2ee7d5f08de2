"""Loading a data set from the Hub, from files, or from a folder of `save_to_disk`."""

import os

import datasets


def load_splits(name: str, config: str | None = None) -> datasets.DatasetDict:
    """All splits of a data set.

    Args:
        name (`str`): a Hub id, a folder of data files (parquet, CSV, images, ...), or a folder of `save_to_disk`.
        config (`str`, *optional*): the configuration on the Hub.

    Returns:
        `datasets.DatasetDict`
    """
    if os.path.isfile(os.path.join(name, "dataset_dict.json")):
        return datasets.DatasetDict.load_from_disk(name)
    return datasets.load_dataset(name, config)


def require_columns(dataset: datasets.Dataset, needed: list[str], name: str) -> None:
    """Raise a `ValueError` that names the columns found and needed, unless all of `needed` are there."""
    missing = [column for column in needed if column not in dataset.column_names]
    if missing:
        raise ValueError(
            f"{name} lacks the columns {', '.join(missing)}: it has {', '.join(dataset.column_names)}, and "
            f"{', '.join(needed)} are needed. Pass another --dataset_name, or rename its columns"
        )


def require_splits(splits: datasets.DatasetDict, needed: list[str], name: str) -> None:
    """Raise a `ValueError` that names the splits found and needed, unless all of `needed` are there."""
    missing = [split for split in needed if split not in splits]
    if missing:
        raise ValueError(
            f"{name} lacks the splits {', '.join(missing)}: it has {', '.join(splits)}, and {', '.join(needed)} are "
            "needed"
        )
