"""Rows as features of a frozen backbone: computed once, kept memory-mapped in Arrow files, read in place of images.

Imports `utils/`, `groups/`, `hub/` and `models/`. Which models they are for:
[`frozen`](gerne_hf.models.frozen). The recipes ask for them in `recipes/features.py`.
"""

import contextlib
import functools
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from typing import Any

import datasets
import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, tqdm
from datasets.arrow_writer import ArrowWriter
from torch.utils.data import DataLoader, Dataset, Subset, default_collate
from transformers import PreTrainedModel

from ..groups.contents import content_of
from ..groups.sources import FEATURE_ROW, column_names
from ..hub.repositories import hub_origin
from ..models.heads import head_inputs
from ..utils.distributed import locked_by_main
from ..utils.hashing import mix

FEATURES_FOLDER = "_features"
"""Folder of the features in `output_dir`; `Trainer` pushes nothing whose name begins with an underscore."""

_COLUMN = "pixel_values"
_UNKNOWN = "unnamed"
_WRITTEN_ROWS = 1000


class FeatureTransform:
    """Turn rows of a `datasets.Dataset` into `pixel_values`, their features, and the other fields that they had.

    For `Dataset.with_transform`; the rows tell by a column of numbers which features are theirs, so that selected,
    shuffled and split rows keep them.

    Args:
        place (`str`): folder of the features' Arrow files, which are memory-mapped.
    """

    def __init__(self, place: str):
        self.place = place

    def __call__(self, rows: dict[str, list[Any]]) -> dict[str, Any]:
        return _read(self.place).fields(rows[FEATURE_ROW])


class FeatureRows(Dataset):
    """The rows of a data set of images, other than a `datasets.Dataset`, with features in place of pixels.

    `data[i]` is `pixel_values`, the features of shape `(D,)`, and what else the row had, its label; columns are those
    of the images' data set.

    Args:
        rows: a map-style data set of images with columns.
        place (`str`): folder of the features' Arrow files, which are memory-mapped.
    """

    def __init__(self, rows: Any, place: str):
        self.shown = rows
        """The rows as people see them."""
        self.place = place
        self.table = _read(place).rows
        self.column_names = column_names(rows)
        if hasattr(rows, "label_names"):
            self.label_names = rows.label_names

    @property
    def origin(self) -> tuple[str, str] | None:
        """Id and commit on the Hub, where the images came from there."""
        return hub_origin(self.shown)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, key: int | str) -> Any:
        return self.shown[key] if isinstance(key, str) else self.__getitems__([key])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return rows with `pixel_values` of shape `(D,)`, float32, and the other fields of the rows."""
        fields = _read(self.place).fields(indices)
        return [dict(zip(fields, values, strict=True)) for values in zip(*fields.values(), strict=True)]


class _Table:
    """The fields of rows in Arrow files, memory-mapped: features as arrays that are views of the files."""

    def __init__(self, place: str):
        files = sorted(os.path.join(place, file) for file in os.listdir(place) if file.endswith(".arrow"))
        parts = [datasets.Dataset.from_file(file) for file in files]
        self.rows = datasets.concatenate_datasets([part for part in parts if len(part)] or parts[:1])
        table = self.rows.data.table
        width = table[_COLUMN].type.list_size
        self.chunks = [
            part.flatten().to_numpy(zero_copy_only=True).reshape(-1, width) for part in table[_COLUMN].chunks
        ]
        self.starts = np.cumsum([0, *map(len, self.chunks)])
        self.others = {name: table[name].to_numpy() for name in table.column_names if name != _COLUMN}

    def fields(self, rows: Sequence[int]) -> dict[str, Any]:
        """Return the fields of some rows: features of shape `(n, D)`, and lists of numbers."""
        numbers = np.asarray(rows, dtype=np.int64)
        lying = np.searchsorted(self.starts, numbers, side="right") - 1
        features = np.empty((len(numbers), self.chunks[0].shape[1]), dtype=np.float32)
        for i in np.unique(lying):
            mine = lying == i
            features[mine] = self.chunks[i][numbers[mine] - self.starts[i]]
        others = {name: values[numbers].tolist() for name, values in self.others.items()}
        return {_COLUMN: torch.from_numpy(features), **others}


@functools.lru_cache(maxsize=16)
def _read(place: str) -> _Table:
    """Return the table in a folder."""
    return _Table(place)


def _with_features(rows: Any, place: str) -> Any:
    """Return a data set with features in place of pixels; a `datasets.Dataset` stays one, with all its columns."""
    if not isinstance(rows, datasets.Dataset):
        return FeatureRows(rows, place)
    lying = len(rows.data.table)  # of which selected rows are some
    numbers = np.arange(lying)
    if rows._indices is not None:
        chosen = rows._indices.column(0).to_numpy()
        numbers = np.full(lying, -1)
        numbers[chosen] = np.arange(len(chosen))  # of a row that was selected twice either has its features
    column = datasets.Dataset.from_dict({FEATURE_ROW: numbers})
    kinds = datasets.Features({**rows.features, **column.features})
    info = rows.info.copy()
    info.features = kinds
    table = datasets.table.concat_tables([rows.data, column.data], axis=1)
    whole = datasets.Dataset(table, info, rows.split, rows._indices)
    return whole.with_transform(FeatureTransform(place), columns=[FEATURE_ROW])


def is_features(rows: Any) -> bool:
    """Return whether rows are features of a frozen backbone in place of images.

    Args:
        rows: any data set.
    """
    if isinstance(rows, datasets.Dataset):
        return isinstance(rows.format["format_kwargs"].get("transform"), FeatureTransform)
    return isinstance(rows, FeatureRows)


def feature_rows(
    model: PreTrainedModel,
    rows: Any,
    folder: str,
    backbone: str,
    name: str = "",
    batch_size: int = 128,
    num_workers: int = 0,
    dtype: torch.dtype | None = None,
    quiet: bool = False,
) -> Any:
    """Return rows with their features, from files where these have been computed before.

    All processes call it. Each computes its part of the rows and writes it to a file, and then reads those of all.

    Args:
        model ([`~transformers.PreTrainedModel`]): an image classifier on the device to compute on, the same on all
            processes; put into evaluation mode.
        rows: a map-style data set of rows with `pixel_values` and numbers, such as the label.
        folder (`str`): where the files lie, on a disk that all processes see, a sub-folder for each set. Its name is
            a hash of the rows, their transform and `backbone`. Of rows of which no hash can be made, features are
            computed anew each time.
        backbone (`str`): hash of all that decides on the features of an image, from
            [`backbone_checksum`](gerne_hf.models.frozen.backbone_checksum).
        name (`str`, *optional*): what the rows are called in messages.
        batch_size (`int`, *optional*, defaults to `128`): rows of a forward.
        num_workers (`int`, *optional*, defaults to `0`): processes that prepare the images.
        dtype (`torch.dtype`, *optional*): type of autocast, bfloat16 or float16; float32 throughout if not given.
        quiet (`bool`, *optional*, defaults to `False`): whether to show no progress bar.

    Returns:
        A `datasets.Dataset` where `rows` is one, [`FeatureRows`] otherwise.

    Raises:
        FolderInUseError: if another run computes features in this folder.
    """
    state = PartialState()
    known = content_of(rows).whole
    key = f"{_UNKNOWN}-{name}" if known is None else mix(known, backbone, str(dtype)).hex()
    place = os.path.join(folder, key)
    (found,) = broadcast_object_list([known is not None and os.path.isdir(place)])
    if found:
        state.print(f"The features of {len(rows):,} {name} rows were computed before: {place}")
        return _with_features(rows, place)
    way_out = "wait until it has ended, or give another --features_dir"
    with locked_by_main(folder, "computing features", way_out, state.is_main_process, state.num_processes):
        partial = f"{place}.partial"
        if state.is_main_process:
            for left in (place, partial):
                shutil.rmtree(left, ignore_errors=True)
            os.makedirs(partial)
        state.wait_for_everyone()
        begun = time.perf_counter()
        first, end = (len(rows) * i // state.num_processes for i in (state.process_index, state.process_index + 1))
        part = os.path.join(partial, f"{state.process_index:05d}.arrow")
        text = f"Features of {name} rows, once"
        loader = DataLoader(
            Subset(rows, range(first, end)),
            batch_size,
            collate_fn=default_collate,
            num_workers=num_workers,
            generator=torch.Generator(),  # the global one is left as it is
        )
        _write(part, model, tqdm(loader, desc=text, disable=quiet or None), dtype)
        state.wait_for_everyone()
        if state.is_main_process:
            os.replace(partial, place)
        _read.cache_clear()
        state.wait_for_everyone()
    state.print(f"Computed the features of {len(rows):,} {name} rows once, in {time.perf_counter() - begun:.0f} s.")
    return _with_features(rows, place)


@torch.inference_mode()
def _write(path: str, model: PreTrainedModel, batches: Any, dtype: torch.dtype | None) -> None:
    """Compute the features of batches and write them to an Arrow file, a thousand rows at a time."""
    model.eval()
    writer: ArrowWriter | None = None
    for batch in batches:
        pixels = batch.pop(_COLUMN).to(model.device)
        with _autocast(model.device.type, dtype):
            features = head_inputs(model, pixels)[0].float().cpu().numpy()
        others = {name: np.asarray(values) for name, values in batch.items()}
        if writer is None:
            kinds = {name: datasets.Value(str(values.dtype)) for name, values in others.items()}
            kinds[_COLUMN] = datasets.List(datasets.Value("float32"), length=features.shape[1])
            writer = ArrowWriter(features=datasets.Features(kinds), path=path, writer_batch_size=_WRITTEN_ROWS)
        writer.write_batch({**others, _COLUMN: features})
    if writer is not None:  # a process may have no rows
        writer.finalize()
        writer.close()


@contextlib.contextmanager
def _autocast(device: str, dtype: torch.dtype | None) -> Iterator[None]:
    if dtype is None:
        yield
        return
    with torch.autocast(device, dtype=dtype):
        yield
