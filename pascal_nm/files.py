"""Files are written beside and renamed: a reader sees the old file or the new one, never half of one."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pascal_nm.errors import FileError
from pascal_nm.graph import Array


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path in the folder of ``path`` that becomes ``path`` when the block ends without an error.

    Raises:
        FileError: the folder is missing or not writable, or the disk is full; nothing is left behind.
    """
    path = writable(path)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror or error}") from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


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
    """``path`` as a Path in a folder that exists: to be asked before long work whose result goes there.

    Raises:
        FileError: the folder is missing.
    """
    path = Path(path)
    if not path.parent.exists():
        raise FileError(f"cannot write {path}: the folder {path.parent} does not exist")
    return path


def readable(path: str | Path) -> Path:
    """``path`` as a Path to an existing, non-empty file.

    Raises:
        FileError: it is missing, a folder, or empty.
    """
    path = Path(path)
    if not path.exists():
        raise FileError(f"{path} does not exist")
    if path.is_dir():
        raise FileError(f"{path} is a folder, a file is needed")
    if path.stat().st_size == 0:
        raise FileError(f"{path} is empty")
    return path
