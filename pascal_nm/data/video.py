"""Video files, decoded by PyAV.

A file may come from anywhere. Its name decides its format, so that a playlist that is called a
video is none; it is read through a Python file, and what it refers to is not opened.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.common.memory import check_fits, frames_that_fit
from pascal_nm.common.packages import require
from pascal_nm.data.dataset import PIXELS, fitted
from pascal_nm.data.foreign import shown, told
from pascal_nm.errors import DataError

FORMATS = {
    ".mp4": "mov",
    ".m4v": "mov",
    ".mov": "mov",
    ".avi": "avi",
    ".mkv": "matroska",
    ".webm": "matroska",
    ".gif": "gif",
}
"""FFmpeg's name of the format, by the ending of a file's name."""

_CONTAINER = {"protocol_whitelist": "none"}
"""What FFmpeg is told: nothing that a file refers to is opened."""

_DECODER = {"err_detect": "crccheck+bitstream+buffer+explode"}
"""What its decoders are told: damage is an error, and nothing is made up in its place."""

_GIF_ENDS = b"\x3b"

_LACKING = 0.5
"""Frames by which the last one may end before the time that a file says, which is rounded."""

_TWICE = 2
"""Bytes of a number while frames are joined: they are then there twice."""


def read(
    path: Path,
    shape: tuple[int, int, int] | None,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Array, float | None]:
    """The frames of a video, and how many there are in a second, where that is known.

    Args:
        path: an existing file whose ending is one of :data:`FORMATS`.
        shape: (C, H, W) to which the middle of each frame is resized; None leaves frames, in
            colour, as they are.
        limit: at most so many frames.
        progress: called with (done, total), where the file says how many there are.

    Returns:
        uint8 (T, C, H, W) and frames a second.

    Raises:
        DataError: PyAV is missing; damaged, truncated, no video, or too large.
    """
    av, name = require("av", "video"), shown(path.name)
    with (
        _reading(av, f"{name} cannot be read as a video ({path.suffix}), it is damaged or truncated"),
        path.open("rb") as file,
        av.open(file, format=FORMATS[path.suffix.lower()], options=_CONTAINER) as container,
    ):
        if not container.streams.video:
            raise DataError(f"{name} holds no video, or it is truncated before one begins")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        stream.codec_context.options = _DECODER
        pixels: list[Array] = []
        end, most = 0.0, 0
        for frame in _decoded(container, stream, name):
            pixels.append(_pixels(frame, shape, f"frame {len(pixels)} of {name}"))
            end = max(end, _end(frame, stream))
            if len(pixels) == 1:
                check_fits(name, min(stream.frames, limit or stream.frames), pixels[0].shape, _TWICE)
                most = frames_that_fit(_TWICE * pixels[0].size)
            if len(pixels) > most:
                raise DataError(
                    f"{name} has more frames than the {most:,} that have room in memory: limit their number"
                )
            if progress is not None and stream.frames:
                progress(len(pixels), min(stream.frames, limit or stream.frames))
            if len(pixels) == limit:
                break
        else:
            _check_whole(name, path, container, stream, len(pixels), end)
        if len({each.shape for each in pixels}) > 1:
            raise DataError(f"{name} changes the size of its frames")
        return np.stack(pixels), None if stream.average_rate is None else float(stream.average_rate)


@contextlib.contextmanager
def _reading(av: Any, what: str) -> Iterator[None]:
    """As :func:`told`, with what FFmpeg says of a file, but not the file's path."""
    with told(what):
        try:
            yield
        except av.error.FFmpegError as error:
            raise DataError(f"{what} ({error.strerror})") from error


def _decoded(container: Any, stream: Any, name: str) -> Iterator[Any]:
    """The frames of a stream; the size of each is checked before it is decoded."""
    for packet in container.demux(stream):
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > PIXELS:
            raise DataError(f"{name} has frames of {width} x {height} pixels; at most {PIXELS:,} are decoded")
        for frame in packet.decode():
            if packet.is_corrupt or frame.is_corrupt:
                raise DataError(f"{name} is damaged or truncated at {frame.time or 0:.2f} s")
            yield frame


def _pixels(frame: Any, shape: tuple[int, int, int] | None, place: str) -> Array:
    if frame.width * frame.height > PIXELS:
        raise DataError(f"{place} has {frame.width} x {frame.height} pixels; at most {PIXELS:,} are taken")
    image = frame.to_image()
    if frame.rotation:
        image = image.rotate(frame.rotation, expand=True)
    return fitted(image, shape or (3, image.height, image.width), place)


def _end(frame: Any, stream: Any) -> float:
    """When a frame ends, in seconds from the start of the stream."""
    if frame.time is None:
        return 0.0
    lasts = 1 / stream.average_rate if stream.average_rate else 0
    return float(frame.time - (stream.start_time or 0) * stream.time_base + lasts)


def _check_whole(name: str, path: Path, container: Any, stream: Any, frames: int, end: float) -> None:
    """Refuse a video that ends before it says that it does.

    Raises:
        DataError: says how many frames there are.
    """
    if not frames:
        raise DataError(f"{name} holds no frames, or it is truncated before the first")
    truncated = f"{name} is damaged or truncated: only {frames:,} frames can be decoded"
    says = _duration(stream)
    expected = stream.frames
    if stream.average_rate and says is not None:  # an edited file has frames before the part that is shown
        expected = min(expected, round(says * float(stream.average_rate)))
    if expected > frames:
        raise DataError(f"{truncated}, it says that it has {expected:,}; limit their number to take these")
    if stream.average_rate and says is not None and end + _LACKING / float(stream.average_rate) < says:
        raise DataError(f"{truncated}, up to {end:.2f} s of {says:.2f} s; limit their number to take these")
    if container.format.name == "gif" and not path.read_bytes().rstrip(b"\0").endswith(_GIF_ENDS):
        raise DataError(f"{truncated}, and its end is missing; limit their number to take these")


def _duration(stream: Any) -> float | None:
    """How long a stream is, in seconds, by what the file says of it."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    text = stream.metadata.get("DURATION")  # of Matroska, as 00:00:01.500000000
    if text is None:
        return None
    hours, minutes, seconds = text.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
