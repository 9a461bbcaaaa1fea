"""Packages of the extras that bring data."""

from __future__ import annotations

import importlib
from typing import Any

from pascal_nm.errors import DataError


def require(module: str, extra: str = "data") -> Any:
    """A module of an extra.

    Raises:
        DataError: it is not installed, or a package that it needs is not; says how to install both.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = (error.name or module).split(".")[0]
        raise DataError(f'{missing} is not installed: pip install "pascal-nm[{extra}]"') from error
