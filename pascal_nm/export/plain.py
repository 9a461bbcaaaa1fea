"""What the JSON in a file's metadata says, taken only as what it must be.

Python's own conversions take more: ``int("1")``, ``int(1.9)`` and ``bool("no")``
all give something.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from pascal_nm.errors import FileError

_LARGEST = 2**31 - 1


def parsed(text: Any) -> Content:
    """The JSON object in a text.

    Raises:
        FileError: it is no text, no JSON object, too deep, or holds NaN.
    """
    try:
        content = json.loads(text, parse_constant=_not_json)
    except RecursionError:
        raise FileError("its JSON is nested too deep") from None
    except (ValueError, TypeError) as error:
        raise FileError(f"it is not JSON ({error})") from error
    return Content(content, "its JSON")


def _not_json(constant: str) -> NoReturn:
    raise FileError(f"{constant} is no number of JSON")


def whole(value: Any, what: str, least: int = 0, most: int = _LARGEST) -> int:
    """A whole number: from JSON, or a single one of an array.

    Raises:
        FileError: as all functions here, where the value is something else.
    """
    value = _single(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise FileError(f"{what} must be a whole number from {least} to {most:,}, not {_shown(value)}")
    return value


def number(value: Any, what: str) -> float:
    """A finite number."""
    value = _single(value)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or abs(value) > 1e300 or not math.isfinite(value):
        raise FileError(f"{what} must be a number, not {_shown(value)}")
    return float(value)


def text(value: Any, what: str) -> str:
    """A text."""
    if not isinstance(value, str):
        raise FileError(f"{what} must be a text, not {_shown(value)}")
    return value


def entries(value: Any, what: str) -> list[Any]:
    """A list."""
    if not isinstance(value, list):
        raise FileError(f"{what} must be a list, not {_shown(value)}")
    return value


def shape(value: Any, what: str) -> tuple[int, ...]:
    """A shape of 1 to 3 axes."""
    found = tuple(whole(n, what, 1) for n in entries(value, what))
    if not 1 <= len(found) <= 3:
        raise FileError(f"{what} must have 1 to 3 axes, not {len(found)}")
    return found


def texts(value: Any, what: str) -> tuple[str, ...]:
    """A list of texts."""
    return tuple(text(entry, what) for entry in entries(value, what))


def numbers(value: Any, what: str) -> tuple[float, ...]:
    """A list of finite numbers."""
    return tuple(number(entry, what) for entry in entries(value, what))


class Content:
    """A JSON object; its entries are asked for by name.

    Args:
        content: the object.
        what: how messages call it.

    Raises:
        FileError: it is no object.
    """

    def __init__(self, content: Any, what: str) -> None:
        if not isinstance(content, dict):
            raise FileError(f"{what} must be an object, not {_shown(content)}")
        self._content: Mapping[str, Any] = content
        self._what = what

    def __getitem__(self, key: str) -> Any:
        if key not in self._content:
            raise FileError(f"{self._what} has no {key!r}")
        return self._content[key]

    def get(self, key: str, other: Any = None) -> Any:
        """An entry that may be missing."""
        return self._content.get(key, other)

    def items(self) -> list[tuple[str, Any]]:
        """All entries."""
        return list(self._content.items())


def _single(value: Any) -> Any:
    return value.item() if isinstance(value, (np.ndarray, np.generic)) and np.size(value) == 1 else value


def _shown(value: Any) -> str:
    for kind, words in ((dict, "an object"), (list, "a list"), (np.ndarray, "an array")):
        if isinstance(value, kind):
            return words
    found = repr(value)
    return found if len(found) <= 40 else f"{found[:40]}…"
