"""Files with a whole number for each layer: `pascal-nm adapt`'s levels, `pascal-nm lags`' lags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pascal_nm.common.files import readable
from pascal_nm.errors import FileError, first_line


def read_levels(path: str | Path) -> tuple[int, ...]:
    """The levels in a file of :func:`pascal_nm.search.adaptive.write`.

    Raises:
        FileError: missing, damaged, or without a list of levels.
    """
    return _read(path, "levels", 1, "adapt")


def read_lags(path: str | Path) -> tuple[int, ...]:
    """The lags in a file of :func:`pascal_nm.search.lags.write_lags`.

    Raises:
        FileError: missing, damaged, or without a list of lags.
    """
    return _read(path, "lags", 0, "lags")


_BYTES = 1 << 20
"""The most bytes of such a file: a network of a thousand layers takes 0.2 MB."""


def _read(path: str | Path, key: str, least: int, command: str) -> tuple[int, ...]:
    try:
        with readable(path).open("rb") as file:
            return _whole_numbers(json.loads(file.read(_BYTES))[key], key, least)
    except FileError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FileError(f"{path} is not a {key} file of `pascal-nm {command}`: {first_line(error)}") from error


def _whole_numbers(values: Any, name: str, least: int) -> tuple[int, ...]:
    if not values or not all(type(n) is int and n >= least for n in values):
        raise ValueError(f"{name} must be whole numbers of at least {least}")
    return tuple(values)
