"""`partition.json`, the file that says which parquet files of a folder hold the rows of which group.

Imports `groups`, `coding.py` and `shards.py`. `writing.py` writes it, `partitions.py` reads it.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import datasets
import numpy as np

from ..groups.index import GroupIndex
from .coding import GroupCoder, Key, StreamGroups
from .shards import Shard

FORMAT = "gerne_hf group partition"
"""The entry `format` of the file, by which it is known."""
VERSION = 1
"""The entry `version` of the file; another version is refused."""
DATA_PREFIX = "data-"
"""Prefix of the folders that hold data; `partition.json` says which one of them is valid."""


def folder_of(columns: tuple[str, ...], key: Key) -> str:
    """Return the name of a group's folder: its values, as far as file names allow, and a hash of them.

    Args:
        columns (`tuple[str, ...]`): the label column, then the attribute columns.
        key (`Key`): the group's values in these columns.

    Returns:
        `str`

    Example:

    ```python
    >>> folder_of(("label", "place"), ("bird", "open sea"))
    'label=bird_place=open-sea-ec726329'

    ```
    """
    text = "_".join(f"{name}={value}" for name, value in zip(columns, key, strict=True))
    digest = hashlib.sha256(repr([columns, key]).encode()).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9=._-]', '-', text)[:60]}-{digest}"


@dataclass(frozen=True, eq=False)
class Manifest:
    """Hold the content of `partition.json`.

    Args:
        groups ([`StreamGroups`]): names and counts of the groups.
        label_column (`str`), attribute_columns (`tuple[str, ...]`): the columns that the groups are made of.
        features (`datasets.Features`): features of the rows.
        shards (`list[list[Shard]]`): the files of each group, by group id.
        data (`str`): name of the sub-folder that holds the data.
        fingerprint (`str`): a hash of the source as it was read: of the group of every row, and the content of some.
    """

    groups: StreamGroups
    label_column: str
    attribute_columns: tuple[str, ...]
    features: datasets.Features
    shards: list[list[Shard]]
    data: str
    fingerprint: str

    NAME: ClassVar[str] = "partition.json"
    """Name of the file."""

    @classmethod
    def of(
        cls,
        coder: GroupCoder,
        features: datasets.Features,
        shards: dict[str, list[Shard]],
        data: str,
        fingerprint: str,
    ) -> "Manifest":
        """Return the manifest of what was written.

        Args:
            coder ([`GroupCoder`]): the groups found and their columns.
            features (`datasets.Features`): features of the rows.
            shards (`dict[str, list[Shard]]`): the files of each group, by the name of the group's folder.
            data (`str`): name of the sub-folder that holds the data.
            fingerprint (`str`): a hash of the source.

        Returns:
            [`Manifest`]
        """
        groups, ids = coder.groups()
        files: list[list[Shard]] = [[] for _ in range(groups.counts.size)]
        for key, group in zip(coder.codes, ids, strict=True):
            files[group] = shards[folder_of(coder.columns, key)]
        return cls(groups, coder.label_column, coder.attribute_columns, features, files, data, fingerprint)

    def write(self, fs: Any, root: str) -> None:
        """Write `partition.json` to a folder; a reader sees the whole file or, if there was one, the old file.

        Args:
            fs (`fsspec.AbstractFileSystem`), root (`str`): the folder as `fsspec` knows it.
        """
        groups = self.groups
        content = {
            "format": FORMAT,
            "version": VERSION,
            "fingerprint": self.fingerprint,
            "rows": len(groups),
            "label_column": self.label_column,
            "attribute_columns": list(self.attribute_columns),
            "label_names": groups.label_names,
            "attribute_names": groups.attribute_names,
            "attribute_values": groups.attribute_values,
            "counts": groups.counts.tolist(),
            "features": self.features.to_dict(),
            "data": self.data,
            "shards": [[asdict(shard) for shard in files] for files in self.shards],
        }
        partial = f"{root.rstrip('/')}/{self.NAME}.partial"
        with fs.open(partial, "w", encoding="utf-8") as file:
            json.dump(content, file, ensure_ascii=False, separators=(",", ":"))
        fs.mv(partial, f"{root.rstrip('/')}/{self.NAME}")

    @classmethod
    def read(cls, fs: Any, root: str, path: str) -> "Manifest":
        """Read `partition.json` from a folder.

        Args:
            fs (`fsspec.AbstractFileSystem`), root (`str`): the folder as `fsspec` knows it.
            path (`str`): the folder as the user named it, for messages.

        Returns:
            [`Manifest`]

        Raises:
            FileNotFoundError: if the folder has no such file.
            ValueError: if the file has another format or version, or is damaged.
        """
        try:
            with fs.open(f"{root.rstrip('/')}/{cls.NAME}", "r", encoding="utf-8") as file:
                content = json.load(file)
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(
                f"{path} holds no {cls.NAME}, so it is no partition, or its writing was interrupted. Write it with "
                "partition_by_group"
            ) from None
        except ValueError as error:
            raise ValueError(f"{path}/{cls.NAME} is damaged ({error}); write the partition anew") from None
        found = (content.get("format"), content.get("version")) if isinstance(content, dict) else (None, None)
        if found != (FORMAT, VERSION):
            raise ValueError(
                f"{path}/{cls.NAME} says format {found[0]!r}, version {found[1]!r}; this release of gerne_hf reads "
                f"{FORMAT!r}, version {VERSION}. Write the partition anew with partition_by_group"
            )
        try:
            return cls._of_content(content)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}/{cls.NAME} is damaged ({type(error).__name__}: {error}); write the partition anew"
            ) from error

    @classmethod
    def _of_content(cls, content: dict[str, Any]) -> "Manifest":
        """Return the manifest that the content of the file describes."""
        counts = np.array(content["counts"], dtype=np.int64)
        names = GroupIndex(
            tuple(content["label_names"]),
            tuple(content["attribute_names"]),
            tuple(map(tuple, content["attribute_values"])),
            *(counts,) * 3,
        )
        shards = [[Shard(**shard) for shard in files] for files in content["shards"]]
        if len(shards) != counts.size:
            raise ValueError(f"files of {len(shards)} groups, and {counts.size} counts")
        return cls(
            StreamGroups.of(names, counts),
            content["label_column"],
            tuple(content["attribute_columns"]),
            datasets.Features.from_dict(content["features"]),
            shards,
            content["data"],
            content["fingerprint"],
        )
