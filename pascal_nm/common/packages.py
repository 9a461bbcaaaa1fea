"""Packages of the ``data`` extra."""

from __future__ import annotations

import importlib
from typing import Any

from pascal_nm.errors import DataError


def require(module: str) -> Any:
    """A module of the ``data`` extra.

    Raises:
        DataError: it is not installed; says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(f'{module.split(".")[0]} is not installed: pip install "pascal-nm[data]"') from error
