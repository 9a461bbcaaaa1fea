"""NIR files from anywhere.

Refused is what could read other files, fill the memory, never end or crash HDF5.

HDF5 is C, and damaged bytes can send it into a loop. A child process with limits
(:mod:`pascal_nm.export.confined`) looks through the file and reads it; this process takes
plain arrays and texts from it, checks the fields of every node, and only then lets nir
make nodes of them.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
from h5py import h5d, h5g, h5l, h5o, h5s, h5z

from pascal_nm.common.files import readable
from pascal_nm.errors import FileError, GraphError, described
from pascal_nm.export import confined, nir_nodes

_SPARE_BYTES, _MOST_SPARE_BYTES = 1 << 26, 1 << 28
"""By so much, and the file's size again up to so much, may arrays be larger than the file that
holds them (compressed)."""

_OBJECTS = 20_000
"""The most groups and arrays of a file."""

_CHUNKS = 1 << 15
"""The most pieces that its arrays are stored in: HDF5 takes some 4 KB of memory for each."""

_DEPTH = 32
"""The deepest nesting of groups."""

_TEXTS, _TEXT_BYTES = 100_000, 1 << 24
"""The most texts of a file, and what they may take together: many of them may stand for the same
bytes of the file."""

NAME = 1000
"""The longest name of a group or array."""

_SECONDS, _BYTES_PER_SECOND = 2, 1 << 22
"""Processor time to read a file, and how much of its size takes another second. Files of this
package take a tenth of it."""

_MEMORY = 1 << 27
"""Bytes for HDF5 itself, beside the arrays, which it may hold once more."""

_FILTERS = {h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32, h5z.FILTER_SZIP, h5z.FILTER_LZF}
"""Compressions that HDF5 and h5py bring themselves; for others, HDF5 looks for a
library to load."""

_ALIGNMENT = 64


def read_raw(path: str | Path) -> nir.NIRGraph:
    """Read any NIR file, without nir's own check of types.

    Texts are str, arrays have the machine's byte order.

    Raises:
        FileError: missing, damaged, not NIR; or it links to other files, holds itself, declares
            more than it can hold, or has nodes whose fields are of a wrong type or rank.
    """
    path = readable(path)
    try:
        content = _content(path)
        if not isinstance(content.get("node"), dict):
            raise FileError(f"{path} is not a NIR file: it has no group 'node'")
        nir_nodes.check_content("node", content["node"])
        raw = nir.dict2NIRNode(_unchecked(content["node"]))
    except GraphError as error:
        raise FileError(f"{path} cannot be read as NIR: {error}") from error
    except FileError:
        raise
    except Exception as error:  # nir raises many types for what is left
        raise FileError(f"{path} cannot be read as NIR: it is damaged or incomplete ({described(error)})") from error
    if not isinstance(raw, nir.NIRGraph):
        raise FileError(f"{path} holds a single {type(raw).__name__}, not a NIR graph")
    return raw


def least_size(arrays: int) -> int:
    """Bytes that a file has at least from which arrays of so many bytes are taken."""
    return max((arrays - _SPARE_BYTES + 1) // 2, arrays - _MOST_SPARE_BYTES)


def _unchecked(content: dict[str, Any]) -> dict[str, Any]:
    """A graph's content, and that of graphs inside it, without nir's check of shapes.

    That check takes every kernel for a square one.
    """
    if content["type"] != "NIRGraph":
        return content
    return {
        **content,
        "nodes": {name: _unchecked(node) for name, node in content["nodes"].items()},
        "type_check": False,
    }


def _content(path: Path) -> dict[str, Any]:
    """The groups of a file as dictionaries."""
    size = path.stat().st_size
    room = size + min(_SPARE_BYTES + size, _MOST_SPARE_BYTES)
    shared = mmap.mmap(-1, room)  # pages that nothing is written to take no memory
    content: dict[str, Any] = {}
    for names, kind, *about in confined.answers(
        lambda answer: _answer(path, shared, answer), _SECONDS + size // _BYTES_PER_SECOND, size + _MEMORY
    ):
        *groups, name = names
        place = content
        for group in groups:
            place = place[group]
        place[name] = _value(shared, kind, *about)
    return content


def _value(shared: mmap.mmap, kind: str, *about: Any) -> Any:
    if kind == "group":
        return {}
    if kind == "texts":
        texts, shape = about
        return texts[0] if shape == [] else np.array(texts, object).reshape(shape)
    dtype, shape, start = about
    array = np.frombuffer(shared, dtype, math.prod(shape), start).reshape(shape)
    return array[()]  # a scalar where there are no axes, as nir gives it


def _answer(path: Path, shared: mmap.mmap, answer: confined.Answer) -> None:
    """The child's work.

    Arrays go into ``shared``; all else, and the places of arrays there, go into the answers.
    """
    if not h5py.is_hdf5(path):
        raise FileError(f"{path} is not a NIR file: it is not HDF5")
    with h5py.File(path, "r") as file:
        for item in _Scan(path, shared).group(file["/"].id, []):
            answer(item)


class _Scan:
    """One pass over the objects of a file.

    What it finds: (names, "group"), (names, "texts", texts, shape), (names, "array",
    dtype, shape, start).
    """

    def __init__(self, path: Path, shared: mmap.mmap) -> None:
        self.path, self.shared = path, shared
        self.groups: set[int] = set()
        self.objects = self.chunks = self.used = self.texts = self.text_bytes = 0

    def group(self, group: h5g.GroupID, names: list[str]) -> Iterator[tuple[Any, ...]]:
        address = h5o.get_info(group).addr
        if address in self.groups:
            raise self.refused(f"its group /{'/'.join(names)} stands in two places")
        if len(names) > _DEPTH:
            raise self.refused(f"its groups are nested more than {_DEPTH} deep")
        self.groups.add(address)
        for raw in group:
            self.objects += 1
            if self.objects > _OBJECTS:
                raise self.refused(f"it holds more than {_OBJECTS:,} objects")
            inner = [*names, self.name(raw)]
            place = "/" + "/".join(inner)
            if group.links.get_info(raw).type != h5l.TYPE_HARD:
                raise self.refused(f"{place} is a link to another place")
            item = h5o.open(group, raw)
            if isinstance(item, h5g.GroupID):
                yield inner, "group"
                yield from self.group(item, inner)
            elif isinstance(item, h5d.DatasetID):
                yield inner, *self.array(item, place)
            else:
                raise self.refused(f"{place} is a {type(item).__name__}, not an array")

    def name(self, raw: bytes) -> str:
        name = raw.decode("utf8", "replace")
        if len(name) > NAME or not name.isprintable() or "�" in name:
            raise self.refused(f"it holds a name that is too long or not printable: {name[:40]!a}")
        return name

    def array(self, array: h5d.DatasetID, place: str) -> tuple[Any, ...]:
        shape, dtype, properties = array.shape, array.dtype, array.get_create_plist()
        if properties.get_external_count() or properties.get_layout() == h5d.VIRTUAL:
            raise self.refused(f"the values of {place} lie in other files")
        if {properties.get_filter(i)[0] for i in range(properties.get_nfilters())} - _FILTERS:
            raise self.refused(f"{place} is compressed in a way that needs a library of its own")
        if shape is None:
            raise self.refused(f"{place} holds nothing")
        if properties.get_layout() == h5d.CHUNKED:
            self.chunks += math.prod(-(-n // size) for n, size in zip(shape, properties.get_chunk(), strict=True))
        if self.chunks > _CHUNKS:
            raise self.refused(f"its arrays are stored in more than {_CHUNKS:,} pieces")
        if h5py.check_string_dtype(dtype) is not None:
            return self.text(array, place)
        if dtype.kind not in "biuf":
            raise self.refused(f"{place} holds neither numbers nor text, but {dtype}")
        start = -(-self.used // _ALIGNMENT) * _ALIGNMENT
        self.used = start + math.prod(shape) * dtype.itemsize
        if self.used > len(self.shared):
            raise self.refused(f"{place} declares {shape}, more than a file of this size can hold")
        native = dtype.newbyteorder("=")
        if 0 not in shape:
            found = np.frombuffer(self.shared, native, math.prod(shape), start).reshape(shape)
            array.read(h5s.ALL, h5s.ALL, found)
        return "array", native.str, shape, start

    def text(self, array: h5d.DatasetID, place: str) -> tuple[Any, ...]:
        self.texts += math.prod(array.shape)
        if self.texts > _TEXTS:
            raise self.refused(f"it holds more than {_TEXTS:,} texts")
        if array.dtype.kind == "S":
            self.text_bytes += math.prod(array.shape) * array.dtype.itemsize
        found = np.empty(array.shape, array.dtype)
        if self.text_bytes <= _TEXT_BYTES and found.size:
            array.read(h5s.ALL, h5s.ALL, found)
        texts = found.reshape(-1).tolist()
        if array.dtype.kind == "O":
            self.text_bytes += sum(map(len, texts))
        if self.text_bytes > _TEXT_BYTES:
            raise self.refused(f"its texts take more than {_TEXT_BYTES:,} bytes")
        try:
            return "texts", [text.decode("utf8") for text in texts], array.shape
        except UnicodeDecodeError as error:
            raise self.refused(f"{place} holds text that is not UTF-8") from error

    def refused(self, why: str) -> FileError:
        return FileError(f"{self.path} was not read: {why}")
