"""How many images go together, by the numbers that one of them takes, and how many fit at all.

Larger batches use the processor better, until their numbers leave its caches or fill the memory.
Every room is a number of numbers, whatever their type; all are measured with VGG-16 and ResNet-18
on images of 32x32 (``benchmarks/engines.py``).
"""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

from pascal_nm.errors import DataError

STATE = 1 << 18
"""Of a population's state: through all timesteps it stays in the processor's cache."""

LAYER = 1 << 22
"""Of the largest layer, where one layer follows the other: enough for efficient convolutions, few
enough that the memory of one serves the next."""

TRAIN = 1 << 24
"""Of what is made and taken at once: a layer's spikes in all their timesteps, or what all nodes of
a graph send in one."""

KEPT = 1 << 25
"""Of what is kept of all layers until a batch is done: with all that is made of it, less than a
gigabyte."""

MOST = 500
"""The most images of a batch, so that progress is seen."""


def images_together(numbers: int, room: int) -> int:
    """How many images have room together, at least one.

    Args:
        numbers: that one image takes.
        room: one of this module's.
    """
    return max(1, room // numbers)


def batch_size(numbers: int, room: int) -> int:
    """The same for a batch of a dataset, with :data:`MOST` images."""
    return min(MOST, images_together(numbers, room))


def available_memory() -> int | None:
    """Bytes that a program can take now without swapping, within its container's limit.

    None where the system does not say.
    """
    known = []
    with suppress(OSError):
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        known.append(1024 * int(lines["MemAvailable"].split()[0]))
    with suppress(OSError, ValueError):  # "max" where there is no limit
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        known.append(max(0, limit - used))
    return min(known, default=None)


def installed_memory() -> int:
    """Bytes of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def frames_that_fit(frame_bytes: int) -> int:
    """How many frames may be held: half of the memory is for what is computed of them."""
    available = available_memory() or installed_memory()
    return available // 2 // max(1, frame_bytes)


def check_fits(name: str, frames: int, shape: tuple[int, ...], item_bytes: int = 1) -> None:
    """Refuse a sequence that has no room in memory, before it is made.

    Args:
        name: what the error calls the sequence.
        frames: how many it has.
        shape: of one frame.
        item_bytes: of one of a frame's numbers.

    Raises:
        DataError: says how many frames have room.
    """
    most = frames_that_fit(math.prod(shape) * item_bytes)
    if frames > most:
        raise DataError(
            f"{name} has {frames:,} frames of shape {tuple(shape)}, of which {most:,} have room in memory: "
            "limit their number"
        )
