"""Sequences of frames: bundled clips, arrays, folders of images, videos and recordings of events.

What follows each other in a sequence differs little, and a network that keeps its state computes
only that.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.common.memory import check_fits
from pascal_nm.common.packages import require
from pascal_nm.data import clips, events, stored, video
from pascal_nm.data.dataset import Found, channels_first, decode_into, decoded, fitted, visible
from pascal_nm.data.foreign import shown
from pascal_nm.errors import DataError

Progress = Callable[[int, int], None]

TAKEN = (
    f"{', '.join(clips.CLIPS)} (bundled), a folder of images or of such folders, arrays (.npz, .npy), "
    f"a video ({', '.join(video.FORMATS)}) or a recording of events ({', '.join(events.RECORDINGS)})"
)
"""What :func:`load` takes, in words."""


@dataclass(frozen=True, eq=False)
class Frames:
    """Consecutive frames of one sequence or of several.

    Attributes:
        name: where they come from.
        pixels: (T, C, H, W), numbers of any type; uint8 where frames are images.
        starts: indices at which a sequence begins, from 0 on. What a network keeps from frame to
            frame is reset there.
        labels: int64 (T,), where the source has them.
        classes: name of each label, where the source has them.
        scale: the largest pixel value: 255 for images, 1 for counts of events.
        rate: frames a second, where it is known.
    """

    name: str
    pixels: Array
    starts: tuple[int, ...] = (0,)
    labels: Array | None = None
    classes: tuple[str, ...] = ()
    scale: float = 255.0
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or not self.pixels.size:
            raise DataError(f"{self.name} holds no frames: pixels (T, C, H, W) of shape {self.pixels.shape}")
        ends = (*self.starts, len(self.pixels))
        if ends[0] != 0 or any(first >= second for first, second in pairwise(ends)):
            raise DataError(
                f"{self.name}: sequences start at {self.starts}; the first starts at 0, "
                f"each one after the one before, and all before {len(self.pixels)}"
            )
        if self.labels is not None and self.labels.shape != (len(self.pixels),):
            raise DataError(
                f"{self.name} has {len(self.pixels)} frames and labels of shape {self.labels.shape}: "
                "one for each is needed"
            )

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one frame."""
        _, channels, height, width = self.pixels.shape
        return (channels, height, width)

    def head(self, limit: int | None) -> Frames:
        """The first ``limit`` frames, or all."""
        return self if limit is None else self._part(0, min(limit, len(self)))

    def sequences(self) -> Iterator[Frames]:
        """Each sequence by itself."""
        for first, end in pairwise((*self.starts, len(self))):
            yield self._part(first, end)

    def batches(self, size: int) -> Iterator[tuple[Array, Array]]:
        """Pixels and labels of consecutive frames, ``size`` at a time, all of one sequence.

        Labels are -1 where there are none.
        """
        labels = np.full(len(self), -1, np.int64) if self.labels is None else self.labels
        for first, end in pairwise((*self.starts, len(self))):
            for begin in range(first, end, size):
                batch = slice(begin, min(begin + size, end))
                yield self.pixels[batch], labels[batch]

    def rescaled(self, scale: float) -> Frames:
        """The same frames with another largest pixel value, for a network that was made for it.

        Integers are rounded: 8-bit frames become those of a camera with fewer bits. Where they
        could not tell pixels apart (a scale of 1), or do not reach so far, they become float32.
        """
        if scale == self.scale:
            return self
        kind, whole = self.pixels.dtype, self.pixels.dtype.kind in "iu"
        if whole and not 1 < scale <= np.iinfo(kind).max:
            kind, whole = np.dtype(np.float32), False
        pixels = np.empty_like(self.pixels, kind)
        for i, frame in enumerate(self.pixels):
            values = frame * (scale / self.scale)
            pixels[i] = np.rint(values) if whole else values
        return replace(self, pixels=pixels, scale=scale)

    def changed(self) -> Array:
        """The share of each frame's values that differ from those of the frame before.

        Returns:
            float64 (T,); 1 where a sequence starts.
        """
        shares = np.ones(len(self))
        for i in sorted(set(range(len(self))) - set(self.starts)):
            shares[i] = np.mean(self.pixels[i] != self.pixels[i - 1])
        return shares

    def _part(self, first: int, end: int) -> Frames:
        starts = tuple(start - first for start in self.starts if first <= start < end)
        labels = None if self.labels is None else self.labels[first:end]
        return replace(self, pixels=self.pixels[first:end], starts=starts, labels=labels)


def camera_frame(frame: Array, shape: tuple[int, int, int]) -> Array:
    """A frame as a camera gives it, made what a network takes.

    The largest middle part with the network's sides, each pixel the mean of its area.

    Args:
        frame: uint8 of shape (H, W, 3), red, green and blue, or (H, W). OpenCV gives blue first:
            ``frame[..., ::-1]``.
        shape: (C, H, W) of the network's input, where C is 1 (grey) or 3.

    Returns:
        uint8 of this shape.

    Raises:
        DataError: a frame of another type or shape, or a network of other channels.
    """
    frame = np.asarray(frame)
    if frame.dtype != np.uint8 or frame.ndim not in (2, 3) or frame.shape[2:] not in ((), (3,)) or not frame.size:
        raise DataError(f"a camera's frame is uint8 of shape (H, W, 3) or (H, W), not {frame.dtype} of {frame.shape}")
    if len(shape) != 3:
        raise DataError(f"a network takes frames of shape (C, H, W), not {shape}")
    return fitted(require("PIL.Image").fromarray(np.ascontiguousarray(frame)), shape, "the frame")


def load(
    name: str,
    *,
    shape: tuple[int, ...] | None = None,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Frames:
    """Load frames by name.

    Args:
        name: ``pan`` (a camera that pans over two images) or ``still`` (one that stands still,
            with a moving object), which need no download; a ``.npz`` or ``.npy`` file of arrays; a
            folder of images, or of such folders, one for each sequence; a video file; or a
            recording of events. Behind the name of events may stand the time that a frame
            counts, and of an .aedat file the sensor:
            ``some.aedat?window=10ms&sensor=davis346`` (:data:`pascal_nm.data.events.SENSORS`).
        shape: (C, H, W) that the network takes. The middle of images and videos is resized to it,
            and events are added up to it; arrays have it already. None leaves frames as they are.
        limit: at most so many frames, from the start.
        progress: called with (done, total) while images are decoded.

    Raises:
        DataError: none of these; missing, damaged or truncated; a missing package; frames that the
            network does not take, or that have no room in memory.
    """
    if limit is not None and limit < 1:
        raise DataError(f"a limit of {limit} frames leaves nothing; give at least 1")
    if shape is not None and len(shape) != 3:
        raise DataError(f"frames are images of shape (C, H, W); the network takes {tuple(shape)}")
    wanted = None if shape is None else (shape[0], shape[1], shape[2])
    if name in clips.CLIPS:
        pixels, starts = clips.CLIPS[name](wanted or _CLIP, limit)
        return Frames(name, pixels, starts, rate=clips.RATE)
    path, options = _place(name)
    if path.is_dir():
        return _folder(path, wanted, limit, progress)
    if path.suffix in (".npz", ".npy"):
        return _arrays(path, wanted, limit, options)
    if path.suffix.lower() in video.FORMATS:
        pixels, rate = video.read(path, wanted, limit, progress)
        return Frames(shown(path.name), pixels, rate=rate)
    if path.suffix in events.RECORDINGS:
        return _binned(events.read(path, options.pop("sensor", None)), wanted, limit, options)
    raise DataError(f"{name} is none of what holds frames: {TAKEN}")


_CLIP = (3, 32, 32)
"""Shape of a bundled clip where no network says one."""


def _place(name: str) -> tuple[Path, dict[str, str]]:
    """An existing file or folder, and the options behind its name.

    Options stand behind the names of recordings only.
    """
    path, options = Path(name), {}
    if not path.exists() and "?" in name:
        front, _, behind = name.rpartition("?")
        path = Path(front)
        options = dict(each.partition("=")[::2] for each in behind.split("&"))
        takes = {".npz": {"window"}, ".bin": {"window"}, ".aedat": {"window", "sensor"}, ".aedat4": {"window"}}
        if unknown := sorted(set(options) - takes.get(path.suffix, set())):
            raise DataError(
                f"{front} takes no option {unknown[0]!r}; events take window=10ms, .aedat files also sensor"
            )
    if not path.exists():
        raise DataError(f"{path} does not exist; frames come from {TAKEN}")
    if not path.is_dir() and not path.is_file():
        raise DataError(f"{path} is a pipe or a device, a file or a folder is needed")
    return path, options


_UNITS = {"us": 1, "ms": 1000, "s": 1_000_000}


def _binned(
    recording: events.Events, shape: tuple[int, int, int] | None, limit: int | None, options: dict[str, str]
) -> Frames:
    """Events counted in windows."""
    text = options.get("window", f"{events.WINDOW}us")
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)(us|ms|s)", text)
    window = 0 if found is None else round(float(found[1]) * _UNITS[found[2]])
    if window < 1:
        raise DataError(f"{recording.name}: a window is a time such as 500us, 10ms or 0.1s, not {text!r}")
    return Frames(recording.name, recording.frames(window, shape, limit), scale=1.0, rate=1e6 / window)


def _natural(path: Path) -> list[Any]:
    """By what files are sorted: 2 stands before 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)] + [
        (-1, path.name)
    ]


def _folder(path: Path, shape: tuple[int, int, int] | None, limit: int | None, progress: Progress | None) -> Frames:
    """The images of a folder, or of its folders, one sequence for each."""
    name, inside = shown(path.resolve().name), sorted(visible(path), key=_natural)
    folders = [entry for entry in inside if entry.is_dir()]
    if folders and len(folders) < len(inside):
        raise DataError(f"{name} holds files and folders: it is one sequence of images, or one folder for each")
    files: list[Path] = []
    starts: list[int] = []
    for folder in folders or [path]:
        images = [entry for entry in sorted(visible(folder), key=_natural) if entry.is_file()]
        if not images:
            raise DataError(f"{shown(folder.name)} holds no images")
        starts.append(len(files))
        files += images
    files = files[:limit]
    require("PIL.Image")
    places = [shown(str(file.relative_to(path))) for file in files]
    if shape is None:
        first = channels_first(decoded(Found(files[0]), places[0]))
        decode, shape = partial(_stored, first.shape), (first.shape[0], first.shape[1], first.shape[2])
    else:
        decode = partial(_resized, shape)
    check_fits(name, len(files), shape)
    pixels = np.empty((len(files), *shape), np.uint8)
    decode_into(pixels, map(Found, files), places, decode, progress)
    return Frames(name, pixels, tuple(start for start in starts if start < len(files)))


def _resized(shape: tuple[int, int, int], row: Any, place: str) -> Array:
    return fitted(decoded(row, place), shape, place)


def _stored(shape: tuple[int, ...], row: Any, place: str) -> Array:
    pixels = channels_first(decoded(row, place))
    if pixels.shape != shape:
        raise DataError(f"{place} is of shape {pixels.shape}, the images before it are of {shape}")
    return pixels


_SIDES = ("labels", "starts", "scale", "rate", "classes")
"""What a .npz file may hold beside its frames; names of classes are not read."""


def _arrays(path: Path, shape: tuple[int, int, int] | None, limit: int | None, options: dict[str, str]) -> Frames:
    """Frames or events of arrays."""
    name = shown(path.name)
    with stored.opened(path) as arrays:
        if set(events.KEYS) <= set(arrays):
            x, y, p, t = (arrays[key].first() for key in events.KEYS)
            height, width = (int(_number(arrays[key])) if key in arrays else None for key in ("height", "width"))
            return _binned(events.from_arrays(name, x, y, p, t, height, width), shape, limit, options)
        if options:
            raise DataError(f"{name} takes no option {next(iter(options))!r}: it holds no events (x, y, p, t)")
        others = [key for key in arrays if key not in _SIDES]
        if "frames" not in arrays and len(others) != 1:
            raise DataError(
                f"{name} holds {', '.join(map(ascii, arrays)) or 'nothing'}: frames are an array called frames, "
                "events are x, y, p and t"
            )
        frames = arrays["frames" if "frames" in arrays else others[0]]
        pixels = _channels_first(name, frames, shape, limit)
        return Frames(
            name,
            pixels,
            tuple(start for start in _whole(arrays["starts"]) if limit is None or start < limit)
            if "starts" in arrays
            else (0,),
            np.array(_whole(arrays["labels"], limit), np.int64) if "labels" in arrays else None,
            scale=_number(arrays["scale"]) if "scale" in arrays else 255.0 if pixels.dtype == np.uint8 else 1.0,
            rate=_number(arrays["rate"]) if "rate" in arrays else None,
        )


def _channels_first(name: str, frames: stored.Stored, shape: tuple[int, int, int] | None, limit: int | None) -> Array:
    """Frames as (T, C, H, W), whichever way they are stored."""
    _, *one = frames.shape or (0,)
    ways = {"(T, C, H, W)": one, "(T, H, W, C)": [*one[2:], *one[:2]]} if len(one) == 3 else {"(T, H, W)": [1, *one]}
    if len(one) not in (2, 3):
        raise DataError(f"{name}: frames of shape {frames.shape}; (T, C, H, W), (T, H, W, C) or (T, H, W) is needed")
    if shape is None:
        fit = [way for way, (channels, *_) in ways.items() if channels in (1, 2, 3)]
    else:
        fit = [way for way, found in ways.items() if tuple(found) == shape]
    if len(fit) != 1:
        network = "1 to 3 channels are looked for" if shape is None else f"the network takes (C, H, W) = {shape}"
        problem = "could be read in two ways" if fit else "do not fit"
        raise DataError(f"{name}: frames of shape {frames.shape} {problem}, {' or '.join(ways)}; {network}")
    array = frames.first(limit)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(f"{name}: frames hold NaN or infinite values")
    array = array.astype(np.uint8) if array.dtype == bool else array
    if len(one) == 2:
        return array[:, None]
    return np.ascontiguousarray(array if fit[0] == "(T, C, H, W)" else array.transpose(0, 3, 1, 2))


def _whole(array: stored.Stored, limit: int | None = None) -> list[int]:
    """A vector of whole numbers."""
    if len(array.shape) != 1 or array.dtype.kind not in "iu":
        raise DataError(f"{array.name} of {array.dtype} and shape {array.shape} is no list of whole numbers")
    values = [int(value) for value in array.first(limit)]
    if max(values, default=0) > np.iinfo(np.int64).max:
        raise DataError(f"{array.name} holds {max(values):,}, which takes more than 64 bits with its sign")
    return values


def _number(array: stored.Stored) -> float:
    """A single positive number."""
    if math.prod(array.shape) != 1 or not 0 < (value := float(array.first().item())) < math.inf:
        raise DataError(f"{array.name} is no single positive number")
    return value
