"""NIR files from anywhere: what could read other files, fill the memory or never end is refused before anything is read."""

from __future__ import annotations

import math
from pathlib import Path

import h5py
import nir

from pascal_nm.errors import FileError, described
from pascal_nm.files import readable

SPARE_BYTES, MOST_SPARE_BYTES = 1 << 26, 1 << 28
"""By so much, and the file's size again up to so much, may arrays be larger than the file that holds them (compressed)."""

OBJECTS = 100_000
"""The most groups and arrays of a file."""

CHUNKS = 1 << 15
"""The most pieces that its arrays are stored in: HDF5 takes some 4 KB of memory for each."""

DEPTH = 32
"""The deepest nesting of groups."""


def read_raw(path: str | Path) -> nir.NIRGraph:
    """Read any NIR file, without nir's own check of types.

    Raises:
        FileError: missing, damaged, not NIR; or it links to other files, holds itself, or declares more than it can hold.
    """
    path = readable(path)
    if not h5py.is_hdf5(path):
        raise FileError(f"{path} is not a NIR file: it is not HDF5")
    try:
        with h5py.File(path, "r") as file:
            _Scan(path).group(file)
        raw = nir.read(str(path), type_check=False)
    except FileError:
        raise
    except Exception as error:  # nir and h5py raise many types for damaged files
        raise FileError(f"{path} cannot be read as NIR: it is damaged or incomplete ({described(error)})") from error
    if not isinstance(raw, nir.NIRGraph):
        raise FileError(f"{path} holds a single {type(raw).__name__}, not a NIR graph")
    return raw


class _Scan:
    """One pass over the objects of a file, without their values."""

    def __init__(self, path: Path) -> None:
        self.path = path
        size = path.stat().st_size
        self.room = size + min(SPARE_BYTES + size, MOST_SPARE_BYTES)
        self.groups: set[int] = set()
        self.objects = self.chunks = 0

    def group(self, group: h5py.Group, depth: int = 0) -> None:
        address = h5py.h5o.get_info(group.id).addr
        if address in self.groups:
            raise self.refused(f"its group {group.name} stands in two places")
        if depth > DEPTH:
            raise self.refused(f"its groups are nested more than {DEPTH} deep")
        self.groups.add(address)
        for name in group:
            self.objects += 1
            if self.objects > OBJECTS:
                raise self.refused(f"it holds more than {OBJECTS:,} objects")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise self.refused(f"{group.name}/{name} is a link to another place")
            item = group[name]
            if isinstance(item, h5py.Group):
                self.group(item, depth + 1)
            elif isinstance(item, h5py.Dataset):
                self.array(item)
            else:
                raise self.refused(f"{group.name}/{name} is a {type(item).__name__}, not an array")

    def array(self, array: h5py.Dataset) -> None:
        if array.external or array.is_virtual:
            raise self.refused(f"the values of {array.name} lie in other files")
        if array.dtype.kind not in "biuf" and h5py.check_string_dtype(array.dtype) is None and array.dtype.kind != "S":
            raise self.refused(f"{array.name} holds neither numbers nor text, but {array.dtype}")
        if array.chunks is not None:
            self.chunks += math.prod(-(-n // size) for n, size in zip(array.shape, array.chunks, strict=True))
        if self.chunks > CHUNKS:
            raise self.refused(f"its arrays are stored in more than {CHUNKS:,} pieces")
        self.room -= array.size * array.dtype.itemsize if array.size is not None else 0
        if self.room < 0:
            raise self.refused(f"{array.name} declares {array.shape}, more than a file of this size can hold")

    def refused(self, why: str) -> FileError:
        return FileError(f"{self.path} was not read: {why}")
