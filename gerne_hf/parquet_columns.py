"""Columns of parquet files, read one at a time and chunk by chunk: what a group index needs of data on disk."""

import os
from collections.abc import Iterator, Sequence

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

_CHUNK_ROWS = 1 << 20


class ParquetColumns:
    """The columns of parquet files as if they were one table; nothing is held but the files' footers.

    Args:
        files (`str` or `Sequence[str]`): the files, in the order of the rows.

    Raises:
        FileNotFoundError: for a file that does not exist.
        ValueError: without files, for a file that is no parquet file, and for files of different columns.
    """

    def __init__(self, files: str | os.PathLike | Sequence[str | os.PathLike]):
        self.files = [os.fspath(f) for f in ([files] if isinstance(files, (str, os.PathLike)) else files)]
        if not self.files:
            raise ValueError("no parquet files are given; name at least one")
        self._length = 0
        for path in self.files:
            with _open(path) as file:
                schema = file.schema_arrow
                self._length += file.metadata.num_rows
            if path == self.files[0]:
                self.schema = schema
                self.features = datasets.Features.from_arrow_schema(schema)
            elif datasets.Features.from_arrow_schema(schema) != self.features:
                raise ValueError(
                    f"{path} has the columns {_describe(schema)}, and {self.files[0]} has {_describe(self.schema)}. "
                    "Write both with the same features"
                )

    @property
    def column_names(self) -> list[str]:
        """The names of the top-level columns."""
        return list(self.schema.names)

    def __len__(self) -> int:
        return self._length

    def chunks(self, name: str, rows: range | None = None) -> Iterator[pa.Array]:
        """The values of one column, row group by row group and at most about a million rows at a time; no other column
        is read, and of the row groups only those that hold some of `rows`."""
        rows, position = range(len(self)) if rows is None else rows, 0
        kind = self.schema.field(name).type
        # A text that occurs often is decoded once a row group, not once a row.
        texts = [name] if pa.types.is_string(kind) or pa.types.is_large_string(kind) else None
        for path in self.files:
            with _open(path, texts) as file:
                for group in range(file.num_row_groups):
                    size = file.metadata.row_group(group).num_rows
                    if not (position < rows.stop and position + size > rows.start):
                        position += size
                        continue
                    for batch in file.iter_batches(_CHUNK_ROWS, [group], [name], use_threads=False):
                        first, end = max(rows.start - position, 0), min(rows.stop - position, len(batch))
                        if first < end:
                            yield batch.column(0).slice(first, end - first)
                        position += len(batch)


def _open(path: str, read_dictionary: list[str] | None = None) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, read_dictionary=read_dictionary)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no parquet file {path}") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} cannot be read as a parquet file: {error}") from error


def _describe(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)
