"""Arrays of .npy and .npz files from anywhere: their size is known before they are read."""

from __future__ import annotations

import contextlib
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.common.memory import check_fits
from pascal_nm.data.foreign import shown, told
from pascal_nm.errors import DataError

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
"""By version of the format; version 3 is for names of fields, which plain numbers have none of."""


class Stored:
    """An array in a file.

    Attributes:
        name: what an error calls it.
        shape: of the array.
        dtype: of its numbers.
    """

    def __init__(self, name: str, file: Any, size: int) -> None:
        """Read the header of ``file``, which has ``size`` bytes in all.

        Raises:
            DataError: damaged or truncated.
        """
        self.name, self._file = name, file
        with told(f"{name} cannot be read as an array"):
            self.shape, self._columns_first, self.dtype = _HEADERS[np.lib.format.read_magic(file)](file)
        if self.dtype.hasobject:
            raise DataError(f"{name} holds values of type {self.dtype}, numbers are needed")
        needed = math.prod(self.shape) * self.dtype.itemsize
        if needed > size:
            raise DataError(f"{name} is damaged or truncated: its array takes {needed:,} bytes, the file has {size:,}")

    def first(self, count: int | None = None) -> Array:
        """The first ``count`` entries along the first axis, or all.

        Raises:
            DataError: it holds anything but numbers, is truncated, or has no room in memory.
        """
        if self.dtype.kind not in "buif":
            raise DataError(f"{self.name} holds values of type {self.dtype}, numbers are needed")
        return self._entries(count)

    def texts(self) -> tuple[str, ...]:
        """Its entries as texts.

        Raises:
            DataError: it holds anything but a list of texts.
        """
        if self.dtype.kind != "U" or len(self.shape) != 1:
            raise DataError(f"{self.name} of {self.dtype} and shape {self.shape} is no list of texts")
        with told(f"{self.name} cannot be read as texts"):
            return tuple(str(entry) for entry in self._entries(None).tolist())

    def _entries(self, count: int | None) -> Array:
        rows, *entry = self.shape or (1,)
        taken = rows if count is None else min(count, rows)
        if self._columns_first:
            check_fits(self.name, rows, tuple(entry), self.dtype.itemsize)
            return self._values(rows * math.prod(entry)).reshape(self.shape[::-1]).T[:taken]
        check_fits(self.name, taken, tuple(entry), self.dtype.itemsize)
        return self._values(taken * math.prod(entry)).reshape((taken, *entry) if self.shape else ())

    def _values(self, count: int) -> Array:
        values = bytearray(count * self.dtype.itemsize)
        view, done = memoryview(values), 0
        with told(f"{self.name} cannot be read as an array"):
            while read := self._file.readinto(view[done:]):
                done += read
        if done < len(values):
            raise DataError(f"{self.name} is truncated: {done:,} bytes of {len(values):,} are there")
        return np.frombuffer(values, self.dtype).astype(self.dtype.newbyteorder("="), copy=False)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[dict[str, Stored]]:
    """The arrays of a .npz file by name, or that of a .npy file, which has the name ``frames``.

    Raises:
        DataError: damaged.
    """
    name = shown(path.name)
    with contextlib.ExitStack() as stack:
        with told(f"{name} cannot be read as arrays"):
            file = stack.enter_context(path.open("rb"))
            if path.suffix == ".npy":
                arrays = {"frames": Stored(name, file, path.stat().st_size)}
            else:
                archive = stack.enter_context(zipfile.ZipFile(file))
                arrays = {
                    member.filename.removesuffix(".npy"): Stored(
                        f"{member.filename!a} of {name}", stack.enter_context(archive.open(member)), member.file_size
                    )
                    for member in archive.infolist()
                }
        yield arrays
