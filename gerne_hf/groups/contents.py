"""What a data set holds, as hashes: of all its rows in their order, whole and undecoded, at little cost.

Imports [`hashing`](gerne_hf.utils.hashing), and [`sources`](gerne_hf.groups.sources) of this room. A
`datasets.Dataset` is hashed by the bytes of its Arrow columns; how they are cut into chunks does not matter. Images
and sounds count by their bytes as stored; where only a path is stored, by the file's name below the folder that all
files have in common, and its size.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from torch.utils.data import IterableDataset

from ..utils.hashing import Hashed, hash_value, mix
from .sources import ColumnAdded, RowsOf

LARGEST = 4 << 30
"""Bytes that are hashed of a data set that lies in files; of a larger one they are those of rows spread evenly."""

_COPIED = 32 << 20
"""Selected or shuffled rows of at most so many bytes are copied, so that they count as the same rows elsewhere would.
Of more rows the table they lie in is hashed as it is, with their numbers."""

_BLOCKS = 1024
"""In so many places rows are read of a data set that is larger than [`LARGEST`]."""


@dataclass(frozen=True)
class Content:
    """What is known of the rows of a data set.

    Args:
        rows (`str`): hash of the rows in their order, 32 hexadecimal digits.
        code (`str`): hash of the transform or format of the data set, and of the code that makes its rows; "" for
            none.
        files (`str`): hash of the names, sizes and times of change of the files whose bytes were not read; "" for
            none.
        unknown (`tuple[str, ...]`): in words, what of the data set no hash could be made of.
        read (`int`, *optional*): how many rows were read, where these are not all.
    """

    rows: str
    code: str = ""
    files: str = ""
    unknown: tuple[str, ...] = ()
    read: int | None = None

    @property
    def whole(self) -> str | None:
        """A hash of all that is known; None if a part is unknown, so that equal ones are the same for certain."""
        return None if self.unknown else mix(self.rows, self.code, self.files).hex()


def content_of(dataset: Any, columns: Sequence[str] | None = None) -> Content:
    """Return what is known of the rows of a data set. Nothing is decoded, and no transform runs.

    Args:
        dataset: a `datasets.Dataset`; or any other data set: what its object holds counts, such as arrays and lists.
            Paths that are plain texts count as texts, and their files are not looked at.
        columns (`Sequence[str]`, *optional*): the columns of a `datasets.Dataset` that count; all if not given.

    Returns:
        [`Content`]: equal ones have the same rows. Other ones may too: rows of more than 32 MB that were selected or
            shuffled count as others than a copy of them.

    Example:

    ```python
    >>> data = datasets.Dataset.from_dict({"text": ["a", "b", "c"]})
    >>> content_of(data.select([2, 0])) == content_of(datasets.Dataset.from_dict({"text": ["c", "a"]}))
    True
    >>> content_of(data) == content_of(data.select([1, 0, 2]))
    False

    ```
    """
    if isinstance(dataset, datasets.Dataset):
        return _of_dataset(dataset, columns)
    if isinstance(dataset, (IterableDataset, datasets.IterableDataset)):
        return Content(mix("stream").hex(), unknown=("the rows of a stream",))
    if isinstance(dataset, RowsOf):
        inner = content_of(dataset.dataset, columns)
        return _with(inner, mix("rows", inner.rows, np.ascontiguousarray(dataset.rows, dtype=np.int64).tobytes()))
    if isinstance(dataset, ColumnAdded):
        inner = content_of(dataset.dataset, columns)
        if columns is not None and dataset.name not in columns:
            return inner
        added = hash_value([dataset.name, dataset.codes, dataset.names]).data
        return _with(inner, mix("column added", inner.rows, added))
    collected: list[Content] = []

    def known(value: Any) -> Hashed | None:
        if isinstance(value, (datasets.Dataset, RowsOf, ColumnAdded)):
            collected.append(content_of(value))
            return Hashed(collected[-1].rows, collected[-1].code, collected[-1].unknown)
        if isinstance(value, (pa.Table, pa.ChunkedArray, pa.Array)):
            return Hashed(_of_arrow(value).hex(), "")
        if type(value).__name__ == "DataFrame" and type(value).__module__.startswith("pandas."):
            return Hashed(_of_arrow(pa.Table.from_pandas(value)).hex(), "")
        return None

    hashed = hash_value(dataset, known)
    files = mix(*(part.files for part in collected if part.files)).hex() if any(p.files for p in collected) else ""
    read = [part.read for part in collected if part.read is not None]
    return Content(hashed.data, hashed.code, files, hashed.unknown, min(read, default=None))


def _with(content: Content, rows: bytes) -> Content:
    return Content(rows.hex(), content.code, content.files, content.unknown, content.read)


def _of_arrow(value: Any) -> bytes:
    if isinstance(value, pa.Table):
        return mix("table", *(mix(name, _of_arrow(value[name])) for name in value.column_names))
    chunks = value.chunks if isinstance(value, pa.ChunkedArray) else [value]
    return _Columns().hash(chunks, value.type)


# ---- data sets of `datasets` ----------------------------------------------------------------------------------------


def _of_dataset(dataset: datasets.Dataset, columns: Sequence[str] | None) -> Content:
    table, indices = dataset.data.table, dataset._indices
    names = sorted(name for name in table.column_names if columns is None or name in columns)
    size = sum(table[name].nbytes for name in names)
    parts = {name: table[name].chunks for name in names}
    order, files, read = b"", list[str](), None
    if indices is not None:
        rows = indices.column(0).to_numpy().astype(np.int64)
        if size * len(rows) // max(len(table), 1) <= _COPIED:
            parts = {name: _gathered(chunks, rows) for name, chunks in parts.items()}
            size = 0
        else:
            order = xxhash.xxh3_128_digest(rows.data)
    if size > LARGEST and dataset.cache_files:
        block = max(1, len(table) * LARGEST // size // _BLOCKS)
        starts = np.linspace(0, max(len(table) - block, 0), _BLOCKS).astype(int).tolist()
        parts = {name: [c for start in starts for c in table[name].slice(start, block).chunks] for name in names}
        read = _BLOCKS * block
        for file in dataset.cache_files:
            files.append(f"{file['filename']} {_facts_of(file['filename'])}")
    look = _Columns()
    absent = sorted(set(columns or ()) - set(names))
    hashes = [mix(name, look.hash(parts[name], table[name].type)) for name in names]
    digest = mix("data set", str(len(dataset)), *(f"without {name}" for name in absent), *hashes, order)
    files += look.files
    style = dataset.format
    code, unknown = "", tuple[str, ...]()
    if style["type"] is not None:
        kept = None if sorted(style["columns"]) == sorted(dataset.column_names) else sorted(style["columns"])
        hashed = hash_value([style["type"], kept, style["output_all_columns"], style["format_kwargs"]])
        code, unknown = mix(hashed.data, hashed.code).hex(), hashed.unknown
    return Content(digest.hex(), code, mix("\0".join(files)).hex() if files else "", unknown, read)


def _gathered(chunks: list[pa.Array], rows: np.ndarray) -> list[pa.Array]:
    """Return rows of a column in their order, each read from its chunk alone."""
    if not chunks or not len(rows):
        return []
    ends = np.cumsum([len(chunk) for chunk in chunks])
    number = np.searchsorted(ends, rows, side="right")
    order = np.argsort(number, kind="stable")
    borders = np.searchsorted(number[order], np.arange(len(chunks) + 1))
    taken = []
    for i, chunk in enumerate(chunks):
        mine = order[borders[i] : borders[i + 1]]
        if len(mine):
            taken.append(chunk.take(pa.array(rows[mine] - (ends[i] - len(chunk)))))
    return [pa.concat_arrays(taken).take(pa.array(np.argsort(order)))]


class _Columns:
    """Hashes Arrow columns, whatever their chunks are. Files that they name are kept in `files`."""

    def __init__(self) -> None:
        self.files: list[str] = []

    def hash(self, chunks: list[pa.Array], kind: pa.DataType) -> bytes:
        """Return the hash of a column of one type, given in chunks."""
        types = pa.types
        if isinstance(kind, pa.BaseExtensionType):
            return self.hash([chunk.storage for chunk in chunks], kind.storage_type)
        if types.is_dictionary(kind):
            return self.hash([chunk.dictionary_decode() for chunk in chunks], kind.value_type)
        if types.is_null(kind):
            return mix("null", str(sum(map(len, chunks))))
        if types.is_struct(kind):
            return self._struct(chunks, kind)
        if types.is_string_view(kind) or types.is_binary_view(kind):
            return self.hash([chunk.cast(pa.large_binary()) for chunk in chunks], pa.large_binary())
        if _is_bytes(kind):
            return mix("bytes", *self._ragged(chunks, kind))
        if types.is_list(kind) or types.is_large_list(kind):
            if _is_plain(kind.value_type) and not any(chunk.flatten().null_count for chunk in chunks):
                return mix(f"list {kind.value_type}", *self._ragged(chunks, kind))
            lengths, valid = _lengths(chunks), _validity(chunks)
            return mix("lists", lengths, valid, self.hash([chunk.flatten() for chunk in chunks], kind.value_type))
        if types.is_fixed_size_list(kind):
            inner = self.hash([chunk.flatten() for chunk in chunks], kind.value_type)
            return mix(f"lists of {kind.list_size}", _validity(chunks), inner)
        if types.is_boolean(kind):
            return mix("bool", _validity(chunks), _plain_bytes([_filled(c).cast(pa.uint8()) for c in chunks], 1))
        if _is_plain(kind):
            return mix(str(kind), _validity(chunks), _plain_bytes([_filled(c) for c in chunks], kind.bit_width // 8))
        digest = xxhash.xxh3_128(str(kind).encode())
        for chunk in chunks:
            for value in chunk.to_pylist():
                digest.update(repr(value).encode())
        return digest.digest()

    def _struct(self, chunks: list[pa.Array], kind: pa.StructType) -> bytes:
        names = [kind.field(i).name for i in range(kind.num_fields)]
        if sorted(names) == ["bytes", "path"] and _is_bytes(kind.field("bytes").type):
            return self._media(chunks)
        valid = self.hash([chunk.is_valid() for chunk in chunks], pa.bool_())
        columns = [[chunk.flatten()[i] for chunk in chunks] for i in range(len(names))]
        kinds = [kind.field(i).type for i in range(len(names))]
        fields = [self.hash(column, field) for column, field in zip(columns, kinds, strict=True)]
        return mix("struct", valid, *names, *fields)

    def _media(self, chunks: list[pa.Array]) -> bytes:
        """Return the hash of images or sounds: of their bytes, and of the files where there are none."""
        at = chunks[0].type.get_field_index("bytes") if chunks else 0
        raw = [chunk.flatten()[at] for chunk in chunks]
        digest = mix("media", self.hash(raw, raw[0].type) if raw else b"")
        if not any(chunk.null_count for chunk in raw):
            return digest
        paths, lacking = [chunk.flatten()[1 - at] for chunk in chunks], [chunk.is_null() for chunk in raw]
        named = pa.chunked_array(paths).filter(pa.chunked_array(lacking)).to_pylist()
        present = [path for path in named if path is not None]
        start = os.path.commonprefix([min(present, default=""), max(present, default="")]).rfind("/") + 1
        facts = [_facts_of(path) for path in named]
        self.files += [f"{path} {size} {changed}" for path, (size, changed) in zip(named, facts, strict=True)]
        short = [f"{(path or '')[start:]} {size}" for path, (size, _) in zip(named, facts, strict=True)]
        return mix(digest, "\0".join(short))

    def _ragged(self, chunks: list[pa.Array], kind: pa.DataType) -> tuple[bytes, bytes, bytes]:
        """Return hashes of lengths, of validity and of bytes of rows that each lie in one piece."""
        digest = xxhash.xxh3_128()
        for chunk in chunks:
            offsets, view, width = _pieces(chunk.drop_null() if chunk.null_count else chunk, kind)
            digest.update(view[int(offsets[0]) * width : int(offsets[-1]) * width])
        return _lengths(chunks), _validity(chunks), digest.digest()


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    return any(is_(kind) for is_ in (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary))


def _is_plain(kind: pa.DataType) -> bool:
    """Return whether each value of a type has the same whole number of bytes."""
    types = pa.types
    return (
        types.is_primitive(kind) or types.is_decimal(kind) or types.is_fixed_size_binary(kind)
    ) and not types.is_boolean(kind)


def _width(kind: pa.DataType) -> int:
    return 1 if _is_bytes(kind) else kind.value_type.bit_width // 8


def _pieces(chunk: pa.Array, kind: pa.DataType) -> tuple[np.ndarray, memoryview, int]:
    """Return where each row of texts or lists begins and the last one ends, in items, the bytes, and those an item."""
    wide = pa.types.is_large_string(kind) or pa.types.is_large_binary(kind) or pa.types.is_large_list(kind)
    buffers, width = chunk.buffers(), _width(kind)
    if buffers[1] is None or not len(chunk):
        return np.zeros(len(chunk) + 1, dtype=np.int64), memoryview(b""), width
    offsets = np.frombuffer(buffers[1], dtype=np.int64 if wide else np.int32)[chunk.offset :][: len(chunk) + 1]
    if _is_bytes(kind):
        return offsets, memoryview(buffers[2] if buffers[2] is not None else b"").cast("B"), width
    values = chunk.values
    raw = values.buffers()[1]
    view = memoryview(raw if raw is not None else b"").cast("B")
    return offsets, view[values.offset * width :], width


def _lengths(chunks: list[pa.Array]) -> bytes:
    """Return the hash of how long each text or list is, null ones 0."""
    digest = xxhash.xxh3_128()
    for chunk in chunks:
        long = pc.binary_length(chunk) if _is_bytes(chunk.type) else pc.list_value_length(chunk)
        digest.update(np.ascontiguousarray(_filled(long).to_numpy(zero_copy_only=False), dtype=np.int64).data)
    return digest.digest()


def _validity(chunks: list[pa.Array]) -> bytes:
    """Return the hash of which rows are null."""
    count = sum(map(len, chunks))
    if not any(chunk.null_count for chunk in chunks):
        return mix(str(count), "no null")
    valid = np.concatenate([chunk.is_valid().to_numpy(zero_copy_only=False) for chunk in chunks])
    return mix(str(count), np.packbits(valid).tobytes())


def _filled(chunk: pa.Array) -> pa.Array:
    """Return values whose null ones are zeros."""
    if not chunk.null_count:
        return chunk
    zeros = pa.py_buffer(bytes(max(chunk.type.bit_width, 8) // 8 * len(chunk)))
    return pc.if_else(chunk.is_valid(), chunk, pa.Array.from_buffers(chunk.type, len(chunk), [None, zeros]))


def _plain_bytes(chunks: list[pa.Array], width: int) -> bytes:
    digest = xxhash.xxh3_128()
    for chunk in chunks:
        buffer = chunk.buffers()[1]
        if buffer is not None and len(chunk):
            digest.update(memoryview(buffer).cast("B")[chunk.offset * width : (chunk.offset + len(chunk)) * width])
    return digest.digest()


def _facts_of(path: str | None) -> tuple[int, int]:
    """Return size and time of change of a file; -1 where there is none on this machine."""
    try:
        facts = os.stat(path or "")
    except (OSError, ValueError):
        return -1, -1
    return facts.st_size, facts.st_mtime_ns
