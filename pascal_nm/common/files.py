"""Files are written beside and renamed: a reader sees the old file or the new one, whole."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.errors import FileError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that becomes ``path`` when the block ends without an error.

    Raises:
        FileError: the folder is missing or not writable, or the disk is full;
            nothing is left behind.
    """
    with replacing_all(path) as (temporary,):
        yield temporary


@contextmanager
def replacing_all(*paths: str | Path) -> Iterator[list[Path]]:
    """Temporary paths like that of :func:`replacing`, for files that belong together.

    An error leaves all of the old ones, and none of the new.

    Raises:
        FileError: as :func:`replacing`.
    """
    places = [writable(path) for path in paths]
    with contextlib.ExitStack() as stack:
        temporaries = [stack.enter_context(_beside(place)) for place in places]
        yield temporaries
        with contextlib.ExitStack() as undo:
            for temporary, place in zip(temporaries, places, strict=True):
                with _told(place):
                    _finish(temporary)
            for temporary, place in zip(temporaries[:-1], places[:-1], strict=True):
                kept = stack.enter_context(_beside(place))
                with _told(place):
                    if place.exists():
                        shutil.copy2(place, kept)
                        undo.callback(os.replace, kept, place)
                    else:
                        undo.callback(place.unlink, missing_ok=True)
                    temporary.replace(place)
            with _told(places[-1]):
                temporaries[-1].replace(places[-1])
            undo.pop_all()


@contextmanager
def written_at_once(path: Path) -> Iterator[io.BytesIO]:
    """A file in memory that becomes ``path`` when the block ends.

    It is for HDF5, which ends the process where a disk is full.

    Raises:
        OSError: it cannot be written.
    """
    content = io.BytesIO()
    yield content
    path.write_bytes(content.getbuffer())


@contextmanager
def replacing_folder(folder: Path, owned: Callable[[Path], Sequence[Path]]) -> Iterator[Path]:
    """A temporary folder that becomes ``folder`` when the block ends without an error.

    An old one is moved aside first, as :func:`aside` names it, and removed afterwards: a run that
    is killed leaves the old or the new one whole, and where that is the old one, aside, the next
    run begins by putting it back.

    Args:
        folder: its own path, not that of a link to it.
        owned: the files of an old folder, which may be removed, in this order; raises a FileError
            where it holds anything else.

    Raises:
        FileError: what is there may not be replaced, or the new one cannot be written; the old one
            is then in its place.
    """
    old = aside(folder)
    with _told(folder):
        if old.is_dir() and not folder.exists():
            old.rename(folder)
        there = folder.exists()
        if there:
            owned(folder)
        if old.is_dir():
            _remove(old, owned)
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with _told(folder):
            yield beside
            for file in beside.iterdir():
                _finish(file)
            umask = os.umask(0)
            os.umask(umask)
            beside.chmod(0o777 & ~umask)
            if there:
                folder.rename(old)
            beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        if old.exists() and not folder.exists():
            with _told(folder):
                old.rename(folder)
    if there:
        _remove(old, owned)


def aside(folder: Path) -> Path:
    """Where a folder is while another takes its place."""
    return folder.with_name(f".{folder.name}.replaced")


def _remove(folder: Path, owned: Callable[[Path], Sequence[Path]]) -> None:
    """Remove what is owned; a folder that then is not empty stays."""
    with contextlib.suppress(OSError):
        for file in owned(folder) if any(folder.iterdir()) else ():
            file.unlink()
        folder.rmdir()


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """An empty file in the same folder, gone after the block."""
    with _told(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        try:
            os.close(handle)
            yield Path(name)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(name)


def _finish(path: Path) -> None:
    """Have a temporary file on the disk, and readable as far as other files of the user are."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say of the system's errors what they kept from being written."""
    try:
        yield
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror or error}") from error


def write_answers(path: Path, predictions: Array, labels: Array) -> None:
    """Write the classes of images and the true ones to a .npz file.

    Raises:
        FileError: it cannot be written.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, predictions=predictions, labels=labels)


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def writable(path: str | Path) -> Path:
    """``path`` as a Path in a folder that exists.

    This is to be asked before long work whose result goes there.

    Raises:
        FileError: the folder is missing, or ``path`` is a folder itself.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileError(f"cannot write {path}: the folder {path.parent} does not exist")
    if path.is_dir():
        raise FileError(f"cannot write {path}: it is a folder")
    return path


def readable(path: str | Path) -> Path:
    """``path`` as a Path to an existing, non-empty file.

    Raises:
        FileError: it is missing, a folder, a pipe, a device, or empty.
    """
    path = Path(path)
    if not path.exists():
        raise FileError(f"{path} does not exist")
    if path.is_dir():
        raise FileError(f"{path} is a folder, a file is needed")
    if not path.is_file():
        raise FileError(f"{path} is a pipe or a device, a file is needed")
    if path.stat().st_size == 0:
        raise FileError(f"{path} is empty")
    return path
