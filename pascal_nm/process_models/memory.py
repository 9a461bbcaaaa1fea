"""Arrays that a run's processes share.

They are anonymous memory that a fork inherits, with no name and nothing to clean up.
"""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pascal_nm.common.arrays import Array, Shape


def shared_zeros(shape: Shape, dtype: npt.DTypeLike) -> Array:
    """Zeros that this process and every process forked from it later see and change together.

    The memory is given back when the last array that views it is gone, in whatever way its
    processes ended.
    """
    dtype = np.dtype(dtype)
    size = max(1, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
    flat: npt.NDArray[Any] = np.frombuffer(mmap.mmap(-1, size), dtype=dtype, count=int(np.prod(shape, dtype=np.int64)))
    return flat.reshape(shape)


def channels_last(
    shape: Shape, dtype: npt.DTypeLike, make: Callable[[Shape, npt.DTypeLike], Array] = np.zeros
) -> Array:
    """Zeros of shape (..., C, H, W) in the order of a channel's frames, with C last in memory.

    Where there are fewer than four axes, they are in order.
    """
    if len(shape) < 4:
        return make(shape, dtype)
    *batch, c, h, w = shape
    return np.moveaxis(make((*batch, h, w, c), dtype), -1, -3)


class Block:
    """Memory of one Lava channel.

    It is what :class:`multiprocessing.shared_memory.SharedMemory` is to Lava, without a name.
    """

    def __init__(self, size: int) -> None:
        self._map = mmap.mmap(-1, max(1, size))
        self.buf = memoryview(self._map)

    def close(self) -> None:
        """Give the memory back, or leave that to the last array that still views it."""
        with suppress(BufferError):
            self.buf.release()
            self._map.close()


class ChannelMemory:
    """Stands in for Lava's SharedMemoryManager.

    There is no manager process, no segment in /dev/shm, no limit of its size.
    """

    def __init__(self) -> None:
        self._blocks: list[Block] = []

    def create_shared_memory(self, size: int) -> Block:
        """Memory of ``size`` bytes for a channel."""
        block = Block(size)
        self._blocks.append(block)
        return block

    def shutdown(self) -> None:
        """Give all memory back.

        Lava's objects refer to each other in circles and stay for a while all the same.
        """
        for block in self._blocks:
            block.close()
        self._blocks.clear()


SEMAPHORES = Path("/dev/shm")
"""Where Linux keeps what has been opened by ``sem_open``."""


@contextmanager
def own_semaphores() -> Iterator[None]:
    """Give the semaphores made inside names that tell whose they are, and sweep away old ones.

    Old are those that dead programs left.

    Python opens a semaphore by a name and takes the name away at once. A program that is killed in
    between leaves it in /dev/shm for ever.
    """
    _sweep()
    process: Any = multiprocessing.current_process()
    before = process._config["semprefix"]
    process._config["semprefix"] = f"/{_prefix()}{os.getpid()}"
    try:
        yield
    finally:
        process._config["semprefix"] = before


def _prefix() -> str:
    """What the names of this package's semaphores begin with.

    Process numbers say nothing to another container, which may share /dev/shm.
    """
    with suppress(OSError):
        return f"pascal-nm-{Path('/proc/self/ns/pid').stat().st_ino}-"
    return "pascal-nm-0-"


def _sweep() -> None:
    for left in SEMAPHORES.glob(f"sem.{_prefix()}*"):
        try:
            os.kill(int(left.name.split("-")[3]), 0)
        except ProcessLookupError:
            left.unlink(missing_ok=True)
        except (OSError, ValueError):
            continue  # another user's program, which lives, or a name that somebody else gave


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""From <malloc.h> of the GNU C library."""

_KEPT, _LARGEST = 2**30, 2**25
"""Bytes of freed memory that :func:`keep_memory` keeps, and the largest array of which it does so
(the library allows no more)."""


def keep_memory() -> None:
    """From now on keep what is freed for the next arrays.

    It is not handed back to the system, which would have new pages zeroed in every timestep.
    """
    system = ctypes.CDLL(None)
    if hasattr(system, "mallopt"):  # other C libraries have none
        system.malloc_trim(0)
        system.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        system.mallopt(_M_TRIM_THRESHOLD, _KEPT)


class Record(NamedTuple):
    """What a run of K batches of B samples writes down about one population; all arrays are shared.

    Attributes:
        counts: (K, B, *shape) int16, sum of the spikes that each neuron sent; of numbers that are
            no counts, in their own type.
        sent: (K, B, *shape) int32, number of them, of either sign and any size, which may be more
            than levels; ``counts`` itself where each is 1.
        last: (K, B) int64, timestep of the last one, from the start of the batch; -1 where there is
            none. Kept where spikes are signed.
        excitatory: (K, B) int64, internal spikes that raised the counter.
        inhibitory: (K, B) int64, internal spikes that lowered it.
    """

    counts: Array
    sent: Array
    last: Array
    excitatory: Array
    inhibitory: Array

    @staticmethod
    def create(
        batches: int, batch: int, shape: Shape, *, signed: bool = False, dtype: npt.DTypeLike = np.int16
    ) -> Record:
        """An empty record, whose sums are of ``dtype``.

        ``signed``: of spikes of both signs, or of any size.
        """
        counts = channels_last((batches, batch, *shape), dtype, shared_zeros)
        sent = channels_last(counts.shape, np.int32, shared_zeros) if signed else counts
        last, *activity = (shared_zeros((batches, batch), np.int64) for _ in range(3))
        last[:] = -1
        return Record(counts, sent, last, *activity)

    def write(self, batch: int, t: int, spikes: Array) -> None:
        """Add the spikes (B, *shape) that left the population in timestep ``t`` of a batch."""
        self.counts[batch] += spikes
        if self.sent is not self.counts:
            there = spikes != 0
            self.sent[batch] += there
            self.last[batch][there.any(tuple(range(1, spikes.ndim)))] = t
