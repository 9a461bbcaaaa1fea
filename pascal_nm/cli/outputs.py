"""What commands write: declared beside the option, and asked before any work whether it can be written and is nothing that the command reads."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pascal_nm.errors import FileError
from pascal_nm.files import writable

Given = Mapping[str, Any]
"""The values of a command's arguments and options, by name."""


@dataclass(frozen=True)
class Writes:
    """In the annotation of an option: it names a file that the command writes.

    Attributes:
        suffixes: of the format; the name has one of them. Empty for a folder.
        default: the path where none is given; None for the option's own default, which may be to write nothing.
        also: files that are written with it.
    """

    suffixes: tuple[str, ...] = ()
    default: Callable[[Given], Path] | None = None
    also: Callable[[Path, Given], Sequence[Path]] = lambda path, given: ()


PICTURE = Writes((".png", ".svg", ".pdf"))


def checked(command: Callable[..., None]) -> Callable[..., None]:
    """The command, which first sets the paths that depend on its other arguments, and refuses what must not be written.

    Raises:
        FileError: a name with a suffix of another format, a folder that is missing, a place in a bundle, a file that the command reads or writes by another
            option, or a folder that holds one.
    """
    declared = dict(_declared(command))

    @functools.wraps(command)
    def wrapper(**given: Any) -> None:
        for name, writes in declared.items():
            if given[name] is None and writes.default is not None:
                given[name] = writes.default(given)
        outputs = {name: path for name in declared if (path := given[name]) is not None}
        read = [Path(text) for name, value in given.items() if name not in declared for text in _paths(value)]
        for name, path in outputs.items():
            writes = declared[name]
            _check_name(path, writes.suffixes)
            others = [other for another, other in outputs.items() if another != name]
            for each in (path, *writes.also(path, given)):
                _check_place(each, read, others, folder=not writes.suffixes)
        command(**given)

    return wrapper


def _declared(command: Callable[..., None]) -> Iterator[tuple[str, Writes]]:
    for name, hint in get_type_hints(command, include_extras=True).items():
        if get_origin(hint) is Annotated:
            yield from ((name, note) for note in get_args(hint) if isinstance(note, Writes))


def _paths(value: Any) -> list[str]:
    """What of a value may name a file that is read: any text may."""
    values = value if isinstance(value, (list, tuple)) else [value]
    return [os.fspath(each) for each in values if isinstance(each, (str, Path)) and os.path.exists(each)]


def _check_name(path: Path, suffixes: Sequence[str]) -> None:
    if suffixes and path.suffix not in suffixes:
        raise FileError(f"{path}: what is written there is {' or '.join(suffixes)}, and its name ends so")


def _check_place(path: Path, read: Sequence[Path], written: Sequence[Path], *, folder: bool) -> None:
    if not folder:
        writable(path)
    for other in (*read, *written):
        if same(path, other):
            raise FileError(
                f"{path} is {'read' if other in read else 'written'} by this command already: give another name"
            )
        if folder and _inside(other, path):
            raise FileError(f"{path} holds {other}, which this command reads: give another folder")
        if path.exists() and other.is_dir() and not folder and path.suffix in PICTURE.suffixes and _inside(path, other):
            raise FileError(f"{path} is one of the images in {other}, which this command reads: give another name")
    from pascal_nm.export import bundle  # with nir, which most commands load in any case

    parent = Path(os.path.realpath(path)).parent
    if (found := next((each for each in (parent, *parent.parents) if bundle.is_bundle(each)), None)) is not None:
        raise FileError(f"{path} lies in the bundle {found}, whose check names every file: give another folder")


def same(path: Path, other: Path) -> bool:
    """Whether two names, whatever they look like, are of one file: by links of both kinds, too."""
    if os.path.realpath(path) == os.path.realpath(other):
        return True
    return os.path.exists(path) and os.path.exists(other) and os.path.samefile(path, other)


def _inside(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(folder)) in Path(os.path.realpath(path)).parents
