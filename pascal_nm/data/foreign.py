"""What files, systems and libraries of others say, as this package says it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from pascal_nm.errors import DataError, PascalError, described


def shown(name: str) -> str:
    """The name of a file as text that can be written, also where it is not UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Makes one kind of error of all that other libraries raise for damaged data.

    Args:
        what: the error's text, before what the library says.
    """
    try:
        yield
    except PascalError:
        raise
    except Exception as error:  # of many types
        raise DataError(f"{what}: {described(error)}") from error
