"""TOML and JSON read into dataclasses, whose annotated fields are the format.

Whatever else a file says is refused by its name.

A field is a ``str``, ``bool``, ``int`` or ``float``, a ``tuple`` of these, another dataclass,
``X | None``, ``X | tuple[X, ...]``, or a ``Mapping`` from names; ``Any`` takes whole numbers, texts
and lists of these. ``Annotated`` adds what its values may be: :class:`Within` for numbers,
:class:`Names` for the keys of a mapping. No value is converted but for whole numbers where a
``float`` is asked for, and texts, which become one line, but where they are :class:`Verbatim`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from pascal_nm.errors import FileError, described

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_LARGEST = 1 << 14
"""Bytes of a file at most, six times the largest that comes with the package: Python's own reader
takes the square of a dotted key's length."""

T = TypeVar("T")


@dataclass(frozen=True)
class Within:
    """The least and the largest value of a number."""

    least: float
    most: float

    def __str__(self) -> str:
        return f"from {self.least:,} to {self.most:,}"


@dataclass(frozen=True)
class Names:
    """The keys that a mapping may have."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Verbatim:
    """A text that is kept as it is, not as a line."""


def parse(kind: type[T], text: bytes, most: int = _LARGEST) -> T:
    """Read the text of a TOML file.

    Args:
        kind: a dataclass.
        text: the file's bytes.
        most: bytes of a file at most.

    Raises:
        FileError: it is no TOML, or a key or a value is none of the dataclass; the message names
            it, and not the file.
    """
    if len(text) > most:
        raise FileError(f"it holds {len(text):,} bytes, and at most {most:,} are read")
    try:
        raw = tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:  # of numbers with thousands of digits, and of tables in tables
        raise FileError(f"not valid TOML: {described(error)}") from error
    return record(kind, raw)


def record(kind: type[T], raw: Any) -> T:
    """What a file holds, as a reader of TOML or JSON gives it, as a dataclass.

    Raises:
        FileError: as :func:`parse`.
    """
    return cast("T", _read(kind, raw, ""))


def _read(kind: Any, value: Any, place: str) -> Any:
    """One value; ``place`` is its dotted name in the file, empty for the file as a whole."""
    base, *notes = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    origin, arguments = get_origin(base), get_args(base)
    if origin in (Union, UnionType):
        return None if value is None else _either(arguments, value, place)
    if is_dataclass(base):
        return _record(base, value, place)
    if origin is Mapping:
        names = next((note.names for note in notes if isinstance(note, Names)), None)
        _known(_typed(dict, value, place, "a table"), names, place)
        return {name: _read(arguments[1], each, _inside(place, name)) for name, each in value.items()}
    if origin is tuple:
        _typed(list, value, place, "a list")
        kinds = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        if not value or len(value) != len(kinds):
            raise FileError(f"{place} has {len(value)} values, and needs {len(kinds) or 'one or more'}")
        return tuple(_read(each, one, f"{place}[{i}]") for i, (each, one) in enumerate(zip(kinds, value, strict=True)))
    if base is Any:
        return _plain(value, place)
    if base is str:
        return _typed(str, value, place, "text") if Verbatim() in notes else _line(value, place)
    if base is bool:
        return _typed(bool, value, place, "true or false")
    return _number(base, value, place, next((note for note in notes if isinstance(note, Within)), None))


def _either(kinds: tuple[Any, ...], value: Any, place: str) -> Any:
    """A value of one of some types: a list is a tuple."""
    tuples = [kind for kind in kinds if get_origin(kind) is tuple]
    return _read(tuples[0] if tuples and isinstance(value, list) else kinds[0], value, place)


def _plain(value: Any, place: str) -> Any:
    """A whole number, a text, or a tuple of such."""
    if isinstance(value, list):
        return tuple(_plain(each, f"{place}[{i}]") for i, each in enumerate(value))
    if type(value) not in (int, str) or not _short(value):
        raise _wrong(value, place, "a whole number, a text or a list")
    return value


def _record(kind: Any, value: Any, place: str) -> Any:
    hints = get_type_hints(kind, include_extras=True)
    _known(_typed(dict, value, place, "a table"), tuple(hints), place)
    for each in fields(kind):
        if each.name not in value and each.default is MISSING and each.default_factory is MISSING:
            raise FileError(f"{_inside(place, each.name)} is missing")
    return kind(**{name: _read(hints[name], each, _inside(place, name)) for name, each in value.items()})


def _known(given: Mapping[str, Any], names: tuple[str, ...] | None, place: str) -> None:
    if names is not None and (unknown := [name for name in given if name not in names]):
        raise FileError(f"{_inside(place, unknown[0])} is unknown; known: {', '.join(names)}")


def _line(value: Any, place: str) -> str:
    """A text of one line, as it is printed."""
    line = " ".join(_typed(str, value, place, "text").split())
    if not line or not line.isprintable():
        raise FileError(f"{place} is {'not printable' if line else 'empty'}, a line of text is needed")
    return line


def _number(kind: type, value: Any, place: str, within: Within | None) -> Any:
    what = f"a {'whole ' if kind is int else ''}number{'' if within is None else f' {within}'}"
    right = type(value) is int or (kind is float and type(value) is float and math.isfinite(value))
    if not right or (within is not None and not within.least <= value <= within.most):
        raise _wrong(value, place, what)
    return kind(value)


def _typed(kind: type, value: Any, place: str, what: str) -> Any:
    if type(value) is not kind:
        raise _wrong(value, place, what)
    return value


_SHOWN = 40
"""Characters of a wrong value that a message repeats."""


def _wrong(value: Any, place: str, what: str) -> FileError:
    shown = repr(value) if isinstance(value, (str, float, bool)) else str(value) if _short(value) else "too large"
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
    return FileError(f"{place or 'the file'} is {shown}, {what} is needed")


def _short(value: Any) -> bool:
    """Whether a value can be written out: Python refuses numbers of thousands of digits."""
    return not isinstance(value, int) or value.bit_length() < 1024


def _inside(place: str, name: str) -> str:
    """The dotted name of a key."""
    shown = name if name.replace("_", "").isalnum() and len(name) <= _SHOWN else f"{name[:_SHOWN]!r}"
    return f"{place}.{shown}" if place else shown
