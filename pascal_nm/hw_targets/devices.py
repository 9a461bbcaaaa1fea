"""Devices that run dense networks, as data: one published measurement for each, with its source.

What a source network would take there is its operations at the energy and time that the device took
for each multiply-accumulate of the network that was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pascal_nm.common.files import readable
from pascal_nm.errors import FileError
from pascal_nm.hw_targets import tables
from pascal_nm.hw_targets.chip import MICRO
from pascal_nm.hw_targets.tables import Within

USUAL = "gap9"
"""The device beside a source network where none is named."""

_Positive = Annotated[float, Within(1e-6, 1e12)]


@dataclass(frozen=True)
class Device:
    """One measurement of a dense network on a device.

    Attributes:
        name: of the device.
        source: who published it, and where.
        network: that was measured.
        macs: multiply-accumulates of one inference of it.
        microjoules: of one inference, with all that the measurement covers.
        microseconds: of one inference; None where it is not known.
        covers: what draws the energy that was measured.
    """

    name: str
    source: str
    network: str
    macs: Annotated[int, Within(1, 1 << 62)]
    microjoules: _Positive
    covers: str
    microseconds: _Positive | None = None

    @property
    def picojoules(self) -> float:
        """Of a multiply-accumulate."""
        return self.microjoules * 1e6 / self.macs

    def joules(self, operations: float) -> float:
        """Energy of so many multiply-accumulates and additions."""
        return operations * MICRO * self.microjoules / self.macs

    def seconds(self, operations: float) -> float | None:
        """Their time."""
        return None if self.microseconds is None else operations * MICRO * self.microseconds / self.macs


def available() -> list[str]:
    """Names of the devices that come with the package."""
    return sorted(f.name.removesuffix(".toml") for f in _folder().iterdir() if f.name.endswith(".toml"))


def load(name: str) -> Device:
    """A device by its name, or from a TOML file of one's own.

    Raises:
        FileError: an unknown name, a missing or damaged file.
    """
    if name in available():
        text = _folder().joinpath(f"{name}.toml").read_bytes()
    elif name.endswith(".toml"):
        text = readable(Path(name)).read_bytes()
    else:
        raise FileError(f"unknown device {name!r}: choose from {', '.join(available())}, or give a .toml file")
    try:
        return tables.parse(Device, text)
    except FileError as error:
        raise FileError(f"device {name}: {error} (docs/extend.md describes the file)") from error


def _folder() -> Any:
    return resources.files("pascal_nm.hw_targets") / "devices"
