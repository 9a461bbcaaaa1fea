"""What commands write, declared beside the option.

Before any work it is asked whether it can be written and is nothing that the command reads.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pascal_nm.common.files import writable
from pascal_nm.errors import FileError

Given = Mapping[str, Any]
"""The values of a command's arguments and options, by name."""


@dataclass(frozen=True)
class Writes:
    """In the annotation of an option: it names a file that the command writes.

    Attributes:
        suffixes: of the format; the name has one of them. Empty for a folder.
        default: the path where none is given; None for the option's own default, which may be
            to write nothing.
        also: files that are written with it.
    """

    suffixes: tuple[str, ...] = ()
    default: Callable[[Given], Path] | None = None
    also: Callable[[Path, Given], Sequence[Path]] = lambda path, given: ()


PICTURE = Writes((".png", ".svg", ".pdf"))


def checked(command: Callable[..., None]) -> Callable[..., None]:
    """The command, refusing first what must not be written.

    Before that it sets the paths that depend on its other arguments.

    Raises:
        FileError: a name with a suffix of another format, a folder that is missing, a place
            in a bundle, a file that the command reads or writes by another option, or a
            folder that holds one.
    """
    declared = dict(_declarations(command))

    @functools.wraps(command)
    def wrapper(**given: Any) -> None:
        for name, writes in declared.items():
            if given[name] is None and writes.default is not None:
                given[name] = writes.default(given)
        outputs = {name: path for name in declared if (path := given[name]) is not None}
        read = [path for name, value in given.items() if name not in declared for path in _paths(value)]
        for name, path in outputs.items():
            writes = declared[name]
            others = [other for another, other in outputs.items() if another != name]
            for each in (path, *writes.also(path, given)):
                images = given.get("frames") or given.get("data_name")
                if reason := _refusal(each, read, others, images, folder=not writes.suffixes):
                    raise FileError(f"{each} {reason}: give another name to --{name}")
            if writes.suffixes and path.suffix not in writes.suffixes:
                raise FileError(f"{path}: --{name} writes {' or '.join(writes.suffixes)}, and the name has to end so")
        command(**given)

    return wrapper


def _declarations(command: Callable[..., None]) -> Iterator[tuple[str, Writes]]:
    """Which of a command's options name what it writes."""
    for name, hint in get_type_hints(command, include_extras=True).items():
        for each in (hint, *get_args(hint)):  # where the default is None, Python 3.10 says Optional of it
            if get_origin(each) is Annotated:
                yield from ((name, note) for note in get_args(each) if isinstance(note, Writes))


def _paths(value: Any) -> list[Path]:
    """What of a value may name a file that is read: any text may."""
    values = value if isinstance(value, (list, tuple)) else [value]
    return [Path(each) for each in values if isinstance(each, (str, Path)) and os.path.isfile(each)]


def _refusal(
    path: Path, read: Sequence[Path], written: Sequence[Path], images: str | None, *, folder: bool
) -> str | None:
    """Why a path is not written to; None where it is."""
    from pascal_nm.export import bundle  # with nir, which most commands load in any case

    if not folder:
        writable(path)
    parents = Path(os.path.realpath(path)).parents
    if any(_same(path, other) for other in read):
        return "is a file that this command reads"
    if any(_same(path, other) for other in written):
        return "is a file that this command writes by another option"
    if folder and (held := next((other for other in read if _inside(other, path)), None)):
        return f"holds {held}, which this command reads"
    if path.exists() and path.suffix in PICTURE.suffixes and images not in (None, "digits") and _inside(path, images):
        return f"is one of the images in {images}, which this command reads"
    if found := next((each for each in parents if bundle.is_bundle(each)), None):
        return f"lies in the bundle {found}, whose check names every file"
    return None


def _same(path: Path, other: Path) -> bool:
    """Whether two names, whatever they look like, are of one file: by links of both kinds, too."""
    if os.path.realpath(path) == os.path.realpath(other):
        return True
    return os.path.exists(path) and os.path.exists(other) and os.path.samefile(path, other)


def _inside(path: Path, folder: str | Path) -> bool:
    return Path(os.path.realpath(folder)) in Path(os.path.realpath(path)).parents
