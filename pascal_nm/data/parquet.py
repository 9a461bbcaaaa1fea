"""Parquet files of labelled images from anywhere.

They are read a few rows at a time, and of an image only the bytes that the file holds.

``datasets`` stores an image as its bytes and a path. The path is never followed: it could be that
of any file, device or server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pascal_nm.common.files import readable
from pascal_nm.common.packages import require
from pascal_nm.errors import DataError, PascalError, first_line

_ROWS = 8
"""Rows that are read at a time. A file stores an image once that stands in all of them."""

EXPANSION, SPARE_BYTES = 100, 1 << 25
"""By so much may what a file holds be larger than what is stored of it, and by so much more."""

_ROWS_EXPANSION, _ROWS_SPARE_BYTES, _ROW_BYTES = 20, 1 << 24, 256
"""The same of its rows as they are read, where each counts as so many bytes more: images are
compressed already, and differ."""


def opened(path: str | Path) -> Any:
    """A Parquet file that is read page by page.

    Raises:
        DataError: damaged, or with more in it than a file of its size can hold.
        FileError: missing or empty.
    """
    try:
        file = require("pyarrow.parquet").ParquetFile(readable(path), buffer_size=1 << 20)
        # What a file says of single columns is not asked for: where that is damaged, pyarrow
        # ends the process.
        size = sum(file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups))
        if size > EXPANSION * Path(path).stat().st_size + SPARE_BYTES:
            raise DataError(
                f"{path} was not read: it is said to hold {size / 1e9:.1f} GB, more than {EXPANSION} times its size"
            )
        return file
    except PascalError:
        raise
    except Exception as error:  # pyarrow raises its own and OS errors for damaged files
        raise DataError(f"{path} cannot be read as Parquet: {first_line(error)}") from error


def rows(path: str | Path, columns: Sequence[str], groups: Sequence[int] | None = None) -> Iterator[tuple[Any, ...]]:
    """The values of some columns, row by row; of an image as ``datasets`` stores it, the bytes.

    Args:
        path: a Parquet file.
        columns: names of columns.
        groups: indices of the row groups to read; by default all.

    Raises:
        DataError: the file is damaged, or says the same again and again.
    """
    file = opened(path)
    room = _ROWS_EXPANSION * Path(path).stat().st_size + _ROWS_SPARE_BYTES
    try:
        chosen = range(file.metadata.num_row_groups) if groups is None else groups
        for batch in file.iter_batches(_ROWS, list(chosen), list(columns), use_threads=False):
            room -= batch.nbytes + _ROW_BYTES * len(batch)
            if room < 0:
                raise DataError(f"{path} was not read: its rows are more than {_ROWS_EXPANSION} times its size")
            yield from zip(*(map(_stored, batch.column(name).to_pylist()) for name in columns), strict=True)
    except PascalError:
        raise
    except Exception as error:  # pyarrow raises its own and OS errors for damaged files
        raise DataError(f"{path} cannot be read as Parquet: {first_line(error)}") from error


def _stored(value: Any) -> Any:
    return value.get("bytes") if isinstance(value, dict) else value


def class_names(schema: Any, column: str) -> tuple[str, ...]:
    """The names of a column's labels, as ``datasets`` keeps them in an Arrow schema.

    There may be none. (``datasets`` is Hugging Face's.)
    """
    try:
        found = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"][column]["names"]
        return tuple(found) if all(isinstance(name, str) for name in found) else ()
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()
