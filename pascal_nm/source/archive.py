"""Archives of torch (zip files), in which every reader finds the same entries.

Python's reader and torch's disagree about files that are not as torch writes them: of two entries
of one name each takes another, and each looks for the list of entries in another place. Such a file
could show one content to a check and another to what is read after it, so it is refused. Torch
stores its entries uncompressed: nothing in an archive is larger than the file.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pascal_nm.errors import FileError, described

MAGIC = b"PK\x03\x04"
"""The first bytes of an archive: those of its first entry."""

_ENTRIES = 10_000
"""The most entries of an archive."""

_HEADER, _DIRECTORY, _END, _END_64, _LOCATOR = 30, 46, 22, 56, 20
_DESCRIPTORS = (0, 16, 24)
"""Bytes between an entry and the next: nothing, or its checksum and sizes once more."""

_USUAL_FLAGS = 0x0808
"""Sizes follow the entry; its name is UTF-8. All other flags change how an entry is read."""


class Archive(NamedTuple):
    """The entries of an archive.

    Attributes:
        names: each entry by its name, without the folder that all stand in.
        file: where they are read from.
    """

    names: dict[str, zipfile.ZipInfo]
    file: zipfile.ZipFile

    def read(self, name: str) -> bytes:
        """The content of an entry; its checksum is compared."""
        return self.file.read(self.names[name])


@contextmanager
def opened(path: Path, file: BinaryIO) -> Iterator[Archive]:
    """The archive in an open file, once it is known to be one that every reader reads alike.

    Raises:
        FileError: it is not, is damaged, or the block raised what a damaged entry raises.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            _check(archive, file)
            folder = archive.infolist()[0].filename.partition("/")[0] + "/"
            names = {info.filename.removeprefix(folder): info for info in archive.infolist()}
            if not all(info.filename.startswith(folder) for info in archive.infolist()):
                raise zipfile.BadZipFile("its entries stand in more than one folder")
            yield Archive(names, archive)
    except (zipfile.BadZipFile, NotImplementedError, struct.error, EOFError, UnicodeError) as error:
        raise FileError(f"{path} is damaged, or not an archive as torch writes them: {described(error)}") from error


def _check(archive: zipfile.ZipFile, file: BinaryIO) -> None:
    infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    if not 0 < len(infos) <= _ENTRIES:
        raise zipfile.BadZipFile(f"it has {len(infos):,} entries, at least 1 and at most {_ENTRIES:,} are read")
    if len({info.filename.casefold() for info in infos}) < len(infos):
        raise zipfile.BadZipFile("two of its entries have one name")
    place = 0
    for info in infos:
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise zipfile.BadZipFile(f"its entry {info.filename!r} is compressed")
        if info.flag_bits & ~_USUAL_FLAGS or info.filename != info.orig_filename or "\\" in info.filename:
            raise zipfile.BadZipFile(f"its entry {info.filename!r} is of an unusual kind")
        between = info.header_offset - place
        if between not in (_DESCRIPTORS if place else (0,)):
            raise zipfile.BadZipFile(f"{between} bytes in front of {info.filename!r} belong to no entry")
        place = _end_of(info, file)
    _check_end(archive, file, place)


def _end_of(info: zipfile.ZipInfo, file: BinaryIO) -> int:
    """The place behind an entry, which must say of itself what the list of entries says of it."""
    file.seek(info.header_offset)
    fields = struct.unpack("<4s5H3L2H", file.read(_HEADER))
    magic, flags, method, packed, size = (fields[i] for i in (0, 2, 3, 7, 8))
    name_length, extra = int(fields[9]), int(fields[10])
    name = file.read(name_length).decode(_encoding(flags))
    stated = {(info.file_size, info.file_size), (0xFFFFFFFF, 0xFFFFFFFF)} | ({(0, 0)} if flags & 8 else set())
    same = (name, flags, method) == (info.filename, info.flag_bits, info.compress_type)
    if magic != MAGIC or not same or (packed, size) not in stated:
        raise zipfile.BadZipFile(f"its entry {info.filename!r} is not what the list of entries says")
    return info.header_offset + _HEADER + name_length + extra + info.file_size


def _encoding(flags: int) -> str:
    return "utf-8" if flags & 0x800 else "cp437"


def _check_end(archive: zipfile.ZipFile, file: BinaryIO, entries_end: int) -> None:
    """Refuse a list of entries that stands elsewhere than behind the entries.

    The record at the file's end must say that it stands there.
    """
    length = sum(
        _DIRECTORY + len(info.filename.encode(_encoding(info.flag_bits))) + len(info.extra) + len(info.comment)
        for info in archive.infolist()
    )
    start = archive.start_dir
    file.seek(start + length)
    end = file.read(_END_64 + _LOCATOR + _END + 1)
    places = [(start, length)]
    if end[:4] == b"PK\x06\x06":
        long, locator, end = end[:_END_64], end[_END_64 : _END_64 + _LOCATOR], end[_END_64 + _LOCATOR :]
        said, where = struct.unpack("<4sQ2H2L4Q", long), struct.unpack("<4sLQL", locator)
        if (said[9], said[8]) != places[0] or where != (b"PK\x06\x07", 0, start + length, 1):
            raise zipfile.BadZipFile("its list of entries is not where its end says")
        places.append((0xFFFFFFFF, 0xFFFFFFFF))
        places.append((start, 0xFFFFFFFF))
        places.append((0xFFFFFFFF, length))
    magic, *_, size, offset, comment = struct.unpack("<4s4H2LH", end[:_END])
    if (
        start - entries_end not in _DESCRIPTORS
        or len(end) != _END
        or (magic, comment) != (b"PK\x05\x06", 0)
        or (offset, size) not in places
    ):
        raise zipfile.BadZipFile("its list of entries is not where its end says")
