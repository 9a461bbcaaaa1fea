"""The exceptions that pascal-nm raises on purpose.

Every message says what was wrong, where, and what to do next. The command line prints the
message as one line and exits with code 2; anything that is not a :class:`PascalError` is a bug
in this package.
"""

from __future__ import annotations


class PascalError(Exception):
    """Base class of every error that a user can cause and mend."""


class GraphError(PascalError):
    """A graph that is not a valid spiking network: a shape, a name, an edge or a value is wrong."""


class ConversionError(PascalError):
    """A torch module, or a part of it, that has no exact spiking equivalent here."""


class DataError(PascalError):
    """Input data that is missing, unreadable, or does not fit the network."""


class FileError(PascalError):
    """A file that is missing, damaged, of another format, or cannot be written."""


class TargetError(PascalError):
    """A target that is not installed, cannot hold the network, or failed while running it."""


class NotInstalledError(TargetError):
    """A target whose packages are not installed; the message says how to install them."""


def first_line(error: BaseException) -> str:
    """What another library's error says, in one line."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def described(error: BaseException) -> str:
    """The first line of an error from elsewhere, with its type where the line alone says little."""
    line = first_line(error)
    return line if " " in line else f"{type(error).__name__} {line}".strip()
