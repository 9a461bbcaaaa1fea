"""A folder of files that belong together: whole or not there, each with its checksum.

:mod:`pascal_nm.hw_targets.program_files` writes a chip program into one, and reads it from there.
What is read here is trusted in nothing: neither its sizes nor its types.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pascal_nm import __version__
from pascal_nm.common.arrays import Array
from pascal_nm.common.files import aside, replacing_folder, sha256
from pascal_nm.errors import FileError, described

FORMAT = 3
"""Version of the folder's contents. A reader refuses others."""

MANIFEST = "manifest.json"

FILES = (
    *("program.json", "registers.npz", "schedule.json", "cores.json", "routes.npz"),
    *("check.npz", "network.nir", "reference.c", "README.md"),
)

KNOWN = frozenset(
    (*FILES, "compartments.npz", "host.py", "run_nengo_loihi.py", "run_akida.py", "registers.npz", "model.fbz")
)
"""Names of files that bundles of any form have: nothing else is ever replaced with one."""

LARGEST = 1 << 24
"""Bytes of a JSON file at most: one that describes 32,768 cores has some 8 million."""

DENSEST = 1100
"""Bytes that one byte of a compressed file can stand for, at most: deflate's own limit is 1,032."""


def write_bundle(
    folder: str | Path,
    write: Callable[[Path], object],
    about: Mapping[str, Any],
    prove: Callable[[Path], object],
    names: Sequence[str] = FILES,
) -> None:
    """Write a bundle; the folder appears whole, or not at all.

    Args:
        folder: must not exist, or be a bundle that is as it was written, and is replaced. A link to
            one is followed.
        write: called with a folder, in which it writes files of all ``names``.
        about: what else the manifest says: chip, its limits.
        prove: called with the written folder before it takes its place; what it raises leaves the
            old one.
        names: of the files.

    Raises:
        FileError: the folder is something else, holds something else, or cannot be written.
    """
    folder = place(folder)
    with replacing_folder(folder, owned) as beside:
        write(beside)
        files = {name: sha256(beside / name) for name in names}
        dump(beside / MANIFEST, {**about, "bundle": FORMAT, "pascal_nm": __version__, "files": files})
        prove(beside)


def place(folder: str | Path) -> Path:
    """Where a bundle of that name is written: links are followed.

    Raises:
        FileError: the folder is there, and is no bundle, holds more than one, or holds the folder
            that the process runs in.
    """
    folder = Path(os.path.realpath(folder))
    if folder.exists():
        owned(folder)
        here = Path.cwd().resolve()
        if folder in (here, *here.parents):
            raise FileError(f"{folder} is, or holds, the current folder, and is not replaced: give another folder")
    return folder


def is_bundle(folder: Path) -> bool:
    """Whether a folder has a manifest that :func:`write_bundle` wrote."""
    return _manifest(folder) is not None


def owned(folder: Path) -> list[Path]:
    """The files of a bundle, which may be removed with it; the manifest comes last.

    Raises:
        FileError: the folder is no bundle, or holds what its manifest does not name; the
            message names it.
    """
    manifest = _manifest(folder)
    if manifest is None:
        raise FileError(f"{folder} exists and is no bundle: give another folder")
    files = manifest["files"]
    for entry in _entries(folder):
        if entry.name not in files or not _regular(entry):
            raise FileError(
                f"{folder} also holds {entry.name!r}, which is not the bundle's, and is not replaced: move it"
            )
        if sha256(entry) != files[entry.name]:
            raise FileError(f"{entry} was changed since the bundle was written, and is not replaced: move it")
    return [*_entries(folder), folder / MANIFEST]


def read_manifest(folder: str | Path, names: Sequence[str] = FILES) -> dict[str, Any]:
    """The manifest of a bundle that is whole: every file of ``names`` is there, as it was written.

    Raises:
        FileError: a file is missing, is not the one that the manifest names by its checksum, or is
            of no bundle.
    """
    folder = Path(folder)
    manifest = _manifest(folder)
    if manifest is None:
        left = aside(folder)
        hint = f": one that was to be replaced is in {left}" if not folder.exists() and left.is_dir() else ""
        raise FileError(f"{folder} is no whole bundle of `pascal-nm deploy`{hint}")
    if manifest.get("bundle") != FORMAT:
        raise FileError(f"{folder} is a bundle of another version: `pascal-nm deploy` writes it anew")
    files = manifest["files"]
    for name in names:
        if name not in files or not _regular(folder / name):
            raise FileError(f"{folder} is no whole bundle: {name} is missing")
    for entry in _entries(folder):
        if entry.name not in names:
            raise FileError(f"{folder} also holds {entry.name!r}, which no bundle has")
        if sha256(entry) != files[entry.name]:
            raise FileError(f"{entry} is not the file that the manifest names: it was changed since")
    return manifest


def _manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a bundle, if that is what the folder is."""
    try:
        content = read_json(folder / MANIFEST)
    except (FileError, OSError):
        return None
    files = content.get("files") if isinstance(content, dict) and isinstance(content.get("pascal_nm"), str) else None
    if not isinstance(files, dict) or not all(name in KNOWN and _is_digest(digest) for name, digest in files.items()):
        return None
    return dict(content)


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def _entries(folder: Path) -> list[Path]:
    """Everything in a folder but the manifest."""
    return sorted(entry for entry in folder.iterdir() if entry.name != MANIFEST)


def _regular(path: Path) -> bool:
    """Whether a path is a file itself, no link, folder or pipe."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        FileError: it is no such file, or too large.
    """
    if not _regular(path) or path.stat().st_size > LARGEST:
        raise FileError(f"{path.name} is no file of at most {LARGEST:,} bytes")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path.name} is not JSON ({described(error)})") from error


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of numbers in a .npz file, none larger than its part of the file can tell.

    Raises:
        FileError: it holds something else.
    """
    found: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                if name in found or name == info.filename:
                    raise ValueError(f"it holds {info.filename[:40]!r}")
                _check_size(archive, info)
                with archive.open(info) as file:
                    found[name] = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # zip, zlib and numpy raise many types for damaged files
        raise FileError(f"{path.name} is not readable ({described(error)})") from error
    return found


def _check_size(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """That an array has numbers, and as many as its compressed bytes can stand for."""
    with archive.open(info) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("another version of .npy")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.kind not in "iuf":
        raise ValueError(f"{info.filename} holds no numbers")
    if math.prod(shape) * dtype.itemsize > DENSEST * max(1, info.compress_size):
        raise ValueError(f"{info.filename} is too small for an array of shape {shape}")


def dump(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
