"""Recordings of event cameras: each event is a change of the brightness of one pixel.

Events become frames by counting those of a window of time (:meth:`Events.frames`), or are taken one
by one (:meth:`Events.changes`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.common.memory import check_fits
from pascal_nm.common.packages import require
from pascal_nm.data.foreign import shown, told
from pascal_nm.errors import DataError, described

KEYS = ("x", "y", "p", "t")
"""Arrays of a .npz file that holds events."""

WINDOW = 10_000
"""Microseconds that a frame counts, unless told otherwise."""


_LARGEST = 2**31 - 1
"""Rows or columns of a sensor at most."""

_LATEST = 2**62 - 1
"""Microseconds before or after 0: times apart still have 64 bits."""


class Change(NamedTuple):
    """One event: at ``t`` microseconds, one pixel of one channel changes by ``sign``."""

    t: int
    channel: int
    y: int
    x: int
    sign: int


@dataclass(frozen=True, eq=False)
class Events:
    """Events in the order of their times.

    Attributes:
        name: where they come from.
        x: columns, from 0 on, of shape (N,).
        y: rows.
        polarity: 1 where a pixel became brighter, 0 where it became darker.
        t: microseconds, never less than before.
        height: rows of the sensor.
        width: its columns.
    """

    name: str
    x: Array
    y: Array
    polarity: Array
    t: Array
    height: int
    width: int

    def __post_init__(self) -> None:
        arrays = {"x": self.x, "y": self.y, "polarity": self.polarity, "t": self.t}
        for key, array in arrays.items():
            if array.ndim != 1 or array.shape != self.x.shape or not np.issubdtype(array.dtype, np.integer):
                raise DataError(
                    f"{self.name}: {key} of {array.dtype} and shape {array.shape}; one whole number an event is needed"
                )
        if not len(self.x):
            raise DataError(f"{self.name} holds no events")
        for key, most in (("x", self.width - 1), ("y", self.height - 1), ("polarity", 1)):
            least, largest = int(arrays[key].min()), int(arrays[key].max())
            if least < 0 or largest > most:
                raise DataError(f"{self.name}: {key} reaches from {least} to {largest}, it is 0 to {most}")
        if np.any(self.t[1:] < self.t[:-1]):
            raise DataError(f"{self.name}: its events are not in the order of their times")
        if max(self.height, self.width) > _LARGEST:
            raise DataError(f"{self.name}: a sensor of {self.height:,} x {self.width:,} pixels; at most {_LARGEST:,}")
        if max(-int(self.t[0]), int(self.t[-1])) > _LATEST:
            raise DataError(f"{self.name}: its times reach from {self.t[0]} to {self.t[-1]} microseconds")

    def __len__(self) -> int:
        return len(self.x)

    def frames(
        self, window_us: int = WINDOW, shape: tuple[int, int, int] | None = None, limit: int | None = None
    ) -> Array:
        """How many events each pixel has in each window; windows without events are frames, too.

        Args:
            window_us: microseconds of a window; the first begins with the first event.
            shape: (C, H, W) of a frame. Events of several pixels of the sensor are added where
                there are fewer. C is 2 (darker and brighter counted apart, in this order) or 1
                (brighter less darker). None: 2, and the sensor's.
            limit: at most so many frames.

        Returns:
            int32 (T, C, H, W).

        Raises:
            DataError: other channels, no window, or more frames than have room in memory.
        """
        if window_us < 1:
            raise DataError(f"a window of {window_us} microseconds holds no events; give at least 1")
        shape = shape or (2, self.height, self.width)
        bins = (self.t.astype(np.int64) - int(self.t[0])) // window_us
        count = min(int(bins[-1]) + 1, limit or int(bins[-1]) + 1)
        check_fits(f"{self.name} in windows of {window_us:,} us", count, shape, np.dtype(np.int32).itemsize)
        counted = bins < count
        place = tuple(each[counted] for each in (bins, *self._places(shape)))
        frames = np.zeros((count, *shape), np.int32)
        np.add.at(frames, place, self._signs(shape[0])[counted])
        return frames

    def changes(self, shape: tuple[int, int, int] | None = None) -> Iterator[Change]:
        """Each event as a signed change of one pixel, in order; ``shape`` as in :meth:`frames`.

        The changes of a window add up to its frame.
        """
        shape = shape or (2, self.height, self.width)
        columns = (self.t, *self._places(shape), self._signs(shape[0]))
        yield from map(Change, *(column.tolist() for column in columns))

    def _places(self, shape: tuple[int, int, int]) -> tuple[Array, Array, Array]:
        """(channel, y, x) of each event in a frame."""
        channels, height, width = shape
        if channels not in (1, 2):
            raise DataError(
                f"events fill 1 channel (signed) or 2 (one for each polarity); the network takes {channels}"
            )
        channel = self.polarity.astype(np.int64) if channels == 2 else np.zeros(len(self), np.int64)
        return channel, self.y.astype(np.int64) * height // self.height, self.x.astype(np.int64) * width // self.width

    def _signs(self, channels: int) -> Array:
        """What each event adds to its pixel."""
        return np.ones(len(self), np.int32) if channels == 2 else 2 * self.polarity.astype(np.int32) - 1


def from_arrays(
    name: str, x: Array, y: Array, p: Array, t: Array, height: int | None = None, width: int | None = None
) -> Events:
    """Events of arrays in any order, with polarities as 0 and 1, as -1 and 1, or as booleans.

    Where the sensor's size is not known, it is that of the part in which events are.
    """
    x, y, p, t = (array.astype(np.int64) if array.dtype == bool else array for array in (x, y, p, t))
    if any(not np.issubdtype(array.dtype, np.integer) or array.shape != (np.size(x),) for array in (x, y, p, t)):
        raise DataError(f"{name}: x, y, p and t are not whole numbers, one an event")
    if not x.size:
        raise DataError(f"{name} holds no events")
    order = np.argsort(t, kind="stable")
    polarity = np.where(p == -1, 0, p)[order] if p.min() < 0 else p[order]
    return Events(
        name,
        x[order],
        y[order],
        polarity,
        t[order],
        int(y.max()) + 1 if height is None else height,
        int(x.max()) + 1 if width is None else width,
    )


class Sensor(NamedTuple):
    """Size of a sensor, and where an address of its .aedat files has x, y and the polarity.

    Each of these is (first bit, mask); positions in a mirrored sensor count from the other side.
    """

    height: int
    width: int
    x: tuple[int, int]
    y: tuple[int, int]
    p: int
    mirrored: bool = False


SENSORS = {
    "dvs128": Sensor(128, 128, (8, 0x7F), (1, 0x7F), 0),
    "gesture": Sensor(128, 128, (17, 0x1FFF), (2, 0x1FFF), 1),
    "davis346": Sensor(260, 346, (12, 0x3FF), (22, 0x1FF), 11, mirrored=True),
}
"""Layouts of addresses as in ``tonic.io`` (read_dvs_128, read_dvs_ibm, read_davis_346)."""

_SENSOR = {2: "dvs128", 3: "gesture"}
"""The usual sensor of each version of .aedat files."""

NMNIST = 34
"""Rows and columns of an N-MNIST recording
(Orchard et al. 2015, https://doi.org/10.3389/fnins.2015.00437)."""

RECORDINGS = (".bin", ".aedat", ".aedat4")
"""Endings of the files that :func:`read` takes."""


def read(path: Path, sensor: str | None = None) -> Events:
    """A recording, by the readers of tonic.

    Args:
        path: an existing ``.bin`` file (N-MNIST), ``.aedat`` (versions 2 and 3) or ``.aedat4``.
        sensor: one of :data:`SENSORS`, for .aedat files; None takes the DVS128 for version 2 and
            that of DVS-Gesture for version 3.

    Raises:
        DataError: a package is missing, an unknown sensor, or damaged.
    """
    io, name = require("tonic.io", "events"), shown(path.name)
    if sensor not in (None, *SENSORS):
        raise DataError(f"{name}: no sensor is called {sensor!r}; there are: {', '.join(SENSORS)}")
    with told(f"{name} cannot be read as a recording of events"):
        if path.suffix == ".bin":
            return _nmnist(io, name, path)
        if path.suffix == ".aedat":
            return _aedat(io, name, path, sensor)
        return _aedat4(io, name, path)


def _nmnist(io: Any, name: str, path: Path) -> Events:
    if path.stat().st_size % 5:
        raise DataError(f"{name} is damaged or truncated: an event takes 5 bytes, it has {path.stat().st_size:,}")
    events = io.read_mnist_file(str(path), dtype=io.events_struct)
    x, y, p, t = (events[key] for key in KEYS)
    return from_arrays(name, x, y, p, t, NMNIST, NMNIST)


def _aedat4(io: Any, name: str, path: Path) -> Events:
    require("aedat", "events")
    try:
        events = io.read_aedat4(str(path))
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # of Rust, which is no Exception
            raise DataError(f"{name} is damaged or truncated: {described(error)}") from error
        raise
    polarity = "p" if "p" in events.dtype.names else "on"  # by version of the package aedat
    return from_arrays(name, events["x"], events["y"], events[polarity], events["t"])


_AEDAT = b"#!AER-DAT"


def _aedat(io: Any, name: str, path: Path, sensor: str | None) -> Events:
    with path.open("rb") as file:
        if file.read(len(_AEDAT)) != _AEDAT:
            raise DataError(f"{name} is no .aedat file: it does not begin with {_AEDAT.decode()}")
    version, start = io.read_aedat_header_from_file(str(path))[:2]
    if int(version) not in _SENSOR:
        raise DataError(f"{name} is of version {version} of .aedat files; {' and '.join(map(str, _SENSOR))} are read")
    layout = SENSORS[sensor or _SENSOR[int(version)]]
    if not _whole(path, int(version), start):
        raise DataError(f"{name} is damaged or truncated: it ends within an event")
    events = io.get_aer_events_from_file(str(path), version, start)
    address = events["address"].astype(np.int64)
    x, y = ((address >> first) & mask for first, mask in (layout.x, layout.y))
    if layout.mirrored:
        x, y = layout.width - 1 - x, layout.height - 1 - y
    p, t = (address >> layout.p) & 1, events["timeStamp"].astype(np.int64)
    return from_arrays(name, x, y, p, t, layout.height, layout.width)


_EVENT, _HEADER = 8, struct.Struct("<16xI8x")
"""Bytes of an event, and the header of a packet in version 3, with the number of its events."""


def _whole(path: Path, version: int, start: int) -> bool:
    """Whether an .aedat file, of which events begin at ``start``, ends where an event ends."""
    size = path.stat().st_size
    if version == 2:
        return (size - start) % _EVENT == 0
    with path.open("rb") as file:
        while start < size:
            file.seek(start)
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return False
            start += _HEADER.size + _EVENT * _HEADER.unpack(header)[0]
    return start == size
